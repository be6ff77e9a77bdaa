#!/usr/bin/env bats
# Programs without the shim that rewrite, append to, edit, restore and copy a plain file that has a
# record (user.atomshim), between commits, while a wrapped program has it open, and after a commit
# that died: the shim undoes none of their bytes (I7), and loses none of its own by their copies
# (I2).

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    backup=$BATS_TEST_TMPDIR/backup
    archive=$BATS_TEST_TMPDIR/archive
    raw=$BATS_TEST_TMPDIR/raw
    export file backup archive ATOMSHIM_FORMAT=plain
    : >"$file"
    for program in setfattr rsync strace; do
        command -v $program >/dev/null || skip "no $program here: scripts/bootstrap check"
    done
    setfattr -n user.test -v x "$file" 2>/dev/null || skip 'no extended attributes here'
}

# Prints LINES numbers, which no other FIRST has.
numbers() { # FIRST LINES
    seq "$1" $(($1 + $2 - 1))
}

commit() { # FIRST LINES
    wrapped sh -c 'seq "$1" $(($1 + $2 - 1)) >"$file"' sh "$1" "$2"
}

# A commit of LINES numbers from 500001 on dies at its first CALL, with the child that shields it.
die_at() { # CALL LINES
    run strace -f -qq -o /dev/null -e trace="$1" -e inject="$1":signal=KILL \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" \
        sh -c 'seq 500001 $((500000 + $1)) >"$file"' sh "$2"
    [ "$status" -ne 0 ]
}

# Copies the file with its present record, in all ways in which backups keep attributes.
back_up() {
    rm -f "$backup" "$archive"
    cp -a "$file" "$backup"
    tar -C "$MANAGED" --xattrs --xattrs-include='*' -cf "$archive" file
    getfattr -d --absolute-names "$file" >"$backup.attributes"
}

# Prints the commands of a stranger, one on each line.
writes() {
    cat <<'END'
seq 5 >"$file"
seq 5 >>"$file"
printf X | dd of="$file" bs=1 seek=600 conv=notrunc status=none
sed -i s/1/one/ "$file"
truncate -s 100 "$file"
truncate -s +5000 "$file"
: >"$file"
END
}

restores() {
    cat <<'END'
cp "$backup" "$file"
cp -a "$backup" "$file"
cp -a --remove-destination "$backup" "$file"
cat "$backup" >"$file"
rsync -aX --ignore-times "$backup" "$file"
rsync -aX --ignore-times --inplace "$backup" "$file"
tar -C "${file%/*}" --xattrs --xattrs-include="*" -xf "$archive"
tar -C "${file%/*}" --xattrs --xattrs-include="*" --overwrite -xf "$archive"
END
}

# Checks that the file's present bytes are its content, for every reader, and after a recovery.
stays() { # WHAT
    cp "$file" "$raw"
    for reader in wrapped command; do
        "$reader" cat "$file" | cmp - "$raw" || {
            echo "$reader: not what is there: $1" >&2
            return 1
        }
    done
    run -0 atomshim recover "$file"
    cmp "$file" "$raw"
    atomshim run --plain --path "$MANAGED/" -- true
    cmp "$file" "$raw"
    wrapped sh -c 'echo one more >>"$file"'
    (cat "$raw" && echo one more) | cmp - "$file"
    run -0 atomshim verify "$file"
}

@test "I7 between commits: what another program writes or restores stays, and the next commit takes it" {
    while read -r line; do
        for count in 500 30000; do # the record of the second lies in a journal
            rm -f "$file"
            numbers 1 $count >"$file"
            commit 100001 $count
            back_up
            commit 200001 $((count - 20))
            sh -c "$line"
            stays "$line, $count lines"
        done
    done < <(writes && restores)
}

@test "I7 after a commit that died: a backup that is restored, with its attributes or without, stays" {
    while read -r line; do
        for count in 500 30000; do
            for call in pwritev fdatasync; do
                rm -f "$file"
                numbers 1 $count >"$file"
                commit 100001 $count
                back_up
                die_at $call $((count - 20))
                sh -c "$line"
                cmp "$file" "$backup"
                stays "$line, $count lines, $call"
            done
        done
    done < <(restores)
}

