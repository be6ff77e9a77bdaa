# What the tests share. Every test has a folder of its own: $MANAGED is the part of it that the shim manages.

helpers_setup() {
    bats_require_minimum_version 1.5.0
    ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    PROGRAMS=$ROOT/build/programs
    MANAGED=$BATS_TEST_TMPDIR/managed
    mkdir "$MANAGED"
    export ROOT PROGRAMS MANAGED
    unset "${!ATOMSHIM_@}" LD_PRELOAD
}

# Some tests become another user, who is to reach the files.
helpers_let_others_in() {
    chmod 755 "$BATS_RUN_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "$BATS_TEST_TMPDIR" "$MANAGED"
}

# wrapped COMMAND...: runs it under the shim. More settings: VARIABLE=value wrapped COMMAND...
wrapped() {
    LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS=$MANAGED/ "$@"
}

atomshim() {
    "$ROOT/build/atomshim" "$@"
}

# The content of a managed file, by a program that shares no code with the shim's interposition.
payload() {
    atomshim cat "$1"
}

# The number of commits that a file has seen.
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
