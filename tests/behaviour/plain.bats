#!/usr/bin/env bats
# Commits to plain files that a kill interrupts, and other programs that change the file before and
# after: a reader under the shim finds one content or the other (I2), no program's bytes are undone,
# and recover makes the file whole for all others.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    export file ATOMSHIM_FORMAT=plain
    seq 700 >"$file" # the content of $file
    old=$(cat "$file")
    old_bytes=$old$'\n'
    wrapped sh -c 'seq 700 >"$file"'
    python3 -c 'import os, sys; os.getxattr(sys.argv[1], "user.atomshim")' "$file" 2>/dev/null ||
        skip 'no extended attributes here'
}

# content LINES: prints a content that differs from the file's from its first byte on.
content() {
    seq 1001 $((1000 + $1))
}

# A commit of LINES numbers dies at its first CALL, with the child that shields it.
die_at() { # CALL LINES
    run strace -f -qq -o /dev/null -e trace="$1" -e inject="$1":signal=KILL \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'seq 1001 $((1000 + $1)) >"$file"' sh "$2"
    [ "$status" -ne 0 ]
}

# Checks the size that stat() shows by name, by a descriptor of the folder, and of the open file,
# under the shim.
shows() { # SIZE
    run -0 wrapped python3 -c 'import os, sys
path = sys.argv[1]
folder = os.open(os.path.dirname(path), os.O_RDONLY)
with open(path) as file:
    print(os.stat(path).st_size, os.stat(os.path.basename(path), dir_fd=folder).st_size,
          os.fstat(file.fileno()).st_size, len(file.read()))' "$file"
    assert_equal "$output" "$1 $1 $1 $1"
}

reads() { # CONTENT, as shim and command read it
    assert_equal "$(wrapped cat "$file")" "$1"
    assert_equal "$(atomshim cat "$file")" "$1"
}

@test "I2 I5 a commit that died when the old bytes were cut off is the new content, and recover mends the file" {
    new=$(content 300)
    die_at pwritev 300
    [ "$(cat "$file")" != "$new" ]
    reads "$new"
    run -1 atomshim verify "$file"
    [[ $output == *torn*recover* ]]
    [[ $(atomshim info "$file") == *'a mixture'* ]]
    # one that may not write, or whose writes fail, says so, and takes nothing from the next one
    chmod a-w "$file"
    run -1 without_override "$ROOT/build/atomshim" recover "$file"
    assert_equal "$output" "atomshim: $file: a commit was cut short, but: Permission denied"
    chmod u+w "$file"
    run -1 strace -f -qq -o /dev/null -e inject=pwritev:error=EIO "$ROOT/build/atomshim" recover "$file"
    assert_equal "$output" "atomshim: $file: Input/output error"
    reads "$new"
    run -0 atomshim recover "$file"
    [[ $output == *recovered* ]]
    assert_equal "$(cat "$file")" "$new"
    run -0 atomshim verify "$file"
    run -0 atomshim recover "$file"
    assert_equal "$output" ''
}

@test "I2 after a commit that died stat() shows the size that a reader gets, by name and by descriptor" {
    for count in 300 710 6000; do # shorter; longer; by a journal
        for cut in 0 1; do
            seq 700 >"$file"
            wrapped sh -c 'echo >>"$file"; seq 700 >"$file"'
            die_at pwritev $count
            if [ $cut -eq 1 ]; then # the write has come as far as its first sector
                content $count | head -c 512 | dd of="$file" conv=notrunc status=none
                shows "$(content $count | wc -c)"
            elif [ $count -gt 700 ]; then
                shows "${#old_bytes}"
            fi
            seq 5 >"$file" # by another program
            shows 10
        done
    done
}

@test "I2 I5 a commit that died before its first byte is the old content" {
    die_at pwritev 710
    reads "$old"
    assert_equal "$(cat "$file")" "$old"
    run -0 atomshim verify "$file"
    run -0 atomshim recover "$file"
    assert_equal "$(cat "$file")" "$old"
}

@test "I2 a commit that died before its flush is the new content, and the next one works" {
    die_at fdatasync 710
    reads "$(content 710)"
    wrapped sh -c 'echo next >"$file"'
    reads next
    assert_equal "$(cat "$file")" next
}

