#!/usr/bin/env bats
# In root file systems as containers have them, entered by unshare and chroot: `atomshim run` is the entrypoint.

# shellcheck disable=SC2153 # of helpers.bash
load helpers

setup_file() {
    export ROOTS=$BATS_FILE_TMPDIR
    "$BATS_TEST_DIRNAME/../scripts/bootstrap" containers >/dev/null 2>&1 || true # what is missing is skipped by its name
    for kind in scratch musl bullseye bookworm trixie; do
        "$BATS_TEST_DIRNAME/rootfs" $kind "$BATS_TEST_DIRNAME/../build/rootfs/$kind" >"$ROOTS/$kind.reason" 2>&1 || echo "# skipped: $kind: $(cat "$ROOTS/$kind.reason")" >&3
    done
}

setup() {
    helpers_setup
    unshare --mount --pid --fork true 2>/dev/null || skip 'needs the right to make namespaces'
    helpers_let_others_in
    file=$MANAGED/app.cfg
    echo old >"$file"
    ln "$file" "$MANAGED/link"
    chmod 666 "$file"
    before=$(stat -c '%i %h' "$file")
}

# The kinds that could be made here.
kinds() {
    for kind in "$@"; do
        [ ! -e "$ROOT/build/rootfs/$kind/.complete" ] || echo "$kind"
    done
}

# contain KIND OPTIONS COMMAND...: runs it as the first process of a container in which $file is mounted as /data/app.cfg,
# and the two files of the shim in /atomshim; its root is read-only. OPTIONS: words of `user`: not root, `caps`: root
# without capabilities, `no-proc`: /proc is not mounted, `no-tmp`: no folder can be written to.
contain() {
    local kind=$1 options=$2
    shift 2
    # shellcheck disable=SC2016
    KIND=$kind OPTIONS=$options FILE=$file unshare --mount --pid --fork sh -ec '
        root=$ROOT/build/rootfs/$KIND
        mount --bind "$root" "$root"
        mount --bind "$ROOT/build" "$root/atomshim"
        mount --bind "$FILE" "$root/data/app.cfg"
        case $OPTIONS in *no-tmp*) ;; *)
            mount -t tmpfs -o mode=1777 none "$root/dev/shm"
            mount -t tmpfs -o mode=1777 none "$root/tmp" ;;
        esac
        mount -o remount,ro,bind "$root"
        case $OPTIONS in *no-proc*) ;; *) mount -t proc none "$root/proc" ;; esac
        exec python3 -c "
import ctypes, os, sys
options = os.environ[\"OPTIONS\"].split()
os.closerange(3, 4096); os.chroot(sys.argv[1]); os.chdir(\"/\")
if \"caps\" in options:
    for cap in range(64): ctypes.CDLL(None).prctl(24, cap, 0, 0, 0)
if \"user\" in options:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.execve(sys.argv[2], sys.argv[2:], {\"PATH\": \"/bin:/usr/bin\", \"LC_ALL\": \"C\"})" "$root" "$@"' sh "$@"
}

run_in() { # KIND OPTIONS PROGRAM...: under the entrypoint
    local kind=$1 options=$2
    shift 2
    contain "$kind" "$options" /atomshim/atomshim run --path /data/app.cfg -- "$@"
}

assert_kept() { # CONTENT WHAT
    assert_equal "$(payload "$file") $(stat -c '%i %h' "$file")" "$1 $before" "$2"
    [[ "$(atomshim info "$file")" == *'format: sized'* ]]
}

@test "I2 I3 containers: a shell overwrites the mounted file" {
    for kind in $(kinds musl bullseye bookworm trixie); do
        for options in '' user caps no-proc 'no-proc user'; do
            run -0 run_in "$kind" "$options" /bin/sh -c "echo $kind >/data/app.cfg; echo more >>/data/app.cfg; read x </data/app.cfg; echo \$x"
            assert_equal "$output" "$kind" "$kind $options"
            assert_kept "$kind
more" "$kind $options"
        done
    done
}

@test "I3 containers: sed -i and mv replace the mounted file, which fails without the shim" {
    for kind in $(kinds bullseye bookworm trixie); do
        for options in '' caps no-proc; do
            echo key=old | wrapped dd of="$file" status=none
            run contain "$kind" "$options" /bin/sh -c 'cp /data/app.cfg /tmp/n && mv /tmp/n /data/app.cfg'
            [ "$status" -ne 0 ]
            run -0 run_in "$kind" "$options" /bin/sh -c 'sed s/old/new/ /data/app.cfg >/tmp/n; mv /tmp/n /data/app.cfg'
            assert_kept key=new "$kind $options"
        done
        run -0 run_in "$kind" '' /usr/bin/perl -e 'open(my $f, ">", "/tmp/n"); print $f "perl"; close $f; rename("/tmp/n", "/data/app.cfg") or die $!'
        assert_kept perl "$kind"
    done
}

@test "I2 containers from scratch: a dynamic program is covered, a static one is refused" {
    for options in '' user caps no-proc 'no-proc user'; do
        run -7 run_in scratch "$options" /bin/contained write /data/app.cfg "scratch $options"
        assert_kept "scratch $options" "$options"
        run -0 run_in scratch "$options" /bin/contained read /data/app.cfg
        assert_equal "$output" "scratch $options"
        run -7 run_in scratch "$options" /bin/contained replace /data/app.cfg "replaced $options"
        assert_kept "replaced $options" "$options"
    done
    run -126 run_in scratch '' /bin/static_writer 1 write x
    assert_equal "$output" 'atomshim: /bin/static_writer: the shim would not load: it is statically linked (--force runs it nevertheless)'
}

@test "I5 containers without /proc and without a folder to write in: the open fails, the file stays" {
    run -1 run_in scratch 'no-proc no-tmp' /bin/contained write /data/app.cfg new
    [[ $output == *'no memory for a managed file'*'Cannot allocate memory'* ]]
    assert_equal "$(cat "$file")" old
    run -7 run_in scratch no-tmp /bin/contained write /data/app.cfg new
    assert_kept new
}

@test "containers: the first process is the program itself: signals, exit status, no children, no descriptors" {
    for kind in scratch $(kinds musl); do
        mkfifo out
        run_in "$kind" '' /bin/contained signal /data/app.cfg "stopped in $kind" >out 3>&- &
        job=$!
        exec 7<out
        read -r line <&7
        assert_equal "$line" ready
        # the program is the only child of unshare's child
        pkill -TERM -P "$(pgrep -P $job | head -n 1)" contained || pkill -TERM -P $job contained
        status=0
        wait $job || status=$?
        exec 7<&-
        rm out
        assert_equal "$status" 7 "exit status in $kind"
        assert_kept "stopped in $kind"
        run -0 run_in "$kind" '' /bin/contained alone /data/app.cfg
    done
    for kind in $(kinds bookworm); do
        run -3 run_in "$kind" '' /bin/sh -c 'exit 3'
        run -137 run_in "$kind" '' /bin/sh -c 'echo half >/data/app.cfg & wait; kill -9 $$; sh -c "kill -9 \$\$"'
    done
}

@test "containers: the shim by its variables alone, as an injected environment has it" {
    for kind in $(kinds musl bookworm); do
        OUT=$kind contain "$kind" user /bin/sh -c "LD_PRELOAD=/atomshim/libatomshim.so ATOMSHIM_PATHS=/data/app.cfg /bin/sh -c 'echo injected >/data/app.cfg'"
        assert_kept injected "$kind"
    done
}
