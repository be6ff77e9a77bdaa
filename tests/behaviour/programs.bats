#!/usr/bin/env bats
# Unmodified programs overwrite a hard-linked file. For each: the content is right through both
# names, the inode and its link count stay (I3), one close makes exactly one commit, and until then
# every other reader gets the old content (I2). A reader looks when the program has written
# everything and the commit is due; with `saw`, also in the middle.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    other=$MANAGED/other
    seen=$BATS_TEST_TMPDIR/seen # the finds of another reader in the middle; not managed
    old=$BATS_TEST_TMPDIR/content-before
    printf 'old\n' >"$file"
    ln "$file" "$other"
    before_inode=$(inode "$file")
    export file other seen old
    export -f look assert_equal atomshim payload generation wrapped
}

# Prints the file as others see it, with the shim and without, while a commit waits.
look() {
    diff "$old" <(payload "$file") && diff "$old" <(payload "$other") && diff "$old" <(wrapped cat "$other") &&
        assert_equal "$(generation "$file")" "$before" 'generation before the commit'
}

# expect CONTENT COMMITS COMMAND...: runs COMMAND under the shim, and checks the file as others see
# it until the first commit, and the result.
expect() {
    local content=$1 commits=$2 before
    shift 2
    before=$(generation "$file")
    if [ "$commits" -eq 0 ]; then
        wrapped "$@"
    else
        payload "$file" >"$old"
        export before
        "$PROGRAMS/at_commit" "$file" look bash -c 'wrapped "$@"' - "$@"
    fi
    assert_equal "$(payload "$file" | tr '\0' @)" "$content" 'content' # the shell has no zeros
    assert_equal "$(wrapped cat "$other" | tr '\0' @)" "$content" 'content through the other name'
    assert_equal "$(inode "$file") $(stat -c %h "$file")" "$before_inode 2" 'inode and links'
    assert_equal "$(wrapped stat -c %s "$file")" "$(payload "$file" | wc -c)" 'size'
    assert_equal "$(generation "$file")" "$((before + commits))" 'generation'
}

# Checks the finds of the reader that looked in the middle of the command.
saw() {
    assert_equal "$(cat "$seen")" "$1" 'seen by another reader before the close'
    rm -f "$seen"
}

# feed COMMAND: the shell command overwrites the file with what it reads. In the middle, when it has
# read more than a pipe and a buffer hold, another reader looks.
feed() {
    local before
    before=$(payload "$file")
    expect "$(seq 60002)" 1 sh -c '{ seq 60000; cat "$file" >"$seen"; seq 60001 60002; } | '"$1"
    saw "$before"
}

for_each_shell() {
    local shell
    for shell in dash bash; do
        "$@" "$shell"
    done
}

redirections() {
    expect "over $1" 1 "$1" -c 'echo "over '"$1"'" >"$file"'
    expect "over $1
more" 1 "$1" -c 'echo more >>"$file"'
    expect "OVER $1
more" 1 "$1" -c 'printf OVER 1<>"$file"'
}

@test "I2 I3 dash and bash: > >> <>" {
    for_each_shell redirections
}

groups() {
    expect "a
b" 1 "$1" -c '{ echo a; cat "$file" >"$seen"; echo b; } >"$file"'
    saw "$2"
    expect "c
d
e" 1 "$1" -c '{ echo c; /bin/echo d; cat "$file" >"$seen"; echo e; } >"$file"'
    saw "a
b"
    expect "sub
shell" 1 "$1" -c '(echo sub; cat "$file" >"$seen"; echo shell) >"$file"'
    saw "c
d
e"
}

@test "I2 I3 dash: { a; b; } > file and ( … ) > file are one commit" {
    groups dash old
}

@test "I2 I3 bash: { a; b; } > file and ( … ) > file are one commit" {
    groups bash old
}

