#!/usr/bin/env bats
# The path of a name's folder, at that moment, decides whether the file is managed.

load ../lib/helpers

setup() {
    helpers_setup
    work=$BATS_TEST_TMPDIR/work
    mkdir "$work" "$MANAGED/sub"
    cd "$work" || return
    export work
}

is_managed() {
    [ "$(generation "$1")" -gt 0 ] || { echo "$1 is not managed" >&2; return 1; }
}

is_not_managed() {
    assert_equal "$(head -c 10 "$1")" "$(head -c 10 <<<"${2-new}")" "raw bytes of $1"
}

# write NAME: a shell opens this name to write.
write() {
    wrapped sh -c 'echo new >"$1"' sh "$1"
}

# write_at DIRECTORY NAME [FLAGS]: opens this name to write, by openat(2).
write_at() {
    wrapped python3 -S -c '
import os, sys
directory = os.open(sys.argv[1], os.O_PATH)
flags = os.O_WRONLY | os.O_CREAT | (eval(sys.argv[3]) if len(sys.argv) > 3 else os.O_TRUNC)
fd = os.open(sys.argv[2], flags, 0o644, dir_fd=directory)
os.write(fd, b"new\n")
os.close(fd)' "$@"
}

needs_mounts() {
    unshare -m true 2>/dev/null || skip 'needs the right to mount'
}

@test "I2 one component: a file that is there, a new one, an exclusive one" {
    cd "$MANAGED"
    printf old >there
    for name in there new; do
        write "$name"
        is_managed "$name"
        assert_equal "$(payload "$name")" new
    done
    write_at "$MANAGED" exclusive os.O_EXCL
    is_managed exclusive
    run write_at "$MANAGED" exclusive os.O_EXCL
    [[ "$output" == *FileExistsError* ]]
    assert_equal "$(generation exclusive)" 1
    cd "$work"
    printf old >there
    for name in there new; do
        write "$name"
        is_not_managed "$name"
    done
    write_at "$work" exclusive os.O_EXCL
    is_not_managed exclusive
}

@test "I2 the current folder by a symbolic link, and the folder in a path by one, by .. and by ." {
    ln -s "$MANAGED" link
    (cd link && write by-cwd)
    (cd -P link/sub && write ../by-dots)
    write link/by-link
    write "link/sub/../by-both"
    write "./../managed/./by-path"
    write_at link by-descriptor
    write_at link/sub ../by-descriptor-and-dots
    for name in by-cwd by-dots by-link by-both by-path by-descriptor by-descriptor-and-dots; do
        is_managed "$MANAGED/$name"
    done
    ln -s "$work" "$MANAGED/out"
    (cd "$MANAGED/out" && write by-cwd)
    write "$MANAGED/out/by-link"
    write_at "$MANAGED/out" by-descriptor
    for name in by-cwd by-link by-descriptor; do
        is_not_managed "$name"
    done
}

@test "I2 a symbolic link as the last component, there and dangling" {
    printf old >"$MANAGED/file"
    ln -s "$MANAGED/file" link
    write link
    is_managed "$MANAGED/file"
    printf old >"$MANAGED/second"
    ln -s "$MANAGED/second" second
    write_at "$work" second
    is_managed "$MANAGED/second"
    printf old >file
    ln -s "$work/file" "$MANAGED/outward"
    (cd "$MANAGED" && write outward)
    is_not_managed file
    ln -s nowhere dangling
    write dangling
    is_not_managed nowhere
    ln -s "$work/outside" "$MANAGED/dangling"
    write "$MANAGED/dangling"
    is_not_managed outside
}

@test "I2 the folder moves into the tree and out of it while a program is there, or has it open" {
    mkdir moving
    wrapped sh -c '
        cd moving
        echo new >before
        env -u LD_PRELOAD mv "$work/moving" "$MANAGED/moving"
        echo new >inside
        echo new >>before
        env -u LD_PRELOAD mv "$MANAGED/moving" "$work/moving"
        echo new >after'
    is_managed moving/inside
    is_managed moving/before
    is_not_managed moving/after
    wrapped python3 -S -c '
import os
def write(name):
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory))
    fd = os.open(name, os.O_WRONLY | os.O_TRUNC, dir_fd=directory); os.write(fd, b"new\n"); os.close(fd)
