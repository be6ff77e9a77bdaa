#!/usr/bin/env bats
# Every interposed call, and every place that calls come from: C programs that pass with the shim
# and without it.

load ../lib/helpers
load ../lib/cases

setup() {
    helpers_setup
    helpers_let_others_in
}

# Runs the same calls by their libc functions, and by syscall(2).
run_all_twice() {
    run_all "calls_$1" "by_syscall_$1"
}

@test "the shim needs nothing but the C library" {
    assert_equal "$(objdump -p "$ROOT/build/libatomshim.so" | awk '/NEEDED/ { print $2 }' | grep -vE '^lib(c|dl)\.so')" ''
}

# What is not managed goes to the next library that LD_PRELOAD names, as dlsym(RTLD_NEXT) would have
# it: each program calls creat(), and the library, which the test makes, says so.
@test "another library behind the shim, or in front of it, gets the calls that the shim does not take" {
    local shim=$ROOT/build/libatomshim.so other=$BATS_TEST_TMPDIR/other.so program=$BATS_TEST_TMPDIR/program loader
    printf '%s\n' '#include <fcntl.h>' '#include <sys/syscall.h>' '#include <unistd.h>' \
        'int creat(const char *path, mode_t mode) {' \
        '    return write(1, "other\n", 6) == 6 ? (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, mode) : -1; }' |
        cc -shared -fPIC -o "$other" -x c -
    printf '%s\n' '#include <fcntl.h>' 'int main(int n, char **a) { return n < 2 || creat(a[1], 0600) < 0; }' |
        cc -o "$program" -x c -
    assert_equal "$(LD_PRELOAD=$shim:$other ATOMSHIM_PATHS=/elsewhere/ "$program" "$BATS_TEST_TMPDIR/made")" other
    assert_equal "$(LD_PRELOAD=$other:$shim ATOMSHIM_PATHS=/elsewhere/ "$program" "$BATS_TEST_TMPDIR/made")" other
    # a program that the loader is told to run has no headers of its own in the auxiliary vector
    loader=$(readelf -l "$program" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
    "$loader" --help | grep -q -e --preload || skip 'the loader takes no --preload'
    assert_equal "$(ATOMSHIM_PATHS=/elsewhere/ "$loader" --preload "$shim $other" "$program" "$BATS_TEST_TMPDIR/made")" other
}

# A library that hides the loader's objects from the shim leaves it the fallbacks alone. They fail
# with ENOSYS where only a libc can do the work: streams, statvfs, lockf, realpath.
@test "I2 I3 where no library has the names, the fallbacks of calls.def do" {
    local hider=$BATS_TEST_TMPDIR/hider.so
    printf '%s\n' '#include <link.h>' '#include <stddef.h>' \
        'int dl_iterate_phdr(int (*visit)(struct dl_phdr_info *, size_t, void *), void *context) { (void)visit; (void)context; return 0; }' \
        '__attribute__((constructor)) static void hide(void) { _r_debug.r_map = NULL; }' |
        cc -D_GNU_SOURCE -shared -fPIC -o "$hider" -x c -
    SHIM=$ROOT/build/libatomshim.so:$hider
    run_all --except '^(calls_close closedir|calls_filesystem f?statvfs|calls_lock lockf|calls_paths (__)?realpath|calls_paths canonicalize|calls_rename open-source)' \
        calls_close calls_filesystem calls_lock calls_metadata calls_open calls_paths calls_rename calls_status calls_sync
    # they are in use: a stream is among the things that only a libc makes
    run -1 env LD_PRELOAD="$SHIM" ATOMSHIM_PATHS="$pattern" "$ROOT/build/programs/calls_stream" fopen "$MANAGED/f"
    [[ $output == *'Function not implemented'* ]]
}

# system_calls LIBRARY TURNS SCRIPT: prints how many system calls a shell makes that runs SCRIPT
# TURNS times.
system_calls() {
    LD_PRELOAD=$1 ATOMSHIM_PATHS=$pattern strace -f -qq -o "$BATS_TEST_TMPDIR/trace" dash -c "i=0; while [ \$i -lt $2 ]; do $3; i=\$((i + 1)); done" \
        <"$BATS_TEST_TMPDIR/outside" >/dev/null
    wc -l <"$BATS_TEST_TMPDIR/trace"
}

# more SCRIPT: prints how many more it makes in 100 turns with the shim than without it.
more() {
    local shim=$ROOT/build/libatomshim.so
    echo $(($(system_calls "$shim" 110 "$1") - $(system_calls "$shim" 10 "$1") - (\
        $(system_calls '' 110 "$1") - $(system_calls '' 10 "$1"))))
}

# The path of a folder is remembered for a tick of the kernel's clock: the machine's speed decides
# how many turns ask anew. tests/bench/calls.txt has the exact count within a tick.
assert_within() { # VALUE LEAST MOST WHAT
    if [ "$1" -lt "$2" ] || [ "$1" -gt "$3" ]; then
        echo "$4: $1 is not within $2 and $3" >&2
        return 1
    fi
}

@test "I6 what is not managed costs one system call at open, and none at stat, read, write, dup2, close, and a failing open" {
    needs strace
    cd "$BATS_TEST_TMPDIR" || return
    echo content >outside
    for pattern in "$MANAGED/app.cfg" '*.cfg' "$MANAGED/*.cfg:!/tmp/"; do
        assert_equal "$(more ': <outside')" 100 'open, dup2, close'
        assert_equal "$(more ": <$PWD/outside")" 100 'by its absolute path'
        assert_equal "$(more ': >>outside')" 100 'open for writing, dup2, close'
        assert_equal "$(more ': >outside')" 100 'truncated'
        assert_equal "$(more 'true <missing' 2>/dev/null)" 0 'not there'
        assert_equal "$(more '[ -e outside ]; echo x; read -r line')" 0 'stat, write, read'
    done
}

@test "I6 loaded without a pattern: one system call at open, and files that hold an image are recognised" {
    needs strace
    cd "$BATS_TEST_TMPDIR" || return
    echo content >outside
    local pattern=''
    assert_equal "$(more ': <outside')" 100 'open, dup2, close'
    assert_equal "$(more ': >>outside')" 100 'open for writing, dup2, close'
    assert_equal "$(more ': >new$i')" 100 'created'
    assert_equal "$(more '[ -e outside ]; echo x; read -r line')" 0 'stat, write, read'
    wrapped sh -c 'echo managed >"$MANAGED/file"'
    unset ATOMSHIM_PATHS
    for way in unset empty; do
        [ $way = unset ] || export ATOMSHIM_PATHS=''
        assert_equal "$(LD_PRELOAD=$BUILT/libatomshim.so head -n 1 "$MANAGED/file")" managed "read, $way"
        LD_PRELOAD=$BUILT/libatomshim.so sh -c 'echo "$1" >>"$MANAGED/file"' sh $way
        assert_equal "$(LD_PRELOAD=$BUILT/libatomshim.so stat -c %s "$MANAGED/file")" "$(payload "$MANAGED/file" | wc -c)" "size, $way"
    done
    assert_equal "$(payload "$MANAGED/file")" $'managed\nunset\nempty' 'written'
}

@test "I6 with a pattern that every name could match two; four where the folder of a path is not remembered, or by a symbolic link, five to write by one" {
    needs strace
    cd "$BATS_TEST_TMPDIR" || return
    mkdir folder
    echo content >outside
    ln -s outside link
    for pattern in "$MANAGED/" "$MANAGED/*"; do
        assert_equal "$(more ': <outside')" 200 'open, dup2, close'
        assert_within "$(more ": <$PWD/outside")" 100 200 'by its absolute path'
        assert_equal "$(more ': <link')" 400 'by a link'
        assert_equal "$(more 'true <missing' 2>/dev/null)" 0 'not there'
        assert_equal "$(more ': >>outside')" 200 'open for writing, dup2, close'
        assert_equal "$(more ': >outside')" 200 'truncated'
        rm -f new*
        assert_equal "$(more ': >new$i')" 200 'created'
        assert_equal "$(more ': >/dev/null')" 100 'a device'
        assert_within "$(more ": >$PWD/outside")" 100 400 'by its absolute path'
        assert_within "$(more ': >folder/new')" 200 500 'by a relative path'
        assert_within "$(here=${PWD#/} && cd / && more ": >$here/folder/new")" 200 499 'relative, from the root'
        assert_equal "$(more 'true >missing/new' 2>/dev/null)" 300 'in a folder that is not there'
        assert_equal "$(more ': >link')" 500 'by a link'
        assert_equal "$(more '[ -e outside ]; echo x; read -r line')" 0 'stat, write, read'
    done
}

@test "I6 openat, open with O_EXCL, mkstemp with a pattern that every name could match" {
    needs strace
    cd "$BATS_TEST_TMPDIR" || return
    local pattern=$MANAGED/
    run_opens() { # LIBRARY TURNS WAY: the system calls of a program that opens so often
        rm -rf opened && mkdir opened
        # mkstemp() asks for random bytes until the name is free
        LD_PRELOAD=$1 ATOMSHIM_PATHS=$pattern strace -qq -e 'trace=!getrandom' -o "$BATS_TEST_TMPDIR/trace" "$PROGRAMS/opens" "$3" "$2" opened
        wc -l <"$BATS_TEST_TMPDIR/trace"
    }
    more_opens() { # WAY
        local shim=$ROOT/build/libatomshim.so
        echo $(($(run_opens "$shim" 110 "$1") - $(run_opens "$shim" 10 "$1") - ($(run_opens '' 110 "$1") - $(run_opens '' 10 "$1"))))
    }
    assert_equal "$(more_opens read)" 200 'openat'
    assert_equal "$(more_opens write)" 200 'openat, to write'
    assert_equal "$(more_opens exclusive)" 200 'openat, O_EXCL'
    # the clock's tick, after which a verdict is old, may fall into the shorter run alone
    assert_within "$(more_opens stream)" 190 500 'fopen of a path'
    assert_within "$(more_opens temporary)" 190 300 'mkstemp'
    assert_equal "$(more_opens directory)" 0 'a directory'
    pattern=$MANAGED/app.cfg
    assert_equal "$(more_opens rename)" 200 'created and renamed, a name that no pattern ends like'
}

@test "open and its siblings, creat, truncate" {
    run_all_twice open
}

@test "I7 several opens of one file" {
    run_all several_opens
}

@test "I2 what a process keeps of a file that it has read" {
    run_all snapshots
}

@test "streams" {
    run_all calls_stream
}

@test "close, close_range, closefrom, dup2, dup3" {
    run_all_twice close
}

@test "fsync, fdatasync, msync, munmap, copy_file_range, sendfile" {
    run_all_twice sync
}

@test "fcntl, lockf and flock: they exclude other processes, and never our own commit" {
    run_all_twice lock
}

@test "I7 locks on ranges: nothing is lost, nobody waits for another range, a handler may jump out of a wait" {
    run_all record_locks
}

@test "I7 an unlock by who did not get the lock neither waits for a commit nor reports one" {
    printf old >"$MANAGED/file"
    ATOMSHIM_LOCK_TIMEOUT=0.2 wrapped "$PROGRAMS/calls_lock" refused "$MANAGED/file" 2>"$BATS_TEST_TMPDIR/log"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/log")" ''
}

@test "I3 I5 rename onto a managed file" {
    run_all_twice rename
}

@test "the stat family" {
    run_all_twice status
}

@test "fchmod, fchown, times, extended attributes" {
    run_all_twice metadata
}

@test "paths that lead to an open file: /proc/self/fd/N, /dev/stdin; empty ones" {
    run_all_twice paths
}

@test "what the file system knows: statfs, ioctl, pathconf, fallocate" {
    run_all_twice filesystem
}

@test "files that the libc opens inside itself: mkstemp, setmntent, updwtmp" {
    run_all calls_temporary
}

@test "walks: ftw, nftw, fts, names alone" {
    run_all calls_walk
}

@test "further names of them, openat2, open_by_handle_at; cancellation" {
    run_all calls_aliases
}

@test "with the shim switched off every call does what it does without the shim" {
    local program name
    for program in calls_walk calls_aliases calls_status calls_stream exec_limits; do
        for name in $("$PROGRAMS/$program"); do
            printf old >"$MANAGED/$name"
            ln "$MANAGED/$name" "$MANAGED/$name.link2"
            ATOMSHIM_DISABLE=1 LD_PRELOAD=$BUILT/libatomshim.so "$PROGRAMS/$program" "$name" "$MANAGED/$name" ||
                { echo "$program $name" >&2; return 1; }
            rm "$MANAGED/$name" "$MANAGED/$name.link2"
        done
    done
}

@test "what needs no help: read, write, seek, map, splice, aio, names" {
    run_all calls_native
}

@test "syscall() itself" {
    run_all calls_syscall own_close
    run_all_twice filter
}

@test "I7 exec, spawn, system, popen, passed descriptors: programs with the shim and without" {
    run_all calls_exec exec_limits
}

@test "I5 I7 spawn: each allocation fails in turn" {
    run_all calls_memory
}

@test "I7 the same with the least limit of descriptors that the actions of a spawn can name" {
    ulimit -n 1024
    run_all calls_exec exec_limits
}

@test "I7 the ways to exit" {
    run_all_twice exit
}

@test "I2 I7 full tables, handlers that leave, threads that fork, numbers that move at exec, streams" {
    run_all trouble
}

@test "I2 I7 forks, vfork, spawn, exec, passed descriptors, threads, handlers, small stacks" {
    run_all situations
}
