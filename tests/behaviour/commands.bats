#!/usr/bin/env bats
# The commands that change files in place, and further output of the others: import, export, undo,
# repair, verify -r, JSON, help.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    export file
    cd "$BATS_TEST_TMPDIR" || exit
}

only() {
    assert_equal "$output" "$1"
}

two_generations() {
    wrapped sh -c 'echo one >"$file"; echo two >"$file"'
}

# Spoils a byte of the payload of the head or the twin place of $file.
spoil() { # head|twin
    local at=128
    [ "$1" = head ] || at=$((128 + $(atomshim info "$file" | sed -n 's/^twin offset: //p')))
    printf X | dd of="$file" bs=1 seek=$at conv=notrunc status=none
}

@test "I3 import and export: sized and back to plain, the same inode, links and content" {
    seq 20000 >"$file"
    ln "$file" link
    cp "$file" expected
    inode=$(stat -c %i "$file")
    run -0 atomshim import "$file"
    only "$file: now sized, generation 1, 108894 bytes"
    [[ $(head -n 1 "$file") == '#atomshim/1 '* ]]
    cmp expected <(atomshim cat link)
    run -0 atomshim import "$file"
    only "$file: sized already, generation 1, 108894 bytes"
    run -0 atomshim export link
    only 'link: now plain, 108894 bytes'
    cmp expected "$file"
    assert_equal "$(stat -c '%i %h' "$file")" "$inode 2"
    run -0 atomshim export "$file"
    only "$file: plain already, 108894 bytes"
    run -0 atomshim export -q "$file"
    only ''
}

@test "import and export with -r: all files below, not through links; without it a folder is refused" {
    mkdir -p tree/below
    echo 1 >tree/a
    echo 2 >tree/below/b
    echo 3 >outside
    ln -s ../outside tree/link
    run -2 atomshim import tree
    only 'atomshim: tree: is a folder, not a regular file (some commands take -r)'
    run -0 atomshim import -r -q tree
    only ''
    assert_equal "$(head -c 9 tree/a) $(head -c 9 tree/below/b) $(cat outside)" '#atomshim #atomshim 3'
    run -0 atomshim verify -r tree
    assert_equal "${#lines[@]}" 2
    mkdir -m 0 tree/secret
    run -2 without_override "$ROOT/build/atomshim" verify -r -q tree
    rmdir tree/secret
    only 'atomshim: tree/secret: Permission denied'
    run -0 atomshim export -r tree
    assert_equal "$(cat tree/a tree/below/b)" $'1\n2'
}

@test "import refuses what programs without the shim have to read" {
    printf '#!/bin/sh\n' >"$MANAGED/tool"
    chmod +x "$MANAGED/tool"
    run -1 atomshim import "$MANAGED/tool"
    only "atomshim: $MANAGED/tool: stays plain: the kernel may execute it"
    mkdir etc
    echo root >etc/passwd
    run -1 atomshim import etc/passwd
    only 'atomshim: etc/passwd: stays plain: the C library reads it by itself'
    assert_equal "$(cat etc/passwd)" root
}

@test "export refuses content that would be read as a sized file" {
    two_generations
    cp "$file" raw
    # shellcheck disable=SC2002 # the shim must not see the file that is read
    cat raw | wrapped sh -c 'cat >"$file"'
    run -1 atomshim export "$file"
    only "atomshim: $file: stays sized: its content looks like a file in the sized format"
    cmp raw <(atomshim cat "$file")
}

@test "import, export and undo wait for the lock, and say who has it not" {
    two_generations
    mkfifo ready go
    exec 8<>ready 9<>go # the test holds both ends open: no open waits
    python3 -c "
import fcntl, os, struct, sys
f = open(sys.argv[1], 'r+b')
fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
os.write(8, b'x\n')
os.read(9, 2)" "$file" &
    read -r _ <&8
    for command in export undo 'cat --previous'; do
        # shellcheck disable=SC2086 # two words
        ATOMSHIM_LOCK_TIMEOUT=0 run atomshim $command "$file"
        only "atomshim: $file: another process keeps it locked"
        [ "$status" -ne 0 ]
    done
    echo x >&9
    wait $!
    run -0 atomshim undo "$file"
}

