#!/usr/bin/env bats
# Requirement: the shim lets no user do anything that the user could not do without it.

load ../lib/helpers

setup() {
    helpers_setup
    helpers_let_others_in
    cd "$BATS_TEST_TMPDIR" || return
}

# Runs `script` with an /etc of its own, in which /etc/ld.so.preload names the shim for every
# program.
with_shim_everywhere() { # SCRIPT
    [ "$(id -u)" = 0 ] || skip 'needs root'
    unshare -m true 2>/dev/null || skip 'needs a mount namespace of its own'
    cp "$ROOT/build/libatomshim.so" "$ROOT/build/atomshim" "$PROGRAMS/elevated" .
    chmod 755 libatomshim.so atomshim
    chmod 4755 elevated
    export HERE=$PWD
    cat >prepare <<'X'
mount --make-rprivate / && mkdir layer && mount -t tmpfs none layer && mkdir layer/upper layer/work &&
    mount -t overlay overlay -o lowerdir=/etc,upperdir=layer/upper,workdir=layer/work /etc || exit 77
mkdir -m 755 /etc/managed
echo old >/etc/managed/f
echo root >/etc/target
chmod 600 /etc/target
echo "$HERE/libatomshim.so" >/etc/ld.so.preload
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups env "$@"; }
X
    { cat prepare && printf '%s\n' "$1"; } >script
    run unshare -m bash script
    [ "$status" != 77 ] || skip 'cannot mount an overlay here'
}

@test "a set-user-id program obeys no variable of its user's, nor does what it runs" {
    with_shim_everywhere '
        as_user ATOMSHIM_LOG_FILE=/etc/target ATOMSHIM_LOG=nonsense ATOMSHIM_PATHS=/etc/ su --version >/dev/null 2>&1
        as_user ATOMSHIM_LOG_FILE=/etc/target ATOMSHIM_LOG=nonsense ATOMSHIM_PATHS=/etc/ A=kept "$HERE/elevated" /bin/sh -c "
            id -u; env | grep -e ATOMSHIM -e ^A=; echo new >/etc/managed/f"
        cat /etc/target /etc/managed/f'
    assert_equal "$output" "0
A=kept
root
new"
}

@test "without extra rights the same variables count" {
    # the counterpart: it shows that the test above can fail
    with_shim_everywhere '
        ATOMSHIM_LOG_FILE=$HERE/log ATOMSHIM_LOG=nonsense ATOMSHIM_PATHS=/etc/managed/ sh -c "echo new >/etc/managed/f"
        grep -c nonsense log; env ATOMSHIM_DISABLE=1 "$HERE/atomshim" info /etc/managed/f | sed -n 2p'
    [ "${lines[0]}" -ge 1 ]
    assert_equal "${lines[1]}" 'format: sized'
}

@test "a library for every program: one that inherits a managed file is covered by it, and doctor says how to switch it off" {
    with_shim_everywhere '
        ATOMSHIM_LOG=info ATOMSHIM_LOG_FILE=$HERE/log ATOMSHIM_PATHS=/etc/managed/ \
            sh -c "echo \$\$ >pid; exec >/etc/managed/f; exec /bin/echo inherited"
        export ATOMSHIM_DISABLE=1
        # it has committed itself, and no guardian has
        grep -c "^atomshim.$(cat pid).: info: .*committed" log
        "$HERE/atomshim" cat /etc/managed/f
        "$HERE/atomshim" doctor --path /etc/managed/ | grep every'
    assert_equal "$output" "1
inherited
note     /etc/ld.so.preload loads the shim into every program; ATOMSHIM_DISABLE=1 switches it off"
}

@test "a set-user-id program reads and writes the raw file" {
    with_shim_everywhere '
        env ATOMSHIM_PATHS=/etc/managed/ sh -c "echo sized >/etc/managed/f"
        cp /bin/cat raw-cat
        cp /bin/dd raw-dd
        chmod 4755 raw-cat raw-dd
        chmod 666 /etc/managed/f
        as_user ATOMSHIM_PATHS=/etc/managed/ ./raw-cat /etc/managed/f >seen
        env ATOMSHIM_DISABLE=1 cmp seen /etc/managed/f && echo raw
        cat /etc/managed/f
        echo new | as_user ATOMSHIM_PATHS=/etc/managed/ ./raw-dd of=/etc/managed/f status=none
        env ATOMSHIM_DISABLE=1 cat /etc/managed/f'
    assert_equal "$output" "raw
sized
new"
}

@test "a set-user-id program on a nosuid mount gets no rights, so it gets the shim" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    unshare -m true 2>/dev/null || skip 'needs a mount namespace of its own'
    mkdir programs
    wrapped sh -c 'echo content >"$MANAGED/file"'
    cat >script <<'X'