@test "I2 I7 the attributes of a backup alone, restored by setfattr, change no content" {
    for count in 500 30000; do
        numbers 1 $count >"$file"
        commit 100001 $count
        die_at pwritev $((count - 20))
        back_up
        commit 200001 $count
        setfattr --restore="$backup.attributes"
        # without the journal that the attribute names, nothing tells whether the bytes are whole
        [ $count = 500 ] || run -1 atomshim verify "$file"
        assert_equal "$(wrapped cat "$file")" "$(numbers 200001 $count)"
        run atomshim recover "$file"
        assert_equal "$(cat "$file")" "$(numbers 200001 $count)"
        commit 300001 $count
        stays "$count lines"
    done
}

@test "I7 repair: the bytes of a plain file whose commit lost its journal become the content; a copy is kept" {
    numbers 1 30000 >"$file"
    commit 100001 30000
    die_at pwritev 29980
    rm "$MANAGED"/.atomshim-journal-*
    run -1 atomshim verify "$file"
    before=$BATS_TEST_TMPDIR/before
    cp "$file" "$before"
    run -1 atomshim repair "$file"
    [[ $output == *"$file: plain: a commit was cut short: its $(stat -c %s "$before") bytes become the content"* ]]
    cmp "$file" "$before"
    run -0 atomshim repair --yes "$file"
    cmp "$file" "$before"
    cmp "$file.damaged" "$before"
    run -0 atomshim verify "$file"
    assert_equal "$(wrapped cat "$file" | cksum)" "$(cksum <"$before")"
}

@test "I2 a backup of a file whose commit died, restored in place with its attributes, is whole" {
    numbers 1 500 >"$file"
    commit 100001 500
    die_at pwritev 400
    back_up
    commit 200001 450
    rsync -aX --ignore-times --inplace "$backup" "$file"
    assert_equal "$(wrapped cat "$file")" "$(numbers 500001 400)"
    run -0 atomshim recover "$file"
    assert_equal "$(cat "$file")" "$(numbers 500001 400)"
}

@test "I2 a copy that a wrapped program makes of a file whose commit died is whole, and a file of its own" {
    for copy in 'cp -a' 'rsync -aX' cp; do
        for count in 500 30000; do
            rm -f "$file" "$file".copy
            numbers 1 $count >"$file"
            commit 100001 $count
            die_at pwritev $((count - 20))
            wrapped sh -c "$copy \"\$file\" \"\$file.copy\""
            assert_equal "$(cat "$file.copy")" "$(numbers 500001 $((count - 20)))" "$copy, $count lines"
            numbers 7 9 >"$file.copy"
            run -0 atomshim recover "$file.copy" "$file"
            assert_equal "$(cat "$file.copy")" "$(numbers 7 9)"
            assert_equal "$(cat "$file")" "$(numbers 500001 $((count - 20)))"
        done
    done
}

# Runs LINE while a wrapped program has the file open and has written a line; then the program
# closes it.
while_open() { # >|>> LINE
    local program
    mkfifo "$BATS_TEST_TMPDIR/ready" "$BATS_TEST_TMPDIR/go"
    wrapped sh -c 'eval "exec 3$1\"\$file\""; echo ours >&3; : >"$2/ready"; read -r _ <"$2/go"; exec 3>&-' sh \
        "$1" "$BATS_TEST_TMPDIR" 3>&- &
    program=$!
    : <"$BATS_TEST_TMPDIR/ready"
    sh -c "$2"
    cp "$file" "$raw"
    wrapped cat "$file" | cmp - "$raw"
    echo >"$BATS_TEST_TMPDIR/go"
    wait $program
    rm "$BATS_TEST_TMPDIR/ready" "$BATS_TEST_TMPDIR/go"
}

@test "I7 while it is open for appending: what another program writes or restores in place stays before our line" {
    while read -r line; do
        for count in 500 30000; do
            rm -f "$file"
            numbers 1 $count >"$file"
            commit 100001 $count
            back_up
            commit 200001 $((count - 20))
            while_open '>>' "$line"
            (cat "$raw" && echo ours) | cmp - "$file"
            stays "$line, $count lines"
        done
    done < <({ writes && restores; } | grep -vE 'sed -i|--remove|tar |rsync -aX --ignore-times "')
}

@test "I2 while it is open for a new content: what another program writes is seen until the close, and overwritten by it" {
    while read -r line; do
        rm -f "$file"
        numbers 1 500 >"$file"
        commit 100001 500
        back_up
        commit 200001 480
        while_open '>' "$line"
        assert_equal "$(cat "$file")" ours "$line"
        stays "$line"
    done < <({ writes && restores; } | grep -vE 'sed -i|--remove|tar |rsync -aX --ignore-times "')
}