@test "I2 cat --previous and undo: the content before, and back" {
    two_generations
    assert_equal "$(atomshim cat --previous "$file")" one
    run -0 atomshim undo "$file"
    only "$file: undone, generation 3, 4 bytes"
    assert_equal "$(payload "$file") $(atomshim cat --previous "$file")" 'one two'
    run -0 atomshim undo "$file"
    assert_equal "$(payload "$file") $(generation "$file")" 'two 4'
    wrapped sh -c 'echo three >"$file"'
    assert_equal "$(payload "$file") $(atomshim cat --previous "$file")" 'three two'
    run -0 atomshim verify "$file"
}

@test "undo and cat --previous of a file that keeps nothing say so" {
    echo plain >"$file"
    for command in undo 'cat --previous'; do
        # shellcheck disable=SC2086  # a command and its option
        run -1 atomshim $command "$file"
        only "atomshim: $file: holds no content before the present one"
    done
    wrapped sh -c 'echo one >"$file"'
    run -1 atomshim undo "$file"
    only "atomshim: $file: holds no content before the present one"
    assert_equal "$(payload "$file")" one
}

@test "verify says that only the content before is damaged; -q leaves out what is good" {
    two_generations
    spoil twin
    run -0 atomshim verify "$file"
    only "$file: good, sized, generation 2, 4 bytes; the content before it is damaged"
    echo plain >"$MANAGED/plain"
    run -0 atomshim verify -q "$MANAGED/plain"
    only ''
    wrapped sh -c 'echo three >"$file"'
    spoil twin # generation 3
    run -1 atomshim verify -q -r "$MANAGED"
    only "$file: damaged: the content is generation 2, the later one was edited (head: complete, twin: payload CRC wrong)"
}

@test "repair of a file whose latest image is damaged: the one before, and nothing without --yes" {
    two_generations
    spoil head
    cp "$file" before
    run -1 atomshim cat "$file"
    assert_equal "$output" "one
atomshim: $file: the latest content is damaged; this is the one before it"
    run -1 atomshim repair "$file"
    assert_equal "${lines[0]}" "$file: generation 1 is complete (twin): its 4 bytes become the content"
    assert_equal "${lines[1]}" "$file: nothing was changed: --yes repairs it"
    cmp before "$file"
    run -0 atomshim repair --yes "$file"
    assert_equal "${lines[2]}" "$file: repaired"
    cmp before "$file.damaged"
    run -0 atomshim verify "$file"
    assert_equal "$(payload "$file")" one
    run -0 atomshim repair "$file"
    only "$file: good: nothing to repair"
    wrapped sh -c 'echo three >"$file"'
    assert_equal "$(payload "$file")" three
}

@test "repair of a file whose images are both damaged: the latest as it is; its bytes are kept" {
    two_generations
    spoil head
    spoil twin
    run -1 atomshim verify "$file"
    run -1 atomshim repair "$file"
    assert_equal "${lines[0]}" "$file: no image is complete; of generation 2 (head) 4 of 4 bytes are there, not as they \
were committed: they become the content"
    run -0 atomshim repair --yes "$file"
    assert_equal "$(payload "$file")" Xwo
    run -0 atomshim verify "$file"
    # the copy of the first repair is never overwritten
    wrapped sh -c 'echo four >"$file"'
    spoil twin
    spoil head
    cp "$file.damaged" kept
    run -1 atomshim repair --yes "$file"
    [[ $output == *'not repaired, as its bytes cannot be kept: '*'File exists'* ]]
    cmp kept "$file.damaged"
}

@test "I2 repair leaves a good file alone where a read fails once" {
    two_generations
    cp "$file" before
    for n in 1 2 3; do
        run -0 strace -qq -e trace=pread64 -e inject=pread64:error=EIO:when=$n "$ROOT/build/atomshim" repair --yes "$file"
        [[ $output == *'INJECTED'*"$file: good: nothing to repair" ]]
        cmp "$file" before
    done
}