@test "run recovers what its patterns name before it starts the program" {
    die_at pwritev 300
    run -0 atomshim run --plain --path "$MANAGED/" -- true
    [[ $output == *recovered* ]]
    assert_equal "$(cat "$file")" "$(content 300)"
    die_at pwritev 100
    run -0 atomshim recover "$MANAGED/f*"
    assert_equal "$(cat "$file")" "$(content 100)"
    die_at pwritev 50
    ATOMSHIM_PATHS=$MANAGED/ run -0 atomshim recover
    assert_equal "$(cat "$file")" "$(content 50)"
}

@test "run and recover look at a bounded number of files, and say what they skip" {
    mkdir "$MANAGED/many"
    python3 -c 'import os, sys
for i in range(20001): os.link(sys.argv[1], "%s/%d" % (sys.argv[2], i))' "$file" "$MANAGED/many" || skip 'this file system does not make so many links'
    for command in "run --path $MANAGED/many/ -- true" "recover $MANAGED/many/"; do
        read -ra words <<<"$command"
        run -0 atomshim "${words[@]}"
        assert_equal "$output" "atomshim: $MANAGED/many/: recover looked at the first 20000 files, and skipped the rest"
    done
    run -2 atomshim recover 'data/x*'
    assert_equal "$output" "atomshim: recover: 'data/x*': a pattern with a '/' starts with '/' or with '**'"
    run -0 atomshim recover '*.none'
    assert_equal "$output" 'atomshim: *.none: skipped by recover: this pattern names no folder to look in'
    run -0 atomshim run --path '*.none' -- true # it is at work all the same
    assert_equal "$output" ''
}

@test "recover: bad input is one line that names it" {
    run -2 atomshim recover
    [[ $output == *'no FILE or PATTERN'* ]]
    run -2 atomshim recover --all
    [[ $output == *"'--all'"* ]]
    run -2 atomshim recover "$MANAGED/none"
    [[ $output == *none*'No such file'* ]]
    run -2 atomshim recover "$MANAGED/none" "$MANAGED"
    [ "${#lines[@]}" -eq 2 ]
    [[ ${lines[1]} == *"$MANAGED: Is a directory" ]]
}

# Prints the bytes that another program writes after a commit that died.
strangers() {
    cat <<'END'
seq 5 >"$file"
seq 5 >>"$file"
printf X | dd of="$file" bs=1 seek=600 conv=notrunc status=none
cp "$backup" "$file"
cat "$backup" >"$file"
truncate -s 100 "$file"
: >"$file"
END
}

@test "I7 whatever another program writes to a file whose commit died stays" {
    export backup=$BATS_TEST_TMPDIR/backup
    cp "$file" "$backup"
    while read -r line; do
        for call in pwritev fdatasync; do
            cat "$backup" >"$file"
            wrapped sh -c 'cat "$backup" >"$file"; echo >>"$file"'
            die_at "$call" 300
            sh -c "$line"
            cp "$file" "$BATS_TEST_TMPDIR/raw"
            reads "$(cat "$BATS_TEST_TMPDIR/raw")"
            run atomshim recover "$file"
            cmp "$file" "$BATS_TEST_TMPDIR/raw"
            wrapped sh -c 'echo one more >>"$file"'
            cmp "$file" <(cat "$BATS_TEST_TMPDIR/raw" - <<<'one more')
        done
    done < <(strangers)
}

@test "I7 a copy of a file that has a record is a file of its own" {
    copies=$MANAGED/copies
    mkdir "$copies"
    die_at pwritev 300
    cp -a "$file" "$copies/cp"
    (cd "$MANAGED" && tar --xattrs --xattrs-include='*' -cf - file) | (cd "$copies" && tar --xattrs --xattrs-include='*' -xf -)
    rsync -aX "$file" "$copies/rsync" 2>/dev/null || cp -a "$file" "$copies/rsync"
    for copy in cp file rsync; do
        seq 800 900 >"$copies/$copy"
        assert_equal "$(wrapped cat "$copies/$copy")" "$(seq 800 900)"
        run -0 atomshim recover "$copies/$copy"
        assert_equal "$(cat "$copies/$copy")" "$(seq 800 900)"
    done
}

@test "verify tells what was edited by another program from what was not" {
    [[ $(atomshim verify "$file") == *'good, plain, generation 1, '*' bytes' ]]
    echo more >>"$file"
    [[ $(atomshim verify "$file") == *'edited by another program since' ]]
    assert_equal "$(atomshim cat "$file" | tail -n 1)" more
    wrapped sh -c 'echo new >"$file"'
    assert_equal "$(atomshim verify "$file")" "$file: good, plain, generation 2, 4 bytes"
}

