#!/usr/bin/env bats
# What the README shows is what comes out.

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

@test "the demo, on the default file and on a given one" {
    run -0 "$ROOT/scripts/demo"
    [[ $output == *'app.cfg: good, sized, generation 2, '* ]]
    printf 'b\na\n' >mine
    run -0 "$ROOT/scripts/demo" mine
    [[ $output == *'app.cfg: good, sized, generation 2, 11 bytes'* ]]
    assert_equal "$(cat mine)" 'b
a' 'the file itself'
}