@test "I2 repair changes nothing where the bytes before cannot be kept: no flush, no room, too long a name" {
    needs strace
    refused() { # FILE REASON
        [[ $output == *"$1: not repaired, as its bytes cannot be kept: $1.damaged: $2"* ]]
        cmp before "$1"
        [ ! -e "$1.damaged" ]
    }
    two_generations
    spoil head
    cp "$file" before
    run -1 strace -qq -e trace=fsync -e inject=fsync:error=EIO "$ROOT/build/atomshim" repair --yes "$file"
    refused "$file" 'Input/output error'
    name=$(printf '%0250d' 0)
    cp before "$name"
    run -1 atomshim repair --yes "$name"
    refused "$name" 'File name too long'
    cp before bad
    name=$(printf './%.0s' {1..2044})bad # 4,091 bytes
    run -1 atomshim repair --yes "$name"
    [[ $output == *": File name too long"* ]]
    cmp before bad
    # a disk on which three pages are left
    run -1 strace -qq -e trace=pwrite64 -e inject=pwrite64:retval=12288 "$ROOT/build/atomshim" repair --yes "$file"
    refused "$file" 'No space left on device'
}

@test "repair finds the content where the header at the start is gone" {
    # the header alone: head live; all of it and the text behind: twin live
    two_generations
    printf 'gone' | dd of="$file" bs=1 seek=30 conv=notrunc status=none
    run -1 atomshim verify "$file"
    run -0 atomshim repair --yes "$file"
    [[ ${lines[0]} == "$file: generation 1 is complete (twin): its 4 bytes become the content" ]]
    run -0 atomshim verify "$file"
    assert_equal "$(payload "$file")" one
    rm "$file" "$file.damaged"
    two_generations
    wrapped sh -c 'seq 3000 >"$file"'
    tr '\0' z </dev/zero | dd of="$file" bs=4096 count=1 conv=notrunc status=none iflag=fullblock
    run -0 atomshim repair --yes "$file"
    cmp <(seq 3000) <(atomshim cat "$file")
    rm "$file" "$file.damaged"
    two_generations
    tr '\0' '#' </dev/zero | dd of="$file" bs=32896 count=1 conv=notrunc status=none iflag=fullblock
    printf '#atomshim/1 ' | dd of="$file" conv=notrunc status=none
    run -1 atomshim repair --yes "$file"
    [[ $output == *'nothing is left that tells where its content is'* ]]
    [ ! -e "$file.damaged" ]
}

# Writes a byte over one of $file.
spoil_at() { # OFFSET
    printf X | dd of="$file" bs=1 seek="$1" conv=notrunc status=none
}

@test "repair of a byte in each header, mark and payload, alone and two at once: what it says becomes true" {
    wrapped sh -c 'for i in 1 2 3 4; do seq $i >"$file"; done'
    cp "$file" generation_4
    wrapped sh -c 'seq 5 >"$file"'
    cp "$file" generation_5
    twin=$(atomshim info "$file" | sed -n 's/^twin offset: //p')
    places=(20 60 120 128 $((twin + 20)) $((twin + 60)) $((twin + 120)) $((twin + 128)))
    for latest in 4 5; do
        for a in "${places[@]}"; do
            for b in "${places[@]}"; do
                rm -f "$file.damaged"
                cat generation_$latest >"$file"
                spoil_at "$a"
                spoil_at "$b"
                run atomshim repair --yes "$file"
                if [[ $a != "$b" && "$a $b" =~ ^(60|$((twin + 60)))\ (60|$((twin + 60)))$ ]]; then # no size is left
                    [[ $status -eq 1 && $output == *'nothing is left that tells'* ]]
                    continue
                fi
                [ "$status" -eq 0 ]
                said=${lines[0]}
                run -0 atomshim verify "$file"
                run -0 atomshim repair "$file"
                only "$file: good: nothing to repair"
                if [[ $said =~ generation\ ([0-9])\ is\ complete ]]; then
                    assert_equal "$(payload "$file")" "$(seq "${BASH_REMATCH[1]}")"
                elif [[ $said == *'nothing to repair' ]]; then
                    assert_equal "$(payload "$file")" "$(seq "$latest")"
                fi
                wrapped sh -c 'echo next >"$file"'
                assert_equal "$(payload "$file")" next
            done
        done
    done
}

