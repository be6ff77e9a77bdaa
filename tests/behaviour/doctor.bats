#!/usr/bin/env bats
# doctor: each finding is one line, and the exit status says whether there is a problem.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/app.cfg
    echo plain >"$file"
    cd "$BATS_TEST_TMPDIR" || return
}

# doctor STATUS ARGUMENT...: runs `atomshim doctor`, which must end with STATUS.
doctor() {
    local expected=$1
    shift
    run atomshim doctor "$@"
    assert_equal "$status" "$expected" "doctor $*: $output"
}

has() { # each TEXT is part of a line
    for text in "$@"; do
        [[ $output == *"$text"* ]] || {
            printf 'no "%s" in\n%s\n' "$text" "$output" >&2
            return 1
        }
    done
}

@test "doctor: all is well" {
    doctor 0 --path "$MANAGED/" sh
    has "ok       the shim is $ROOT/build/libatomshim.so" 'sh will be covered: it is dynamically linked, for glibc' \
        "ok       $file: plain, 6 bytes" "ok       $MANAGED: "
    echo new | wrapped dd of="$file" status=none
    doctor 0 --path "$file"
    has "ok       $file: sized, generation 1, 4 bytes"
    ATOMSHIM_PATHS=$file doctor 0
    has "sized, generation 1"
}

@test "doctor: programs that will not be covered, and why" {
    doctor 1 --path "$file" "$PROGRAMS/static_writer"
    has 'static_writer will not be covered: it is statically linked'
    doctor 1 --path "$file" no-such-program
    has 'problem  no-such-program: not found'
    printf '#!%s 1 write x\n' "$PROGRAMS/static_writer" >script
    chmod +x script
    doctor 1 --path "$file" ./script
    has "its interpreter $PROGRAMS/static_writer is statically linked"
    printf '#!/usr/bin/env python3\n' >script
    doctor 0 --path "$file" ./script
    has './script will be covered: it is a script for a program that is'
}

@test "doctor: Go programs, dynamic ones too, are told by their note; run refuses them" {
    cat >go.c <<'EOF'
#include <stdio.h>
__attribute__((section(".note.go.buildid"), aligned(4), used)) static const struct { int sizes[2], type; char name[4], id[4]; } note =
    {{4, 4}, 4, "Go", "id"};
int main(void) { return puts("go") < 0; }
EOF
    cc -o go go.c
    doctor 1 --path "$file" ./go
    has 'is a Go program, which makes its system calls past the C library'
    run atomshim run --path "$file" -- ./go
    assert_equal "$status $output" "126 atomshim: ./go: the shim would not load: it is a Go program, which makes its system calls past the C library (--force runs it anyway)"
    # a guardian looks after one that inherits a file
    # shellcheck disable=SC2016
    assert_equal "$(wrapped bash -c './go >"$0"; cat "$0"' "$file")" go
}

@test "doctor: set-id programs, 32-bit programs, musl" {
    if [ "$(id -u)" -eq 0 ]; then
        cp /bin/true set-id
        chmod 6755 set-id
        chown 65534:65534 set-id
        chmod 6755 set-id
        doctor 1 --path "$file" ./set-id
        has 'set-user-id, set-group-id or has file capabilities'
    fi
    # an ELF header of class 32
    printf '\177ELF\001\001\001\000\000\000\000\000\000\000\000\000\002\000\003\000\001\000\000\000' >elf32
    head -c 64 /dev/zero >>elf32
    chmod +x elf32
    doctor 1 --path "$file" ./elf32
    has 'is a 32-bit program, the shim is not'
    command -v musl-gcc >/dev/null || skip 'musl-gcc is not installed'
    echo 'int main(void) { return 0; }' >m.c
    musl-gcc -o m m.c
    doctor 0 --path "$file" ./m
    has 'for musl'
}

