#!/usr/bin/env bats
# The lines of the log at the levels info and debug.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    export file
    cd "$BATS_TEST_TMPDIR" || exit
    : >log
}

told() { # PATTERN
    grep -qE "$1" log || { echo "no line: $1" >&2; cat log >&2; return 1; }
}

@test "info: a line per start, with version, program and patterns; a line per commit" {
    run -0 atomshim run --log info --log-file "$PWD/log" -p "$MANAGED/" -- \
        sh -c 'echo one >"$file"; echo two >>"$file"; cat "$file" >copy; exec true'
    version=$(atomshim version)
    shell=$(readlink -f /bin/sh)
    told "^atomshim\[[0-9]+\]: info: version ${version#* } in $shell; patterns: $MANAGED/$"
    told "^atomshim\[[0-9]+\]: info: version ${version#* } in .*/true; patterns: "
    told "info: $file: committed sized, 4 bytes, generation 1; lock waited for 0 us, written in [0-9]+ us$"
    told "info: $file: committed sized, 8 bytes, generation 2; lock "
    assert_equal "$(grep -c committed log)" 2 'what was only read is no commit'
    run grep -c 'debug:' log
    assert_equal "$output" 0
    ATOMSHIM_FORMAT=plain ATOMSHIM_LOG=info ATOMSHIM_LOG_FILE=$PWD/log wrapped sh -c 'echo plain >"$MANAGED/plain"'
    told "info: $MANAGED/plain: committed plain, 6 bytes, generation "
}

@test "a log file that is a FIFO gets nothing, also if somebody reads it: the lines go to stderr" {
    mkfifo pipe
    exec 8<>pipe
    run -0 --separate-stderr atomshim run --log info --log-file "$PWD/pipe" -p "$MANAGED/" -- sh -c 'echo one >"$file"'
    [[ $stderr == *"$PWD/pipe"*'it is neither a regular file nor a terminal'* && $stderr == *'committed sized'* ]]
    run ! read -r -t 0 -u 8
    exec 8>&-
}

@test "info: how long a commit waited for its lock" {
    wrapped sh -c 'echo one >"$file"'
    mkfifo ready go
    exec 8<>ready 9<>go
    # holds the lock until the program is about to commit
    python3 -c "
import fcntl, os, struct, sys
f = open(sys.argv[1], 'r+b')
fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
os.write(8, b'x\n')
os.read(9, 2)" "$file" &
    holder=$!
    read -r _ <&8
    ATOMSHIM_LOG=info ATOMSHIM_LOG_FILE=$PWD/log wrapped sh -c 'exec 3>"$file"; echo two >&3; echo x >&9; exec 3>&-'
    wait "$holder"
    told "committed sized, 4 bytes, generation 2; lock waited for [0-9]+ us"
}

@test "debug: why a file is managed, or is not" {
    echo x >"$MANAGED/file.txt"
    echo x >outside.cfg
    mkdir folder
    wrapped sh -c 'echo sized >"$MANAGED/whole.cfg"'
    cp "$MANAGED/whole.cfg" folder/whole.cfg # by its content
    ATOMSHIM_LOG=debug ATOMSHIM_LOG_FILE=$PWD/log ATOMSHIM_PATHS="$MANAGED/*.cfg" LD_PRELOAD=$ROOT/build/libatomshim.so \
        sh -c 'for f in "$MANAGED/file.txt" outside.cfg folder/whole.cfg "$MANAGED/whole.cfg"; do read -r _ <"$f"; done'
    told "debug: $MANAGED/file.txt: not managed: no pattern ends like its name$"
    told "debug: outside.cfg: not managed: no pattern matches it, and it holds no image$"
    told "debug: folder/whole.cfg: managed: it holds an image$"
    told "debug: $MANAGED/whole.cfg: managed: a pattern matches it$"
}

# A guardian outlives the program; without one there is nobody left to tell.
@test "I7 warn: a guardian names the file of which it commits nothing, since the program that opened it was killed" {
    export static=$PROGRAMS/static_writer
    wrapped sh -c 'echo old >"$file"'
    while read -r kind script; do
        : >log
        run env ATOMSHIM_LOG=warn ATOMSHIM_LOG_FILE="$PWD/log" LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" \
            bash -c "$script"
        wrapped cat "$file" >/dev/null # waits for the guardian
        case $kind in
        lost) told "warn: $file: the program that opened it was killed: what .* is not committed" ;;
        no) assert_equal "$(cat log)" '' "$script" ;;
        esac
    done <<'END'
lost exec >"$file"; printf half; "$static" 1 write more; kill -9 $$
lost exec "$static" 1 die half >"$file"
lost exec 5>>"$file"; "$static" 5 write more; kill -9 $$
no exec 5<>"$file"; "$static" 2 write ""; kill -9 $$
no exec >"$file"; "$static" 1 write new
no ("$static" 1 die half; exit 0) >"$file"
END
}
