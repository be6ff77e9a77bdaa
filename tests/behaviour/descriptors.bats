#!/usr/bin/env bats
# Other programs, other users and the kernel that have descriptors of a managed file.

load ../lib/helpers

setup() {
    helpers_setup
    helpers_let_others_in
    chmod 755 "$PROGRAMS"
    file=$MANAGED/secret
    other=$MANAGED/other
    thief=$PROGRAMS/thief
    export file other thief
    echo password >"$file"
    chmod 600 "$file"
}

# thieves PYTHON: prints the finds of a thief that a python runs while it has the file open as
# `secret`, and has written to it.
thieves() {
    wrapped timeout 60 python3 -c '
import os, subprocess
file, other, thief = os.environ["file"], os.environ["other"], os.environ["thief"]
secret = open(file, "r+"); secret.write("new word"); secret.flush()
def child(): # forks, and is not waited for by a vfork
    pid = os.fork()
    if pid == 0:
        os.execv(thief, [thief, file])
    os.waitpid(pid, 0)
'"$1" 2>&1
    assert_equal "$(payload "$file")" 'new word' 'left'
}

@test "a program to which no descriptor of the file was passed has none, not before its first constructor either" {
    for way in 'subprocess.run([thief, file], close_fds=False)' \
        'subprocess.run([thief, file])' \
        'os.system(thief + " " + file)' \
        'print(os.popen(thief + " " + file).read(), end="")' \
        'os.waitpid(os.posix_spawn(thief, [thief, file], os.environ), 0)' \
        'child()' \
        'os.execv(thief, [thief, file])' \
        'os.environ["LD_PRELOAD"] = ""; child()'; do
        assert_equal "$(thieves "$way")" '' "$way"
    done
}

@test "a program of another user has no more than what it was given" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    local as='user=65534, group=65534, extra_groups=[]'
    assert_equal "$(thieves "subprocess.run([thief, file], close_fds=False, $as)")" ''
    assert_equal "$(thieves "subprocess.run([thief, file], pass_fds=[secret.fileno()], $as)")" 'w memory'
    assert_equal "$(thieves 'subprocess.run([thief, file], pass_fds=[secret.fileno()], group=65534)')" 'w memory' 'another group'
    assert_equal "$(thieves "os.dup2(secret.fileno(), 9); os.setgid(65534); os.setuid(65534); os.execv(thief, [thief, file])")" 'w memory'
}

@test "a program that inherits one file has the shim's descriptors of that, and not of another" {
    for way in 'subprocess.run([thief, file], pass_fds=[theirs.fileno()])' \
        'os.waitpid(os.posix_spawn(thief, [thief, file], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 9)]), 0)' \
        'os.dup2(theirs.fileno(), 9); os.system(thief + " " + file)'; do
        # descriptors of the buffer of `other`: one of the program's, the private one, and perhaps a
        # beacon
        run thieves 'theirs = open(other, "w"); theirs.write("x"); theirs.flush(); '"$way"
        [[ $output != *file* ]]
        [[ $output == *'w memory'* ]]
        assert_equal "$(payload "$other")" x "$way"
    done
}

@test "I7 a file that only the kernel has open: what io_uring wrote is committed" {
    for mode in 600 644; do
        chmod $mode "$file"
        run wrapped timeout 60 "$PROGRAMS/ring" "$file" exit
        [ "$status" -ne 77 ] || skip 'needs io_uring'
        assert_equal "$status" 0
        assert_equal "$(payload "$file")" 'by the kernel'
        echo old >"$file"
    done
}

@test "I7 a file that the kernel has let go of is committed then, though the process that opened it goes on" {
    mkfifo "$BATS_TEST_TMPDIR/in" "$BATS_TEST_TMPDIR/out"
    wrapped timeout 60 "$PROGRAMS/ring" "$file" unregister <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 3>&- &
    exec 4>"$BATS_TEST_TMPDIR/in"
    read -r _ <"$BATS_TEST_TMPDIR/out" || skip 'needs io_uring'
    # wrapped: it waits for the guardian
    assert_equal "$(wrapped cat "$file")" 'by the kernel'
    exec 4>&-
    wait $!
}

