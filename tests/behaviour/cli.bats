#!/usr/bin/env bats
# The command: run, cat, info, verify.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    export file
    cd "$BATS_TEST_TMPDIR" || exit
}

managed_run() {
    atomshim run --path "$MANAGED/" "$@"
}

# The only line of output is this one.
only() {
    assert_equal "$output" "$1"
}

# ---- run ----

@test "run: the main job" {
    managed_run -- sh -c 'echo content >"$file"'
    assert_equal "$(generation "$file")" 1
    assert_equal "$(payload "$file")" content
}

@test "run: each option sets its variable, --path may be repeated" {
    run -0 atomshim run --path /a/ --path='*.b' --plain --no-sync --isolation session --lock-timeout 2.5 \
        --rescue-dir /tmp --log debug --log-file "$PWD/log" env
    for line in 'ATOMSHIM_PATHS=/a/:*.b' ATOMSHIM_FORMAT=plain ATOMSHIM_SYNC=0 ATOMSHIM_ISOLATION=session \
        ATOMSHIM_LOCK_TIMEOUT=2.5 ATOMSHIM_RESCUE_DIR=/tmp ATOMSHIM_LOG=debug "ATOMSHIM_LOG_FILE=$PWD/log" \
        "LD_PRELOAD=$ROOT/build/libatomshim.so"; do
        grep -qxF -- "$line" <<<"$output" || { echo "no $line" >&2; return 1; }
    done
}

@test "run: paths from the environment; --path replaces them" {
    ATOMSHIM_PATHS=/x/ run -0 --separate-stderr atomshim run printenv ATOMSHIM_PATHS
    only /x/
    ATOMSHIM_PATHS=/x/ run -0 --separate-stderr atomshim run --path /y/ printenv ATOMSHIM_PATHS
    only /y/
}

@test "run: an existing LD_PRELOAD stays, in front; another libatomshim.so gives way" {
    cp "$ROOT/build/libatomshim.so" .
    libc=$(ldd "$(command -v bash)" | awk '/libc\.so/ { print $3 }')
    LD_PRELOAD="$libc:$PWD/libatomshim.so" run -0 managed_run printenv LD_PRELOAD
    only "$libc:$ROOT/build/libatomshim.so"
}

@test "run: no process stays behind; status and death by signal are the program's" {
    run -0 bash -c '"$1" run --path "$2" -- sh -c "echo \$\$" & echo $!; wait' - "$ROOT/build/atomshim" "$MANAGED/"
    assert_equal "${lines[0]}" "${lines[1]}"
    run -7 managed_run sh -c 'exit 7'
    run -143 managed_run sh -c 'kill $$'
}

@test "run: arguments and options of the program are its own" {
    run -0 managed_run -- echo --path -x
    only '--path -x'
    run -0 managed_run echo --plain
    only '--plain'
}

@test "run: bad input is one line that names it and what is accepted; nothing runs" {
    check() { # MESSAGE ARGUMENT...
        local message=$1
        shift
        run -2 atomshim run "$@" touch ran
        only "atomshim: $message"
        [ ! -e ran ]
    }
    check "run: --path 'data/x': a pattern with a '/' starts with '/' or with '**'" --path data/x
    check 'ATOMSHIM_ISOLATION=x: accepted are "commit" and "session"' --path /x --isolation x
    check 'ATOMSHIM_LOCK_TIMEOUT=soon: accepted are seconds from 0 to 86400, such as 30 or 0.5' --path /x --lock-timeout soon
    check 'ATOMSHIM_LOG=x: accepted are error, warn, info and debug' --path /x --log x
    check 'ATOMSHIM_RESCUE_DIR=x: accepted is the absolute path of a folder' --path /x --rescue-dir x
    check 'ATOMSHIM_LOG_FILE=x: accepted is the absolute path of a file' --path /x --log-file x
    check 'run: no files to manage: give --path PATTERN or set ATOMSHIM_PATHS'
    check 'run: no files to manage: give --path PATTERN or set ATOMSHIM_PATHS' --path '!/x'
    check 'run: --plain takes no value' --plain=yes
    run -2 atomshim run --path /x --bogus touch ran
    [[ $output == "atomshim: run: unknown option '--bogus': accepted are --path, "* ]]
    run -2 atomshim run --path
    only 'atomshim: run: --path needs a value'
    run -2 atomshim run --path /x
    only 'atomshim: run: no PROGRAM given'
    ATOMSHIM_FROMAT=plain run -2 managed_run touch ran
    [[ $output == 'atomshim: ATOMSHIM_FROMAT: unknown variable: accepted are '* ]]
    [ ! -e ran ]
}

