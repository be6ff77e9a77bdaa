#!/usr/bin/env bats
# The surface: shim/interpose/calls.def and tests/lib/surface.txt against what the two C libraries
# export.

load ../lib/helpers

setup() {
    helpers_setup
    cd "$BATS_TEST_TMPDIR" || return
    glibc=$(ldd "$ROOT/build/libatomshim.so" | awk '/libc\.so/ { print $3 }')
    functions "$glibc" >in-glibc
    musl=/lib/ld-musl-$(uname -m).so.1
    : >in-musl
    [ ! -e "$musl" ] || functions "$musl" >in-musl
    newer=$ROOT/build/rootfs/trixie-sdk/lib/x86_64-linux-gnu/libc.so.6
    : >in-newer
    [ ! -e "$newer" ] || functions "$newer" >in-newer
    LC_ALL=C sort -u in-glibc in-musl in-newer >in-libc
    exports=$ROOT/build/exports.names
}

# Prints the names that a program can be linked with.
functions() { # LIBRARY
    nm -D --defined-only "$1" | awk '$2 ~ /^[TWi]$/ && $3 !~ /@GLIBC_PRIVATE/ { sub("@.*", "", $3); print $3 }' | LC_ALL=C sort -u
}

# Prints the names of surface.txt, of one kind or of all.
listed() { # [KIND]
    awk -v kind="$1" '/^[a-z]/ && (kind == "" || $1 == kind) { for (i = 2; $i != ":"; i++) print $i }' "$ROOT/tests/lib/surface.txt" | LC_ALL=C sort
}

# Prints every case that a program of the calls has.
cases() {
    for program in "$PROGRAMS"/calls_* "$PROGRAMS"/trouble; do
        [ "${program%.d}" != "$program" ] || "$program"
    done | LC_ALL=C sort -u
}

# Prints the names that have to do with files, by their purpose and by their parameters.
file_related() {
    grep -E -e 'open|close|dup[23]?$|fcntl|flock$|lockf|stat(v?fs)?(x|at)?(64)?$|trunc(ate)?(64)?$|fallocate|sync' \
        -e 'ch(mod|own)|utime|futimes|xattr|link|rename|remove$|te?mp|ftw|^fts|glob|scandir|dir(64)?(_r)?$|path' \
        -e 'canonicalize|access$|accessat$|ioctl|fadvi|madvi|readahead|sendfile|splice|^tee$|copy_file|handle_at' \
        -e 'mknod|mkfifo|mount|swapo|acct|exec|spawn|system$|mntent|[uw]tmp|^put(pw|gr|sp|sg)ent|utx?line|utx?ent' \
        -e 'aio_|lio_|shm_|sem_(open|unlink)|mq_|^(__)?p?(read|write)v?(64)?(v2)?(_chk)?$|seek|mmap|munmap|mremap' \
        -e 'fork|exit$|sendm?msg|recvm?msg|pidfd|fileno|memfd|quota|fanotify|inotify_add|process_vm|daemon|pipe' \
        -e 'dprintf|fflush|_flush|getdents|getdirentries|lckpwdf|syscall|remap_file|fs(mount|config|pick)|ustat' \
        "$@" |
        grep -vE -e '^(pthread_|__pthread_|sched_|re_|reg|wordexp|iconv|__gconv|hcreate|hdestroy|argp|at_quick_exit|atexit|on_exit)' \
            -e '^(svc|clnt|xdr|inet|getrpc|__res_|__cyg_profile|__strftime|__wcsftime|strftime|wcsftime|__asan)' \
            -e '^(__)?(str|wcs)n?dup$|^l?l?truncf?l?$|^envz_remove$'
}

@test "every name of calls.def has a case, and every native one" {
    cases >have
    [ -s have ]
    listed native >natives
    [ -s natives ]
    assert_equal "$(LC_ALL=C comm -23 "$exports" have)" '' 'interposed, and without a case'
    assert_equal "$(LC_ALL=C comm -23 natives have)" '' 'native, and without a case'
}

@test "what is exported is what calls.def says" {
    nm -D --defined-only "$ROOT/build/libatomshim.so" | awk '{ print $3 }' | LC_ALL=C sort >exported
    assert_equal "$(cat exported)" "$(cat "$exports")"
}

@test "a libc has every name that is exported or excused" {
    [ -s in-musl ] || skip 'needs musl'
    listed newer >newest
    assert_equal "$(LC_ALL=C comm -23 "$exports" in-libc | LC_ALL=C comm -23 - newest)" '' 'in no libc'
    assert_equal "$(listed '' | LC_ALL=C comm -23 - in-libc | LC_ALL=C comm -23 - newest)" '' 'listed, and in no libc'
}

@test "nothing is listed twice, or though it is exported" {
    assert_equal "$(listed '' | uniq -d)" '' 'twice'
    listed newer >newest
    assert_equal "$(listed '' | LC_ALL=C comm -23 - newest | LC_ALL=C comm -12 - "$exports")" '' 'exported and excused'
}

@test "every sibling of an export is exported or excused: 64, _chk, _time64, _2, __x, __, _IO_" {
    listed '' | LC_ALL=C sort -u - "$exports" >known
    sed 's/^_*//; s/64$//; s/_2$//; s/_chk$//; s/^x\(l\|f\)\?stat/\1stat/' "$exports" | sort -u |
        awk '{ print; print $1 "64"; print $1 "_time64"; print "__" $1 "_time64"; print "__" $1 "64_time64"
               print "__" $1; print "__" $1 "64"; print "__" $1 "_chk"; print "__" $1 "64_chk"
               print "__" $1 "_2"; print "__" $1 "64_2"; print "__x" $1; print "__x" $1 "64"; print "_IO_" $1 }' |
        LC_ALL=C sort -u | LC_ALL=C comm -12 - in-libc >siblings
    [ "$(wc -l <siblings)" -gt 100 ]
    assert_equal "$(LC_ALL=C comm -23 siblings known)" ''
}

@test "every function of the libcs that has to do with files is exported or excused" {
    listed '' | LC_ALL=C sort -u - "$exports" >known
    file_related in-libc >related
    [ "$(wc -l <related)" -gt 300 ]
    assert_equal "$(LC_ALL=C comm -23 related known)" ''
}
