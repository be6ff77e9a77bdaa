#!/usr/bin/env bats
# Failures, and programs or threads that come in between, at places of the library outside
# shim/session/ that no other test reaches: tests/lib/with_faults.c. After each the file holds the old
# or the new content, grants no more than it should, and nothing is lost without a word.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    log=$BATS_TEST_TMPDIR/log
    export file ATOMSHIM_LOG_FILE=$log
    wrapped sh -c 'echo content >"$file"'
    cd "$BATS_TEST_TMPDIR" || return
}

teardown() {
    umount "$MANAGED" 2>/dev/null || true
}

# Opens a file, which holds no image yet, by its name in a directory, and overwrites it: prints what
# the first open reads, which is managed.
reads_in_folder='import os, threading
folder = os.open(os.environ["MANAGED"], os.O_RDONLY | os.O_DIRECTORY)
def read():
    fd = os.open("plain", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    with open(os.environ["MANAGED"] + "/plain", "w") as file:
        file.write("new")
    print(os.read(fd, 100).decode())
'

@test "I2 the kernel does not tell the path of a directory: the file is asked itself" {
    printf content >"$MANAGED/plain"
    with_faults 'read_path readlinkat 1+ EIO' -- python3 -c "$reads_in_folder
read()"
    assert_equal "$output" content
}

@test "I2 two threads ask for the path of one directory at once: both files are managed" {
    mkfifo other go
    printf content >"$MANAGED/plain"
    with_faults 'read_path readlinkat 1 !echo >other; read -r _ <go' -- timeout 60 python3 -c "$reads_in_folder"'
def other():
    open("other").read()
    read()
    open("go", "w").write("\n")
thread = threading.Thread(target=other)
thread.start()
read()
thread.join()'
    assert_equal "$output" $'content\nnew'
}

@test "I7 copy_file_range: no memory for the bytes between; nothing is copied" {
    with_faults 'copy_by_hand mmap 1 ENOMEM' -- python3 -c '
import errno, os
source = os.open(os.environ["file"], os.O_RDONLY)
target = os.open("copy", os.O_RDWR | os.O_CREAT)
try:
    os.copy_file_range(source, target, 100)
except OSError as error:
    print(errno.errorcode[error.errno], os.lseek(source, 0, os.SEEK_CUR))
os.copy_file_range(source, target, 100)'
    assert_equal "$output" 'ENOMEM 0'
    assert_equal "$(cat copy)" content 'copied then'
}

@test "a rename whose new list of rights cannot be set: the content is new, and the file grants less, which is told" {
    needs setfacl
    echo new >new
    setfacl -m u::rw,g::-,o::-,u:65534:r new 2>/dev/null || skip 'needs lists of rights'
    with_faults 'grant_mode fsetxattr 1 ENOSPC' -- mv new "$file"
    assert_equal "$status $output" '0 '
    assert_equal "$(payload "$file")" new
    assert_equal "$(stat -c %a "$file") $(getfacl -cs "$file")" '600 ' 'its mode and its list'
    grep -q "$file: replaced, but it grants less than the new file did: no space left on device (ENOSPC)" "$log"
}

@test "no user's planted file is overwritten because its folder could not be looked at: the rename fails" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    helpers_let_others_in
    mkdir -m 1777 "$MANAGED/box"
    wrapped sh -c 'echo planted >"$1"' sh "$MANAGED/box/report"
    chown 65534:65534 "$MANAGED/box/report"
    chmod 666 "$MANAGED/box/report"
    (umask 077 && echo secret >secret)
    for fault in 'openat 1 EACCES' 'fstat 1 EIO'; do
        with_faults "check_not_planted $fault" -- mv -f secret "$MANAGED/box/report"
        assert_equal "$status" 1
        assert_equal "$(cat secret) $(payload "$MANAGED/box/report")" 'secret planted' "$fault"
    done
}

@test "nobody gets a new name for old content because the new one cannot be stored: link and linkat fail" {
    mkdir "$MANAGED/folder"
    for way in link linkat; do
        with_faults 'session_settle_rights pwritev 1 EIO' -- python3 -c '
import errno, os, sys
way, file, name = sys.argv[1], os.environ["file"], os.environ["MANAGED"] + "/folder/name"
fd = os.open(file, os.O_RDWR)
os.pwrite(fd, b"C", 0)
try:
    if way == "link":
        os.link(file, name)
    else:
        os.link(file, name, src_dir_fd=os.open("/", os.O_PATH))
except OSError as error:
    print(errno.errorcode[error.errno], os.path.lexists(name))
os.close(fd)' $way
        assert_equal "$output" 'EIO False' $way
        assert_equal "$(payload "$file")" Content $way
        wrapped sh -c 'echo content >"$file"'
    done
}

@test "I5 no memory for the record of a plain commit: the close fails, and the old content stays" {
    export ATOMSHIM_RESCUE_DIR=$BATS_TEST_TMPDIR/rescue
    export ATOMSHIM_PATHS=plain=$MANAGED/plain
    mkdir rescue
    echo old >"$MANAGED/plain"
    with_faults 'make_record mmap 1 ENOMEM' -- python3 -c '
import errno, os
fd = os.open(os.environ["MANAGED"] + "/plain", os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"x" * (3 << 20))
try:
    os.close(fd)
except OSError as error:
    print(errno.errorcode[error.errno])'
    assert_equal "$output" ENOMEM
    assert_equal "$(cat "$MANAGED/plain")" old
    assert_equal "$(cat rescue/* | wc -c)" $((3 << 20)) 'the rescued bytes'
}

