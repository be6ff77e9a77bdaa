# Runs the cases of tests/programs, each with the shim and without it. RUNNER is an emulator in
# front of each program; then SHIM is a library for its machine.

RUNNER=()
SHIM=

# run_all [--except REGEX] PROGRAM...: runs every case but those that REGEX matches as "program
# case".
run_all() {
    local except='^$'
    if [ "$1" = --except ]; then
        except=$2
        shift 2
    fi
    "$ROOT/build/cases" --except "$except" --runner "${RUNNER[*]}" "${SHIM:-$BUILT/libatomshim.so}" \
        "$BUILT/atomshim" "$MANAGED" "${@/#/$PROGRAMS/}"
}
