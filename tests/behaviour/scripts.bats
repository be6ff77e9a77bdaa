#!/usr/bin/env bats
# The scripts that judge the rest: they count the tests, install packages, and keep the layers of
# shim/ apart.

load ../lib/helpers

setup() {
    helpers_setup
    cd "$BATS_TEST_TMPDIR" || return
    unset BATS_FLAGS
}

# inner_tests: runs scripts/run-tests on a.bats and b.bats, as if no bats were around it.
inner_tests() {
    run env -i PATH="${PATH#"${BATS_LIBEXEC:-}":}" HOME="$HOME" "$ROOT/scripts/run-tests" "$PWD/a.bats" "$PWD/b.bats"
}

@test "run-tests counts what passed, failed and was skipped, and says what a failing test said" {
    printf '@test "%s" { %s; }\n' one true two 'skip "for a reason"' >a.bats
    printf '@test "%s" { %s; }\n' three true >b.bats
    inner_tests
    assert_equal "$status ${lines[-1]}" '0 2 passed, 0 failed, 1 skipped'
    [[ $output == *'for a reason'* ]]

    printf '@test "%s" { %s; }\n' three true four 'echo the cause; false' >b.bats
    inner_tests
    assert_equal "$status ${lines[-1]}" '1 2 passed, 1 failed, 1 skipped'
    [[ $output == *'not ok 2 four'*'the cause'* ]]
}

@test "run-tests: a file that stops before its last test, or does not begin, has failed" {
    printf '@test "%s" { %s; }\n' one true two true >a.bats
    echo 'a syntax error (' >b.bats
    inner_tests
    assert_equal "$status ${lines[-1]}" '1 2 passed, 1 failed, 0 skipped'

    # a bats that dies
    mkdir bin
    printf '%s\n' '#!/bin/sh' 'echo 1..3; echo "ok 1 one in 5ms"; kill -9 $$' >bin/bats
    chmod +x bin/bats
    PATH=$PWD/bin:$PATH run "$ROOT/scripts/run-tests" b.bats
    assert_equal "$status ${lines[-1]}" '1 1 passed, 2 failed, 0 skipped'
    printf '%s\n' '#!/bin/sh' 'exit 0' >bin/bats
    PATH=$PWD/bin:$PATH run "$ROOT/scripts/run-tests" b.bats
    assert_equal "$status ${lines[-1]}" '1 0 passed, 1 failed, 0 skipped'
}

@test "bootstrap names the exact command to a user who may not install, and an unknown purpose" {
    # a PATH without the tools
    mkdir bin
    for tool in sh sort tr mktemp grep tail id; do
        ln -s "$(command -v $tool)" bin/$tool
    done
    run env PATH="$PWD/bin" "$ROOT/scripts/bootstrap" --check build
    assert_equal "$status" 1
    [[ $output == 'bootstrap: missing: gcc make'*'. As root: apt-get update && apt-get install -y --no-install-recommends gcc make'* ]]
    run "$ROOT/scripts/bootstrap" nonsense
    assert_equal "$status" 2
    [[ $output == 'bootstrap: nonsense: accepted are build, '* ]]
}

@test "layers: a wrong include and a foreign internal.h are found" {
    cp -r "$ROOT/shim" .
    run -0 "$ROOT/scripts/layers" shim
    echo '#include "session/session.h"' >>shim/format/image.c
    run -1 "$ROOT/scripts/layers" shim
    assert_equal "$output" 'shim/format/image.c: format may not include session/session.h'
    cp "$ROOT/shim/format/image.c" shim/format/image.c
    echo '#  include "session/internal.h"' >>shim/manage/managed.h
    run -1 "$ROOT/scripts/layers" shim
    assert_equal "$output" 'shim/manage/managed.h: session/internal.h is private to its folder'
}

@test "bootstrap installs the others in one go where a release lacks a package" {
    mkdir bin
    for tool in sh sort tr mktemp grep tail rm echo ls; do
        ln -s "$(command -v $tool)" bin/$tool
    done
    printf '#!/bin/sh\necho 0\n' >bin/id
    cat >bin/apt-get <<'END'
#!/bin/sh
case " $* " in *' --simulate '*) ;; *) echo "$*" >>asked ;; esac
case " $* " in *' tdb-tools '*) exit 100 ;; esac
END
    printf '#!/bin/sh\n:\n' >bin/cc
    for tool in gcc make c++ bats python3 perl vim ed node awk mkfs.ext4 nm mount setfacl pgrep bzip2 flock xargs setcap; do
        [ -e bin/$tool ] || cp bin/cc bin/$tool
    done
    chmod +x bin/id bin/apt-get bin/cc
    run env PATH="$PWD/bin" "$ROOT/scripts/bootstrap" check
    assert_equal "$status" 0
    [[ $output == *'bootstrap: this release has no package tdb-tools'* ]]
    tail -n 1 asked | grep -q ' zsh'
    assert_equal "$(grep -c ' zsh' asked)" 2
}
