#!/usr/bin/env bats
# The format as a stranger sees it: scripts/read_image.py knows only the rules of
# atomshim-format(5).

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    export file
}

stranger() {
    python3 -S "$ROOT/scripts/read_image.py" "$1"
}

both_read() { # CONTENT
    assert_equal "$(stranger "$file")" "$1" 'read_image.py'
    assert_equal "$(payload "$file")" "$1" 'atomshim cat'
}

# put OFFSET TEXT: changes bytes of the file by hand
put() {
    printf %s "$2" | dd of="$file" bs=1 seek="$1" conv=notrunc status=none
}

info() {
    atomshim info "$file" | sed -n "s/^$1: //p"
}

@test "a plain file, an empty one, head live, twin live" {
    printf 'plain' >"$file"
    both_read plain
    : >"$file"
    both_read ''
    for i in 1 2 3 4; do
        wrapped sh -c "echo commit $i >\"\$file\""
        both_read "commit $i"
    done
}

@test "head -n 1 tells a person what the file is" {
    wrapped sh -c 'echo one >"$file"; echo two >"$file"'
    [[ $(head -n 1 "$file") == '#atomshim/1 generation='*' size='* ]]
}

@test "the script has at most 64 lines, as the manual says" {
    [ "$(wc -l <"$ROOT/scripts/read_image.py")" -eq 64 ]
    grep -q 'in 64 lines of Python' "$ROOT/shim/man/atomshim-format.5"
}

@test "I2 a torn live image: the other one is the content, in either place" {
    wrapped sh -c 'echo good >"$file"; echo torn >"$file"'
    assert_equal "$(info 'live place')" head
    put 128 X
    put 126 - # a writer that died had not set the mark
    both_read good
    wrapped sh -c 'echo new head >"$file"; echo torn >"$file"'
    assert_equal "$(info 'live place')" twin
    twin=$(info 'twin offset')
    put $((twin + 128)) X
    put $((twin + 126)) -
    both_read 'new head'
}

@test "I2 an image torn at each of its pages, and a header cut in two" {
    wrapped sh -c 'echo good >"$file"; echo also >"$file"'
    wrapped sh -c 'seq 20000 >"$file"'
    twin=$(info 'twin offset')
    assert_equal "$(info 'live place')" twin
    put $((twin + 126)) -
    cp "$file" "$file.whole"
    for page in 0 1 5 26; do
        cp "$file.whole" "$file"
        dd if=/dev/zero of="$file" bs=4096 seek=$((twin / 4096 + page)) count=1 conv=notrunc status=none
        both_read also
    done
    cp "$file.whole" "$file"
    put $((twin + 40)) '################'
    both_read also
}

@test "a damaged header at 0 is an error, never plain content" {
    wrapped sh -c 'echo good >"$file"; echo also >"$file"'
    put 30 '################'
    run ! stranger "$file"
    run -1 atomshim cat "$file"
    run -1 atomshim verify "$file"
    run wrapped cat "$file"
    [ "$status" -ne 0 ]
    [[ $output == *'Input/output error'* ]]
}

attribute() { # VALUE: sets the note; without one: prints it
    python3 -S -c 'import os, sys
name = "user.atomshim"
if sys.argv[2:]: os.setxattr(sys.argv[1], name, sys.argv[2].encode())
elif name in os.listxattr(sys.argv[1]): print(os.getxattr(sys.argv[1], name).decode())' "$file" "$@"
}

# Makes the file that a power cut leaves when its first commit got no further than note and size.
cut_off() {
    printf 'old\n' >"$file"
    truncate -s 16512 "$file"
    attribute '0000000000000000004 0000000000000016512 151e31a5 610a739f'
}

raw_is_read() {
    stranger "$file" | cmp - "$file"
    payload "$file" | cmp - "$file"
    wrapped cat "$file" | cmp - "$file"
}

