#!/usr/bin/env bats
# A commit that fails: the program gets an error, the old content stays, the shim rescues the new
# one and logs one line.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    rescue=$BATS_TEST_TMPDIR/rescue
    log=$BATS_TEST_TMPDIR/log
    mkdir "$rescue"
    export file ATOMSHIM_LOG_FILE=$log
}

teardown() {
    [ -z "${holder-}" ] || kill "$holder" 2>/dev/null || true # a failed test leaves it
    umount "$MANAGED" 2>/dev/null || true
}

# mount_small TYPE: a file system of 1 MiB, or a few, at $MANAGED.
mount_small() {
    [ "$(id -u)" -eq 0 ] || skip 'mounting needs root'
    case $1 in
    tmpfs) mount -t tmpfs -o size=1m tmpfs "$MANAGED" || skip 'no mounts here' ;;
    *)
        PATH=$PATH:/usr/sbin:/sbin
        truncate -s 4M "$BATS_TEST_TMPDIR/disk"
        "mkfs.$1" -q -F -O ^has_journal "$BATS_TEST_TMPDIR/disk"
        mount -o loop "$BATS_TEST_TMPDIR/disk" "$MANAGED" || skip 'no loop devices here'
        ;;
    esac
}

rescued() {
    find "$rescue" -type f | wc -l
}