@test "I7 a loop device on a managed file: what is written to it is committed when it goes" {
    [ "$(id -u)" -eq 0 ] && [ -e /dev/loop-control ] || skip 'needs loop devices'
    truncate -s 4096 "$file"
    device=$(wrapped losetup --find --show "$file" 2>/dev/null) || skip 'needs loop devices'
    printf 'through the device' | dd of="$device" conv=notrunc,fsync status=none
    losetup -d "$device"
    assert_equal "$(wrapped head -c 18 "$file")" 'through the device'
}

@test "descriptors that somebody made up are not adopted" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    echo plain >"$BATS_TEST_TMPDIR/target"
    # any user may do this: make a memfd with the name of a buffer, and pass it with a descriptor of
    # a file that is to be overwritten
    python3 -c '
import fcntl, os, sys
target, shim, folder = sys.argv[1:]
os.chmod(target, 0o600)
status = os.stat(target)
inode = os.open(target, os.O_RDWR)
os.setresuid(65534, 65534, 0) # the memory is that of another user
memory = os.memfd_create(f"atomshim:1:{status.st_dev:x}:{status.st_ino:x}:301", 0)
os.write(memory, b"made up")
os.setresuid(0, 0, 0)
memory = os.open(f"/proc/self/fd/{memory}", os.O_RDWR) # the kernel can say that it is the last one
os.closerange(inode + 1, memory)
for fd, number, signal in (inode, 0x301, 28), (memory, 0x300, 23):
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal)
    os.dup2(fd, number)
    os.close(fd)
os.execve("/bin/true", ["true"], {"LD_PRELOAD": shim, "ATOMSHIM_PATHS": folder})' \
        "$BATS_TEST_TMPDIR/target" "$BUILT/libatomshim.so" "$MANAGED/" 3>&-
    assert_equal "$(cat "$BATS_TEST_TMPDIR/target")" plain
}

# lock_place USER DUMPABLE: takes the locks on /proc that a guardian of the file would have, and
# holds them until it is killed.
lock_place() {
    python3 -c '
import ctypes, fcntl, os, signal, struct, sys
user, dumpable, ready = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
status = os.stat(os.environ["file"])
ready = os.open(ready, os.O_WRONLY)
os.setgid(user); os.setuid(user)
ctypes.CDLL(None).prctl(4, dumpable, 0, 0, 0)
proc = os.open("/proc", os.O_RDONLY)
mask = 2**64 - 1
hash = (status.st_ino + status.st_dev * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd & mask
room = (hash >> 24) * (64 << 16) & (2**63 - 1)
for place in range(64):
    fcntl.fcntl(proc, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, room + (place << 16), 1, 0))
os.write(ready, b"\n")
signal.pause()' "$1" "$2" "$BATS_TEST_TMPDIR/ready" 3>&- &
    holder=$!
    read -r _ <"$BATS_TEST_TMPDIR/ready"
}

@test "locks on /proc by another user, or the file's owner, delay nobody; those of this user are a guardian's" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    mkfifo "$BATS_TEST_TMPDIR/ready"
    export ATOMSHIM_LOG=warn ATOMSHIM_LOCK_TIMEOUT=1
    chown 65534 "$file"
    for user in 65533 65534 0; do
        for dumpable in 0 1; do
            lock_place $user $dumpable
            run --separate-stderr wrapped cat "$file"
            kill "$holder"
            wait "$holder" || true
            assert_equal "$status $output" '0 password' "$user $dumpable"
            if [ $user -eq 0 ]; then
                [[ $stderr == *'a guardian does not answer'* ]]
            else
                assert_equal "$stderr" '' "$user $dumpable"
            fi
        done
    done
}