@test "I2 I5 a power cut in a first commit that left its note and size, and zeros" {
    cut_off 2>/dev/null || skip 'no extended attributes here'
    both_read old
    assert_equal "$(wrapped stat -c %s "$file")" 4
    wrapped sh -c 'echo next >>"$file"'
    both_read $'old\nnext'
    assert_equal "$(attribute)" '' 'the note'
    : >"$file"
    wrapped sh -c 'echo first >"$file"'
    assert_equal "$(attribute)" '' 'the note'
}

# A commit of LINES numbers from 1001 on dies at its first CALL.
die_at() { # CALL LINES
    run strace -f -qq -o /dev/null -e trace="$1" -e inject="$1":signal=KILL \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'seq 1001 $((1000 + $1)) >"$file"' sh "$2"
    [ "$status" -ne 0 ]
}

@test "I2 a note as it is written now" {
    needs strace
    printf 'old\n' >"$file"
    die_at pwrite64 5
    [[ $(attribute) == 'NOTE '* ]] || skip 'no extended attributes here'
    truncate -s "$((10#$(attribute | cut -d ' ' -f 3)))" "$file"
    both_read old
    cp --preserve=xattr "$file" "$file.copy" # the note of another inode: the zeros are content
    stranger "$file.copy" | cmp - "$file.copy"
    put 8192 x
    raw_is_read
}

@test "I2 plain files whose commits died, by record and by journal, whole and in pieces; strangers and copies" {
    needs strace
    cd "$BATS_TEST_TMPDIR" || return
    export ATOMSHIM_FORMAT=plain
    before=1
    for count in 20 300 710 1000 3000 0 5; do # shorter and longer, within a block and over blocks
        seq 1001 $((1000 + count)) >next
        for piece in 0 512 1300; do
            rm -f "$file" "$file.copy"
            seq 700 | head -c $((before * 290)) >"$file"
            wrapped sh -c 'echo >>"$file"'
            [[ $(attribute) == 'IDLE '* ]] || skip 'no extended attributes here'
            die_at "$([ $count -gt 0 ] && echo pwritev || echo fdatasync)" $count
            head -c $piece next | dd of="$file" conv=notrunc status=none
            stranger "$file" >found
            payload "$file" | cmp - found
            wrapped cat "$file" | cmp - found
            [ "$piece" -eq 0 ] || [ $piece -gt "$(stat -c %s next)" ] || [ $((piece % 512)) -ne 0 ] || cmp found next
            cp --preserve=xattr "$file" "$file.copy" # the record of another inode does not count
            stranger "$file.copy" | cmp - "$file.copy"
            put 0 Z
            stranger "$file" | cmp - <(payload "$file")
        done
        before=$((before % 9 + 4))
    done
}

@test "I5 a note that was left behind cuts off nothing that a program without the shim wrote" {
    cut_off 2>/dev/null || skip 'no extended attributes here'
    put 0 OLD
    raw_is_read
    cut_off
    put 8192 x
    raw_is_read
    cut_off
    truncate -s 20608 "$file"
    raw_is_read
    truncate -s 3 "$file"
    raw_is_read
    printf 'new\n' >"$file"
    raw_is_read
    cut_off
    # the last digit
    attribute '0000000000000000004 0000000000000016512 151e31a5 610a739e'
    raw_is_read
    wrapped sh -c 'echo next >"$file"'
    both_read next
    assert_equal "$(attribute)" '' 'the note'
}

@test "I2 a first commit that stopped after its footer, and after its image" {
    printf 'the plain content' >"$file"
    wrapped sh -c 'echo new >"$file"'
    # undo the last step, the header at 0, as if the writer had died before it
    twin=$(info 'twin offset')
    size=$(stat -c %s "$file")
    put 0 'the plain content'
    dd if=/dev/zero of="$file" bs=1 seek=17 count=111 conv=notrunc status=none
    assert_equal "$(atomshim info "$file" | sed -n 's/^format: //p')" 'first commit begun'
    both_read new
    # and the image too
    dd if=/dev/zero of="$file" bs=4096 seek=$((twin / 4096)) count=1 conv=notrunc status=none
    assert_equal "$(stat -c %s "$file")" "$size"
    both_read 'the plain content'
    wrapped sh -c 'echo next >"$file"'
    both_read next
}

