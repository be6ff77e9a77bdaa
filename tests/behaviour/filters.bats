#!/usr/bin/env bats
# Programs live whose own seccomp filter kills for calls that the shim needs.

load ../lib/helpers

setup() {
    helpers_setup
    cd "$BATS_TEST_TMPDIR" || return
    echo hello >hello
}

# quiet PATTERNS WAY FILE...: runs programs/quiet.c under the shim.
quiet() {
    LD_PRELOAD=$BUILT/libatomshim.so ATOMSHIM_PATHS=$1 "$PROGRAMS/quiet" "${@:2}"
}

@test "files that are not managed are read, written and renamed as without the shim, whatever the patterns" {
    assert_equal "$("$PROGRAMS/quiet" prctl hello '>other' missing 'other>third')" $'hello\nENOENT' 'without the shim'
    for pattern in '' /nowhere/file.cfg /nowhere/ hello.cfg "$MANAGED/"; do
        for way in prctl seccomp; do
            rm -f other third
            assert_equal "$(quiet "$pattern" $way hello "$PWD/hello" '>other' missing 'other>third')" \
                $'hello\nhello\nENOENT' "$way, '$pattern'"
            assert_equal "$(cat third)" written "$way, '$pattern'"
        done
    done
}

@test "I7 a managed file is neither opened nor replaced: EPERM and a line in the log, and its content stays" {
    wrapped sh -c 'echo content >"$MANAGED/file"'
    echo new >"$MANAGED/new"
    for way in prctl seccomp; do
        for name in "$MANAGED/file" managed/file "./managed/../managed/.//file"; do
            assert_equal "$(quiet "$MANAGED/" $way "$name" 2>log)" EPERM "read as $name"
            assert_equal "$(grep -c 'error: .*seccomp' log) $(wc -l <log)" '1 1' "$(cat log)"
            assert_equal "$(quiet "$MANAGED/" $way ">$name" 2>log)" EPERM "written as $name"
            assert_equal "$(grep -c 'error: .*seccomp' log) $(wc -l <log)" '1 1' "$(cat log)"
            assert_equal "$(quiet "$MANAGED/" $way "hello>$name" 2>/dev/null)" EPERM "replaced as $name"
            assert_equal "$(quiet "$MANAGED/" $way "=$name" hello 2>/dev/null)" $'EPERM\nhello' "by syscall(2) as $name"
        done
    done
    assert_equal "$(payload "$MANAGED/file")" content
    ATOMSHIM_LOG_FILE=$PWD/log.file quiet "$MANAGED/" prctl "$MANAGED/file" 2>log
    assert_equal "$(wc -l <log.file) $(wc -l <log)" '1 0' 'a log file'
}

@test "I7 what such a program writes to a file that was open before is committed, before its filter and behind it" {
    wrapped sh -c '"$PROGRAMS/quiet" prctl "$1" "$1" >"$MANAGED/out"' sh "$PWD/hello"
    # a wrapped open waits for the guardian
    assert_equal "$(wrapped cat "$MANAGED/out")" $'hello\nhello'
    wrapped sh -c '(echo before; exec "$PROGRAMS/quiet" seccomp "$1") >"$MANAGED/out"' sh "$PWD/hello"
    assert_equal "$(wrapped cat "$MANAGED/out")" $'before\nhello'
}

@test "a filter that lets calls fail is a reason to be quiet if the shim could not tell what is managed" {
    assert_equal "$(quiet "$MANAGED/" errno hello)" hello
    wrapped sh -c 'echo content >"$MANAGED/file"'
    assert_equal "$(quiet "$MANAGED/" errno ">$MANAGED/file" 2>log)" EPERM
    assert_equal "$(grep -c 'seccomp filter of its own' log)" 1 "$(cat log)"
    assert_equal "$(payload "$MANAGED/file")" content
    # a filter that makes another call fail changes nothing
    assert_equal "$(quiet "$MANAGED/" uname "$MANAGED/file" ">$MANAGED/file" 2>log)" content
    assert_equal "$(payload "$MANAGED/file") $(cat log)" 'written '
}

