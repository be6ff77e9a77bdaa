#!/usr/bin/env bats
# Programs without the shim that lock, truncate, append to, edit, replace or delete a managed file,
# between and during a wrapped program's open and close. These tests follow the list in
# libatomshim(7), NEIGHBOURS WITHOUT THE SHIM.

load ../lib/helpers

setup() {
    helpers_setup
    chmod 755 "$BATS_TEST_TMPDIR" "$MANAGED"
    file=$MANAGED/file
    log=$BATS_TEST_TMPDIR/log
    rescue=$BATS_TEST_TMPDIR/rescue
    mkdir "$rescue"
    mkfifo -m 666 "$BATS_TEST_TMPDIR/ready" "$BATS_TEST_TMPDIR/go"
    export file ready=$BATS_TEST_TMPDIR/ready go=$BATS_TEST_TMPDIR/go
    export ATOMSHIM_LOG_FILE=$log ATOMSHIM_RESCUE_DIR=$rescue
}

teardown() {
    # a failed test leaves them, and bats would wait for them
    [ -z "${holder-}" ] || kill "$holder" || true
    [ -z "${program-}" ] || kill "$program" || true
}

# Makes a plain file, or one whose live image is in the twin place (generation 1) or in the head place
# (generation 2).
make_file() { # plain|twin|head
    rm -f "$file"
    echo old >"$file"
    [ "$1" = plain ] || wrapped sh -c 'echo one >"$file"'
    [ "$1" != head ] || wrapped sh -c 'echo two >"$file"'
    rm -f "$log" "$rescue"/*
}

# The wrapped program opens, writes, and closes when it is told to; it prints the result of the
# close, or the bytes that it read.
begin() { # truncate|append|update|read
    wrapped exec python3 -c 'import os, sys # exec: teardown must reach it
how = sys.argv[1]
flags = {"truncate": os.O_WRONLY | os.O_TRUNC, "append": os.O_WRONLY | os.O_APPEND,
         "update": os.O_RDWR, "read": os.O_RDONLY}[how]
fd = os.open(os.environ["file"], flags)
if how != "read": os.write(fd, b"ours\n")
print(file=open(os.environ["ready"], "w"))
open(os.environ["go"]).close()
if how == "read": print(os.read(fd, 100).decode(), end="")
try:
    os.close(fd)
    print("ok")
except OSError as error:
    print(os.strerror(error.errno))' "$1" >"$BATS_TEST_TMPDIR/result" 3>&- &
    program=$!
    read -r -t 60 _ <>"$ready"
}

finish() { # HOW-THE-CLOSE-ENDS
    : >"$go"
    wait "$program"
    program=
    assert_equal "$(cat "$BATS_TEST_TMPDIR/result")" "$1" 'close'
}

content() { # EXPECTED WHAT
    assert_equal "$(wrapped cat "$file" 2>&1)" "$1" "content, $2"
}

told() { # TEXT
    grep -q "$1" "$log" || {
        echo "not in the log: $1" >&2
        cat "$log" >&2
        return 1
    }
}

not_told() {
    [ ! -e "$log" ] || {
        cat "$log" >&2
        return 1
    }
}

overwrite_byte() { # OFFSET
    printf X | dd of="$file" bs=1 seek="$1" conv=notrunc status=none
}

# Overwrites one byte where TEXT is.
edit() { # TEXT
    overwrite_byte "$(LC_ALL=C grep -abo "$1" "$file" | tail -n 1 | cut -d: -f1)"
}

# Prints the content that a program commits which began with OLD.
expected() { # truncate|append|update OLD
    [ "$1" != append ] || echo "$2"
    echo ours
}

# Checks the content, and that the file is sound: the next commit works.
sound() { # EXPECTED WHAT
    content "$@"
    run -0 atomshim verify "$file"
    [[ $output == *': good, sized, '* ]]
    wrapped sh -c 'echo next >"$file"'
    content next "after $2"
}

# Checks the program's close, where no image is left to protect.
refused() {
    finish 'Input/output error'
    grep -q ours "$rescue"/*
    told 'commit failed: .*EIO.*; the old content stays, the new is in '
    damaged
}

damaged() {
    run -1 wrapped cat "$file"
    [[ $output == *'Input/output error' ]]
    run -1 atomshim verify "$file"
    [[ $output == *': damaged: '* ]]
}

# Starts a process that holds a lock on the file until it is told to end. USER-ID may be unable to
# search a folder above the tests.
hold() { # posix|ofd|flock read|write [USER-ID]
    (cd "$BATS_TEST_TMPDIR" && exec python3 -c 'import fcntl, os, struct, sys
kind, mode, user = sys.argv[1:]
if user: os.setuid(int(user))
fd = os.open("managed/file", os.O_RDONLY if mode == "read" else os.O_RDWR)
lock = fcntl.LOCK_SH if mode == "read" else fcntl.LOCK_EX
if kind == "posix": fcntl.lockf(fd, lock)
elif kind == "flock": fcntl.flock(fd, lock)
else:
    type = fcntl.F_RDLCK if mode == "read" else fcntl.F_WRLCK
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", type, os.SEEK_SET, 0, 0, 0)) # F_OFD_SETLK
print(file=open("ready", "w"))
open("go").close()' "$1" "$2" "${3-}" 3>&-) &
    holder=$!
    read -r -t 60 _ <>"$ready"
}

release() {
    : >"$go"
    wait "$holder"
    holder=
}

@test "I2 I5 I7 a lock that is held for ever: readers go on, writers get ETIMEDOUT, the new content is rescued" {
    local user=
    [ "$(id -u)" -ne 0 ] || user=65534
    for lock in 'posix write' 'ofd write' "posix read $user" "ofd read $user"; do
        make_file head
        # shellcheck disable=SC2086 # a list of words
        hold $lock
        ATOMSHIM_LOCK_TIMEOUT=0.2 run -0 wrapped "$PROGRAMS/failing" "$file" 5000 close
        assert_equal "$output" ETIMEDOUT "$lock"
        content two "$lock"
        assert_equal "$(tr -d n <"$(echo "$rescue"/*)" | wc -c) $(stat -c %s "$rescue"/*)" '0 8192' "rescued, $lock"
        told 'commit failed: .*ETIMEDOUT.*; the old content stays, the new is in '
        release
        wrapped sh -c 'echo next >"$file"'
        content next "after $lock"
    done
}

@test "I2 a flock that is held for ever is nobody's business" {
    make_file head
    hold flock write
    ATOMSHIM_LOCK_TIMEOUT=0 wrapped sh -c 'echo next >"$file"'
    content next 'flock'
    release
    not_told
}

@test "I2 truncated and rewritten: that is the content, plain; the next commit makes the file sized again" {
    for state in plain twin head; do
        make_file $state
        echo stranger >"$file"
        content stranger $state
        wrapped sh -c 'echo more >>"$file"'
        content 'stranger
more' $state
        run -0 atomshim verify "$file"
        [[ $output == *': good, sized, '* ]]
        : >"$file"
        content '' $state
    done
    not_told
}

@test "I2 I7 appended to: part of a plain file, no part of a sized one, and that is told" {
    make_file plain
    echo stranger >>"$file"
    content 'old
stranger' plain
    not_told
    for state in twin head; do
        make_file $state
        before=$(payload "$file")
        echo stranger >>"$file"
        ATOMSHIM_LOG=warn content "$before" $state
        told 'warn: .*file: a program without the shim appended bytes; they are not part of the content'
        rm "$log"
        wrapped sh -c 'echo ours >>"$file"'
        told 'error: .*file: a program without the shim appended bytes; they are not part of the content'
        rm "$log"
        content "$before
ours" $state
        not_told # the commit gave the file a size of ours again
    done
}

@test "appended to while what a killed first commit left is there: all of that becomes the content" {
    local flush
    needs strace
    for flush in 1 2; do # after the footer, after the image
        make_file plain
        run -137 env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" strace -f -qq -o /dev/null \
            --inject=fdatasync:signal=KILL:when=$flush dash -c 'echo ours >"$file"'
        content "$([ $flush -eq 1 ] && echo old || echo ours)" "killed at flush $flush"
        echo stranger >>"$file"
        wrapped cat "$file" >"$BATS_TEST_TMPDIR/all"
        cmp "$BATS_TEST_TMPDIR/all" "$file"
        [[ $(head -n 1 "$BATS_TEST_TMPDIR/all")$(tail -n 1 "$BATS_TEST_TMPDIR/all" | tr -d '\0') == old*stranger ]]
        wrapped sh -c 'echo next >"$file"'
        content next 'after the next commit'
    done
}

@test "I2 I7 cut in the middle of its images: EIO, never something else; a rewrite without the shim mends it" {
    for state in twin head; do
        make_file $state
        truncate -s 100 "$file"
        damaged
        run -0 wrapped "$PROGRAMS/failing" "$file" 5000 close
        assert_equal "$output" EIO $state
        assert_equal "$(stat -c %s "$rescue"/*)" 8192 "rescued, $state"
        echo stranger >"$file"
        wrapped sh -c 'echo next >"$file"'
        content next $state
    done
}

@test "I2 I7 edited in its live image: the image before it, and that is told; EIO where there is none" {
    make_file head
    edit two
    content one 'the image before'
    told 'error: .*file: a program without the shim damaged the latest content; the content before it is used'
    run -1 atomshim verify "$file"
    [[ $output == *'damaged: the content is generation 1, the later one was edited (head: payload CRC wrong, '* ]]
    wrapped sh -c 'echo ours >>"$file"'
    content 'one
ours' 'appended'
    run -0 atomshim verify "$file"
    for what in one generation; do # the only image; a header
        make_file twin
        edit $what
        damaged
    done
}

@test "I2 edited where no live image is: nothing changes" {
    for state in twin head; do
        make_file $state
        before=$(payload "$file")
        overwrite_byte 4000
        content "$before" $state
        wrapped sh -c 'echo next >"$file"'
        content next $state
    done
    make_file head
    edit one
    content two 'the older image'
    not_told
}

@test "I2 replaced by rename, or deleted: the new file is the content" {
    for state in plain twin head; do
        make_file $state
        echo stranger >"$file.new"
        mv "$file.new" "$file"
        content stranger $state
        rm "$file"
        wrapped sh -c 'echo next >"$file"'
        content next $state
    done
    not_told
}

@test "I2 a reader keeps what it opened, whatever becomes of the file" {
    for action in 'echo stranger >"$file"' 'truncate -s 0 "$file"' 'rm "$file"'; do
        make_file head
        begin read
        eval "$action"
        finish 'two
ok'
    done
}

@test "I2 rewritten while it is open: the close puts its whole image over that; O_APPEND keeps both" {
    for state in plain twin head; do
        make_file $state
        begin truncate
        echo stranger >"$file"
        finish ok
        content ours "$state, O_TRUNC"
        make_file $state
        begin update
        echo stranger >"$file"
        finish ok
        content ours "$state, O_RDWR"
        make_file $state
        begin append
        echo stranger >"$file"
        finish ok
        content 'stranger
ours' "$state, O_APPEND"
    done
}

@test "I2 I7 appended to while it is open: kept in a plain file, told in a sized one" {
    make_file plain
    begin append
    echo stranger >>"$file"
    finish ok
    content 'old
stranger
ours' plain
    not_told
    make_file head
    begin append
    echo stranger >>"$file"
    finish ok
    told 'error: .*file: a program without the shim appended bytes; they are not part of the content'
    content 'two
ours' sized
}

@test "I5 I7 damaged while it is open: the close fails with EIO, the new content is rescued" {
    for how in truncate append update; do
        make_file twin
        begin "$how"
        truncate -s 100 "$file"
        refused
    done
}

@test "I2 I5 edited in its live image while it is open: the close commits over that if an image is left, else EIO" {
    for how in truncate append update; do
        make_file head
        begin $how
        edit two
        content one "the image before, $how"
        finish ok
        sound "$(expected $how two)" "$how"
        make_file twin
        begin $how
        edit one
        refused
        make_file head
        begin $how
        overwrite_byte 20 # the a digit in the header at 0
        refused
    done
}

@test "I2 edited where no live image is while it is open: the close commits" {
    for how in truncate append update; do
        make_file head
        begin $how
        edit one
        content two "$how"
        finish ok
        sound "$(expected $how two)" "the older image, $how"
        make_file twin
        begin $how
        overwrite_byte 4000
        finish ok
        sound "$(expected $how one)" "unused, $how"
        not_told
    done
}

@test "I3 I7 replaced by rename while it is open: the new file stays as it is, and that is told" {
    for how in truncate append update; do
        for state in plain head; do
            make_file $state
            begin $how
            echo stranger >"$file.new"
            mv "$file.new" "$file"
            finish ok
            told 'error: .*file: another file has taken its name since it was opened'
            assert_equal "$(cat "$file")" stranger "$state, $how"
        done
    done
}

@test "I3 I7 deleted while it is open: nothing comes back, ATOMSHIM_LOG=warn tells; another link has the content" {
    make_file head
    ATOMSHIM_LOG=warn begin truncate
    rm "$file"
    finish ok
    told 'warn: .*file: it was deleted after it was opened; what was written is lost with it'
    assert_equal "$(ls "$MANAGED")" '' 'left behind'
    make_file head
    ln "$file" "$file.link"
    begin truncate
    rm "$file"
    finish ok
    not_told
    assert_equal "$(payload "$file.link")" ours 'the other link'
}

# between_looks PATTERNS COMMAND: a program writes "one" and "two" to the file in turn. COMMAND runs
# when the second open has looked at the name and opens it next.
between_looks() {
    local events=$BATS_TEST_TMPDIR/events number line
    rm -f "$events"
    mkfifo "$events"
    strace -f -qq -o "$events" -P "$file" -e trace=newfstatat -e inject=newfstatat:signal=STOP:when=2 \
        -E LD_PRELOAD="$BUILT/libatomshim.so" -E ATOMSHIM_PATHS="$1" \
        dash -c 'echo one >"$file"; echo two >"$file"' 3>&- &
    program=$!
    while read -r -t 60 number line; do
        [[ $line == *'stopped by SIGSTOP'* ]] || continue
        bash -c "$2" || return
        kill -CONT "$number"
    done <"$events"
    wait "$program"
    program=
}

@test "I2 I6 a name that leads elsewhere between the look and the open of a file that is known: that file is not managed" {
    needs strace
    outside=$BATS_TEST_TMPDIR/outside
    export outside
    make_file plain
    # a link to a file that no pattern names
    echo before >"$outside"
    between_looks "$MANAGED/" 'mv "$file" "$file.moved" && ln -s "$outside" "$file"'
    assert_equal "$(cat "$outside") $(payload "$file.moved")" 'two one'
    # a file that is managed for what it holds, and holds something else by now
    rm "$file" && mv "$file.moved" "$file"
    between_looks /nowhere/file 'echo stranger >"$file"'
    assert_equal "$(cat "$file")" two 'rewritten between'
    assert_equal "$(between_looks /nowhere/file :; cat "$file")" two 'and it is plain'
}