mount -t tmpfs -o "mode=755,$1" none programs && cp "$(command -v cat)" programs && chmod 4755 programs/cat || exit
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
as_user "$BUILT/atomshim" run --path "$MANAGED/" -- programs/cat "$MANAGED/file"
echo $?
LD_PRELOAD=$BUILT/libatomshim.so ATOMSHIM_PATHS=$MANAGED/ as_user programs/cat "$MANAGED/file" | head -c 10
X
    run unshare -m sh script nosuid
    assert_equal "$output" $'content\n0\ncontent'
    run unshare -m sh script suid
    [[ "$output" == *'would not load'*$'126\n#atomshim/' ]] || { echo "$output"; return 1; }
}

@test "the command does nothing with rights that its user does not have" {
    [ "$(id -u)" = 0 ] || skip 'needs root'
    cp "$ROOT/build/atomshim" .
    chmod 4755 atomshim
    echo secret >secret
    chmod 600 secret
    run setpriv --reuid=65534 --regid=65534 --clear-groups ./atomshim cat secret
    assert_equal "$status" 2
    assert_equal "$output" "atomshim: refuses to run set-user-id, set-group-id or with file capabilities: remove these from the file ./atomshim"
}

@test "a library before the shim whose dl_iterate_phdr is not ready at the start" {
    cat >early.c <<'X'
#include <stdlib.h>
int dl_iterate_phdr(void *visit, void *context) { (void)visit; (void)context; abort(); }
X
    cc -shared -fPIC -o early.so early.c
    echo old >"$MANAGED/f"
    for preload in ./early.so:$ROOT/build/libatomshim.so $ROOT/build/libatomshim.so:./early.so; do
        LD_PRELOAD=$preload ATOMSHIM_PATHS=$MANAGED/ sh -c 'echo new >"$MANAGED/f"'
    done
    assert_equal "$(payload "$MANAGED/f")" new
    assert_equal "$(generation "$MANAGED/f")" 2
}

@test "a program that musl's loader was told to run, whose list of objects cannot be found" {
    command -v musl-gcc >/dev/null || skip 'needs musl-gcc'
    printf '#include <stdio.h>\nint main(int n, char **v) { FILE *f = fopen(v[n - 1], "w"); fputs("new", f); return fclose(f) != 0; }\n' >write.c
    musl-gcc -o write write.c
    echo old >"$MANAGED/f"
    wrapped "/lib/ld-musl-$(uname -m).so.1" ./write "$MANAGED/f"
    assert_equal "$(generation "$MANAGED/f")" 1
    assert_equal "$(payload "$MANAGED/f")" new
}

# ---- the log ----

# Runs a program that logs one line at "error": a malformed variable.
log_once() { # LOG_FILE
    LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_SYNC=bad ATOMSHIM_LOG_FILE=$1 /bin/true
}

@test "a log file: never one behind a link, never a FIFO, and why is said once" {
    echo precious >target
    ln -s "$PWD/target" link
    mkfifo fifo reader
    mkdir folder
    for name in link fifo folder; do
        run log_once "$PWD/$name"
        assert_equal "$status" 0
        assert_equal "${#lines[@]}" 2 "lines with a log at $name"
        [[ ${lines[0]} = *"error: ATOMSHIM_LOG_FILE=$PWD/$name: cannot be used: "*"; lines go to stderr" ]]
        [[ ${lines[1]} = *'error: ATOMSHIM_SYNC=bad: '* ]]
    done
    assert_equal "$(cat target)" precious
    run env ATOMSHIM_LOG_FILE="$PWD/link" "$ROOT/build/atomshim" doctor --path "$MANAGED/"
    assert_equal "$status" 1
    [[ $output = *"problem  ATOMSHIM_LOG_FILE: $PWD/link: is neither a regular file nor a terminal but a symbolic link, which is not followed: lines would go to stderr"* ]]
    # a FIFO with a reader: nothing is written to it
    exec 9<>reader
    run log_once "$PWD/reader"
    assert_equal "${#lines[@]}" 2
    assert_equal "$(dd if=reader iflag=nonblock bs=1 count=1 2>/dev/null <&9)" ''
    exec 9>&-
    log_once "$PWD/new"
    assert_equal "$(grep -c 'ATOMSHIM_SYNC=bad' new)" 1
}

# A commit that fails, by a program in which descriptor 2 changes before.
fail_commit() { # HOW
    ATOMSHIM_LOCK_TIMEOUT=0 wrapped "$PROGRAMS/stderr_moved" "$1" "$MANAGED/f" elsewhere 9<>"$MANAGED/f"
}

