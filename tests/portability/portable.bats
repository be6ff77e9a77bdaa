#!/usr/bin/env bats
# One .so everywhere: its imports from the C library, and the behaviour tests under other C
# libraries and another machine.

load ../lib/helpers
load ../lib/cases

setup() {
    helpers_setup
    helpers_let_others_in
    cd "$ROOT" || return
}

# The test programs that need nothing but the C library.
ALL='calls_close calls_exec calls_exit calls_lock calls_metadata calls_open calls_rename calls_status calls_stream calls_sync calls_syscall situations trouble own_close'

# build FOLDER: compiles these programs into FOLDER.
build() {
    local folder=$1
    shift
    # shellcheck disable=SC2086,SC2046 # names without spaces
    make -s -j2 "$@" $(printf "$folder/%s " $ALL) >"$BATS_TEST_TMPDIR/log" 2>&1 || {
        cat "$BATS_TEST_TMPDIR/log" >&2
        return 1
    }
    cp -u "$ROOT/build/programs/static_writer" "$folder/"
}

# run_every EXCEPT: runs all cases of all programs, but those that the pattern matches as "program case".
run_every() {
    # shellcheck disable=SC2086 # names without spaces
    run_all --except "$1" $ALL
}

@test "imports: names and versions are those of tests/golden/imports; none is newer than glibc 2.17" {
    objdump -T build/libatomshim.so | awk '/\*UND\*/ { print $NF, $(NF - 1) ~ /GLIBC/ ? $(NF - 1) : "-" }' | tr -d '()' | LC_ALL=C sort >"$BATS_TEST_TMPDIR/imports"
    diff tests/golden/imports "$BATS_TEST_TMPDIR/imports" || {
        echo 'left: tests/golden/imports; right: what the library needs. A new name must be in musl and in glibc 2.17.' >&2
        return 1
    }
    newest=$(grep -o '2\.[0-9.]*$' tests/golden/imports | sort -V | tail -n 1)
    assert_equal "$(printf '%s\n2.17\n' "$newest" | sort -V | tail -n 1)" 2.17
    [ ! -e /lib/ld-musl-x86_64.so.1 ] || assert_equal "$(nm -D --defined-only /lib/ld-musl-x86_64.so.1 | awk '{ print $3 }' | LC_ALL=C sort |
        comm -13 - <(cut -d ' ' -f 1 tests/golden/imports | LC_ALL=C sort) | tr '\n' ' ')" '_ITM_deregisterTMCloneTable _ITM_registerTMCloneTable __gmon_start__ ' 'not in musl, and weak'
}

@test "the library needs libc alone, has no text relocations, IFUNCs or executable stack, and a hash of either kind" {
    assert_equal "$(objdump -p build/libatomshim.so | awk '/NEEDED/ { print $2 }')" libc.so.6
    run readelf -dW build/libatomshim.so
    [[ $output != *TEXTREL* && $output != *RELR* && $output == *'(HASH)'* && $output == *'(GNU_HASH)'* ]]
    [[ $(readelf -lW build/libatomshim.so | grep GNU_STACK) == *' RW '* ]]
    assert_equal "$(readelf -rW build/libatomshim.so | grep -c -E 'IRELATIV|TLSDESC|DTPMOD')" 0
}

@test "I2 I7 glibc 2.31 (Debian 11), where dlsym is in a library of its own" {
    helpers_rootfs bullseye-sdk || skip "$reason"
    build build/glibc-bullseye
    PROGRAMS=$ROOT/build/glibc-bullseye
    run_every '^calls_close closefrom_older$' # it has no closefrom()
}

@test "I2 I7 glibc 2.41 (Debian 13)" {
    helpers_rootfs trixie-sdk || skip "$reason"
    build build/glibc-trixie
    PROGRAMS=$ROOT/build/glibc-trixie
    run_every 'none'
}

@test "I2 I7 musl" {
    needs musl-gcc
    build build/musl
    PROGRAMS=$ROOT/build/musl
    # musl has no __open_2, fcloseall, closefrom and character sets, does not check dup3's flags and
    # fdopen's descriptor, changes flags alone in freopen, and has no gettid in constructors
    run_every '^(calls_open __open.*|calls_stream (fcloseall.*|fdopen|freopen_mode|bad_character_set)|calls_close (dup3|closefrom_older)|calls_syscall syscall)$'
}

# Sets SHIM to a library that finds no function whose fallback in calls.def begins with LETTER: r of
# raw_, m of missing_.
build_lacking() { # LETTER
    mkdir -p "$BATS_TEST_TMPDIR/build"
    cp -rp Makefile shim "$BATS_TEST_TMPDIR/"
    cp -rp build/objects build/exports.map "$BATS_TEST_TMPDIR/build/"
    # no library has a function without a name
    sed -i "s/\*name = #symbol;/*name = *#fallback == '$1' ? \"\" : #symbol;/" "$BATS_TEST_TMPDIR/shim/interpose/real.c"
    ! cmp "$BATS_TEST_TMPDIR/shim/interpose/real.c" shim/interpose/real.c || return
    make -s -C "$BATS_TEST_TMPDIR" build/libatomshim.so
    SHIM=$BATS_TEST_TMPDIR/build/libatomshim.so
}