@test "JSON: an object a line, whatever the name, as python3 reads it" {
    needs python3
    two_generations
    name=$'a "name" \\ with\ttabs, \xff and \xc3\xa9'
    cp "$file" "$name"
    for command in info verify; do
        run -0 atomshim $command --json "$name"
        python3 -m json.tool <<<"$output" >parsed
        run -0 python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["file"] == sys.argv[1], d["generation"], d["size"], d["format"])' \
            $'a "name" \\ with\ttabs, \xef\xbf\xbd and \xc3\xa9' <<<"$output"
        only 'True 2 4 sized'
    done
    spoil head
    run -1 atomshim verify --json "$file" "$name"
    assert_equal "${#lines[@]}" 2
    assert_equal "$(python3 -c 'import json, sys; print(*[json.loads(line)["good"] for line in sys.stdin])' <<<"$output")" 'False True'
    # no UTF-8: a sequence cut short, a surrogate, too long a form, beyond the last character
    name=$'\xe2\x82 \xed\xa0\x80 \xe0\x80\x80 \xf0\x80\x80\x80 \xf4\x90\x80\x80'
    cp "$file" "$name"
    assert_equal "$(atomshim info --json "$name" | python3 -c 'import json, sys; print(json.loads(sys.stdin.buffer.read().decode())["file"].count("\ufffd"))')" 16
    echo plain >plain
    spoil_at 20
    for name in plain "$file"; do
        atomshim info --json "$name" || :
    done | python3 -c 'import json, sys; print([[key in d for key in ("bytes", "head_size", "twin_size")] for d in map(json.loads, sys.stdin)])' >keys
    assert_equal "$(cat keys)" '[[True, False, False], [False, False, False]]'
    run -2 atomshim info --json missing
    only 'atomshim: missing: No such file or directory'
}


@test "help and version are commands, too" {
    run -0 atomshim version
    only "$(atomshim --version)"
    run -0 atomshim help
    only "$(atomshim --help)"
    run -0 atomshim help undo
    only "$(atomshim undo --help)"
    run -2 atomshim help nothing
    [[ $output == "atomshim: unknown command 'nothing': accepted are run, cat, "*', help and version' ]]
}

@test "doctor --json is an object per finding; colours are for terminals, and NO_COLOR" {
    needs python3 script
    run -0 atomshim doctor --json -p "$MANAGED/"
    python3 -c 'import json, sys; kinds = {json.loads(line)["finding"] for line in sys.stdin}; assert kinds <= {"ok", "note", "warning", "problem"}, kinds' \
        <<<"$output"
    mkdir tree
    touch tree/f
    chmod 000 tree/f
    ATOMSHIM_RESCUE_DIR=/none run -1 atomshim doctor -p "$MANAGED/"
    [[ $output != *$'\e['* && $output == *'problem  ATOMSHIM_RESCUE_DIR'* ]]
    command="env ATOMSHIM_RESCUE_DIR=/none '$ROOT/build/atomshim' doctor -p '$MANAGED/'"
    export TERM=xterm
    NO_COLOR='' run -1 script -qec "$command" /dev/null
    [[ $output == *$'\e[31mproblem'* ]]
    NO_COLOR=1 run -1 script -qec "$command" /dev/null
    [[ $output != *$'\e['* ]]
}

# Runs atomshim with these arguments on a terminal; its errors go there, its output to a file.
on_terminal() { # ARGUMENT...
    run script -qec "'$ROOT/build/atomshim' $* >'$BATS_TEST_TMPDIR/out'" /dev/null
    [ "$status" -eq 0 ]
}

@test "long work shows its progress on a terminal, without colours, and nothing in a pipe" {
    needs script
    export TERM=xterm
    mkdir tree
    wrapped sh -c 'seq 9 >"$file"'
    count=0
    output=''
    while [[ $output != *' files'* ]]; do # as many as this machine needs time for
        [ "$count" -lt 60000 ]
        python3 -c 'import os, sys
for i in range(int(sys.argv[2]), int(sys.argv[2]) + 5000): os.link(sys.argv[1], "tree/%d" % i)' "$file" $count ||
            skip 'this file system does not make so many links'
        count=$((count + 5000))
        on_terminal verify -r -q tree
    done
    [[ $output =~ ^($'\r\e[K'|[0-9]+' files')+$ ]] # no colour, nothing else; NO_COLOR has nothing to do
    [[ $output == *$'\r\e[K' ]]                    # the terminal keeps nothing of it
    mkdir plain
    for i in $(seq 20); do echo "$i" >"plain/$i"; done
    for command in verify import export; do
        run -0 atomshim "$command" -r -q "$([ $command = verify ] && echo tree || echo plain)"
        only ''
    done
    export TERM=dumb
    on_terminal verify -r -q tree
    only ''
}