full_disk() {
    local how before
    mount_small "$1"
    wrapped sh -c 'echo old >"$file"; echo old >"$file"'
    ln "$file" "$file.link"
    before=$(stat -c '%i %h' "$file")
    for how in close fclose fsync fdatasync; do
        rm -f "$rescue"/* "$log"
        run -0 env ATOMSHIM_RESCUE_DIR="$rescue" LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" \
            "$PROGRAMS/failing" "$file" 6000000 "$how"
        assert_equal "$output" ENOSPC "$how"
        assert_equal "$(payload "$file")" old "I5 the old content, $how"
        assert_equal "$(wrapped cat "$file.link")" old
        assert_equal "$(stat -c '%i %h' "$file")" "$before" 'I3'
        # fsync fails, and the close at the end of the program fails again
        [[ $how == f*sync ]] || assert_equal "$(wc -l <"$log")" 1 "lines logged, $how"
        [[ $(head -n 1 "$log") == *"error: $file: commit failed: no space left on device (ENOSPC); the old content stays, the new is in $rescue/file.atomshim-"* ]]
        for saved in "$rescue"/*; do
            assert_equal "$(tr -d n <"$saved" | wc -c) $(stat -c %s "$saved")" '0 6000640' 'rescued'
        done
    done
    wrapped sh -c 'echo next >"$file"'
    assert_equal "$(payload "$file")" next
}

@test "I5 I7 a full tmpfs: ENOSPC from close, fclose, fsync, fdatasync; old content stays; rescue" {
    full_disk tmpfs
}

@test "I5 I7 a full ext4" {
    full_disk ext4
}

@test "I5 a full disk at a first commit leaves the plain file" {
    mount_small tmpfs
    printf plain >"$file"
    run -0 wrapped "$PROGRAMS/failing" "$file" 6000000 close
    assert_equal "$output" ENOSPC
    assert_equal "$(cat "$file")" plain
    assert_equal "$(stat -c %s "$file")" 5
}

@test "real programs see the full disk" {
    mount_small tmpfs
    head -c 3000000 /dev/zero >"$BATS_TEST_TMPDIR/large"
    wrapped sh -c 'echo old >"$file"'
    run ! wrapped cp "$BATS_TEST_TMPDIR/large" "$file"
    [[ $output == *'No space left on device'* ]]
    run ! wrapped dd if="$BATS_TEST_TMPDIR/large" of="$file" bs=1M status=none
    [[ $output == *'No space left on device'* ]]
    run ! wrapped python3 -c 'import os
with open(os.environ["file"], "wb") as f: f.write(bytes(3000000))'
    [[ $output == *'No space left on device'* ]]
    run ! wrapped tee "$file" <"$BATS_TEST_TMPDIR/large" >/dev/null
    assert_equal "$(payload "$file")" old
}

@test "without ATOMSHIM_RESCUE_DIR the line says that the new content is lost" {
    mount_small tmpfs
    wrapped sh -c 'echo old >"$file"'
    run -0 wrapped "$PROGRAMS/failing" "$file" 6000000 close
    [[ $(cat "$log") == *'the old content stays, the new is lost' ]]
}

@test "a read-only file system: EROFS as without the shim, reading works" {
    mount_small tmpfs
    wrapped sh -c 'echo content >"$file"'
    mount -o remount,ro "$MANAGED"
    for way in env wrapped; do
        run -0 "$way" "$PROGRAMS/failing" "$file" 10 close
        assert_equal "$output" EROFS "$way"
        run -0 "$way" "$PROGRAMS/failing" "$file" 10 truncate
        assert_equal "$output" EROFS "$way"
    done
    assert_equal "$(wrapped cat "$file")" content
}

@test "a lock that is never given back: ETIMEDOUT after ATOMSHIM_LOCK_TIMEOUT, readers unaffected" {
    wrapped sh -c 'echo old >"$file"'
    mkfifo "$BATS_TEST_TMPDIR/ready" "$BATS_TEST_TMPDIR/done"
    python3 -c 'import fcntl, os, sys
f = open(os.environ["file"], "r+b")
fcntl.lockf(f, fcntl.LOCK_EX)
print(file=open(sys.argv[1], "w"))
open(sys.argv[2]).close()' "$BATS_TEST_TMPDIR/ready" "$BATS_TEST_TMPDIR/done" 3>&- &
    holder=$!
    read -r -t 60 _ <>"$BATS_TEST_TMPDIR/ready"
    ATOMSHIM_LOCK_TIMEOUT=0.05 run -0 wrapped "$PROGRAMS/failing" "$file" 10 close
    assert_equal "$output" ETIMEDOUT
    assert_equal "$(wrapped cat "$file")" old
    : >"$BATS_TEST_TMPDIR/done"
    wait "$holder"
    run -0 wrapped "$PROGRAMS/failing" "$file" 10 close
    assert_equal "$output" ok
}

@test "ATOMSHIM_ISOLATION=session: locks on ranges are free, since no other process has the file" {
    echo old >"$file"
    ATOMSHIM_ISOLATION=session wrapped python3 -c 'import fcntl, os, struct
file = open(os.environ["file"], "r+")
for lock in (fcntl.F_RDLCK, fcntl.F_WRLCK):
    for start in (0, 2):
        asked = struct.pack("hhqqi4x", lock, 0, start, 1, 0)
        fcntl.fcntl(file, fcntl.F_SETLK, asked)
        assert struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] == fcntl.F_UNLCK
file.write("new")'
    assert_equal "$(payload "$file" | head -c 3)" new
}

@test "ATOMSHIM_ISOLATION=session: read-modify-write by many adds up" {
    wrapped sh -c 'echo 0 >"$file"'
    for _ in 1 2 3 4; do
        ATOMSHIM_ISOLATION=session wrapped python3 -c 'import os
for i in range(25):
    f = open(os.environ["file"], "r+")
    n = int(f.read()); f.seek(0); f.write(str(n + 1)); f.close()' 3>&- &
    done
    wait
    assert_equal "$(payload "$file")" 100
}

@test "a bad setting: one line, the default is used, the program goes on" {
    ATOMSHIM_FORMAT=bogus wrapped sh -c 'echo content >"$file"'
    assert_equal "$(payload "$file")" content
    assert_equal "$(sed 's/\[[0-9]*\]/[]/' "$log" | sort -u)" \
        'atomshim[]: error: ATOMSHIM_FORMAT=bogus: accepted are "sized" and "plain"; the default is used'
}

@test "settings of more than 512 bytes, which a program overwrites in its environment" {
    printf -v paths '%s:' /none/{1..100}
    cat >"$BATS_TEST_TMPDIR/overwrite.c" <<'X'
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
int main(int count, char *argv[])
{
    for (char **entry = environ; *entry != NULL; entry++)
        memset(*entry, 'x', strlen(*entry));
    int fd = open(argv[count - 1], O_WRONLY | O_TRUNC);
    return !(write(fd, "new", 3) == 3 && close(fd) == 0);
}
X
    cc -D_GNU_SOURCE -o "$BATS_TEST_TMPDIR/overwrite" "$BATS_TEST_TMPDIR/overwrite.c"
    echo old >"$file"
    LD_PRELOAD=$BUILT/libatomshim.so ATOMSHIM_PATHS=$paths$file "$BATS_TEST_TMPDIR/overwrite" "$file"
    assert_equal "$(payload "$file")" new
}

@test "ATOMSHIM_FORMAT=plain: no header, the same inode, content right" {
    printf old >"$file"
    before=$(inode "$file")
    export ATOMSHIM_FORMAT=plain
    for content in first 'a longer second one' x ''; do
        wrapped sh -c 'printf %s "$0" >"$file"' "$content"
        assert_equal "$(cat "$file")" "$content"
    done
    wrapped sh -c 'seq 100000 >"$file"'
    assert_equal "$(cksum <"$file")" "$(seq 100000 | cksum)"
    assert_equal "$(inode "$file")" "$before"
}

@test "I7 a commit beyond RLIMIT_FSIZE: EFBIG and no signal; the program's own pending SIGXFSZ stays" {
    printf old >"$MANAGED/limited"
    run --separate-stderr wrapped python3 -S - "$MANAGED/limited" <<'PY'
import errno, os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # python ignores it
for own in False, True:
    if own:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXFSZ])
        os.kill(os.getpid(), signal.SIGXFSZ)
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"x" * 5000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        os.close(fd)
    except OSError as error:
        print(errno.errorcode[error.errno], signal.SIGXFSZ in signal.sigpending())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
PY
    assert_equal "$output" "EFBIG False
EFBIG True"
    assert_equal "$(payload "$MANAGED/limited")" old
}

@test "I7 a log file that cannot take the line, or not within RLIMIT_FSIZE: it goes to stderr" {
    printf old >"$MANAGED/limited"
    head -c 1024 /dev/zero >"$log"
    for log in /dev/full "$log"; do
        ATOMSHIM_LOG_FILE=$log run wrapped dash -c "
            ulimit -f 2
            printf new >'$MANAGED/limited'
            echo alive"
        grep -q 'commit failed: file too large (EFBIG)' <<<"$output"
        grep -qx alive <<<"$output"
        assert_equal "$(payload "$MANAGED/limited")" old
    done
}

@test "I7 a file of more than the memory: EFBIG, or ENOMEM at the close, and nobody is killed for it" {
    printf old >"$MANAGED/large"
    run --separate-stderr wrapped python3 -S - "$MANAGED/large" <<'PY'
import errno, os, sys
size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + (1 << 30)
def tell(call, *arguments):
    try:
        print(call(*arguments))
    except OSError as error:
        print(errno.errorcode[error.errno])
tell(os.truncate, sys.argv[1], size)
fd = os.open(sys.argv[1], os.O_RDWR)
tell(os.ftruncate, fd, size)
tell(os.pwrite, fd, b"x", size)
tell(os.close, fd)
PY
    assert_equal "$output" "EFBIG
EFBIG
1
ENOMEM"
    assert_equal "$(payload "$MANAGED/large")" old
}

@test "I7 a file of more than the memory is not loaded: ENOMEM, and the kernel kills nobody for it" {
    unshare -m true 2>/dev/null || skip 'needs root, who may mount'
    printf 'MemTotal:       2000000 kB\nMemFree:        2000000 kB\nMemAvailable:    100000 kB\n' >"$BATS_TEST_TMPDIR/meminfo"
    head -c 150M /dev/zero >"$MANAGED/large"
    export MANAGED
    run unshare -m sh -c 'mount --bind "$1" /proc/meminfo && shift && exec "$@"' sh "$BATS_TEST_TMPDIR/meminfo" \
        "$BUILT/atomshim" run --path "$MANAGED/" -- head -c 1 "$MANAGED/large"
    [[ $status = 1 && $output == *'Cannot allocate memory'* ]] || { echo "$output"; return 1; }
    wrapped sh -c 'echo new >"$MANAGED/large"' # a truncation loads nothing
    assert_equal "$(payload "$MANAGED/large")" new
}

@test "I7 a file of more than the memory that the cgroup allows is not loaded, and nobody is killed for it" {
    local group=/sys/fs/cgroup/memory limit=memory.limit_in_bytes
    [ -e $group/$limit ] || { group=/sys/fs/cgroup limit=memory.max; }
    group=$group/atomshim-$$
    mkdir "$group" 2>/dev/null || skip 'needs the right to make a memory cgroup'
    if [ ! -e "$group/$limit" ] || ! echo 100M >"$group/$limit"; then # it may be a folder of a tmpfs
        rmdir "$group"
        skip 'needs a memory cgroup'
    fi
    head -c 150M /dev/zero >"$MANAGED/large"
    run wrapped sh -c 'echo $$ >"$1/cgroup.procs" && exec head -c 1 "$2"' sh "$group" "$MANAGED/large"
    rmdir "$group"
    [[ $status = 1 && $output == *'Cannot allocate memory'* ]] || { echo "$status $output"; return 1; }
}
