#!/usr/bin/env bats
# The command where its memory ends, and where another process acts between two of its calls.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    export file
    cd "$BATS_TEST_TMPDIR" || exit
}

teardown() {
    [ -z "${stopped:-}" ] || kill -KILL "$stopped" 2>/dev/null || true
}

# Makes the folder tree: a sized file with two contents, a plain one, and one that is damaged.
make_tree() {
    rm -rf tree
    mkdir -p tree/below tree/out
    cp "$MANAGED"/* tree/
    mv tree/plain tree/below/
}

# What a failed command may leave: each file with its content, or the content that undo, repair and
# export are to leave.
assert_tree_whole() {
    [[ $(payload tree/sized) == @(one|two) && $(payload tree/below/plain) == plain ]]
    [[ -z $(find tree -name '.*') && -z $(find tree/out -type f -size -100k) ]]
}

# without_memory ARGUMENT...: runs the command once as it is, and once for each of its allocations,
# which fails, alone or with all that follow.
without_memory() {
    local expected number more
    make_tree
    run "$BUILT/failing/atomshim" "$@" 9>told
    expected="$status $output"
    for more in '' +; do
        for ((number = 1; ; number++)); do
            make_tree
            ALLOCATION=$number$more run "$BUILT/failing/atomshim" "$@" 9>told
            [ -s told ] || break
            echo "$* $number$more: $status $output"
            # `run` and `doctor` go on where they could not look into a folder, and say so
            [[ "$status $output" == "$expected" ||
                (($status -ne 0 || $1 == @(run|doctor)) && $status -lt 128 && $output == *'Cannot allocate memory'*) ]]
            assert_tree_whole
        done
        echo "$* $number$more"
        [ "$number" -gt 1 ]
    done
}

@test "I3 I7 the command without memory: an error status and a line, or its work is done all the same" {
    wrapped sh -c 'echo one >"$MANAGED/sized"; echo two >"$MANAGED/sized"'
    helpers_damage "$MANAGED/damaged"
    echo plain >"$MANAGED/plain"
    without_memory run --path "$PWD/tree/sized" --path "$PWD/tree/*" --log=error --no-sync true
    without_memory doctor --path "$PWD/tree/"
    without_memory verify -r tree
    without_memory recover "$PWD/tree/*"
    without_memory import -r -q tree
    without_memory export -r -q tree
}

@test "watch without memory: it ends with a line, or watches all files" {
    local number
    mkdir tree
    for number in {1..70}; do : >"tree/$number"; done # the table grows once
    mkfifo lines
    for ((number = 1; ; number++)); do
        ALLOCATION=$number "$BUILT/failing/atomshim" watch "$PWD/tree/**" 9>told 2>lines 3>&- &
        stopped=$!
        read -r -t 60 line <lines
        echo "$number: $line"
        [ "$line" != 'atomshim: watching 70 files' ] || kill "$stopped"
        status=0
        wait "$stopped" || status=$?
        [ -s told ] || break
        [[ $line == 'atomshim: watching 70 files' || ($status -eq 126 && $line == 'atomshim: Cannot allocate memory') ||
            ($status -eq 1 && $line == "atomshim: watch: $PWD/tree: Cannot allocate memory") ]]
    done
    [ "$number" -gt 70 ]
}

# amid CALL ORDINAL PATH ACTION COMMAND...: runs the command, and the shell code ACTION right after the
# call on PATH with that ordinal has been made. Sets status and output, and fails if it was not made.
amid() {
    local call=$1 ordinal=$2 path=$3 action=$4 line met=
    shift 4
    rm -f trace
    mkfifo trace
    strace -qq -f -o trace -P "$path" -e trace="$call" -e inject="$call:signal=STOP:when=$ordinal" "$@" >said 2>&1 3>&- 8>&- &
    stopped=$!
    exec 8<trace
    while read -r line <&8; do
        [[ $line == *'stopped by SIGSTOP'* ]] || continue
        eval "$action"
        kill -CONT "${line%% *}"
        met=1
    done
    exec 8<&-
    status=0
    wait "$stopped" || status=$?
    output=$(cat said)
    [ -n "$met" ]
}

@test "recover: a file that is gone when recover comes to it is none of its business" {
    needs strace
    echo one >"$MANAGED/one"
    echo two >"$MANAGED/two"
    amid getdents64 1 "$MANAGED" 'rm "$MANAGED/one"' "$ROOT/build/atomshim" recover "$MANAGED/*"
    assert_equal "$status $output" '0 '
    amid newfstatat 1 "$MANAGED/two" 'rm "$MANAGED/two"' "$ROOT/build/atomshim" recover "$MANAGED/*"
    assert_equal "$status $output" '0 '
}