@test "doctor and run: files that are read raw in wrapped programs too, and programs that forbid calls to themselves" {
    echo old | wrapped dd of="$file" status=none
    mkdir "$MANAGED/etc"
    mv "$file" "$MANAGED/etc/hosts" # without the shim: the sized format stays
    echo text >"$MANAGED/etc/passwd"
    echo program >"$MANAGED/tool"
    echo old | wrapped dd of="$MANAGED/sized-tool" status=none
    chmod 755 "$MANAGED/tool" "$MANAGED/sized-tool"
    doctor 1 --path "$MANAGED/"
    has "problem  $MANAGED/etc/hosts: sized, generation 1, 4 bytes; the C library reads it by itself, and finds the header; stays sized until \`atomshim export\`" \
        "ok       $MANAGED/etc/passwd: plain, 5 bytes; stays plain (the C library reads it by itself), " \
        "problem  $MANAGED/sized-tool: sized, generation 1, 4 bytes; the kernel may execute it, and finds the header; becomes plain at its next commit" \
        "ok       $MANAGED/tool: plain, 8 bytes; stays plain (the kernel may execute it), "
    run -0 --separate-stderr atomshim run --path "$MANAGED/etc/hosts:$MANAGED/tool" --path "$MANAGED/etc/passwd" true
    assert_equal "$stderr" "atomshim: warning: $MANAGED/etc/hosts: the C library reads it by itself, and finds the sized format's header"
    printf 'const char *needs = "libseccomp.so.2";\nint main(void) { return needs == 0; }\n' >filter.c
    cc -o filter filter.c
    doctor 0 --path "$file" ./filter
    has "warning  ./filter sets a seccomp filter: where that forbids what the shim needs, a managed file cannot be opened"
    run -0 --separate-stderr atomshim run --path "$file" ./filter
    assert_equal "$stderr" 'atomshim: warning: ./filter: sets a seccomp filter: where that forbids what the shim needs, a managed file cannot be opened'
}

@test "doctor: which format each file gets at its next commit, and why; the next commit does so" {
    echo old | wrapped dd of="$MANAGED/was-sized" status=none
    printf '#!/bin/sh\n' >"$MANAGED/script"
    echo text >"$MANAGED/asked"
    export ATOMSHIM_PATHS="$MANAGED/:plain=$MANAGED/asked"
    doctor 0
    has "ok       $MANAGED/was-sized: sized, generation 1, 4 bytes; stays sized" \
        "ok       $file: plain, 6 bytes; becomes sized at its next commit (ATOMSHIM_FORMAT=sized, the default)" \
        "ok       $MANAGED/asked: plain, 5 bytes; stays plain (a pattern says so), protected by a record in its attribute user.atomshim" \
        "ok       $MANAGED/script: plain, 10 bytes; stays plain (the kernel may execute it), "
    export ATOMSHIM_PATHS="plain=$MANAGED/:sized=$MANAGED/asked" ATOMSHIM_FORMAT=plain
    doctor 0
    has "warning  $MANAGED/was-sized: sized, generation 1, 4 bytes; stays sized until \`atomshim export\` makes it plain (a pattern says so)" "$file: plain, 6 bytes; stays plain (a pattern says so), " \
        "$MANAGED/asked: plain, 5 bytes; becomes sized at its next commit (a pattern says so)"
    export ATOMSHIM_PATHS="$MANAGED/"
    doctor 0
    has "$file: plain, 6 bytes; stays plain (ATOMSHIM_FORMAT=plain), "
    export ATOMSHIM_PATHS="$MANAGED/:sized=$file"
    # shellcheck disable=SC2016
    atomshim run -- sh -c 'echo new >"$0/was-sized"; echo new >"$0/app.cfg"; echo new >"$0/asked"; echo "#!/bin/true" >"$0/script"' "$MANAGED"
    run -0 atomshim verify "$MANAGED/was-sized" "$file" "$MANAGED/asked" "$MANAGED/script"
    [[ ${lines[0]} == *sized* && ${lines[1]} == *sized* && ${lines[2]} == *plain* && ${lines[3]} == *plain* ]]
    atomshim export "$MANAGED/was-sized"
    doctor 0
    has "$MANAGED/was-sized: plain, 4 bytes; stays plain (ATOMSHIM_FORMAT=plain), "
}