@test "a filter that the program was started with: whatever call it refuses, no managed file is written raw" {
    for folder in "$MANAGED" "$(mktemp -d /dev/shm/atomshim.XXXXXX)"; do
        for call in $("$PROGRAMS/without_memfd" list); do
            rm -f "$folder"/*
            ATOMSHIM_PATHS=$folder/ LD_PRELOAD=$BUILT/libatomshim.so sh -c 'echo old >"$1/file"' sh "$folder"
            ATOMSHIM_PATHS=$folder/ LD_PRELOAD=$BUILT/libatomshim.so timeout 60 "$PROGRAMS/without_memfd" "$call" \
                sh -c 'echo made >"$1/made"; echo new >"$1/file"' sh "$folder" >/dev/null 2>&1 || true
            [[ "$(payload "$folder/file")" =~ ^(old|new)$ ]]
            for file in "$folder"/*; do
                [ ! -s "$file" ] || assert_equal "$(head -c 10 "$file")" '#atomshim/' "$call: $file"
            done
        done
        [ "$folder" = "$MANAGED" ] || rm -r "$folder"
    done
}

@test "I7 a filter that refuses readlinkat from the start: EPERM and a line for what is managed, nothing for other files" {
    wrapped sh -c 'echo content >"$MANAGED/file"'
    echo new >"$MANAGED/new"
    for name in "$MANAGED/file" managed/file ./managed//../managed/file; do
        for try in 'echo new >"$1"' 'cat "$1"' 'mv managed/new "$1"' 'rm -f managed/none; echo new >managed/none'; do
            run wrapped "$PROGRAMS/without_memfd" readlinkat dash -c "$try" dash "$name"
            [ "$status" -ne 0 ]
            [[ "$output" == *'cannot be opened or replaced'*'Operation not permitted'* ]] || { echo "$output"; return 1; }
        done
    done
    assert_equal "$(payload "$MANAGED/file")" content
    assert_equal "$(wrapped "$PROGRAMS/without_memfd" readlinkat dash -c 'cat hello; echo x >other; cat other' 2>&1)" $'hello\nx'
}

@test "a line of the log names no process where a filter refuses getpid" {
    ATOMSHIM_LOG=info wrapped "$PROGRAMS/without_memfd" getpid sh -c : 2>log
    grep -q '^atomshim: info: version' log
    assert_equal "$(grep -c 'atomshim\[-' log)" 0
}

@test "programs of Debian that filter themselves: chronyd, man" {
    ran=0
    for pattern in /nowhere/file.cfg /nowhere/ file.1; do
        if [ -x /usr/sbin/chronyd ] && [ "$(id -u)" = 0 ]; then
            # -Q -t 1: asks once, and says that there is no answer
            run quiet_command "$pattern" /usr/sbin/chronyd -F 1 -Q -t 1 'server 127.0.0.1 iburst'
            [[ "$output" == *'seccomp filter'* && "$output" == *exiting* ]] || { echo "$output"; return 1; }
            ran=1
        fi
        if command -v man >/dev/null && command -v groff >/dev/null; then
            printf '.TH T 1\n.SH NAME\nt \\- a page\n' >file.1
            gzip -kf file.1
            for page in ./file.1 ./file.1.gz; do
                run quiet_command "$pattern" man -P cat "$page"
                [[ "$output" == *'a page'* ]] || { echo "$output"; return 1; }
            done
            ran=1
        fi
    done
    [ $ran = 1 ] || skip 'needs chronyd or man'
}

quiet_command() { # PATTERNS COMMAND...
    LD_PRELOAD=$BUILT/libatomshim.so ATOMSHIM_PATHS=$1 timeout 60 "${@:2}"
}