exec_redirection() {
    expect "x
y" 1 "$1" -c 'exec 3>"$file"; echo x >&3; cat "$file" >"$seen"; echo y >&3; exec 3>&-; :'
    saw "$2"
    expect "until exit" 1 "$1" -c 'exec 3>"$file"; echo until exit >&3'
    expect "stdout to the end" 1 "$1" -c 'exec >"$file"; echo stdout to the end'
}

@test "I2 I3 dash and bash: exec 3> file" {
    exec_redirection dash old
    exec_redirection bash 'stdout to the end'
}

jobs() {
    expect "background $1" 1 "$1" -c '{ cat "$file" >"$seen"; echo background '"$1"'; } >"$file" & wait'
    saw "$2"
    expect "piped $1" 1 "$1" -c 'echo piped '"$1"' | cat >"$file"'
    feed 'exec '"$1"' -c "exec cat >\"\$file\""'
    expect "here $1" 1 "$1" -c "cat <<END >\"\$file\"
here $1
END"
    expect "exec $1" 1 "$1" -c 'exec echo exec '"$1"' >"$file"'
}

@test "I2 I3 dash and bash: background jobs, pipelines, here-documents, exec" {
    jobs dash old
    jobs bash 'exec dash'
}

@test "I2 I3 tee" {
    expect 'from tee' 1 sh -c '{ cat "$file" >"$seen"; echo from tee; } | tee "$file" >/dev/null'
    saw old
    expect 'from tee
more' 1 sh -c 'echo more | tee -a "$file" >/dev/null'
    feed 'tee "$file" >/dev/null'
}

@test "I2 I3 dd, conv=notrunc with seek too" {
    expect '0123456789' 1 sh -c 'printf 0123456789 | dd of="$file" status=none'
    expect '0123ab6789' 1 sh -c 'printf ab | dd of="$file" conv=notrunc bs=1 seek=4 status=none'
    expect '0123ab6789cd' 1 sh -c 'printf cd | dd of="$file" oflag=append conv=notrunc status=none'
    expect 'synced' 1 sh -c 'printf synced | dd of="$file" conv=fsync status=none' # the fsync; the close finds no change
    feed 'dd of="$file" status=none'
}

@test "I2 I3 cp, cp -p keeps the times, cat" {
    local source=$BATS_TEST_TMPDIR/source
    echo 'copied' >"$source"
    touch -d '2001-02-03 04:05:06' "$source"
    expect copied 1 cp "$source" "$file"
    expect copied 1 cp -p "$source" "$file"
    assert_equal "$(stat -c %Y "$file")" "$(stat -c %Y "$source")" 'modification time'
    expect 'copied
copied' 1 sh -c 'cat "$0" "$0" >"$file"' "$source"
    feed 'cp /dev/stdin "$file"'
}

@test "I3 cp --preserve=xattr keeps file capabilities, and a later write takes them, as without the shim" {
    PATH=$PATH:/usr/sbin:/sbin
    local source=$BATS_TEST_TMPDIR/source way
    cp /bin/true "$source"
    setcap cap_net_raw+ep "$source" || skip 'no file capabilities here'
    for way in env wrapped; do
        "$way" cp --preserve=mode,xattr "$source" "$file"
        assert_equal "$(getcap "$file")" "$file cap_net_raw=ep" "$way"
        "$way" sh -c 'echo more >>"$file"'
        assert_equal "$(getcap "$file")" '' "$way, written"
    done
    assert_equal "$(generation "$file")" 2
}

@test "cp and cat out of a managed file give the payload" {
    local target=$BATS_TEST_TMPDIR/target
    wrapped sh -c 'echo payload >"$file"'
    wrapped cp "$file" "$target"
    assert_equal "$(cat "$target")" payload
}