# longest: prints how many bytes of content a record protects in the managed folder, as doctor says
longest() {
    sed -n "s|^ok       $MANAGED: a record in its attribute protects a plain file of up to \([0-9]*\) bytes; a journal file longer ones\$|\1|p" <<<"$output"
}

@test "doctor: what protects a plain file: content of the length that it names has a record, and a byte more has none" {
    export ATOMSHIM_PATHS="plain=$MANAGED/"
    needs strace
    doctor 0
    n=$(longest)
    [ -n "$n" ] || skip 'no extended attributes here'
    [ "$n" -ge 100 ]
    assert_equal "$(find "$MANAGED" ! -type d)" "$file" 'doctor leaves nothing'
    for size in "$n" $((n + 1)); do
        head -c "$size" /dev/zero >"$file"
        doctor 0
        if [ "$size" -eq "$n" ]; then
            has "ok       $file: plain, $size bytes; stays plain (a pattern says so), protected by a record in its attribute user.atomshim"
        else
            has "ok       $file: plain, $size bytes; stays plain (a pattern says so), protected by a journal file in $MANAGED"
        fi
        # the record of a commit that is killed before its first byte; sizes as before and after
        # shellcheck disable=SC2016
        run strace -f -qq -o /dev/null -e trace=pwritev -e inject=pwritev:signal=KILL env LD_PRELOAD="$BUILT/libatomshim.so" \
            sh -c 'head -c "$1" /dev/urandom >"$0"' "$file" "$size"
        [ "$status" -ne 0 ]
        python3 -c 'import os, sys; print(os.getxattr(sys.argv[1], "user.atomshim")[:4].decode())' "$file" >"$BATS_TEST_TMPDIR/word.$size"
    done
    assert_equal "$(cat "$BATS_TEST_TMPDIR/word.$n")" REDO
    assert_equal "$(cat "$BATS_TEST_TMPDIR/word.$((n + 1))")" FILE
    run find "$MANAGED" -name '.atomshim-journal-*'
    assert_equal "${#lines[@]}" 1 'journal files where doctor says'
}

@test "doctor: where the journal file of a plain file lies, or why there is no place for one" {
    head -c 100000 /dev/zero >"$file"
    export ATOMSHIM_PATHS="plain=$MANAGED/"
    mkdir journals
    ATOMSHIM_JOURNAL_DIR=$PWD/journals doctor 0
    has "ok       $file: plain, 100000 bytes; stays plain (a pattern says so), protected by a journal file in $PWD/journals"
    ATOMSHIM_JOURNAL_DIR=/no/such doctor 1
    has 'problem  ATOMSHIM_JOURNAL_DIR: /no/such: No such file or directory: no journal file can be made there' \
        "protected by a journal file in $MANAGED"
    unshare -m true 2>/dev/null || skip 'needs the right to unshare'
    # shellcheck disable=SC2016
    run unshare -m sh -c 'mount -t tmpfs none /mnt && : >/mnt/f && mount --bind "$1" /mnt/f &&
        ATOMSHIM_JOURNAL_DIR=/mnt "$2" doctor --path plain=/mnt/f; "$2" doctor --path plain=/mnt/f
        ATOMSHIM_JOURNAL_DIR="$3" "$2" doctor --path plain=/mnt/f' sh "$file" "$BUILT/atomshim" "$PWD/journals"
    has "note     /mnt/f: plain, 100000 bytes; stays plain (a pattern says so), doctor cannot try whether a record fits into its attribute (it is mounted by itself); there is no place for a journal file: /mnt: lies in memory, and the file is mounted by itself" \
        'there is no place for a journal file: ATOMSHIM_JOURNAL_DIR is not set, and the file is mounted by itself' \
        "one that does not goes into a journal file in $PWD/journals"
    run unshare -m sh -c 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && "$2" doctor --path "plain=$1/"' sh "$MANAGED" "$BUILT/atomshim"
    has "$file: plain, 100000 bytes; stays plain (a pattern says so), " 'ATOMSHIM_JOURNAL_DIR is not set, and '"$MANAGED: Read-only file system"
}