@test "a file that the kernel makes as it is read is refused, an empty name is named" {
    for command in cat info verify import export undo repair recover; do
        run -2 atomshim $command /proc/self/comm
        only 'atomshim: /proc/self/comm: is made by the kernel as it is read, not a file on a disk'
        run -2 atomshim $command ''
        [[ $output == "atomshim: "*"'': No such file or directory" ]]
    done
}

# Starts `atomshim watch` with these arguments; its lines come from descriptor 7, and it runs
# already.
start_watch() {
    mkfifo out err
    exec 7<>out 6<>err
    # not the function: it would be a shell that is killed, and not the command
    "$ROOT/build/atomshim" watch "$@" >&7 2>&6 7>&- 6>&- 3>&- &
    watch=$!
    read -r -t 60 line <&6
    [[ $line == 'atomshim: watching '* ]]
}

next_line() {
    read -r -t 60 line <&7
}

teardown() {
    [ -z "${watch:-}" ] || { kill "$watch" && wait "$watch"; } 2>/dev/null || true
}

@test "watch: a line for each commit, of files there and of files made later, through any name" {
    two_generations
    mkdir "$MANAGED/folder"
    ln "$file" link
    start_watch "$MANAGED/"
    assert_equal "$line" 'atomshim: watching 1 files'
    wrapped sh -c 'echo three >"$file"'
    next_line
    assert_equal "$line" "$file: sized, generation 3, 6 bytes"
    # no commit: read, and the time
    atomshim cat "$file"
    touch "$file"
    run -0 atomshim undo link
    next_line
    assert_equal "$line" "$file: sized, generation 4, 4 bytes"
    wrapped sh -c 'mkdir "$MANAGED/folder/new"; echo x >"$MANAGED/folder/new/a"'
    next_line
    [[ $line == "$MANAGED/folder/new/a: "* ]]
    ATOMSHIM_FORMAT=plain wrapped sh -c 'echo plain >"$MANAGED/folder/plain"'
    until [[ $line == "$MANAGED/folder/plain: plain, "*', 6 bytes' ]]; do next_line; done
}

@test "watch --exec runs the command with the file and its generation; --json" {
    needs python3
    two_generations
    mkfifo told
    exec 5<>told
    start_watch --json --exec 'echo "$1 $2" >told' "$file"
    wrapped sh -c 'echo three >"$file"'
    read -r -t 60 line <&5
    assert_equal "$line" "$file 3"
    next_line
    run -0 python3 -c 'import json, sys; d = json.loads(sys.argv[1]); print(d["file"], d["format"], d["generation"], d["size"])' "$line"
    only "$file sized 3 6"
}

@test "watch --exec: a command that cannot be started is a line; the next commit is seen" {
    needs strace
    two_generations
    mkfifo lines
    # -D: the command, not strace, is the child that teardown() kills
    strace -D -qq -o /dev/null -e trace=/^clone -e inject=/^clone:error=EAGAIN "$ROOT/build/atomshim" watch --exec true "$file" \
        >/dev/null 2>lines 3>&- &
    watch=$!
    exec 6<lines
    read -r -t 60 line <&6
    for word in three four; do
        echo "$word" | wrapped tee "$file" >/dev/null
        read -r -t 60 line <&6
        assert_equal "$line" 'atomshim: watch: Resource temporarily unavailable' "$word"
    done
}

# The kernel drops events behind the first max_queued_events; the watch is stopped until then.
@test "watch: commits and new files are reported though the kernel lost their events" {
    needs python3
    local most
    most=$(cat /proc/sys/fs/inotify/max_queued_events)
    [ "$most" -le 65536 ] || skip "inotify queues $most events"
    two_generations
    echo outside >"$MANAGED/one"
    echo outside >"$MANAGED/two"
    mkfifo told
    exec 5<>told
    start_watch '--exec=echo "$1 $2" >told' "$MANAGED/"
    kill -STOP "$watch"
    python3 -c 'import os, sys # two equal events in a row are one
one, two = (os.open(name, os.O_RDWR) for name in sys.argv[2:])
for _ in range(int(sys.argv[1])): os.pwrite(one, b"o", 0), os.pwrite(two, b"o", 0)' "$most" "$MANAGED/one" "$MANAGED/two"
    wrapped sh -c 'echo three >"$file"; echo new >"$MANAGED/new"'
    kill -CONT "$watch"
    read -r -t 60 line <&5
    assert_equal "$line" "$file 3"
    read -r -t 60 line <&5
    assert_equal "$line" "$MANAGED/new 1"
}