@test "run: a pattern through symbolic links names the files that they lead to, and takes them out" {
    local real link pattern expected
    real="$(realpath "$BATS_TEST_TMPDIR")/real: [x]"
    link=${real%/real*}/link
    mkdir -p "$real/sub"
    ln -s "$real" "$link"
    ln -s "$real/sub/f" "$real/symbolic"
    writes() { # EXPECTED FILE PATTERN...
        expected=$1 pattern=("${@:3}")
        rm -f "$real/sub/f"
        echo old >"$real/sub/f"
        run -0 --separate-stderr atomshim run "${pattern[@]/#/--path=}" -- sh -c 'echo new >"$1"' - "$2"
        assert_equal "$stderr$(atomshim info "$real/sub/f" | sed -n 's/^format: //p')" "$expected" "${pattern[*]}"
        assert_equal "$(payload "$real/sub/f")" new
    }
    writes sized "$real/sub/f" "$link/"
    writes sized "$real/sub/f" "$link/sub/*"
    writes sized "$link/sub/f" "$link/sub/f"
    writes sized "$real/sub/f" "$link/./sub/../sub/f"
    writes sized "$real/symbolic" "$link/symbolic" # a link to the file itself
    writes sized "$link/sub/f" "sized=$link/**" "!$link/x"
    writes plain "$real/sub/f" f "!$link/sub/"
    mkdir "$real/other"
    writes plain "$real/sub/f" "$link/other/" "$link/sub/ff"
}

@test "run: a program that cannot load the shim is refused with the reason; --force runs it" {
    run -126 managed_run "$ROOT/build/atomshim" --version
    only "atomshim: $ROOT/build/atomshim: the shim would not load: it is statically linked (--force runs it anyway)"
    run -0 --separate-stderr managed_run --force "$ROOT/build/atomshim" --version
    [[ $output == 'atomshim '* ]]
    [[ $stderr == *'warning: '*'statically linked' ]]
    # a 32-bit program
    printf '\177ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\3\0\1\0\0\0' >elf32
    truncate -s 100 elf32
    chmod +x elf32
    run -126 managed_run ./elf32
    [[ $output == *'it is a 32-bit program, the shim is not'* ]]
    # scripts, by what runs them
    printf '#!%s/build/atomshim\n' "$ROOT" >script
    chmod +x script
    run -126 managed_run ./script
    [[ $output == *"its interpreter $ROOT/build/atomshim is statically linked"* ]]
    printf '#!/usr/bin/env -S A=b sh\necho script\n' >script
    run -0 managed_run ./script
    only script
    printf '#!/no/such/interpreter\n' >script
    run -126 managed_run ./script
    [[ $output == *'its interpreter /no/such/interpreter: No such file or directory'* ]]
    # the kernel follows five scripts, and a sixth not
    echo 'echo end' >script
    for i in 1 2 3 4 5 6; do
        printf '#!%s\n' "$PWD/script${last:-}" >"script$i"
        chmod +x "script$i"
        last=$i
    done
    run -126 managed_run ./script6
    only "atomshim: ./script6: the shim would not load: its #! line leads to more than 5 scripts (--force runs it anyway)"
    for line in '#! ' "#!/$(printf '%0300d' 0)"; do
        echo "$line" >script
        run -126 managed_run ./script
        [[ $output == "atomshim: ./script: the shim would not load: its #! line "@(names no interpreter|is too long for the kernel)' (--force runs it anyway)' ]]
    done
    printf 'a\0b' >script
    run -126 managed_run ./script
    [[ $output == *'it is neither an ELF file nor a script'* ]]
}