@test "doctor: a file system without attributes does not protect plain files" {
    unshare -m true 2>/dev/null || skip 'needs the right to unshare'
    # shellcheck disable=SC2016
    run unshare -m sh -c 'mount -t ramfs none "$1" && echo x >"$1/x" && "$2" doctor --path "plain=$1/"' sh "$MANAGED" "$BUILT/atomshim"
    assert_equal "$status" 0 "$output"
    has "warning  $MANAGED/x: plain, 2 bytes; stays plain (a pattern says so), not protected: extended attributes cannot be set there: Operation not supported" \
        "note     $MANAGED: extended attributes cannot be set (Operation not supported): nothing protects plain files"
}

@test "doctor: damaged, locked, unreadable files, patterns that match nothing" {
    echo new | wrapped dd of="$file" status=none
    cp "$file" "$MANAGED/damaged"
    printf X | dd of="$MANAGED/damaged" bs=1 seek=20 conv=notrunc status=none
    doctor 1 --path "$MANAGED/"
    has "problem  $MANAGED/damaged: damaged: "
    rm "$MANAGED/damaged"
    cp "$file" "$MANAGED/secret"
    chmod 0 "$MANAGED/secret"
    run -1 without_override "$ROOT/build/atomshim" doctor --path "$MANAGED/"
    has "problem  $MANAGED/secret: this user may not read it, so the shim cannot open it, not even for writing: Permission denied" "ok       $file: "
    rm -f "$MANAGED/secret"
    python3 -c '
import fcntl, os, subprocess, sys
f = open(sys.argv[1], "r+"); fcntl.lockf(f, fcntl.LOCK_EX)
sys.exit(subprocess.run(sys.argv[2:], pass_fds=[]).returncode)' "$file" "$ROOT/build/atomshim" doctor --path "$file" >out
    grep -q "warning  $file: process [0-9]* holds a lock on it" out
    doctor 0 --path "$MANAGED/*.nothing" --path /no/such/folder/x
    has "note     $MANAGED/*.nothing: matches no file right now" '/no/such/folder/x: matches nothing'
    ln -s "$MANAGED" symbolic
    doctor 0 --path "$PWD/symbolic/*"
    has "note     $PWD/symbolic/*: leads through a symbolic link: its files are those of $(realpath "$MANAGED")/*" "ok       $file: "
}

@test "doctor: a first commit that was cut short is named, and counts" {
    needs strace
    run strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:signal=KILL:when=2 \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'echo new >"$1"' sh "$file"
    [ "$status" -ne 0 ]
    doctor 0 --path "$file"
    has "$file: a first commit has begun, 4 bytes; stays sized"
    wrapped sh -c 'echo next >"$1"' sh "$file"
    doctor 0 --path "$file"
    has "$file: sized, generation 2, 5 bytes"
}

@test "doctor: of many files the first fifty are shown" {
    for i in {1..60}; do : >"$MANAGED/many$i"; done
    doctor 0 --path "$MANAGED/many*"
    has "note     $MANAGED/many*: matches 60 files, of which 50 are shown"
    assert_equal "$(grep -c "^ok .*/many[0-9]*: " <<<"$output")" 50
}

@test "doctor: it looks at 200,000 files for a pattern, not below a pattern longer than a path, and says so" {
    needs python3
    folder=$(mktemp -d -p /dev/shm) # links take long on a disk
    python3 -c 'import os, sys
os.chdir(sys.argv[1])
open("0", "w").close()
for number in range(1, 200002): os.link("0", str(number))' "$folder"
    run -0 atomshim doctor --path "$folder/"
    rm -rf "$folder"
    has "note     $folder/: matches 199999 of the first 200000 files; doctor did not look at the rest"
    long=/$(printf '%05000d' 0)
    run -0 atomshim doctor --path "$long"
    has "note     $long: is longer than a path may be; doctor does not search for such files"
}

@test "doctor: a pattern that takes files out is none to look below" {
    echo >"$MANAGED/other"
    run -0 atomshim doctor --path "$MANAGED/" --path "!$MANAGED/file"
    has "$MANAGED/other: plain, 1 bytes"
    [[ $output != *"$MANAGED/file: "* ]]
}

