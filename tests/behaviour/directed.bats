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
    wrapped sh -c 'printf 0123456789 >"$file"'
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
    with_faults "=commit_alone fstat 3 $other" -- python3 -c "$locks_and_writes"
    assert_equal "$output" ''
    assert_equal "$(payload "$file")" A1234B6789
}

@test "I5 I7 merge: the buffer cannot be asked for its size" {
    with_faults "=commit_alone fstat 3 $other" '=session_commit_merged fstat 1+ EIO' -- \
        python3 -c "$locks_and_writes"
    assert_equal "$output" 'Input/output error'
    assert_equal "$(payload "$file")" 01234B6789 'the content of the other program'
    for new in "$rescue"/*; do
        assert_equal "$(cat "$new")" A123456789 'the rescue file'
    done
}
