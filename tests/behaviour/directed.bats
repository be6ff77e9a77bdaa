#!/usr/bin/env bats
# Failures, and programs that come in between, at places of shim/session/ that no other test reaches:
# tests/lib/with_faults.c. After each the file holds the old or the new content, and nothing is lost
# without a word.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    rescue=$BATS_TEST_TMPDIR/rescue
    log=$BATS_TEST_TMPDIR/log
    mkdir "$rescue"
    export file ATOMSHIM_RESCUE_DIR=$rescue ATOMSHIM_LOG_FILE=$log
    mkfifo "$BATS_TEST_TMPDIR/go" "$BATS_TEST_TMPDIR/done"
    export go=$BATS_TEST_TMPDIR/go done=$BATS_TEST_TMPDIR/done
    wrapped sh -c 'printf 0123456789 >"$file"'
    python=$(PATH=/usr/bin:$PATH command -v python3)
}

# The other thread of threads(), as a stranger.
other_thread='!: >"$go"; : <"$done"'

# threads ENTRY... -- MAIN OTHER: with_faults for a program whose second thread executes the statements
# OTHER when $other_thread acts, while the first is in a call of MAIN. Both have a descriptor `fd` of
# the file.
threads() {
    with_faults "${@:1:$#-2}" "$python" -c 'import os, signal, sys, threading
file = os.environ["file"]
fd = os.open(file, os.O_RDWR)
def other():
    os.close(os.open(os.environ["go"], os.O_RDONLY))
    exec(sys.argv[2], globals())
    os.close(os.open(os.environ["done"], os.O_WRONLY))
thread = threading.Thread(target=other)
thread.start()
exec(sys.argv[1])
thread.join()' "${@: -2}"
}

# Writes A over the first byte of the file, of which it has locked a range, so that its commit merges
# what others commit meanwhile. Prints the error of the close.
locks_and_writes='import fcntl, os
fd = os.open(os.environ["file"], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1)
fcntl.lockf(fd, fcntl.LOCK_UN, 1)
os.pwrite(fd, b"A", 0)
try:
    os.close(fd)
except OSError as error:
    print(os.strerror(error.errno))'

# Another program commits B in the middle of the file.
other='!printf B | wrapped dd of="$file" bs=1 seek=5 conv=notrunc status=none'

@test "merge: a program that comes in between loses nothing" {
    with_faults "=commit_alone fstat 3 $other" -- "$python" -c "$locks_and_writes"
    assert_equal "$output" ''
    assert_equal "$(payload "$file")" A1234B6789
}

@test "I5 I7 merge: the buffer cannot be asked for its size" {
    with_faults "=commit_alone fstat 3 $other" '=session_commit_merged fstat 1+ EIO' -- \
        "$python" -c "$locks_and_writes"
    assert_equal "$output" 'Input/output error'
    assert_equal "$(payload "$file")" 01234B6789 'the content of the other program'
    for new in "$rescue"/*; do
        assert_equal "$(cat "$new")" A123456789 'the rescue file'
    done
}

@test "I4 another thread closes the file while this one opens it again" {
    threads "session_open_again rt_sigprocmask 1 $other_thread" -- \
        'os.pwrite(fd, b"A", 0); print(os.pread(os.open(file, os.O_RDWR), 10, 0).decode())' 'os.close(fd)'
    assert_equal "$output" A123456789
    assert_equal "$(payload "$file")" A123456789
}

# The child is killed without a close. The other thread finds the first one at work, and leaves it to
# that one to look once more.
@test "I7 the last holder is killed while a thread looks at the file: it is committed at once" {
    threads "count_writers getdents64 2 $other_thread" -- \
        'os.pwrite(fd, b"A", 0)
child = os.fork()
if child == 0: signal.pause()
os.close(fd)
os.stat(file)
os.kill(os.getpid(), signal.SIGKILL)' \
        'os.kill(child, signal.SIGKILL); os.waitpid(child, 0); os.open(file + "2", os.O_RDWR | os.O_CREAT)'
    assert_equal "$status" 137
    assert_equal "$(payload "$file")" A123456789
}

@test "I5 another thread closes the file while this one sets its mode" {
    chmod 600 "$file"
    threads "session_set_mode rt_sigprocmask 1 $other_thread" -- \
        'os.pwrite(fd, b"A", 0)
try: os.fchmod(fd, 0o644)
except OSError as error: print(os.strerror(error.errno))' 'os.close(fd)'
    assert_equal "$output" 'Bad file descriptor'
    assert_equal "$(payload "$file") $(stat -c %a "$file")" 'A123456789 600'
}

@test "msync commits the file that is mapped there, of two" {
    wrapped "$python" -c 'import mmap, os
maps = []
for name in "", "2":
    fd = os.open(os.environ["file"] + name, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 10)
    maps.append(mmap.mmap(fd, 10))
for each in maps: each[0:1] = b"A"
maps[1].flush()
os.kill(os.getpid(), 9)' || [ $? -eq 137 ]
    assert_equal "$(payload "$file") $(payload "${file}2" | tr '\0' 0)" '0123456789 A000000000'
}