@test "install makes a new file that is managed, and leaves the other names of the old one, as without the shim" {
    echo 'installed' >"$BATS_TEST_TMPDIR/source"
    wrapped install -m 640 "$BATS_TEST_TMPDIR/source" "$MANAGED/new"
    assert_equal "$(payload "$MANAGED/new")" installed
    assert_equal "$(generation "$MANAGED/new")" 1
    assert_equal "$(stat -c %a "$MANAGED/new")" 640
    for way in env wrapped; do
        ln -f "$other" "$file"
        "$way" install -m 640 "$BATS_TEST_TMPDIR/source" "$file"
        assert_equal "$(payload "$file")" installed "$way"
        assert_equal "$(cat "$other")" old "the other name, $way"
        assert_equal "$(inode "$other") $(stat -c %h "$other" "$file" | xargs)" "$before_inode 1 1" "$way"
    done
    assert_equal "$(generation "$file")" 1
}

@test "I2 I3 sort -o onto its own input" {
    expect '3
1
2' 1 sh -c 'printf "3\n1\n2\n" >"$file"'
    expect '1
2
3' 1 sort -o "$file" "$file"
    feed 'sort -n -o "$file"'
}

@test "I2 I3 truncate: shorter, longer, to nothing" {
    expect '0123456789' 1 sh -c 'printf 0123456789 >"$file"'
    expect '0123' 1 truncate -s 4 "$file"
    expect 0123@@@@ 1 truncate -s 8 "$file"
    expect '' 1 truncate -s 0 "$file"
}

@test "I2 I3 awk" {
    expect awk 1 awk 'BEGIN { print "awk" > ENVIRON["file"] }'
    expect 'awk
more' 1 awk 'BEGIN { print "more" >> ENVIRON["file"]; close(ENVIRON["file"]) }'
    feed "awk '{ print > ENVIRON[\"file\"] }'"
}

@test "I2 I3 ed" {
    expect 'new
old' 1 sh -c 'printf "%s\n" 1i new . w q | ed -s "$file"'
}

@test "I2 I3 vim in Ex mode with backupcopy=yes" {
    expect 'vim' 1 vim -u NONE -es -c 'set backupcopy=yes nofsync' -c '%s/old/vim/' -c wq "$file"
    # by default it calls fsync(), which commits; the close finds no change
    expect 'synced' 1 vim -u NONE -es -c 'set backupcopy=yes' -c '%s/vim/synced/' -c wq "$file"
}

@test "I2 I3 python3: w, a, r+, x, unbuffered" {
    expect 'python' 1 python3 -c 'import os; open(os.environ["file"], "w").write("python")'
    expect 'python more' 1 python3 -c 'import os; open(os.environ["file"], "a").write(" more")'
    expect 'PYTHON more' 1 python3 -c 'import os
with open(os.environ["file"], "r+") as f:
    f.write("PYTHON")
    f.flush()
    os.system("cat \"$file\" >\"$seen\"") # another process, since this thread sees its own writes'
    saw 'python more'
    expect 'unbuffered' 1 python3 -c 'import os
with open(os.environ["file"], "wb", buffering=0) as f:
    f.write(b"unbuf")
    os.system("cat \"$file\" >\"$seen\"") # another process: this thread sees its own writes
    f.write(b"fered")'
    saw 'PYTHON more'
    expect 'unbuffered' 0 python3 -c 'import os
try: open(os.environ["file"], "x")
except FileExistsError: pass
else: raise SystemExit("x opened an existing file")'
    wrapped python3 -c 'import os
with open(os.environ["file"] + ".x", "x") as f:
    f.write("exclusive")
    f.flush()
    os.system("printf \"<%s>\" \"$(cat \"$file.x\")\" >\"$seen\"")'
    saw '<>'
    assert_equal "$(payload "$file.x")" exclusive
    assert_equal "$(generation "$file.x")" 1
    feed 'python3 -c "import os, shutil, sys; shutil.copyfileobj(sys.stdin, open(os.environ[\"file\"], \"w\"))"'
}

@test "a session opened O_RDWR whose bytes did not change commits nothing" {
    wrapped sh -c 'echo some >"$file"'
    expect some 0 python3 -c 'import os; open(os.environ["file"], "r+").read()'
    expect some 0 python3 -c 'import os
f = open(os.environ["file"], "r+"); f.write("some"); f.close()'
}

