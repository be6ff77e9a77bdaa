# Runs a campaign at its CI size as one test; `make campaigns` runs the full sizes. The head of each
# campaign says what it proves.

load ../lib/helpers

setup() {
    helpers_setup
}

campaign() { # NAME
    run "$ROOT/tests/campaigns/$1" ci
    # prints the numbers and the skipped cases after a pass, too, as comments of TAP
    printf '# %s\n' "${lines[@]}" >&3
    [ "$status" -ne 77 ] || skip "${lines[-1]}"
    [ "$status" -eq 0 ]
}