@test "a rescue folder behind a link is not used, and its doctor says so" {
    mkdir real
    ln -s "$PWD/real" link
    : >elsewhere
    for name in link link/; do
        run env ATOMSHIM_RESCUE_DIR="$PWD/$name" "$ROOT/build/atomshim" doctor --path "$MANAGED/"
        if [ "$name" = link ]; then
            [[ $output = *"problem  ATOMSHIM_RESCUE_DIR: $PWD/link: is no folder, or a symbolic link"* ]]
        fi
        echo old >"$MANAGED/f"
        ATOMSHIM_RESCUE_DIR=$PWD/$name fail_commit start 2>stderr
        output=$(cat stderr)
        [[ $output = *'the old content stays; the new is lost, because it could not be saved as '*': ATOMSHIM_RESCUE_DIR is no folder, or a symbolic link'* ]]
        assert_equal "$(ls real)" ''
    done
}

@test "log lines: into the stderr of the start, or what the program put there, and into nothing else that has number 2" {
    for how in start dup2 dup3 freopen child vfork; do
        echo old >"$MANAGED/f"
        : >elsewhere
        fail_commit "$how" 2>stderr
        case $how in
            start) assert_equal "$(grep -c 'commit failed' stderr) $(cat elsewhere)" '1 ' ;;
            *) assert_equal "$(grep -c 'commit failed' stderr) $(grep -c 'commit failed' elsewhere)" '0 1' "lines, by $how" ;;
        esac
    done
    for how in database pipe; do
        echo old >"$MANAGED/f"
        : >elsewhere
        fail_commit "$how" 2>stderr
        assert_equal "$(cat elsewhere)" "RECORD 1
RECORD 2" "data of a program, $how"
        assert_equal "$(cat stderr)" ''
    done
}

@test "the settings file counts for programs that /etc/ld.so.preload gives the shim, and the environment wins" {
    with_shim_everywhere '
        printf "# the app\n\nATOMSHIM_PATHS=/etc/managed/\nATOMSHIM_FORMAT=plain\n" >/etc/atomshim.conf
        info() { env ATOMSHIM_DISABLE=1 "$HERE/atomshim" info "$1" | sed -n 2p; }
        env -i /bin/sh -c "echo new >/etc/managed/f; echo x >/etc/managed/f"
        env ATOMSHIM_DISABLE=1 "$HERE/atomshim" info /etc/managed/f | sed -n "s/^bytes: //p"
        env -i ATOMSHIM_FORMAT=sized /bin/sh -c "echo new >/etc/managed/g"; info /etc/managed/g
        env -i ATOMSHIM_DISABLE=1 /bin/sh -c "echo new >/etc/managed/h"; head -c 3 /etc/managed/h; echo
        env -i ATOMSHIM_PATHS=/none/ ATOMSHIM_FORMAT=sized /bin/sh -c "echo new >/etc/managed/i"; info /etc/managed/i
        : >/etc/ld.so.preload
        env -i LD_PRELOAD="$HERE/libatomshim.so" ATOMSHIM_FORMAT=sized /bin/sh -c "echo new >/etc/managed/j"; info /etc/managed/j'
    assert_equal "$output" "as the last commit left them
format: sized
new
format: plain
format: plain"
}

@test "a settings file that is not root's, that others may write, or that has a bad line is ignored, with one line" {
    with_shim_everywhere '
        try() { env -i /bin/sh -c "echo new >/etc/managed/f" 2>&1; env ATOMSHIM_DISABLE=1 head -c 3 /etc/managed/f; echo; : >/etc/managed/f; }
        echo ATOMSHIM_PATHS=/etc/managed/ >/etc/atomshim.conf
        try
        env ATOMSHIM_DISABLE=1 "$HERE/atomshim" export -q /etc/managed/f; : >/etc/managed/f
        chmod g+w /etc/atomshim.conf; try
        chmod g-w /etc/atomshim.conf; chown 1 /etc/atomshim.conf; try
        chown 0 /etc/atomshim.conf; echo nonsense >>/etc/atomshim.conf; try
        mv /etc/atomshim.conf /etc/other; ln -s other /etc/atomshim.conf; try'

    assert_equal "$(grep -v '^atomshim' <<<"$output" | tr '\n' ' ')" '#at new new new new '
    for fault in 'users other than root may write to it' 'its owner is not root' \
        "accepted are lines ATOMSHIM_NAME=value, and comments that begin with '#'" 'it cannot be opened, or is a symbolic link'; do
        grep -qF "error: /etc/atomshim.conf: $fault; it is ignored" <<<"$output" || { echo "no $fault in $output" >&2; return 1; }
    done
}