@test "I2 I7 a record that ends in its own CRC-32C: a change is a change, though the CRC of the whole stays" {
    run -0 python3 -c 'import os, struct
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
for n in b"12":
    data = bytes([n]) * 100
    open(os.environ["seen"] + "%c" % n, "wb").write(data + struct.pack("<I", crc32c(data)))
assert len({crc32c(open(os.environ["seen"] + n, "rb").read()) for n in "12"}) == 1'
    expect "$(cat "$seen"1)" 1 cp "$seen"1 "$file"
    expect "$(cat "$seen"2)" 1 dd if="$seen"2 of="$file" conv=notrunc status=none
    run -0 python3 "$ROOT/scripts/read_image.py" "$file"
    assert_equal "$output" "$(cat "$seen"2)"
}

@test "a file of holes that is opened and not changed costs no memory" {
    truncate -s 1T "$MANAGED/holes" || skip 'no such file here'
    for mode in r r+ a; do
        wrapped python3 -c 'import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
f = open(sys.argv[1], sys.argv[2])
assert os.fstat(f.fileno()).st_size == 1 << 40
f.close()' "$MANAGED/holes" "$mode"
    done
    assert_equal "$(stat -c '%b %s' "$MANAGED/holes")" '0 1099511627776'
}

@test "I2 I3 python3: mmap outlives the close: munmap commits, msync does too" {
    expect 'MAP' 1 python3 -c 'import mmap, os
f = open(os.environ["file"], "r+b")
f.truncate(3)
m = mmap.mmap(f.fileno(), 3)
f.close()
m[0:3] = b"MAP"
os.system("cat \"$file\" >\"$seen\"") # another process: this thread sees its own writes
m.close()'
    saw old
    # committed by msync, and nothing after it
    expect 'map' 1 python3 -c 'import mmap, os
if os.fork() > 0:
    raise SystemExit(os.wait()[1] != 9)
f = open(os.environ["file"], "r+b")
m = mmap.mmap(f.fileno(), 3)
m[0:3] = b"map"
os.system("cat \"$file\" >\"$seen\"") # another process: this thread sees its own writes
m.flush()
m[0:3] = b"???"
os.kill(os.getpid(), 9)'
    saw MAP
}

@test "I2 I3 python3: os.sendfile into and out of a managed file" {
    expect 'sent' 1 python3 -c 'import os
source = os.open(os.environ["seen"], os.O_RDWR | os.O_CREAT)
os.write(source, b"sent")
target = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
assert os.sendfile(target, source, 0, 4) == 4
os.close(target)
managed = os.open(os.environ["file"], os.O_RDONLY)
assert os.sendfile(source, managed, 0, 100) == 4'
    assert_equal "$(cat "$seen")" sentsent
}

@test "I2 I3 python3: subprocess with stdout=file, closed early by the parent" {
    expect 'child' 1 python3 -c 'import os, subprocess
f = open(os.environ["file"], "w")
p = subprocess.Popen(["sh", "-c", "read go; echo child"], stdin=subprocess.PIPE, stdout=f)
f.close()
os.system("cat \"$file\" >\"$seen\"") # another process: this thread sees its own writes
p.stdin.write(b"go\n"); p.stdin.close()
assert p.wait() == 0'
    saw old
}

@test "I2 I3 python3: os.execv with an open file" {
    expect 'before after' 1 python3 -c 'import os
fd = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
os.set_inheritable(fd, True)
os.write(fd, b"before ")
os.execv("/bin/sh", ["sh", "-c", "cat \"$file\" >\"$seen\"; echo after >&%d" % fd])'
    saw old
    # exec closes the descriptor, and a guardian commits: the next program that opens the file waits
    # for that, however soon it comes
    local before
    before=$(generation "$file")
    wrapped python3 -c 'import os
fd = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"close-on-exec")
os.execv("/bin/cat", ["cat", os.environ["file"]])' >"$seen"
    saw close-on-exec
    assert_equal "$(payload "$other") $(generation "$file")" "close-on-exec $((before + 1))"
    assert_equal "$(inode "$file") $(stat -c %h "$file")" "$before_inode 2"
}