@test "doctor: a file that must not change is a problem, for want of rights or by its attributes" {
    needs chattr
    chattr +i "$file" 2>/dev/null || skip 'no attribute i here'
    doctor 1 --path "$file"
    chattr -i "$file"
    has "problem  $file: has the attribute i (lsattr): it cannot be opened for writing"
    chattr +a "$file"
    doctor 1 --path "$file"
    chattr -a "$file"
    has "problem  $file: has the attribute a (lsattr): it cannot be opened for writing"
}

@test "doctor: programs with plug-ins or AddressSanitizer, and a library that is loaded already" {
    echo 'void stand_in(void) {}' | cc -shared -Wl,-soname,libasan.so.8 -o libasan.so.8 -x c -
    printf '%s\n' '#include <dlfcn.h>' 'void stand_in(void);' 'int main(int n, char **a) { stand_in(); return dlopen(a[n - 1], RTLD_NOW) == 0; }' |
        cc -o program -x c - -x none ./libasan.so.8 -ldl
    doctor 1 --path "$file" ./program
    has 'program may load plug-ins: a plug-in loaded with RTLD_DEEPBIND bypasses the shim' \
        'program was built with AddressSanitizer, which exits unless its own library is loaded first'
    LD_PRELOAD=$PWD/libasan.so.8 doctor 0 --path "$file" ./program
    has "note     LD_PRELOAD is set already: $PWD/libasan.so.8"
    [[ $output != *AddressSanitizer* ]]
    cp "$ROOT/build/atomshim" alone
    run -1 ./alone doctor --path "$file"
    has 'problem  doctor found no library that it could load'
}

@test "doctor: wrong usage, wrong configuration, a shim that is switched off" {
    doctor 2 --bogus
    has "unknown option '--bogus': accepted are --path PATTERN, --self-test PATTERN, --json and --help"
    doctor 2 --self-test
    has 'doctor: --self-test needs a value'
    doctor 2 --path data/x
    has "doctor: --path 'data/x': a pattern with a '/' starts with '/' or with '**'"
    doctor 1 --path "$file" -- --program
    has 'problem  --program: not found'
    doctor 0 --path "$file" sh -c 'arguments are not looked at'
    ATOMSHIM_RESCUE_DIR=/no/such doctor 1 --path "$file"
    has 'ATOMSHIM_RESCUE_DIR: /no/such: No such file or directory'
    doctor 1 sh
    has 'no files to manage: give --path PATTERN or set ATOMSHIM_PATHS'
    ATOMSHIM_LOCK_TIMEOUT=x doctor 2 --path "$file"
    ATOMSHIM_DISABLE=1 doctor 1 --path "$file"
    has 'ATOMSHIM_DISABLE is set: the shim does nothing'
    doctor 0 --help
}

@test "doctor: without /proc and without memory files it says what takes their place" {
    unshare -m true 2>/dev/null || skip 'needs the right to unshare'
    # shellcheck disable=SC2016
    run unshare -m sh -c 'mount -t tmpfs none /proc && exec "$@"' sh "$PROGRAMS/without_memfd" kill "$ROOT/build/atomshim" doctor --path "$file"
    assert_equal "$status" 0 "$output"
    has '/proc is not mounted: the shim holds images in unlinked files' 'memfd_create() is forbidden here'
    run -0 "$PROGRAMS/without_memfd" lease "$ROOT/build/atomshim" doctor --path "$file"
    has 'warning  this user or kernel has no leases: each process commits at its own last close'
    needs strace
    run -1 strace -f -qq -o /dev/null -e trace=memfd_create,?access,faccessat,faccessat2 -e inject=memfd_create:error=EPERM \
        -e inject=?access,faccessat,faccessat2:error=EACCES "$ROOT/build/atomshim" doctor --path "$file"
    has 'problem  managed files cannot be opened: memfd_create() or /proc is missing, and none of /dev/shm, /run, /tmp, /var/tmp is writable'
}

