#!/usr/bin/env bats
# One file that several processes have open: other users who were passed a descriptor, two programs
# that write at once, and one program that looks at its own writes.

load ../lib/helpers

setup() {
    helpers_setup
    helpers_let_others_in
    file=$MANAGED/file
    log=$BATS_TEST_TMPDIR/log
    ready=$BATS_TEST_TMPDIR/ready
    go=$BATS_TEST_TMPDIR/go
    mkfifo "$ready" "$go"
    export file ready go ATOMSHIM_LOG_FILE=$log ATOMSHIM_LOG=warn
}

teardown() {
    # a failed test leaves it, and bats would wait for it
    [ -z "${program-}" ] || kill "$program" || true
}

as_nobody() {
    setpriv --reuid=65534 --regid="${group:-65534}" --clear-groups env -i "$@"
}

# Prints how the user nobody can open descriptor 7 through /proc/self/fd: "r", "w", both, or not at
# all.
reopens() {
    as_nobody /bin/sh -c '(: </proc/self/fd/7) 2>/dev/null && printf r
        (: >>/proc/self/fd/7) 2>/dev/null && printf w
        :'
}

@test "a descriptor that is passed to another user opens again what the file's own mode gives, and no more" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    export -f as_nobody reopens
    for mode in 600 622 640 644 666; do
        for how in '7<' '7>>' '7<>' '7>'; do
            echo secret >"$file"
            chmod "$mode" "$file"
            expected=$(bash -c "exec $how\"\$file\"; reopens")
            result=$(wrapped bash -c "exec $how\"\$file\"; reopens")
            # no process commits writes to a file that was opened for reading: its buffer refuses
            # them
            [ "$how" != '7<' ] || expected=${expected%w}
            assert_equal "$result" "$expected" "mode $mode, $how"
        done
    done
    # a mode that the program sets while it has the file open counts at once
    echo secret >"$file"
    chmod 644 "$file"
    assert_equal "$(wrapped bash -c 'exec 7<>"$file"; chmod 600 /proc/self/fd/7; reopens')" '' 'after chmod'
}

@test "a buffer of another user's file gives others what the file gives everybody" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    export -f as_nobody reopens
    echo secret >"$file"
    chown 1234:1234 "$file"
    for mode in 604 640 660 644; do
        chmod "$mode" "$file"
        result=$(wrapped bash -c 'exec 7<>"$file"; reopens')
        case $mode in
        644) assert_equal "$result" r "mode $mode" ;;
        *) assert_equal "$result" '' "mode $mode" ;;
        esac
    done
}

@test "a buffer of a file with an access control list gives others nothing, also if it gets the list while it is open" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    needs setfacl
    export -f as_nobody reopens
    export group=7777
    : >"$BATS_TEST_TMPDIR/probe"
    setfacl -m u:1234:r "$BATS_TEST_TMPDIR/probe" 2>/dev/null || skip 'needs a file system with access control lists'
    for list in u:1234:rw,g::-,o::- u:65534:-,g::r,o::r; do
        for when in before while; do
            rm -f "$file"
            (umask 077 && echo secret >"$file")
            chown "0:$group" "$file"
            chmod 664 "$file"
            [ $when = while ] || setfacl -m $list "$file"
            result=$(list=$list when=$when wrapped setpriv --regid "$group" --clear-groups bash -c '
                exec 7>>"$file"; [ $when = before ] || setfacl -m "$list" /proc/self/fd/7; reopens')
            assert_equal "$result" '' "$list, $when"
        done
    done
}

# Runs a wrapped program that opens the file for reading and writing, waits to be told, writes TEXT
# at OFFSET, and closes.
begin() { # OFFSET TEXT
    wrapped exec python3 -c 'import os, sys # exec: teardown must reach it
fd = os.open(os.environ["file"], os.O_RDWR)
print(file=open(os.environ["ready"], "w"))
open(os.environ["go"]).close()
os.pwrite(fd, sys.argv[2].encode(), int(sys.argv[1]))
os.close(fd)' "$@" 3>&- &
    program=$!
    read -r -t 60 _ <>"$ready"
}

finish() {
    : >"$go"
    wait "$program"
    program=
}

@test "I7 a commit that overwrites what another program has committed since the open says so, once" {
    for before in plain sized; do
        rm -f "$file" "$log"
        printf aaaabbbb >"$file"
        [ "$before" = plain ] || wrapped sh -c 'printf AAAABBBB >"$file"'
        begin 0 xxxx
        wrapped dd of="$file" conv=notrunc bs=1 seek=4 status=none <<<yyyy
        finish
        assert_equal "$(grep -c "^.*warn.*: $file: it was changed by another program since it was opened here: that change is overwritten\$" "$log")" 1 "$before"
    done
    # no other process has written, or the open truncated the file: the log is empty
    rm -f "$log"
    begin 0 zzzz
    finish
    wrapped sh -c 'exec 3>"$file"; env file="$file" sh -c "echo other >\"\$file\""; echo ours >&3'
    [ ! -e "$log" ]
}

# Runs COMMAND in three processes at once, each with its number.
three_times() {
    local number pids=()
    for number in 1 2 3; do
        "$@" "$number" &
        pids+=($!)
    done
    for number in "${pids[@]}"; do
        wait "$number"
    done
}

insert_rows() {
    for row in 1 2 3 4; do
        wrapped sqlite3 -cmd '.timeout 60000' "$file" "insert into t values('$1-$row');"
    done
}