@test "I2 I3 python3: multiprocessing fork, the last of both commits" {
    expect 'child parent' 1 python3 -c 'import multiprocessing, os
multiprocessing.set_start_method("fork")
f = open(os.environ["file"], "w")
def work():
    f.write("child ")
    f.flush()
p = multiprocessing.Process(target=work)
p.start(); p.join()
os.system("cat \"$file\" >\"$seen\"") # another process: this thread sees its own writes
f.write("parent")
f.close()'
    saw old
}

@test "I2 I3 perl: closed, and left open until exit" {
    expect perl 1 perl -e 'open(F, ">", $ENV{file}) or die; print F "perl"; close F or die'
    expect 'perl at exit' 1 perl -e 'open(F, ">>", $ENV{file}) or die; print F " at exit"'
    expect 'Perl at exit' 1 perl -e 'open(F, "+<", $ENV{file}) or die; print F "P"; close F or die'
    feed "perl -e 'open(F, \">\", \$ENV{file}) or die; print F while <STDIN>'"
}

@test "I2 I3 node: fs.writeFileSync and streams" {
    expect node 1 node -e 'require("fs").writeFileSync(process.env.file, "node")'
    expect 'stream end' 1 node -e 'const s = require("fs").createWriteStream(process.env.file)
s.write("stream", () => {
    require("child_process").execSync("cat \"$file\" >\"$seen\"")
    s.end(" end")
})'
    saw node
    expect 'stream end!' 1 node -e 'require("fs").appendFileSync(process.env.file, "!")'
    feed "node -e 'process.stdin.pipe(require(\"fs\").createWriteStream(process.env.file))'"
}

@test "I2 I3 I7 node: each writeFileSync and truncateSync has committed when it returns" {
    run -137 wrapped node -e 'require("fs").writeFileSync(process.env.file, "new")
process.kill(process.pid, "SIGKILL")'
    assert_equal "$(payload "$file")" new
    expect 5 6 node -e 'const fs = require("fs"), file = process.env.file
fs.writeFileSync(file, "0")
for (let i = 0; i < 5; i++)
    fs.writeFileSync(file, String(+fs.readFileSync(file) + 1))'
    expect abc 2 node -e 'const fs = require("fs"), file = process.env.file
fs.writeFileSync(file, "abcdef")
fs.truncateSync(file, 3)'
}

@test "I3 node: statSync and fstatSync show the payload size and the real inode" {
    wrapped sh -c 'echo some >"$file"'
    run -0 wrapped node -e 'const fs = require("fs"), file = process.env.file
const open = fs.fstatSync(fs.openSync(file, "r"))
console.log(fs.statSync(file).size, fs.lstatSync(file).size, open.size, open.ino)'
    assert_equal "$output" "5 5 5 $before_inode"
}

@test "node: 9000 writes in one process leave no descriptor behind" {
    ATOMSHIM_SYNC=0 run -0 wrapped node -e 'const fs = require("fs"), file = process.env.file
const count = () => fs.readdirSync("/proc/self/fd").length
const before = count()
for (let i = 1; i <= 9000; i++)
    fs.writeFileSync(file, String(i))
console.log(count() - before)'
    assert_equal "$output" 0
    assert_equal "$(payload "$file") $(generation "$file")" '9000 9000'
}

@test "I2 I3 a C++ fstream" {
    expect 'first line' 1 "$PROGRAMS/cxx_stream" out "$file"
    expect 'first line
second' 1 "$PROGRAMS/cxx_stream" app "$file"
    expect 'first LINE
second' 1 "$PROGRAMS/cxx_stream" both "$file"
    for how in out app both; do
        "$PROGRAMS/cxx_stream" $how "$BATS_TEST_TMPDIR/plain"
    done
}