@test "run: a program that may be executed and not read is refused" {
    cp /bin/true program
    chmod 111 program
    run -126 without_override "$ROOT/build/atomshim" run --path /x ./program
    only 'atomshim: ./program: the shim would not load: it cannot be read to tell: Permission denied (--force runs it anyway)'
}

# refused REASON STATUS: `run` refuses ./program with this reason; with --force it starts the
# program all the same, which ends with STATUS.
refused() {
    cp "$ROOT/build/atomshim" "$ROOT/build/libatomshim.so" .
    run -126 "${as_user[@]}" ./atomshim run --path /x ./program
    only "atomshim: ./program: the shim would not load: $1 (--force runs it anyway)"
    run -"$2" "${as_user[@]}" ./atomshim run --path /x --force ./program
    assert_equal "${lines[0]}" "atomshim: warning: ./program: the shim may not load: $1"
}

secure='it is set-user-id, set-group-id or has file capabilities, so its loader ignores LD_PRELOAD'

@test "run: a set-user-id or set-group-id program is refused" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    cp /bin/true program
    chown 12345:12345 program
    for mode in 4755 2755; do
        chmod $mode program
        refused "$secure" 0
    done
    chmod 755 program
    run -0 managed_run ./program
}

@test "run: a program with file capabilities is refused to a user; to root they give nothing" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    PATH=$PATH:/usr/sbin:/sbin
    cp /bin/true program
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_TEST_TMPDIR"
    as_user=(setpriv --reuid 65534 --clear-groups)
    setcap cap_net_raw+ep program || skip 'no file capabilities here'
    run -0 managed_run ./program
    refused "$secure" 0
    setcap -r program
    run -0 "${as_user[@]}" ./atomshim run --path /x ./program
}

@test "run: a program for another machine is refused" {
    cp /bin/true program
    printf '\363\0' | dd of=program bs=1 seek=18 conv=notrunc status=none # e_machine: RISC-V
    machine=$(od -An -tu2 -j18 -N2 "$ROOT/build/libatomshim.so" | tr -d ' ')
    run -126 managed_run ./program
    only "atomshim: ./program: the shim would not load: it is for another machine (ELF machine 243, the shim is for \
$machine) (--force runs it anyway)"
}

@test "run: a program whose loader does not exist is refused" {
    cp /bin/true program
    at=$(LC_ALL=C grep -abo '/ld-linux[^/]*\.so' program | head -n 1 | cut -d: -f1)
    printf /no-linux | dd of=program bs=1 seek="$at" conv=notrunc status=none
    loader=$(LC_ALL=C grep -ao '/[a-z0-9/]*/no-linux[-a-z0-9_]*\.so\.[0-9]*' program)
    refused "it needs the loader $loader: No such file or directory" 127
}

@test "run: not found, not executable, a directory" {
    run -127 managed_run no-such-program
    only 'atomshim: no-such-program: not found'
    run -127 managed_run ./no-such-program
    echo 'echo hello' >text
    run -126 managed_run ./text
    only 'atomshim: ./text: Permission denied'
    run -126 managed_run "$PWD"
}

@test "run: finds the shim beside itself or says where it looked" {
    mkdir alone
    cp "$ROOT/build/atomshim" alone/
    cp "$ROOT/build/libatomshim.so" alone/
    run -0 alone/atomshim run --path /x printenv LD_PRELOAD
    only "$PWD/alone/libatomshim.so"
    rm alone/libatomshim.so
    if [ ! -e /usr/local/lib/libatomshim.so ]; then
        run -126 alone/atomshim run --path /x true
        only "atomshim: cannot find libatomshim.so, neither in $PWD/alone, its ../lib, nor in /usr/local/lib"
    fi
    if unshare -m true 2>/dev/null; then
        # shellcheck disable=SC2016
        run -0 unshare -m sh -c 'mount -t tmpfs none /usr/local/lib && cp "$ROOT/build/libatomshim.so" /usr/local/lib/ &&
            exec alone/atomshim run --path /x printenv LD_PRELOAD'
        only /usr/local/lib/libatomshim.so
    fi
    echo no library >alone/libatomshim.so
    run -126 alone/atomshim run --path /x true
    only "atomshim: $PWD/alone/libatomshim.so: cannot be loaded: it is no shared object"
    for folder in 'a b' a:b 'a$ORIGIN'; do
        mkdir "$folder"
        cp "$ROOT/build/atomshim" "$ROOT/build/libatomshim.so" "$folder/"
        run -126 "$folder/atomshim" run --path /x true
        only "atomshim: $PWD/$folder/libatomshim.so: LD_PRELOAD cannot carry a path with ':', '$' or white space: install it elsewhere"
    done
}

