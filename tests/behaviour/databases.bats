#!/usr/bin/env bats
# Databases whose processes agree by other means than locks on the file: one process's open file
# does not show another's writes. Such databases fail, with a line that says why, and everything
# that they have acknowledged is there.

load ../lib/helpers

setup() {
    helpers_setup
    helpers_let_others_in
    cd "$BATS_TEST_TMPDIR" || return
    export ATOMSHIM_LOG_FILE=$BATS_TEST_TMPDIR/log
    reason='error: .*: not opened: another program syncs it\|error: .*: it was changed by another program since it was opened here, and is not overwritten\|error: .*: another program syncs it'
}

# Runs two clients, to which `driver` talks by turns. Prints the values that they acknowledged.
by_turns='import subprocess, sys
clients = [subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
for i in range(1, 11):
    try:
        print(sys.argv[1] % i, file=clients[i % 2].stdin, flush=True)
        answer = clients[i % 2].stdout.readline().strip()
    except BrokenPipeError:
        answer = ""
    if answer == str(i):
        print(i, flush=True)
for client in clients:
    try:
        client.communicate()
    except BrokenPipeError:
        pass'

sqlite_client='import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    print(database.execute(line).fetchone()[0], flush=True)'

@test "I7 SQLite in WAL mode: of two processes one works, the other fails; what was acknowledged is there" {
    needs sqlite3
    wrapped sqlite3 "$MANAGED/db" 'pragma journal_mode=wal; create table t(x);' >/dev/null
    wrapped timeout 60 python3 -c "$by_turns" 'insert into t values(%d) returning x;' python3 -c "$sqlite_client" "$MANAGED/db" >acknowledged 2>errors
    assert_equal "$(wrapped sqlite3 "$MANAGED/db" 'pragma integrity_check; select x from t order by x;')" "$(echo ok && sort -n acknowledged)"
    [ "$(wc -l <acknowledged)" = 10 ] || [ -s errors ]
}

@test "I7 LMDB: of two processes that write at once one fails, with a line that says why; the other's records are there" {
    needs mdb_load mdb_dump
    first_lines() { printf 'VERSION=3\nformat=print\ntype=btree\nmapsize=1048576\nHEADER=END\n'; }
    keys() { seq -f " $1%g
 value" "$2"; }
    mkdir "$MANAGED/db"
    { first_lines && keys first 1 && echo DATA=END; } | wrapped mdb_load "$MANAGED/db"
    mkfifo input
    wrapped timeout 60 mdb_load "$MANAGED/db" <input 3>&- 2>errors &
    exec 7>input
    { first_lines && keys one 2000; } >&7 # more than the pipe holds: it has opened the database, and stored some
    { first_lines && keys two 250 && echo DATA=END; } | wrapped timeout 60 mdb_load "$MANAGED/db" 7>&- 2>errors.two && two=0 || two=$?
    { keys three 2000 && echo DATA=END; } >&7 2>/dev/null || true
    exec 7>&-
    wait $! && one=0 || one=$?
    wrapped mdb_dump -p "$MANAGED/db" >dump
    assert_equal "$one$two" "$([ "$one" = 0 ] && echo 01 || echo 10)" 'one of them fails'
    grep -q "$reason" log
    grep -q busy errors errors.two
    assert_equal "$(grep -c '^ first' dump)" 1
    [ "$two" != 0 ] || assert_equal "$(grep -c '^ two' dump)" 250
    [ "$one" != 0 ] || assert_equal "$(grep -c '^ one\|^ three' dump)" 4000
}

@test "I7 PostgreSQL: one client at a time works; with two it fails, and all that was acknowledged is there" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -n 1)
    [ -x "$programs/initdb" ] || skip 'needs PostgreSQL'
    chown postgres "$MANAGED" .
    as_postgres() {
        setpriv --reuid=postgres --regid=postgres --clear-groups env LC_ALL=C HOME="$BATS_TEST_TMPDIR" "PATH=$programs:$PATH" timeout 60 "$@" 3>&-
    }
    export -f wrapped as_postgres
    as_postgres env "LD_PRELOAD=$BUILT/libatomshim.so" "ATOMSHIM_PATHS=$MANAGED/" initdb -D "$MANAGED/db" -A trust -N >initdb.out
    server() {
        as_postgres env "LD_PRELOAD=$BUILT/libatomshim.so" "ATOMSHIM_PATHS=$MANAGED/" pg_ctl -D "$MANAGED/db" -l "$BATS_TEST_TMPDIR/server" -t 50 -w "$@" >pg_ctl.out
    }
    server -o "-k $BATS_TEST_TMPDIR -c listen_addresses= -c restart_after_crash=off" start
    for statement in 'create table t(x int primary key)' 'insert into t values(101)' 'insert into t values(102)'; do
        as_postgres psql -qh "$BATS_TEST_TMPDIR" -d postgres -c "$statement"
    done
    as_postgres python3 -c "$by_turns" 'insert into t values(%d) returning x;' psql -v ON_ERROR_STOP=1 -qAth "$BATS_TEST_TMPDIR" -d postgres >acknowledged 2>errors
    server -m immediate stop || true # it may have ended by itself
    as_postgres env "LD_PRELOAD=$BUILT/libatomshim.so" "ATOMSHIM_PATHS=$MANAGED/" postgres --single -D "$MANAGED/db" postgres >answer 2>recovery \
        <<<'select x from t order by x'
    assert_equal "$(sed -n 's/^.*1: .*= "\([0-9]*\)".*/\1/p' answer)" "$(sort -n acknowledged && printf '101\n102')"
    [ "$(wc -l <acknowledged)" = 10 ] || grep -q 'ERROR\|PANIC' server
}