@test "I2 I3 /dev/stdout opened anew writes into the same content, whatever the patterns" {
    export ATOMSHIM_PATHS
    for ATOMSHIM_PATHS in "$MANAGED/" '/**' '*'; do
        LD_PRELOAD=$ROOT/build/libatomshim.so sh -c '{ echo first; echo second >>/dev/stdout; } >"$file"'
        assert_equal "$(payload "$file")" 'first
second' "$ATOMSHIM_PATHS"
    done
}

@test "only regular files: FIFO, device, directory and /proc are passed through" {
    mkfifo "$MANAGED/fifo"
    wrapped sh -c 'echo through >"$0" & cat "$0"; wait' "$MANAGED/fifo" >"$seen"
    assert_equal "$(cat "$seen")" through
    wrapped ls "$MANAGED/." >/dev/null
    LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS='/**' sh -c 'cat /proc/self/comm; echo x >/dev/null' >"$seen"
    assert_equal "$(cat "$seen")" cat
}

@test "a name outside the patterns is left alone" {
    local outside=$BATS_TEST_TMPDIR/outside
    wrapped sh -c 'echo plain >"$0"' "$outside"
    assert_equal "$(cat "$outside")" plain
}

@test "a hard link outside the patterns is the same managed file" {
    local outside=$BATS_TEST_TMPDIR/outside
    wrapped sh -c 'echo first >"$file"'
    ln "$file" "$outside"
    wrapped sh -c 'echo second >"$0"' "$outside"
    assert_equal "$(payload "$file")" second
    assert_equal "$(wrapped cat "$outside")" second
    assert_equal "$(generation "$file")" 2
}

@test "symbolic links, relative paths and odd spellings lead to the managed file" {
    local link=$BATS_TEST_TMPDIR/link
    ln -s "$file" "$link"
    expect 'by link' 1 sh -c 'echo by link >"$0"' "$link"
    expect 'relative' 1 sh -c 'cd "${file%/*}" && echo relative >file'
    expect 'dots' 1 sh -c 'echo dots >"${file%/*}/../managed/./file"'
}

@test "no patterns, or ATOMSHIM_DISABLE=1: nothing is managed" {
    LD_PRELOAD=$ROOT/build/libatomshim.so sh -c 'echo plain >"$file"'
    assert_equal "$(head -c 5 "$file")" plain
    ATOMSHIM_DISABLE=1 wrapped sh -c 'echo plain2 >"$file"'
    assert_equal "$(head -c 6 "$file")" plain2
}

@test "I7 death by signal commits nothing" {
    wrapped sh -c 'echo good >"$file"'
    run wrapped sh -c 'exec >"$file"; echo half; kill -9 $$'
    assert_equal "$(payload "$file")" good
    run wrapped sh -c 'exec >"$file"; echo half; kill -ABRT $$'
    assert_equal "$(payload "$file")" good
    expect 'next' 1 sh -c 'echo next >"$file"'
}

@test "I7 a killed child that shared the file: a parent that closed it commits at its next open, or at exit" {
    local parent='import os
file, r, w = os.environ["file"], *os.pipe()
fd = os.open(file, os.O_WRONLY | os.O_TRUNC)
if os.fork() == 0:
    os.close(w)
    os.read(r, 1) # until the parent has closed the file
    os.write(fd, b"by the child " + os.environ["what"].encode())
    os.kill(os.getpid(), 9)
os.close(fd)
os.close(w)
assert os.wait()[1] == 9
'
    what=1 expect old 0 sh -c 'python3 -c "$0"; [ $? -eq 137 ]' "${parent}os.kill(os.getpid(), 9)"
    what=2 expect 'by the child 2' 1 sh -c 'python3 -c "$0"; [ $? -eq 137 ]' "${parent}os.open(file + '.x', os.O_CREAT)
os.kill(os.getpid(), 9)"
    what=3 expect 'by the child 3' 1 python3 -c "$parent"
}