@test "watch: a file that was removed and made anew is watched" {
    two_generations
    start_watch "$MANAGED/"
    rm "$file"
    two_generations
    until [[ $line == "$file: sized, generation 2, 4 bytes" ]]; do next_line; done
    wrapped sh -c 'echo three >"$file"'
    next_line
    assert_equal "$line" "$file: sized, generation 3, 6 bytes"
}

@test "watch: a file that no pattern names is no line, nor is one that is gone when watch comes to it" {
    two_generations
    start_watch "$MANAGED/*.cfg"
    kill -STOP "$watch"
    echo >"$MANAGED/other"
    echo >"$MANAGED/gone.cfg"
    rm "$MANAGED/gone.cfg"
    echo >"$MANAGED/new.cfg"
    kill -CONT "$watch"
    next_line
    assert_equal "$line" "$MANAGED/new.cfg: plain, generation 0, 1 bytes"
}

@test "watch: bad input is one line" {
    run -2 atomshim watch
    only 'atomshim: watch: no PATTERN given'
    for pattern in '' : '!/data/x'; do
        run -2 atomshim watch "$pattern"
        only 'atomshim: watch: no PATTERN given'
    done
    run -2 atomshim watch --bogus
    only "atomshim: watch: unknown option '--bogus': accepted are --exec COMMAND, --json and --help"
    run -1 atomshim watch '*.cfg'
    only "atomshim: watch: *.cfg: matches by name in every folder: give a folder, '/data/**/NAME'"
    run -1 atomshim watch /none/below/f
    only 'atomshim: watch: /none/below: there is no such folder'
    run -2 atomshim watch data/x
    only "atomshim: watch: --path 'data/x': a pattern with a '/' starts with '/' or with '**'"
    chmod 0 "$MANAGED"
    run -1 without_override timeout 10 "$ROOT/build/atomshim" watch "$MANAGED/"
    chmod 755 "$MANAGED"
    only "atomshim: watch: $MANAGED: Permission denied"
    mkdir folder
    for pattern in "$PWD/folder" "$PWD/missing/"; do # the file may still appear, but the pattern may be a mistake
        mkfifo errors
        "$ROOT/build/atomshim" watch "$pattern" 2>errors 3>&- &
        watch=$!
        read -r -t 60 line <errors
        kill "$watch"
        wait "$watch" || :
        [[ $line == "atomshim: warning: $PWD/"*': '?(is a folder: write *'/folder/'*|matches nothing*) ]]
        rm errors
    done
    watch=
}

@test "watch: an error of its own is a line; it ends, or sees the next commit" {
    needs strace prlimit
    two_generations
    failing() { # CALL ERROR
        run -1 strace -qq -o /dev/null -e trace="$1" -e inject="$1:error=$2" "$ROOT/build/atomshim" watch "$MANAGED/"
    }
    failing inotify_init1 EMFILE
    only 'atomshim: watch: inotify_init1: Too many open files'
    failing getdents64 EIO
    only "atomshim: watch: $MANAGED: Input/output error"
    failing read EIO
    assert_equal "${lines[-1]}" 'atomshim: watch: Input/output error'
    start_watch "$MANAGED/"
    prlimit --pid "$watch" --nofile=3:
    wrapped sh -c 'echo three >"$file"'
    read -r -t 60 line <&6
    assert_equal "$line" "atomshim: watch: $file: Too many open files"
    prlimit --pid "$watch" --nofile=64:
    wrapped sh -c 'echo four >"$file"'
    next_line
    assert_equal "$line" "$file: sized, generation 4, 5 bytes"
    teardown
    rm out err
    mkfifo full
    "$ROOT/build/atomshim" watch "$file" >/dev/full 2>full 3>&- 6>&- 7>&- &
    watch=$!
    exec 6<full
    read -r -t 60 line <&6
    wrapped sh -c 'echo five >"$file"'
    read -r -t 60 line <&6
    assert_equal "$line" 'atomshim: cannot write to standard output: No space left on device'
    status=0
    wait "$watch" || status=$?
    assert_equal "$status" 1
    watch=
}