@test "without a sync the steps are the same, and nothing is flushed" {
    run -0 strace -f -qq -o "$BATS_TEST_TMPDIR/trace" -e trace=fsync,fdatasync,fsetxattr,pwritev env ATOMSHIM_SYNC=0 \
        LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'echo x >"$file"'
    run ! grep -E 'fsync|fdatasync' "$BATS_TEST_TMPDIR/trace"
    grep -oE 'REDO|IDLE|pwritev' "$BATS_TEST_TMPDIR/trace" | paste -sd ' ' | grep -qxF 'REDO pwritev IDLE'
}

journals() {
    find "$MANAGED" "$BATS_TEST_TMPDIR" -name '.atomshim-journal-*' | sort -u | wc -l
}

# While a process commits, a record that fits into no attribute lies in a journal beside the file.
@test "I2 I5 a large commit that died is the new content by its journal, which recover takes away" {
    for call in pwritev fdatasync; do
        wrapped sh -c 'seq 30000 >"$file"'
        assert_equal "$(journals)" 0
        if [ "$call" = fdatasync ]; then # the first one is the journal's, the second one the file's
            run strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:signal=KILL:when=2 \
                env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'seq 1001 26000 >"$file"'
        else
            die_at pwritev 25000
        fi
        assert_equal "$(journals)" 1
        journal=$(find "$MANAGED" -name '.atomshim-journal-*')
        assert_equal "$(stat -c %a "$journal")" 600
        reads "$(content 25000)"
        run -0 atomshim recover "$file"
        [[ $output == *recovered* ]]
        assert_equal "$(journals)" 0
        assert_equal "$(cat "$file")" "$(content 25000)"
    done
}

@test "I2 I5 a large commit that died when its journal was written is the old content" {
    wrapped sh -c 'seq 30000 >"$file"'
    run strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:signal=KILL \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'seq 1001 26000 >"$file"'
    reads "$(seq 30000)"
    wrapped sh -c 'echo next >"$file"'
    reads next
    run -0 atomshim recover "$file"
}

@test "a journal is kept while its process lives, and goes with it; another process's commits go on meanwhile" {
    mkfifo "$BATS_TEST_TMPDIR/go" "$BATS_TEST_TMPDIR/there"
    wrapped sh -c 'seq 30000 >"$file"; : >"$1"; read -r _ <"$2"; seq 31000 >"$file"' sh \
        "$BATS_TEST_TMPDIR/there" "$BATS_TEST_TMPDIR/go" 3>&- &
    read -r _ <"$BATS_TEST_TMPDIR/there" || true
    assert_equal "$(journals)" 1
    wrapped sh -c 'seq 32000 >"$file"'
    reads "$(seq 32000)"
    atomshim recover "$file"
    echo >"$BATS_TEST_TMPDIR/go"
    wait
    reads "$(seq 31000)"
    assert_equal "$(journals)" 0
}

@test "a journal that a killed process has kept can wait: recover says nothing while another process has the file" {
    needs python3
    mkfifo "$BATS_TEST_TMPDIR/ready" "$BATS_TEST_TMPDIR/go"
    exec 8<>"$BATS_TEST_TMPDIR/ready" 9<>"$BATS_TEST_TMPDIR/go"
    run wrapped sh -c 'seq 30000 >"$file"; kill -KILL $$'
    assert_equal "$(journals)" 1
    python3 -c "
import fcntl, os, struct, sys
f = open(sys.argv[1], 'r+b')
fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
os.write(8, b'x\n')
os.read(9, 2)" "$file" 3>&- &
    read -r _ <&8
    run -0 atomshim recover "$file"
    assert_equal "$output $(journals)" ' 1'
    echo x >&9
    wait $!
    run -0 atomshim recover "$file"
    assert_equal "$output $(journals)" ' 0'
    reads "$(seq 30000)"
}

@test "a process keeps the journals of a few files; those of the others are removed after each commit" {
    wrapped python3 -c 'import os, sys
for turn in range(2):
    for i in range(8):
        with open(sys.argv[1] + str(i), "w") as file:
            file.writelines("%d\n" % (turn + line) for line in range(25000))
names = [name for name in os.listdir(os.path.dirname(sys.argv[1])) if name.startswith(".atomshim-journal-")]
assert len(names) == 4, names' "$MANAGED/many"
    assert_equal "$(journals)" 0
    for i in {0..7}; do cmp "$MANAGED/many$i" <(seq 25000); done
}