@test "a libc without what no system call does: ENOSYS, and a managed file is committed all the same" {
    build_lacking m
    cat >"$BATS_TEST_TMPDIR/lacking.c" <<'X'
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define FAILS(call, failure) ((call) == (failure) && errno == ENOSYS && (errno = 0) == 0)
int main(int count, char *argv[])
{
    char name[] = "/tmp/lacking.XXXXXX";
    char *none[] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int fd = open(argv[count - 1], O_WRONLY | O_TRUNC);
    return !(write(fd, "new", 3) == 3 && close(fd) == 0 && FAILS(fopen(argv[0], "r"), NULL) &&
             FAILS(fdopen(0, "r"), NULL) && FAILS(freopen(argv[0], "r", stdin), NULL) && FAILS(mkstemp(name), -1) &&
             FAILS(closedir(opendir("/")), -1) && FAILS(nftw("/", NULL, 1, 0), -1) && FAILS(system("true"), -1) && FAILS(execv("/bin/true", none), -1) &&
             FAILS(execlp("true", "true", (char *)NULL), -1) &&
             posix_spawn(&child, "/bin/true", NULL, NULL, none, none) == ENOSYS &&
             posix_spawn_file_actions_addopen(&actions, 0, "/", O_RDONLY, 0) == ENOSYS);
}
X
    cc -D_GNU_SOURCE -w -o "$BATS_TEST_TMPDIR/lacking" "$BATS_TEST_TMPDIR/lacking.c"
    echo old >"$BATS_TEST_TMPDIR/managed.txt"
    LD_PRELOAD=$SHIM ATOMSHIM_PATHS=$BATS_TEST_TMPDIR/managed.txt "$BATS_TEST_TMPDIR/lacking" "$BATS_TEST_TMPDIR/managed.txt"
    assert_equal "$(payload "$BATS_TEST_TMPDIR/managed.txt")" new
}

@test "I2 I7 a libc without any function that is one system call: those fallbacks of calls.def" {
    build_lacking r
    # shellcheck disable=SC2086 # names without spaces
    run_all $ALL calls_aliases calls_filesystem calls_paths calls_temporary calls_walk
}

# dist compiles the library for aarch64 in build/package/aarch64; a second call compiles nothing.
dist_aarch64() {
    CC=aarch64-linux-gnu-gcc scripts/package/dist >/dev/null
}

@test "dist: for aarch64, by the cross compiler" {
    needs aarch64-linux-gnu-gcc
    dist_aarch64
    name=atomshim-$(sed -n 's/^VERSION = //p' Makefile)-aarch64-linux
    tar -C "$BATS_TEST_TMPDIR" -xzf "build/dist/$name.tar.gz"
    readelf -h "$BATS_TEST_TMPDIR/$name/lib/libatomshim.so" | grep -q AArch64
}

@test "CRC-32C on a processor without the instruction, and on one without vectors" {
    [ "$(uname -m)" = x86_64 ] || skip 'needs an x86-64 machine'
    needs qemu-x86_64-static
    qemu-x86_64-static -cpu qemu64,-sse4.2 "$ROOT/build/unit/crc32c_test"
    qemu-x86_64-static -cpu Nehalem "$ROOT/build/unit/crc32c_test" # has no AVX
}

@test "I2 a process without vdso(7): the clock is asked by a system call" {
    [ "$(uname -m)" = x86_64 ] || skip 'needs an x86-64 machine'
    needs qemu-x86_64-static # which maps none
    printf old >"$MANAGED/f"
    qemu-x86_64-static -E LD_PRELOAD="$SHIM" -E ATOMSHIM_PATHS="$MANAGED/" /bin/sh -c 'printf new >"$1"; cat "$1"' - "$MANAGED/f" \
        >"$BATS_TEST_TMPDIR/read"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/read")" new
    assert_equal "$(payload "$MANAGED/f")" new
}

@test "I2 I7 aarch64, as dist compiles it, under qemu-user" {
    needs aarch64-linux-gnu-gcc qemu-aarch64-static
    dist_aarch64
    local machine=build/package/aarch64
    # shellcheck disable=SC2034 # for cases.bash
    PROGRAMS=$ROOT/$machine/programs
    build "$machine/programs" BUILD=$machine CC=aarch64-linux-gnu-gcc $machine/unit/{image,crc32c,pattern}_test
    RUNNER=(qemu-aarch64-static -L /usr/aarch64-linux-gnu)
    # shellcheck disable=SC2034 # for cases.bash
    SHIM=$ROOT/$machine/libatomshim.so
    for unit in image crc32c pattern; do
        "${RUNNER[@]}" "$machine/unit/${unit}_test"
    done
    # This emulator lacks some things: it runs no other program of its kind and no clone() without a
    # signal (calls_exec, exec*), lists its own threads and mappings in /proc/self (exit,
    # *_mapping), and no seccomp filters (closefrom_older) and openat2(); the versions of __xstat
    # are x86's.
    run_every '^(calls_close closefrom_older|calls_exec .*|situations (exec|fork_at_commit)|trouble exec_.*|calls_exit ((private|shared)_mapping|clone)|calls_syscall (openat2|exit)|calls_status __.*)$'
}