# commits N: a file that has seen N commits.
commits() {
    rm -f "$file"
    for i in $(seq "$1"); do
        wrapped sh -c "echo v=$i >\"\$file\""
    done
}

@test "I2 damage to any byte of the header at 0, and any cut, is told by verify and by the exit status of cat" {
    for at in 0 3 9 20 60 126 127 129; do
        commits 2
        put "$at" Z
        run -1 atomshim verify "$file"
        [[ $output == *damaged* ]]
    done
    for size in 132 4096 8192 8300; do
        commits 3
        truncate -s "$size" "$file"
        run -1 atomshim verify "$file"
        [[ $output == *damaged* ]]
        run -1 atomshim cat "$file"
        [[ $output == *'the one before it'* ]]
    done
}

@test "I2 the footer of a first commit does not bring its image back when all of the header at 0 is overwritten" {
    commits 3
    dd if=/dev/zero of="$file" bs=128 count=1 conv=notrunc status=none
    run -1 atomshim verify "$file"
    [[ $output == *damaged* ]]
    run ! stranger "$file"
}

@test "the header line of a managed file, saved as a file of its own, is an ordinary file" {
    wrapped sh -c 'echo one >"$file"'
    line=$BATS_TEST_TMPDIR/line
    head -n 1 "$file" >"$line"
    wrapped cat "$line" | cmp - "$line"
    wrapped sh -c 'echo new >"$1"' sh "$line"
    assert_equal "$(cat "$line")" new
}

@test "the other names of a managed file are still known after an append by a program without the shim" {
    other=$BATS_TEST_TMPDIR/other
    for lines in 1 300 5000; do
        rm -f "$other"
        wrapped sh -c 'seq "$1" >"$file"' sh "$lines"
        ln "$file" "$other"
        seq "$lines" >>"$file"
        wrapped cat "$other" | cmp - <(seq "$lines")
        assert_equal "$(wrapped stat -c %s "$other")" "$(seq "$lines" | wc -c)"
        wrapped sh -c 'echo new >"$1"' sh "$other"
        assert_equal "$(payload "$file")" new
    done
}

# The descriptor of a header whose image has 15 TiB, none of which is there.
decoy() {
    python3 -c 'import sys
def crc(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8): c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff
size, twin = 15 * 2**40 - 4096, 15 * 2**40
h = b"#atomshim/1 generation=%019d size=%019d twin=%019d data=%08x" % (1, size, twin, 0x12345678)
f = open(sys.argv[1], "wb")
f.write(h + b" head=%08x mark=-\n" % crc(h))
f.truncate(twin + 4096 * 3 + 128)' "$1"
}

@test "stat of whatever file reads a bounded number of bytes" {
    decoy "$BATS_TEST_TMPDIR/decoy" || skip 'no files of 15 TiB here'
    run -0 strace -f -qq -e trace=pread64 -o "$BATS_TEST_TMPDIR/trace" \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" stat -c %s "$BATS_TEST_TMPDIR/decoy"
    [ "$(sed -n 's/.* = \([0-9]*\)$/\1/p' "$BATS_TEST_TMPDIR/trace" | awk '{ sum += $1 } END { print sum + 0 }')" -lt 4194304 ]
}

@test "stat of a file that somebody keeps locked waits for nobody" {
    wrapped sh -c 'echo hi >"$file"'
    mkfifo "$BATS_TEST_TMPDIR/held" "$BATS_TEST_TMPDIR/done"
    python3 -c 'import fcntl, sys
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
open(sys.argv[3]).close()' "$file" "$BATS_TEST_TMPDIR/held" "$BATS_TEST_TMPDIR/done" 3>&- &
    read -r _ <"$BATS_TEST_TMPDIR/held" || true
    put 126 - # no mark vouches for the payload
    # stat returns before the lock is given back
    assert_equal "$(wrapped stat -c %s "$file")" 3
    : >"$BATS_TEST_TMPDIR/done"
    wait
}
