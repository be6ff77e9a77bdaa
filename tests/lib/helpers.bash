# All bats files load these functions. Every test has a folder of its own; the shim manages the part
# $MANAGED of it.

ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

helpers_setup() {
    bats_require_minimum_version 1.5.0
    umask 022 # a user's is 002 on Debian 13
    helpers_build
    BUILT=$ROOT/build
    PROGRAMS=$BUILT/programs
    MANAGED=$BATS_TEST_TMPDIR/managed
    mkdir "$MANAGED"
    export ROOT BUILT PROGRAMS MANAGED # not BUILD, which the Makefile would take
    unset "${!ATOMSHIM_@}" LD_PRELOAD
}

# Builds the programs that tests execute, once in a run of bats; scripts/run-tests has built them
# already.
helpers_build() {
    if [ -z "${TESTS_PREPARED:-}" ] && [ ! -e "$BATS_RUN_TMPDIR/built" ]; then
        make -s -C "$ROOT" -j"$(nproc)" tested >"$BATS_RUN_TMPDIR/build.log" 2>&1 || {
            cat "$BATS_RUN_TMPDIR/build.log" >&2
            return 1
        }
        : >"$BATS_RUN_TMPDIR/built"
    fi
}

# needs COMMAND...: skips the test where one of them is not installed.
needs() {
    local command
    for command; do
        [ -n "$(PATH=$PATH:/usr/sbin:/sbin command -v "$command")" ] || skip "needs $command"
    done
}

# helpers_rootfs KIND: makes the root file system of that kind in build/rootfs, or fails and says
# why in $reason. `make rootfs` has done that already when scripts/run-tests runs.
helpers_rootfs() {
    local root=$ROOT/build/rootfs
    mkdir -p "$root"
    if [ -z "${TESTS_PREPARED:-}" ] && [ ! -e "$root/$1/.complete" ]; then
        helpers_build
        "$ROOT/tests/lib/rootfs" "$1" "$root/$1" >"$root/$1.reason" 2>&1 || true
    fi
    # shellcheck disable=SC2034 # for the caller
    reason=$(tail -n 1 "$root/$1.reason" 2>/dev/null) || reason="no root file system of the kind $1"
    [ -e "$root/$1/.complete" ]
}

# Lets other users reach the files, as some tests become one. If they cannot reach the clone, $BUILT
# is a copy of build/.
helpers_let_others_in() {
    chmod 755 "$BATS_RUN_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "$BATS_TEST_TMPDIR" "$MANAGED"
    if [ "$(id -u)" -eq 0 ] && ! setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$PROGRAMS/static_writer"; then
        BUILT=$BATS_TEST_TMPDIR/build
        PROGRAMS=$BUILT/programs
        (umask 022 && mkdir "$BUILT" && cp -r "$ROOT/build/libatomshim.so" "$ROOT/build/atomshim" "$ROOT/build/programs" "$BUILT/")
    fi
}

# wrapped COMMAND...: runs it under the shim. More settings: VARIABLE=value wrapped COMMAND...
wrapped() {
    LD_PRELOAD=$BUILT/libatomshim.so ATOMSHIM_PATHS=$MANAGED/ "$@"
}

# with_faults ENTRY... -- COMMAND...: `run`s it under the shim, whose system calls fail, or wait for
# a stranger, as the entries say: tests/lib/with_faults.c. Fails if one was not met.
with_faults() {
    local control
    control=$(mktemp "$BATS_TEST_TMPDIR/control.XXXXXX")
    : >"$control.failed"
    export BUILT MANAGED
    export -f wrapped
    ATOMSHIM_PATHS=${ATOMSHIM_PATHS-$MANAGED/} run "$BUILT/with_faults" "$control" "$BUILT/failing/libatomshim.so" "$@"
    [ ! -e "$control.failed" ] || { echo "$output" >&2 && return 1; }
}

# without_override COMMAND...: runs it without root's right to pass over permissions.
without_override() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --bounding-set '-dac_override,-dac_read_search' "$@"
    else
        "$@"
    fi
}

atomshim() {
    "$ROOT/build/atomshim" "$@"
}

# Prints the content of a managed file, by a program that shares no code with the shim's
# interposition.
payload() {
    atomshim cat "$1"
}

# Prints how many commits a file has seen.
generation() {
    atomshim info "$1" | sed -n 's/^generation: //p'
}

inode() {
    stat -c %i "$1"
}

assert_equal() { # ACTUAL EXPECTED WHAT
    [ "$1" = "$2" ] && return
    printf '%s: expected\n%s\nbut got\n%s\n' "${3:-value}" "$2" "$1" >&2
    return 1
}

# Makes FILE a sized file both of whose images are damaged.
helpers_damage() { # FILE
    local twin at
    wrapped sh -c 'echo one >"$1"; echo two >"$1"' sh "$1"
    twin=$(atomshim info "$1" | sed -n 's/^twin offset: //p')
    for at in 128 $((twin + 128)); do
        printf X | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
        printf - | dd of="$1" bs=1 seek=$((at - 2)) conv=notrunc status=none
    done
}