# I2: the record leads to the journal, wherever the file's name is by now.
@test "a kept journal serves a file that was renamed into another folder; without it, a new one" {
    other=$MANAGED/other
    mkdir "$other"
    run -137 wrapped python3 -c '
import os, signal, sys
file, other = sys.argv[1:]
def journals(folder):
    return [folder + "/" + name for name in os.listdir(folder) if name.startswith(".atomshim-journal-")]
def commit(path, last):
    with open(path, "w") as out:
        out.writelines("%d\n" % i for i in range(1, last + 1))
commit(file, 30000)
os.rename(file, other + "/moved")
commit(other + "/moved", 31000)
assert journals(other) == [], journals(other)
os.unlink(journals(os.path.dirname(file))[0])
commit(other + "/moved", 32000)
assert len(journals(other)) == 1, journals(other)
os.kill(os.getpid(), signal.SIGKILL)' "$file" "$other"
    assert_equal "$(wrapped cat "$other/moved")" "$(seq 32000)"
    assert_equal "$(journals)" 1
    run -0 atomshim recover "$other/moved"
    assert_equal "$(journals)" 0
    cmp "$other/moved" <(seq 32000)
}

@test "ATOMSHIM_JOURNAL_DIR: journals lie there, and are found without it" {
    elsewhere=$BATS_TEST_TMPDIR/elsewhere
    mkdir "$elsewhere"
    wrapped sh -c 'seq 30000 >"$file"'
    export ATOMSHIM_JOURNAL_DIR=$elsewhere
    die_at pwritev 25000
    [ -n "$(find "$elsewhere" -name '.atomshim-journal-*')" ]
    reads "$(content 25000)"
    unset ATOMSHIM_JOURNAL_DIR # the attribute leads to the journal
    reads "$(content 25000)"
    run -0 atomshim recover "$file"
    assert_equal "$(journals)" 0
    ATOMSHIM_JOURNAL_DIR=relative run -2 atomshim recover "$file"
    [[ $output == *"ATOMSHIM_JOURNAL_DIR=relative: accepted is the absolute path of a folder"* ]]
}

@test "a file that has no place for a journal: a commit that dies is torn, and is known to be" {
    [ "$(id -u)" -eq 0 ] || skip 'mounts a file by itself'
    mount --bind "$file" "$file" 2>/dev/null || skip 'no bind mounts here'
    unshare -m true 2>/dev/null || skip 'no mount namespaces here'
    umount "$file"
    export alone=$BATS_TEST_TMPDIR/alone
    run unshare -m sh -c 'mount -t tmpfs none /mnt && : >/mnt/f && mount --bind "$file" /mnt/f &&
        LD_PRELOAD=$0 ATOMSHIM_PATHS=/mnt/ strace -f -qq -o /dev/null -e trace=pwritev -e inject=pwritev:signal=KILL \
            sh -c "seq 1001 26000 >/mnt/f"' "$ROOT/build/libatomshim.so"
    [ "$status" -ne 0 ]
    assert_equal "$(journals)" 0
    run -1 atomshim verify "$file"
    [[ $output == *'nothing protected'* ]]
    wrapped sh -c 'echo anew >"$file"'
    run -0 atomshim verify "$file"
}

@test "I2 hard links in several folders: the journal lies where the name that was opened is, and is found by the others" {
    other=$BATS_TEST_TMPDIR/managed/other
    mkdir "$other"
    wrapped sh -c 'seq 30000 >"$file"'
    ln "$file" "$other/link"
    die_at pwritev 25000
    assert_equal "$(dirname "$(find "$MANAGED" -name '.atomshim-journal-*')")" "$MANAGED"
    assert_equal "$(wrapped cat "$other/link")" "$(content 25000)"
    rm "$file"
    assert_equal "$(wrapped cat "$other/link")" "$(content 25000)"
    run -0 atomshim recover "$other/link"
    cmp "$other/link" <(content 25000)
    assert_equal "$(journals)" 0
}

