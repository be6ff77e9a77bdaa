#!/usr/bin/env bats
# The commands of the README print the output that it shows.

load ../lib/helpers

setup() {
    helpers_setup
    PATH=$ROOT/build:$PATH
    cd "$MANAGED" || exit
}

@test "the transcript in the README" {
    sed -n '/^```console$/,/^```$/{/^```/d;p}' "$ROOT/README.md" >../expected
    [ "$(grep -c '^\$ ' ../expected)" -ge 9 ]
    grep '^\$ ' ../expected | while IFS= read -r line; do
        printf '%s\n' "$line"
        bash -c "${line#??}
true" 2>&1 | sed 's/^bash: line 1: *[0-9]* Killed.*/Killed/'
    done >../found
    diff ../expected ../found
}

@test "the demo: torn and empty reads, a split link, a lost content without the shim, none of them with it" {
    printf 'b\na\n' >mine
    run -0 "$ROOT/scripts/demo" mine
    without=${output%%=== with the shim ===*}
    with=${output#*=== with the shim ===}
    [[ $without =~ ([0-9]+)\ reads,\ ([0-9]+)\ torn,\ ([0-9]+)\ empty ]]
    [ "${BASH_REMATCH[1]}" -gt 0 ]
    [ $((BASH_REMATCH[2] + BASH_REMATCH[3])) -gt 0 ]
    [[ $without == *$'app.cfg:port=443\nlink.cfg:port=80'* && $without == *$'Killed\nhalf'* ]]
    [[ $with =~ ([0-9]+)\ reads,\ 0\ torn,\ 0\ empty ]]
    [ "${BASH_REMATCH[1]}" -gt 0 ]
    [[ $with == *$'Killed\nport=443'* && $with == *$'now plain, 9 bytes\nport=443'* ]]
    if [[ $without == *'Device or resource busy'* ]]; then
        [[ $with == *$'Killed\nport=443\n\n# A real file'* ]]
    fi
    [[ $with == *$'a\nb\ndemo=1\n'*'real.cfg: good, sized'* ]]
}