@test "I7 two threads that fork at once leave one table of guardians to all processes" {
    mkfifo other go
    with_faults 'get_tree mmap 1 !echo >other; read -r _ <go' -- "$PROGRAMS/two_forks" other go
    assert_equal "$status" 0
    assert_equal "$(sort -u <<<"$output" | wc -w) ${#lines[@]}" '1 3' 'different tables, and lines'
}

@test "no size is refused because the memory that is left cannot be asked for" {
    with_faults 'memory_available mmap 1 ENOMEM' -- python3 -c '
import os
fd = os.open(os.environ["file"], os.O_RDWR)
os.ftruncate(fd, 64 << 20)
print(os.lseek(fd, 0, os.SEEK_END))
os.ftruncate(fd, 7)'
    assert_equal "$output" $((64 << 20))
    assert_equal "$(payload "$file")" content
}

@test "two guardians that took one place at once: neither keeps it, and no opener waits for a place that nobody looks from" {
    export ATOMSHIM_LOG=warn ATOMSHIM_LOCK_TIMEOUT=5 hold=$BATS_TEST_TMPDIR/hold.py
    mkfifo in ready release
    # takes the guardian's place, too, until it is told to end
    cat >"$hold" <<'END'
import fcntl, os, struct
status = os.stat(os.environ["file"])
hash = (status.st_ino + status.st_dev * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd & 2**64 - 1
room = (hash >> 24) * (64 << 16) & (2**63 - 1)
proc = os.open("/proc", os.O_RDONLY)
lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, room, 64 << 16, 0)
kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(proc, fcntl.F_GETLK, lock))
assert kind == fcntl.F_RDLCK and length == 1
fcntl.fcntl(proc, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, start, 1, 0))
open("ready", "w").write("\n")
open("release").read()
END
    with_faults 'rendezvous_begin F_GETLK 2 !python3 "$hold" & read -r _ <ready' -- bash -c '
        "$PROGRAMS/static_writer" 1 wait-write new <in >"$file" &
        exec 4>in
        echo >release
        cat "$file"
        exec 4>&-
        wait'
    assert_equal "$output" content
    assert_equal "$(payload "$file")" new
    [ ! -s "$log" ] || { cat "$log" >&2 && return 1; }
}

@test "I4 on xfs and ext4 one flush of the file flushes a kept journal, too, which is written out before it" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    needs strace mkfs.xfs mkfs.ext4
    for type in xfs ext4; do
        rm -f disk && truncate -s 320M disk
        PATH=$PATH:/usr/sbin:/sbin "mkfs.$type" -q disk
        mount -o loop disk "$MANAGED" || skip 'needs loop devices'
        ATOMSHIM_PATHS=plain=$MANAGED/ LD_PRELOAD=$BUILT/libatomshim.so strace -f -y -o trace \
            -e trace=fsync,fdatasync,sync_file_range python3 -c '
import os
for letter in b"abc":
    fd = os.open(os.environ["file"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, bytes([letter]) * 100000)
    os.close(fd)'
        # the third commit, whose journal is kept and has its size
        assert_equal "$(grep -oE '(fsync|fdatasync|sync_file_range)\([0-9]+<[^>]*/[^/>]*' trace | sed -E 's/\(.*\/(\.?[a-z]*).*/ \1/' | tail -n 3)" \
            $'sync_file_range .atomshim\nfsync file\nfdatasync file' "$type"
        assert_equal "$(sort -u <<<"$(fold -w 1 "$file")" | head -n 2)" c "$type"
        umount "$MANAGED"
    done
}

@test "a descriptor of a managed file whose status the disk does not tell: the program gets the errno, and no other file's status" {
    for call in 'os.fstat(fd)' 'os.stat("/dev/stdin")'; do
        with_faults '=fix_buffer fstat 1 EIO' -- python3 -c '
import errno, os, sys
fd = os.open(os.environ["file"], os.O_RDONLY)
os.dup2(fd, 0)
try:
    '"$call"'
except OSError as error:
    print(errno.errorcode[error.errno])
print(os.fstat(fd).st_ino == os.stat(os.environ["file"]).st_ino)'
        assert_equal "$output" $'EIO\nTrue' "$call"
    done
}

@test "I7 syscall(SYS_exit) where /proc does not tell the number of threads: nothing is lost" {
    printf old >"$MANAGED/exit"
    with_faults 'end_thread newfstatat 1 EACCES' -- "$ROOT/build/programs/calls_syscall" exit "$MANAGED/exit"
    assert_equal "$(wrapped cat "$MANAGED/exit")" exit
}

@test "I2 a first commit comes while a reader makes sure that a file is plain: it reads the new content" {
    printf old >"$MANAGED/plain"
    with_faults 'confirm_plain pread64 1 !wrapped sh -c "printf new >\"\$1\"" - "$MANAGED/plain"' -- cat "$MANAGED/plain"
    assert_equal "$output" new
}
