#!/usr/bin/env bats
# Files that a reader without the shim reads, the kernel, the dynamic loader or the C library, are
# plain.

load ../lib/helpers

setup() {
    helpers_setup
    cd "$BATS_TEST_TMPDIR" || return
}

is_plain() {
    [ "$(head -c 10 "$1")" != '#atomshim/' ] || { echo "$1 is in the sized format" >&2; return 1; }
}

@test "a script and a program in a managed folder are run by the kernel, with the shim and without" {
    wrapped sh -c 'printf "#!/usr/bin/perl\nprint qq(perl\\n);\n" >"$MANAGED/script" && chmod +x "$MANAGED/script"'
    is_plain "$MANAGED/script"
    assert_equal "$("$MANAGED/script")" perl 'without'
    assert_equal "$(wrapped "$MANAGED/script")" perl 'with'
    wrapped sed -i 's/qq(perl/qq(pearl/' "$MANAGED/script"
    is_plain "$MANAGED/script"
    assert_equal "$("$MANAGED/script")" pearl 'edited'
    wrapped cp /bin/true "$MANAGED/copied"
    "$MANAGED/copied"
    wrapped install -m 700 /bin/true "$MANAGED/installed"
    "$MANAGED/installed"
    # a compiler writes the program before it gives it the x bits
    printf 'int main(void) { return 0; }\n' >main.c
    wrapped cc -o "$MANAGED/compiled" main.c
    "$MANAGED/compiled"
    wrapped cc -shared -o "$MANAGED/library.so" main.c
    LD_PRELOAD=$MANAGED/library.so true 2>error
    assert_equal "$(cat error)" '' 'a library'
}

@test "a file with an x bit is plain; one that is sized becomes so, with its next commit, in the same inode" {
    : >"$MANAGED/tool"
    chmod 755 "$MANAGED/tool"
    wrapped sh -c 'echo "echo by sh" >"$MANAGED/tool"'
    is_plain "$MANAGED/tool"
    wrapped sh -c 'echo data >"$MANAGED/data"; echo more >"$MANAGED/script"'
    for name in data script; do
        run is_plain "$MANAGED/$name"
        [ "$status" -ne 0 ]
    done
    inode=$(stat -c %i "$MANAGED/data")
    chmod +x "$MANAGED/data"
    ATOMSHIM_LOG=warn wrapped sh -c 'echo more >>"$MANAGED/data"; printf "#!/bin/cat\n" >"$MANAGED/script"' 2>log
    assert_equal "$(cat "$MANAGED/data")" $'data\nmore'
    assert_equal "$(cat "$MANAGED/script")" '#!/bin/cat'
    assert_equal "$(stat -c %i "$MANAGED/data")" "$inode"
    assert_equal "$(cat log)" ''
    run -0 atomshim verify "$MANAGED/data" "$MANAGED/script"
}

@test "an x bit that a wrapped program sets makes a sized file plain at once, whether it has it open or not" {
    local number=0 set_x
    for set_x in 'os.chmod(path, 0o755)' 'os.chmod(os.path.basename(path), 0o755)' \
        'os.fchmod(os.open(path, os.O_RDONLY), 0o755)' 'os.fchmod(os.open(path, os.O_RDWR), 0o755)'; do
        number=$((number + 1))
        wrapped sh -c 'echo "echo run" >"$1"' sh "$MANAGED/tool$number"
        run is_plain "$MANAGED/tool$number"
        [ "$status" -ne 0 ]
        inode=$(stat -c %i "$MANAGED/tool$number")
        # while the file is still open, the kernel runs the old content
        assert_equal "$(cd "$MANAGED" && wrapped python3 -S -c 'import os, subprocess, sys
path = sys.argv[1]
exec(sys.argv[2])
print(open(path).read().strip(), subprocess.run(["sh", path], env={}, capture_output=True).stdout)' "$MANAGED/tool$number" "$set_x")" \
            "echo run b'run\\n'" "$set_x"
        is_plain "$MANAGED/tool$number"
        assert_equal "$(stat -c '%i %a' "$MANAGED/tool$number")" "$inode 755"
        run -0 atomshim verify "$MANAGED/tool$number"
    done
}

@test "an x bit on a sized file that cannot be made plain is one line at warn" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    helpers_let_others_in
    wrapped sh -c 'echo "echo run" >"$MANAGED/tool"'
    chmod 444 "$MANAGED/tool"
    chown 65534 "$MANAGED/tool"
    ATOMSHIM_LOG=warn wrapped setpriv --reuid=65534 --regid=65534 --clear-groups chmod 555 "$MANAGED/tool" 2>log
    assert_equal "$(stat -c %a "$MANAGED/tool") $(wc -l <log)" '555 1' "$(cat log)"
    [[ "$(cat log)" == *"$MANAGED/tool: it may be executed, but stays in the sized format"* ]]
}

@test "bytes that look like an image are never written bare, though the file may be executed" {
    wrapped sh -c 'echo inner >"$MANAGED/inner"'
    : >"$MANAGED/outer"
    chmod +x "$MANAGED/outer"
    # shellcheck disable=SC2002 # the shim must not see the file that is read
    cat "$MANAGED/inner" | wrapped sh -c 'cat >"$MANAGED/outer"'
    cmp "$MANAGED/inner" <(payload "$MANAGED/outer")
    # a file that is sized because of them stays so when it gets an x bit, by name and by descriptor
    # shellcheck disable=SC2002
    for set_x in 'os.chmod(path, 0o755)' 'os.fchmod(os.open(path, os.O_RDONLY), 0o755)'; do
        rm -f "$MANAGED/tool"
        cat "$MANAGED/inner" | wrapped sh -c 'cat >"$MANAGED/tool"'
        ATOMSHIM_LOG=warn wrapped python3 -S -c 'import os, sys
path = sys.argv[1]
exec(sys.argv[2])' "$MANAGED/tool" "$set_x" 2>log
        assert_equal "$(stat -c %a "$MANAGED/tool") $(wc -l <log)" '755 1' "$set_x: $(cat log)"
        [[ "$(cat log)" == *"$MANAGED/tool: it may be executed, but stays in the sized format, which the kernel cannot read"* ]]
        cmp "$MANAGED/inner" <(payload "$MANAGED/tool")
    done
}

@test "what the C library reads by itself is what was written" {
    unshare -m true 2>/dev/null || skip 'needs the right to mount'
    echo '10.0.0.1 app.test' >hosts
    cat >inside <<'INNER'
mount --bind hosts /etc/hosts
for i in 2 3; do
    LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS=/etc/hosts sed -i "s/.*/10.0.0.$i app.test/" /etc/hosts
done
LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS=/etc/hosts getent ahostsv4 app.test | awk '{ print $1 }' | sort -u
INNER
    assert_equal "$(unshare -m sh inside)" 10.0.0.3
    is_plain hosts
}

@test "plain= and sized= in front of a pattern say the format of its files, whatever ATOMSHIM_FORMAT says" {
    for format in plain sized; do
        rm -rf "$MANAGED" && mkdir "$MANAGED"
        LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_FORMAT=$format \
            ATOMSHIM_PATHS="$MANAGED/:plain=$MANAGED/*.txt:sized=$MANAGED/*.db" \
            sh -c 'for name in a.txt a.db a.cfg; do echo x >"$MANAGED/$name"; done'
        is_plain "$MANAGED/a.txt"
        run is_plain "$MANAGED/a.db"
        [ "$status" -ne 0 ]
        run is_plain "$MANAGED/a.cfg"
        [ "$status" = "$([ $format = plain ] && echo 0 || echo 1)" ]
    done
}