@test "doctor: what to beware of on overlayfs" {
    unshare -m true 2>/dev/null || skip 'needs the right to unshare'
    mkdir lower upper work merged
    # shellcheck disable=SC2016
    run unshare -m sh -c 'mount -t tmpfs none upper && mkdir upper/upper upper/work &&
        mount -t overlay -o lowerdir=lower,upperdir=upper/upper,workdir=upper/work none merged || exit 77
        exec "$ROOT/build/atomshim" doctor --path "$PWD/merged/"'
    [ "$status" -ne 77 ] || skip "no overlayfs: $output"
    has "warning  $PWD/merged: overlayfs: the first write to a file of the lower layer splits its hard links"
}

@test "--self-test writes, kills and reads back a scratch file, and leaves nothing; without a shim that works it says so" {
    folder=$MANAGED/'a:b [c]!'
    mkdir "$folder"
    run -0 atomshim doctor --self-test "$MANAGED/"
    has "ok       self-test in this folder: commits are there, in the same inode, and a killed program changed nothing: $MANAGED"
    cd "$folder"
    run -0 atomshim doctor --self-test '*.cfg'
    has "changed nothing: $folder"
    ATOMSHIM_LOCK_TIMEOUT=1 run -1 atomshim doctor --self-test /none/below/
    has 'problem  self-test: /none: no file can be made there: No such file or directory'
    # a shim that does nothing: an empty library in its place
    mkdir "$MANAGED/empty"
    cp "$ROOT/build/atomshim" "$MANAGED/empty/"
    cc -shared -o "$MANAGED/empty/libatomshim.so" -x c /dev/null
    run -1 "$MANAGED/empty/atomshim" doctor --self-test "$MANAGED/"
    has 'problem  self-test: '
    # libraries that load, and lose what is written: all of it; all but what is there first
    for kept in nothing old; do
        cc -shared -fPIC -D_GNU_SOURCE -DKEPT="\"$kept\"" -o "$MANAGED/empty/libatomshim.so" -x c - <<'X'
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int open(const char *path, int flags, ...) { return syscall(SYS_openat, AT_FDCWD, path, flags & ~O_TRUNC, 0600); }
int open64(const char *path, int flags, ...) { return open(path, flags); }
ssize_t write(int fd, const void *bytes, size_t size)
{
    return size == strlen(KEPT) && memcmp(bytes, KEPT, size) == 0 ? syscall(SYS_write, fd, bytes, size) : (ssize_t)size;
}
X
        run -1 "$MANAGED/empty/atomshim" doctor --self-test "$MANAGED/"
        if [ "$kept" = old ]; then has 'the next commit is not there'; else has 'what was written is not there, or not in the same inode'; fi
    done
    # shellcheck disable=SC2016
    run -1 sh -c 'trap "" XFSZ && ulimit -f 0 && exec "$ROOT/build/atomshim" doctor --self-test "$MANAGED/"'
    has 'did not write it under the shim'
    assert_equal "$(find "$MANAGED" -name '*self-test*')" '' 'left behind'
}

@test "a folder without its slash, a folder that is not there, places that cannot be written: doctor and run say so" {
    check() { # KIND MESSAGE
        run atomshim doctor -p "$pattern"
        has "$1$2"
        run -0 --separate-stderr atomshim run -p "$pattern" true
        assert_equal "$stderr" "atomshim: warning: $2"
    }
    pattern=$MANAGED
    check 'warning  ' "$MANAGED: is a folder: write $MANAGED/ to take in all files below it"
    pattern=/none/x.cfg
    check 'warning  ' '/none/x.cfg: matches nothing: /none: No such file or directory'
    pattern=$MANAGED/
    export ATOMSHIM_RESCUE_DIR=/none ATOMSHIM_LOG_FILE=
    check 'problem  ' 'ATOMSHIM_RESCUE_DIR: /none: No such file or directory: the images of failed commits would be lost'
    export ATOMSHIM_RESCUE_DIR="" ATOMSHIM_LOG_FILE=/none/log
    check 'problem  ' 'ATOMSHIM_LOG_FILE: /none/log: No such file or directory: lines would go to stderr'
}
