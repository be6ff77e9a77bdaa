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
    reason='error: .*: \(it was changed by another program since it was opened here, and is not overwritten\|.*another program has claimed it by fsync()\)'
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

sqlite_writer='import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("pragma journal_mode=" + sys.argv[2])
for i in range(20):
    database.execute("insert into t values(?)", (sys.argv[3] + str(i),))
    print(sys.argv[3] + str(i), flush=True)'

@test "I7 SQLite with a rollback journal that it deletes, truncates or keeps: three processes, and nothing is lost" {
    needs sqlite3
    for mode in delete truncate persist; do
        rm -f "$MANAGED"/* acknowledged.*
        wrapped sqlite3 "$MANAGED/db" "pragma journal_mode=$mode; create table t(x);" >/dev/null
        for writer in a b c; do
            wrapped timeout 120 python3 -c "$sqlite_writer" "$MANAGED/db" $mode $writer >acknowledged.$writer 3>&- &
        done
        wait
        assert_equal "$(cat acknowledged.* | wc -l)" 60 "$mode"
        assert_equal "$(wrapped sqlite3 "$MANAGED/db" 'pragma integrity_check; select x from t order by x;')" \
            "$(echo ok && cat acknowledged.* | LC_ALL=C sort)" "$mode"
    done
}

@test "I7 LMDB: of two processes that write at once one fails, and says why; the other's records are there" {
    needs mdb_load mdb_dump
    first_lines() { printf 'VERSION=3\nformat=print\ntype=btree\nmapsize=1048576\nHEADER=END\n'; }
    keys() { seq -f " $1%g
 value" "$2"; }
    mkdir "$MANAGED/db"
    { first_lines && keys first 1 && echo DATA=END; } | wrapped mdb_load "$MANAGED/db"
    mkfifo input
    wrapped timeout 60 mdb_load "$MANAGED/db" <input 3>&- 2>errors &
    exec 7>input
    { first_lines && keys one 6000; } >&7 # more than the pipe holds: it has opened the database, and stored some
    { first_lines && keys two 250 && echo DATA=END; } | wrapped timeout 60 mdb_load "$MANAGED/db" 7>&- 2>errors.two && two=0 || two=$?
    { keys three 2000 && echo DATA=END; } >&7 2>/dev/null || true
    exec 7>&-
    wait $! && one=0 || one=$?
    wrapped mdb_dump -p "$MANAGED/db" >dump
    assert_equal "$one$two" "$([ "$one" = 0 ] && echo 01 || echo 10)" 'one of them fails'
    # from 0.9.31 on the last process destroys the locks in the file: the second one does not see
    # that the first has made new ones, and refuses
    if ! grep -q 'mdb_txn_begin failed, error 22' errors.two; then
        grep -q "$reason" log
        grep -q busy errors errors.two
    fi
    assert_equal "$(grep -c '^ first' dump)" 1
    [ "$two" != 0 ] || assert_equal "$(grep -c '^ two' dump)" 250
    [ "$one" != 0 ] || assert_equal "$(grep -c '^ one\|^ three' dump)" 8000
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
        backend=$(as_postgres psql -qAth "$BATS_TEST_TMPDIR" -d postgres -c 'select pg_backend_pid()' -c "$statement")
        while kill -0 "$backend" 2>/dev/null; do :; done # the server's process commits after psql has ended
    done
    as_postgres python3 -c "$by_turns" 'insert into t values(%d) returning x;' psql -v ON_ERROR_STOP=1 -qAth "$BATS_TEST_TMPDIR" -d postgres >acknowledged 2>errors
    server -m immediate stop || true # it may have ended by itself
    as_postgres env "LD_PRELOAD=$BUILT/libatomshim.so" "ATOMSHIM_PATHS=$MANAGED/" postgres --single -D "$MANAGED/db" postgres >answer 2>recovery \
        <<<'select x from t order by x'
    assert_equal "$(sed -n 's/^.*1: .*= "\([0-9]*\)".*/\1/p' answer)" "$(sort -n acknowledged && printf '101\n102')"
    [ "$(wc -l <acknowledged)" = 10 ] || grep -q 'ERROR\|PANIC' server
}

@test "I7 MariaDB, Aria and MyISAM tables: what a killed server had acknowledged is in Aria's, and both are whole" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    needs mariadbd mariadb-install-db
    # paths of sockets are short
    socket=$(mktemp -u /tmp/atomshim.XXXXXX)
    : >"$ATOMSHIM_LOG_FILE"
    chown mysql "$MANAGED" "$ATOMSHIM_LOG_FILE" .
    as_mysql=(setpriv --reuid=mysql --regid=mysql --clear-groups env HOME="$BATS_TEST_TMPDIR")
    options=(--no-defaults --datadir="$MANAGED/db")
    "${as_mysql[@]}" mariadb-install-db "${options[@]}" --auth-root-authentication-method=normal --skip-test-db >install 2>&1
    start() {
        "${as_mysql[@]}" LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" mariadbd "${options[@]}" --socket="$socket" \
            --skip-networking --skip-innodb --default-storage-engine=Aria --log-error="$PWD/server" --pid-file="$PWD/pid" \
            3>&- >/dev/null 2>&1 &
        server=$!
        mariadb-admin --no-defaults --socket="$socket" --user=root --wait=60 ping >/dev/null
    }
    sql() { timeout 60 mariadb --no-defaults --socket="$socket" --user=root --skip-column-names -e "$1"; }
    fill() { # FROM TO
        for ((row = $1; row <= $2; row++)); do
            sql "insert into d.a values($row, repeat('a', 1000)); insert into d.m values($row, repeat('m', 1000));"
        done
    }
    start
    sql 'create database d; create table d.a(x int primary key, t text) engine=Aria;
        create table d.m(x int primary key, t text) engine=MyISAM;'
    fill 1 10
    sql 'flush tables'
    fill 11 20
    kill -KILL $server
    wait $server || true
    start
    run -0 sql 'check table d.a, d.m; select count(*), sum(x), sum(length(t)) from d.a; select count(*) >= 10 from d.m'
    sql shutdown
    wait $server
    assert_equal "$output" $'d.a\tcheck\tstatus\tOK\nd.m\tcheck\tstatus\tOK\n20\t210\t20000\n1'
    for file in "$MANAGED"/db/d/[am].M*; do
        [[ "$(atomshim info "$file")" == *'format: sized'* ]] # managed, not written raw
        atomshim verify "$file" >/dev/null
    done
}
