#!/usr/bin/env bats
# The cost of the shim in system calls, which is exact whatever else the machine does.

load ../lib/helpers

setup() {
    helpers_setup
    TABLE=$ROOT/tests/bench/calls.txt
    needs strace
    ! grep -q -e __asan_ -e __tsan_ -e __llvm_prf "$BUILT/libatomshim.so" || skip 'an instrumented library makes calls of its own'
}

check() { # TABLE
    "$ROOT/tests/bench/check.py" "$BUILT" "$1"
}

@test "no step of tests/bench/steps.c needs more system calls than tests/bench/calls.txt says" {
    [ "$(id -u)" -eq 0 ] || skip 'root counted the table: the shim asks less about it'
    grep -q "^# .*: $(getconf GNU_LIBC_VERSION)$" "$TABLE" ||
        skip "the table was not counted with $(getconf GNU_LIBC_VERSION), whose fork makes calls of its own"
    run check "$TABLE"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "bench-check names the step and the call that grew, and fails" {
    TABLE=$BATS_TEST_TMPDIR/own # of this C library, user and state of the code
    "$ROOT/tests/bench/check.py" "$BUILT" "$TABLE" --update
    sed '/^tree: rewrite-4k /s/ write=2/ write=1/' "$TABLE" >"$BATS_TEST_TMPDIR/fewer"
    run check "$BATS_TEST_TMPDIR/fewer"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *'tree: rewrite-4k: more: '*'write 1 -> 2'* ]]
    sed '/^tree: rewrite-4k /d' "$TABLE" >"$BATS_TEST_TMPDIR/without"
    run check "$BATS_TEST_TMPDIR/without"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *'tree: rewrite-4k: only in the program'* ]]
}