@test "a folder that cannot be written to has no journal: a commit that dies is torn, is known to be, and the next one works" {
    needs setpriv
    user=(env)
    [ "$(id -u)" -ne 0 ] || user=(setpriv --bounding-set '-dac_override,-dac_read_search' env)
    wrapped sh -c 'seq 30000 >"$file"'
    chmod a-w "$MANAGED"
    run "${user[@]}" LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" \
        strace -f -qq -o /dev/null -e trace=pwritev -e inject=pwritev:signal=KILL sh -c 'seq 1001 26000 >"$file"'
    [ "$status" -ne 0 ]
    assert_equal "$(journals)" 0
    run -1 atomshim verify "$file"
    [[ $output == *'nothing protected'* ]]
    run -1 atomshim doctor --path "plain=$file"
    [[ $output == *"problem  $file: torn: a commit that nothing protected was cut short; write the file anew"* ]]
    run -1 atomshim recover "$file"
    assert_equal "$output" "atomshim: $file: torn: a commit that nothing protected was cut short; write the file anew"
    wrapped "${user[@]}" sh -c 'seq 26000 >"$file"'
    chmod u+w "$MANAGED"
    assert_equal "$(journals)" 0
    reads "$(seq 26000)"
}

@test "what another user puts in a journal's place is not used" {
    [ "$(id -u)" -eq 0 ] || skip 'needs a file of another user'
    wrapped sh -c 'seq 30000 >"$file"; : ' 
    name=.atomshim-journal-$(python3 -c 'import os, sys; print(os.getxattr(sys.argv[1], "user.atomshim").decode().split()[5])' "$file")
    echo mine >"$BATS_TEST_TMPDIR/mine"
    for kind in link fifo file; do
        rm -f "$MANAGED/$name"
        case $kind in
        link) ln -s "$BATS_TEST_TMPDIR/mine" "$MANAGED/$name" ;;
        fifo) mkfifo "$MANAGED/$name" ;;
        file) : >"$MANAGED/$name" && chown 65534 "$MANAGED/$name" ;;
        esac
        wrapped sh -c 'seq 31000 >"$file"'
        reads "$(seq 31000)"
        assert_equal "$(cat "$BATS_TEST_TMPDIR/mine")" mine
    done
}

@test "a commit that died is mended when a program under the shim opens the file to write, too" {
    die_at pwritev 300
    wrapped cat "$file" | cmp - <(content 300)
    run ! cmp -s "$file" <(content 300)
    wrapped sh -c ': >>"$file"'
    cmp "$file" <(content 300)
}

@test "I2 a file whose plain commit died becomes sized with the content that the commit had" {
    die_at pwritev 300
    run -0 atomshim import "$file"
    assert_equal "$(payload "$file")" "$(content 300)"
    atomshim export "$file"
    assert_equal "$(cat "$file")" "$(content 300)"
}

@test "I2 stat() of a long file whose commit died shows its old or its new size" {
    seq 300000 >"$file"
    wrapped sh -c 'seq 300000 >"$file"'
    die_at pwritev 200000
    shows "$(payload "$file" | wc -c)"
}

@test "a journal that a kill left of a file that is gone is removed by recover" {
    wrapped sh -c 'seq 30000 >"$file"; kill -9 $$' || true
    rm "$file"
    assert_equal "$(journals)" 1
    run -0 atomshim recover "$MANAGED/"
    assert_equal "$(journals)" 0
}

@test "I2 a journal of another commit says nothing" {
    wrapped sh -c 'seq 300000 >"$file"'
    die_at pwritev 200000
    journal=$(find "$MANAGED" -name '.atomshim-journal-*')
    cp "$journal" "$BATS_TEST_TMPDIR/earlier"
    wrapped sh -c 'seq 300000 >"$file"'
    die_at pwritev 250000
    cat "$BATS_TEST_TMPDIR/earlier" >"$journal"
    run -0 wrapped cmp "$file" - < <(cat "$file")
    run -0 atomshim cat "$file"
    run -1 atomshim verify "$file"
    [[ $output == *'nothing protected'* ]]
}

@test "a journal for which a full disk has no room is removed, and the commit goes on without" {
    unshare -m true 2>/dev/null || skip 'no mount namespaces here'
    # shellcheck disable=SC2016
    run -0 unshare -m sh -c 'mount -t tmpfs -o size=512k none "$1" && seq 30000 >"$1/file"
        head -c 1M /dev/zero >"$1/fill" 2>/dev/null
        LD_PRELOAD=$2 ATOMSHIM_PATHS=$1/ sh -c "seq 30000 | tac >\$0" "$1/file" || exit
        seq 30000 | tac | cmp - "$1/file" && ls -A "$1"' sh "$MANAGED" "$ROOT/build/libatomshim.so"
    assert_equal "$output" "file
fill"
}
