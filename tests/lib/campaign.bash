# Runs a campaign at its CI size as one test; `make campaigns` runs the full sizes. Each campaign
# says in its head what it proves.

load ../lib/helpers

setup() {
    helpers_setup
}

campaign() { # NAME
    run "$ROOT/tests/campaigns/$1" ci
    # the numbers and the cases that were skipped are worth seeing after a pass, too; they are
    # comments of TAP
    printf '# %s\n' "${lines[@]}" >&3
    [ "$status" -ne 77 ] || skip "${lines[-1]}"
    [ "$status" -eq 0 ]
}