directory = os.open("moving", os.O_PATH)
work, managed = os.environ["work"], os.environ["MANAGED"]
write("before2")
os.rename(work + "/moving", managed + "/moving")
write("inside2")
os.rename(managed + "/moving", work + "/moving")
write("after2")'
    is_managed moving/inside2
    is_not_managed moving/before2
    is_not_managed moving/after2
    # the folder above, too, and with a link in the old place: the old path still leads there
    mkdir -p above/below
    wrapped sh -c '
        cd above/below
        env -u LD_PRELOAD mv "$work/above" "$MANAGED/above"
        ln -s "$MANAGED/above" "$work/above"
        echo new >inside'
    is_managed "$MANAGED/above/below/inside"
}

@test "I2 a number of a descriptor leads to another folder, however it was closed" {
    printf old >"$MANAGED/file"
    ATOMSHIM_LOG=debug ATOMSHIM_LOG_FILE=$work/log wrapped "$PROGRAMS/calls_close" closedir "$MANAGED/file"
    grep -o ' file: .*managed:' log >verdicts
    assert_equal "$(cat verdicts)" "$(for way in 1 2 3 4 5 6 7; do printf ' file: %s\n' 'not managed:' 'managed:'; done)"
}

@test "I2 I3 mounts: the tree elsewhere, a folder over a part of the tree, one file" {
    needs_mounts
    printf old >"$MANAGED/carries"
    (cd "$MANAGED" && write carries)
    printf old >"$MANAGED/plain"
    printf old >single
    touch "$MANAGED/single"
    mkdir elsewhere
    export -f write write_at wrapped
    unshare -m bash -c '
        set -e
        mount --bind "$MANAGED" elsewhere
        cd elsewhere
        write carries
        write plain
        cd "$work"
        write elsewhere/carries
        write_at elsewhere carries
        mount --bind "$work" "$MANAGED/sub"
        (cd "$MANAGED/sub" && write over-cwd)
        write "$MANAGED/sub/over-path"
        write_at "$MANAGED/sub" over-descriptor
        mount --bind single "$MANAGED/single"
        (cd "$MANAGED" && write single)'
    assert_equal "$(generation "$MANAGED/carries")" 4 'known by its header'
    is_not_managed "$MANAGED/plain" # the path of the mount matches
    for name in over-cwd over-path over-descriptor single; do
        is_managed "$name"
    done
}

@test "I2 a chroot: the path is the one inside, and a current folder outside of it has none" {
    [ "$(id -u)" -eq 0 ] || skip 'chroot needs root'
    mkdir -p root/data root/other
    printf old >outside
    LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS=/data/ python3 -S -c '
import os
def write(name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644); os.write(fd, b"new\n"); os.close(fd)
os.chroot("root")
write("outside")
os.chdir("/data")
write("by-cwd")
write("/data/by-path")
os.chdir("/other")
write("by-cwd")
write("../data/by-dots")'
    is_not_managed outside
    is_not_managed root/other/by-cwd
    for name in by-cwd by-path by-dots; do
        is_managed "root/data/$name"
    done
}

@test "I2 I3 other names of a managed file: a hard link to one that was committed, or is open" {
    printf old >"$MANAGED/file"
    (cd "$MANAGED" && write file)
    ln "$MANAGED/file" link
    write link
    write "$work/link"
    write_at "$work" link
    assert_equal "$(generation "$MANAGED/file")" 4
    assert_equal "$(inode link)" "$(inode "$MANAGED/file")"
    printf old >"$MANAGED/open"
    wrapped python3 -S -c '
import os
first = os.open(os.environ["MANAGED"] + "/open", os.O_RDWR)
os.link(os.environ["MANAGED"] + "/open", "second")
second = os.open("second", os.O_WRONLY | os.O_TRUNC)
os.write(second, b"new\n")
os.close(second)
os.close(first)'
    is_managed second
    assert_equal "$(payload second)" new
}