@test "run: ATOMSHIM_DISABLE=1 runs anything, unmanaged" {
    ATOMSHIM_DISABLE=1 run -0 managed_run "$ROOT/build/atomshim" --version
    ATOMSHIM_DISABLE=1 managed_run sh -c 'echo plain >"$file"'
    assert_equal "$(cat "$file")" plain
}

@test "make install: the .so by rename, both where they belong" {
    mkdir -p root/usr/local/lib
    echo old >root/usr/local/lib/libatomshim.so
    before=$(inode root/usr/local/lib/libatomshim.so)
    make --no-print-directory -C "$ROOT" install DESTDIR="$PWD/root" >/dev/null
    [ "$(inode root/usr/local/lib/libatomshim.so)" != "$before" ]
    assert_equal "$(ls root/usr/local/bin root/usr/local/lib)" 'root/usr/local/bin:
atomshim

root/usr/local/lib:
libatomshim.so'
    # the command that was installed uses the library that was installed with it
    echo old >"$file"
    run -0 root/usr/local/bin/atomshim run --path "$MANAGED/" sh -c 'echo new >"$file"; printenv LD_PRELOAD'
    assert_equal "$(realpath "$output")" "$PWD/root/usr/local/lib/libatomshim.so"
    assert_equal "$(payload "$file")" new
    assert_equal "$(generation "$file")" 1
}

# ---- cat, info, verify ----

@test "cat, info, verify: a sized file" {
    wrapped sh -c 'printf 12345 >"$file"; printf content >"$file"'
    run -0 atomshim cat "$file"
    only content
    run -0 atomshim verify "$file"
    only "$file: good, sized, generation 2, 7 bytes"
    run -0 atomshim info "$file"
    for line in 'format: sized' 'live place: head' 'generation: 2' 'payload size: 7' "file size: $(stat -c %s "$file")" \
        'generation twin: 1' 'size twin: 5' 'size head: 7' 'flushed head: yes'; do
        grep -qxF -- "$line" <<<"$output" || { echo "no $line" >&2; return 1; }
    done
    grep -qE '^crc head: [0-9a-f]{8} good$' <<<"$output"
    grep -qE '^crc twin: [0-9a-f]{8} good$' <<<"$output"
}

@test "cat, info, verify: plain and empty files, several at once" {
    printf plain >"$file"
    : >empty
    run -0 atomshim cat "$file"
    only plain
    run -0 atomshim cat empty
    only ''
    run -0 atomshim verify "$file" empty
    only "$file: good, plain, 5 bytes
empty: good, plain, 0 bytes"
    run -0 atomshim info "$file"
    [[ $output == *'format: plain'* ]]
    ATOMSHIM_SYNC=bogus run -0 atomshim cat "$file" # which writes nothing
    only plain
}