@test "I7 SQLite: three processes write to one database, nothing is lost" {
    needs sqlite3
    wrapped sqlite3 "$file" 'create table t(x);'
    three_times insert_rows
    assert_equal "$(wrapped sqlite3 "$file" 'select count(*) from t; pragma integrity_check;')" '12
ok'
}

store_keys() {
    for key in 1 2 3 4; do
        printf 'open %s\nstore key%s-%s value\n' "$file" "$1" "$key" | wrapped tdbtool >/dev/null
    done
}

@test "I7 tdb: three processes write to one database, by locks on ranges and a shared mapping" {
    needs tdbtool
    printf 'create %s\n' "$file" | wrapped tdbtool >/dev/null
    three_times store_keys
    run -0 wrapped tdbtool <<<"open $file
check"
    [[ $output == *'integrity is OK and has 12 records'* ]]
}

@test "I7 LMDB: a writer opens its file twice; what it stores is there for the next one" {
    needs mdb_load mdb_dump
    load_keys() {
        printf 'VERSION=3\nformat=print\ntype=btree\nmapsize=1048576\nHEADER=END\n'
        printf ' %s\n value\n' "$@"
        echo DATA=END
    }
    mkdir "$MANAGED/db"
    load_keys one two | wrapped mdb_load "$MANAGED/db"
    load_keys three | wrapped mdb_load "$MANAGED/db"
    assert_equal "$(wrapped mdb_dump -p "$MANAGED/db" | grep -A 6 HEADER=END | grep -c '^ value')" 3
}

# Starts a program that opens the file for reading and writing, and then obeys: a line of Python at
# a time, with the file's descriptor in `fd`. It answers with the line's value, or the error's name.
start_obedient() { # NAME
    mkfifo "$1.ask" "$1.answer"
    wrapped exec python3 -c 'import errno, os, sys
fd = None
for line in open(sys.argv[1] + ".ask"):
    try:
        answer = eval(line) if not line.startswith("fd =") else exec(line)
    except OSError as error:
        answer = errno.errorcode[error.errno]
    with open(sys.argv[1] + ".answer", "w") as out:
        print(answer, file=out)' "$1" 3>&- &
}

ask() { # NAME LINE DESCRIPTOR: of its FIFO, which must stay open
    echo "$2" >&"$3"
    timeout 60 cat "$1.answer"
}

open_read_write='fd = os.open(os.environ["file"], os.O_RDWR)'

@test "I7 a program that syncs a file without locks never overwrites what another has committed, and has it alone from its second sync on" {
    cd "$BATS_TEST_TMPDIR"
    echo aaaabbbb >"$file"
    start_obedient one
    start_obedient two
    exec 7>one.ask 8>two.ask
    ask one "$open_read_write" 7
    ask two "$open_read_write" 8
    assert_equal "$(ask one 'os.pwrite(fd, b"1111", 0), os.fsync(fd)' 7)" '(4, None)' 'the first one'
    assert_equal "$(ask two 'os.pwrite(fd, b"2222", 4), os.fsync(fd)' 8)" EBUSY 'the second one'
    assert_equal "$(ask two 'os.close(fd)' 8)" EBUSY 'its close'
    assert_equal "$(payload "$file")" 1111bbbb
    assert_equal "$(grep -c ": $file: it was changed by another program since it was opened here, and is not overwritten" "$log")" 2
    # a later open begins with the committed content
    assert_equal "$(ask two "$open_read_write" 8)" None
    assert_equal "$(ask one 'os.fsync(fd)' 7)" None 'the claim'
    assert_equal "$(ask two 'os.pwrite(fd, b"2222", 4), os.fsync(fd)' 8)" EBUSY 'while it is claimed'
    ask two 'os.close(fd)' 8
    wrapped sh -c 'echo next >>"$file"'
    rm "$log"
    run ! wrapped sh -c ': <>"$file"'
    assert_equal "$(grep -c "error: $file: not opened: another program has claimed it by fsync(), until it closes it; programs that share a file must lock it" "$log")" 1
    wrapped cat "$file" >/dev/null
    # after it has emptied the file its image is its own, and the next process may claim it; so
    # after a close
    assert_equal "$(ask one 'os.ftruncate(fd, 0), os.fsync(fd)' 7)" '(None, None)'
    wrapped sh -c ': <>"$file"'
    assert_equal "$(ask one 'os.fsync(fd), os.fsync(fd)' 7)" '(None, None)'
    ask one 'os.close(fd)' 7
    wrapped sh -c 'echo end 1<>"$file"'
    exec 7>&- 8>&-
    wait
}

@test "I7 a reader does not wait for a guardian that waits for another program's lock, which may wait for the reader" {
    wrapped sh -c 'echo old >"$MANAGED/file"'
    mkfifo "$BATS_TEST_TMPDIR/looked"
    export LD_PRELOAD_SHIM=$BUILT/libatomshim.so fifo=$BATS_TEST_TMPDIR/looked seen=$BATS_TEST_TMPDIR/seen
    # while the commit of the guardian waits for the lock of at_commit, at_commit waits for cat
    ATOMSHIM_PATHS=$MANAGED/ ATOMSHIM_LOCK_TIMEOUT=10 "$PROGRAMS/at_commit" "$MANAGED/file" \
        'LD_PRELOAD=$LD_PRELOAD_SHIM cat "$MANAGED/file" >"$seen"; : >"$fifo"' \
        env LD_PRELOAD="$LD_PRELOAD_SHIM" sh -c '(exec "$PROGRAMS/static_writer" 1 write new >"$MANAGED/file"); : <"$fifo"'
    assert_equal "$(cat "$seen") $(payload "$MANAGED/file")" 'old new'
}