@test "what cannot be opened fails as it would: no folder, a removed one, no right, a file for a folder" {
    printf old >file
    cat >tries.py <<'PYTHON'
import os, sys
def attempt(name, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, directory=None):
    try:
        os.close(os.open(name, flags, 0o644, dir_fd=directory))
        print(name, "opened")
    except OSError as error:
        print(name, error.errno)
managed = os.environ["MANAGED"]
base = os.open(".", os.O_PATH)
for name in "missing/x", "file/x", "file/", "", ".", "..", "missing/", managed, managed + "/missing/x", "x" * 256, "x/" * 2047 + "x", "x" * 5000:
    attempt(name)
    attempt(name, directory=base)
    attempt(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
attempt("x", directory=999)
attempt("x", directory=os.open("file", os.O_RDONLY))
os.mkdir("gone")
os.chdir("gone")
gone = os.open(".", os.O_PATH)
os.rmdir("../gone")
attempt("x")
attempt("x", directory=gone)
attempt("../" + sys.argv[1])
os.chdir("..")
if os.getuid() == 0:
    os.mkdir("locked", 0o700)
    os.mkdir("open", 0o711)
    os.seteuid(65534)
    attempt("locked/x")
    attempt("open/x")
    attempt(managed + "/x")
PYTHON
    chmod 755 "$BATS_RUN_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "$BATS_TEST_TMPDIR" "$work"
    python3 -S tries.py beside >expected
    rm -rf locked open beside
    wrapped python3 -S tries.py beside >seen
    assert_equal "$(cat seen)" "$(cat expected)"
    [ "$(wc -l <seen)" -gt 40 ]
}

@test "I2 without /proc: openat and longer paths, in the tree and outside" {
    needs_mounts
    export -f write write_at wrapped
    unshare -m bash -c 'set -e; mount -t tmpfs none /proc
        write_at "$MANAGED" by-descriptor; (cd "$MANAGED" && write by-cwd); write "$MANAGED/sub/../by-path"
        write_at "$work" by-descriptor; write by-cwd; write "$work/by-path"'
    for name in by-descriptor by-cwd by-path; do
        is_managed "$MANAGED/$name"
        is_not_managed "$name"
    done
}

@test "a folder that the program itself moves into a tree: what is in it is managed at once" {
    wrapped python3 - "$work" "$MANAGED" <<'EOF'
import os, sys


def mount_of(fd):
    with open("/proc/self/fdinfo/%d" % fd) as lines:
        return next(line for line in lines if line.startswith("mnt_id"))


def is_managed(folder):
    fd = os.open("file", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    stands_in = mount_of(fd) != mount_of(folder)  # a buffer, in place of the file
    os.close(fd)
    return stands_in


for i in range(50):  # within one tick of the kernel's coarse clock, mostly
    old, new = os.path.join(sys.argv[1], "d%d" % i), os.path.join(sys.argv[2], "d%d" % i)
    os.mkdir(old)
    with open(old + "/file", "w") as file:
        file.write("plain")
    folder = os.open(old, os.O_RDONLY | os.O_DIRECTORY)
    assert not is_managed(folder)
    os.rename(old, new)
    assert is_managed(folder), i
    os.rename(new, old)
    assert not is_managed(folder), i
    os.close(folder)
EOF
}

@test "I2 a symbolic link in place of a folder counts at once: made by this process, or by a child" {
    for way in symlink symlinkat rename fork; do
        wrapped python3 -S "$ROOT/tests/lib/swap_folder.py" "$work" "$MANAGED" "$way"
        for ((i = 0; i < 20; i++)); do
            is_managed "$MANAGED/$way$i"
        done
    done
}