@test "cat, info, verify: a damaged file" {
    helpers_damage "$file"
    run -1 atomshim verify "$file"
    only "$file: damaged: no complete image (head: payload CRC wrong, twin: payload CRC wrong)"
    run -1 --separate-stderr atomshim cat "$file"
    only ''
    [[ $stderr == "atomshim: $file: damaged: "* ]]
    run -1 atomshim info "$file"
    [[ $output == *'crc head: '*' bad'* ]]
    twin=$(atomshim info "$file" | sed -n 's/^twin offset: //p')
    cp "$file" cut
    truncate -s "$((twin + 130))" cut
    run -1 atomshim verify cut
    only "cut: damaged: no complete image (head: payload CRC wrong, twin: image cut off by the end of the file)"
    dd if=cut of="$file" bs=1 count=128 seek="$twin" conv=notrunc status=none
    run -1 atomshim verify "$file"
    only "$file: damaged: no complete image (head: payload CRC wrong, twin: header of another place)"
    printf X | dd of="$file" bs=1 seek=20 conv=notrunc status=none
    run -1 atomshim info "$file"
    [[ $output == *$'\nheader head: bad' ]]
}

@test "cat, info, verify: what cannot be read" {
    mkfifo fifo
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    for command in cat info verify; do
        run -2 atomshim "$command" socket
        only 'atomshim: socket: is a socket, not a regular file'
        run -2 atomshim "$command" none
        only 'atomshim: none: No such file or directory'
        run -2 atomshim "$command" .
        only 'atomshim: .: is a folder, not a regular file (some commands take -r)'
        run -2 timeout 10 "$ROOT/build/atomshim" "$command" fifo
        only 'atomshim: fifo: is a FIFO, not a regular file'
        run -2 atomshim "$command" /dev/null
        only 'atomshim: /dev/null: is a device, not a regular file'
        run -2 atomshim "$command" $'two\nlines\033[m'
        only 'atomshim: two?lines?[m: No such file or directory'
        run -2 atomshim "$command"
        only "atomshim: $command: no FILE given"
        run -2 atomshim "$command" --bogus
        [[ $output == "atomshim: $command: unknown option '--bogus': accepted are FILE names, "*' and --help' ]]
    done
}

@test "output that cannot be written is an error" {
    echo content >"$file"
    for command in cat verify info --version; do
        # shellcheck disable=SC2016
        run -1 bash -c '"$@" >/dev/full' - "$ROOT/build/atomshim" $command "$file"
        only 'atomshim: cannot write to standard output: No space left on device'
    done
}

@test "each read of a file fails: a line and an error status, or the same output" {
    needs strace
    local call=0 good
    # a first commit has begun: the image is at the end of the file
    run strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:signal=KILL:when=2 \
        env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" sh -c 'seq 20000 >"$file"'
    good=$(atomshim info "$file")
    while :; do
        call=$((call + 1))
        run strace -qq -o trace -P "$file" -e trace=pread64 -e inject=pread64:error=EIO:when=$call "$ROOT/build/atomshim" info "$file"
        grep -q INJECTED trace || break
        echo "$call: $status $output"
        [ "$status $output" = "0 $good" ] || [ "$status $output" = "2 atomshim: $file: Input/output error" ]
    done
    [ "$call" -gt 4 ]
    run strace -qq -o trace -P "$PWD/out" -e trace=close -e inject=close:error=EIO sh -c 'exec "$0" cat "$1" >out' "$ROOT/build/atomshim" "$file"
    assert_equal "$status $output" '1 atomshim: cannot write to standard output: Input/output error'
}

@test "cat takes one file; behind -- an argument is a name, whatever it begins with" {
    echo content >-r
    for command in cat 'verify -q' 'info --json'; do
        # shellcheck disable=SC2086
        run -0 atomshim $command -- -r
    done
    run -2 atomshim cat -- -r "$file"
    only "atomshim: cat: one FILE at a time, not '$file' too"
}

@test "--help for each, --version, no command" {
    for command in '' run cat info verify recover import export undo repair doctor inject; do
        # shellcheck disable=SC2086 # an empty command is no argument
        run -0 atomshim $command --help
        [[ $output == "usage: atomshim ${command:-run}"* ]]
        [[ $output == *'example: '* ]]
    done
    run -0 atomshim --version
    [[ $output =~ ^atomshim\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    run -0 atomshim version --help
    only 'usage: atomshim version'
    run -2 atomshim
    run -2 atomshim bogus
    only "atomshim: unknown command 'bogus': accepted are run, cat, info, verify, recover, import, export, undo, repair, watch, doctor, inject, help and version"
}
