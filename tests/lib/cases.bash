# The cases of tests/programs, each with the shim and without it. RUNNER: an emulator in front of each program, with SHIM a
# library for its machine.

RUNNER=()
SHIM=

plain() {
    timeout 300 "${RUNNER[@]}" "$@"
}

shimmed() {
    if [ -n "$SHIM" ]; then
        timeout 300 "${RUNNER[@]}" -E LD_PRELOAD="$SHIM" -E ATOMSHIM_PATHS="$MANAGED/" "$@"
    else
        wrapped timeout 300 "$@"
    fi
}

# run_case PROGRAM CASE: once without the shim, once with it, each time on a file with two names that holds "old".
run_case() {
    local file=$MANAGED/$2 way before
    for way in plain shimmed; do
        printf old >"$file"
        ln "$file" "$file.link2"
        before=$(stat -c '%i %h' "$file")
        "$way" "$PROGRAMS/$1" "$2" "$file" || {
            echo "$1 $2 failed: $way" >&2
            return 1
        }
        [ "$way $2" = 'shimmed return' ] && assert_equal "$(payload "$file")" returned
        assert_equal "$(stat -c '%i %h' "$file")" "$before" 'I3: inode and links'
        rm "$file" "$file.link2"
        assert_equal "$(ls "$MANAGED")" '' 'left behind'
    done
}

run_all() {
    local name names
    names=$("${RUNNER[@]}" "$PROGRAMS/$1")
    [ -n "$names" ]
    for name in $names; do
        run_case "$1" "$name"
    done
}
