#!/usr/bin/env bats
# In root file systems as containers have them, entered by unshare and chroot: `atomshim run` is the
# entrypoint.

# shellcheck disable=SC2153 # of helpers.bash
load ../lib/helpers

setup_file() {
    for kind in scratch musl busybox bullseye bookworm trixie; do
        helpers_rootfs $kind || echo "# skipped: $kind: $reason" >&3
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

# contain KIND OPTIONS COMMAND...: runs it as the first process of a container in which $file is
# mounted as /data/app.cfg, and the two files of the shim in /atomshim; its root is read-only.
# OPTIONS: words of `user`: not root, `caps`: root without capabilities, `no-proc`: /proc is not
# mounted, `no-tmp`: no folder can be written to, `folder`: /data can. In the kind that has a
# /volume that is $MANAGED.
contain() {
    local kind=$1 options=$2
    shift 2
    # shellcheck disable=SC2016
    KIND=$kind OPTIONS=$options FILE=$file unshare --mount --pid --fork sh -ec '
        root=$ROOT/build/rootfs/$KIND
        mount --bind "$root" "$root"
        mount --bind "$ROOT/build" "$root/atomshim"
        case $OPTIONS in *folder*)
            mount -t tmpfs -o mode=1777 none "$root/data"
            : >"$root/data/app.cfg" ;;
        esac
        mount --bind "$FILE" "$root/data/app.cfg"
        [ ! -d "$root/volume" ] || mount --bind "$MANAGED" "$root/volume"
        case $OPTIONS in *no-tmp*) ;; *)
            mount -t tmpfs -o mode=1777 none "$root/dev/shm"
            mount -t tmpfs -o mode=1777 none "$root/tmp" ;;
        esac
        mount -o remount,ro,bind "$root"
        case $OPTIONS in *no-proc*) ;; *) mount -t proc none "$root/proc" ;; esac
        exec python3 -S -c "
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

# first_process JOB: prints the number, outside, of the first process of the job's container.
first_process() {
    pgrep -P "$(pgrep -x -P "$1" unshare || echo "$1")"
}

assert_kept() { # CONTENT WHAT
    assert_equal "$(payload "$file") $(stat -c '%i %h' "$file")" "$1 $before" "$2"
    [[ "$(atomshim info "$file")" == *'format: sized'* ]]
}

@test "I2 I3 containers: a shell overwrites the mounted file" {
    for kind in $(kinds musl busybox bullseye bookworm trixie); do
        for options in '' user caps no-proc 'no-proc user'; do
            run -0 run_in "$kind" "$options" /bin/sh -c "echo $kind >/data/app.cfg; echo more >>/data/app.cfg; read x </data/app.cfg; echo \$x"
            assert_equal "$output" "$kind" "$kind $options"
            assert_kept "$kind
more" "$kind $options"
        done
    done
}

@test "I3 containers: sed -i and mv replace the mounted file, which fails without the shim" {
    for kind in $(kinds busybox bullseye bookworm trixie); do
        for options in '' caps no-proc; do
            echo key=old | wrapped dd of="$file" status=none
            run contain "$kind" "$options" /bin/sh -c 'cp /data/app.cfg /tmp/n && mv /tmp/n /data/app.cfg'
            [ "$status" -ne 0 ]
            run -0 run_in "$kind" "$options" /bin/sh -c 'sed s/old/new/ /data/app.cfg >/tmp/n; mv /tmp/n /data/app.cfg'
            assert_kept key=new "$kind $options"
        done
        [ "$kind" != busybox ] || continue
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
    assert_equal "$output" 'atomshim: /bin/static_writer: the shim would not load: it is statically linked (--force runs it anyway)'
}

@test "I5 containers without /proc and without a folder to write in: the open fails, the file stays" {
    run -1 run_in scratch 'no-proc no-tmp' /bin/contained write /data/app.cfg new
    [[ $output == *'no memory for a managed file'*'Cannot allocate memory'* ]]
    assert_equal "$(cat "$file")" old
    run -7 run_in scratch no-tmp /bin/contained write /data/app.cfg new
    assert_kept new
}

@test "containers: the first process is the program itself: signals, exit status, no children, no descriptors" {
    out=$BATS_TEST_TMPDIR/out
    for kind in scratch $(kinds musl); do
        mkfifo "$out"
        run_in "$kind" '' /bin/contained signal /data/app.cfg "stopped in $kind" >"$out" 3>&- &
        job=$!
        exec 7<"$out"
        read -r line <&7
        assert_equal "$line" ready
        kill -TERM "$(first_process $job)"
        status=0
        wait $job || status=$?
        exec 7<&-
        rm "$out"
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
    for kind in $(kinds musl busybox bookworm); do
        OUT=$kind contain "$kind" user /bin/sh -c "LD_PRELOAD=/atomshim/libatomshim.so ATOMSHIM_PATHS=/data/app.cfg /bin/sh -c 'echo injected >/data/app.cfg'"
        assert_kept injected "$kind"
    done
}

# ---- busybox, of musl: a shell that runs applets by exec, and one that runs them in itself ----

need_busybox() {
    [ -n "$(kinds busybox)" ] || skip "$(cat "$ROOT/build/rootfs/busybox.reason")"
    chmod 777 "$MANAGED"
    cp "$BATS_TEST_DIRNAME/../lib/busybox_jobs" "$MANAGED/jobs"
}

# jobs_of BUSYBOX OPTIONS whole|killed: runs tests/lib/busybox_jobs without the shim, into $plain,
# and with it, in both places. Fails if the outputs differ; or, for killed jobs, if the file is not
# as before.
jobs_of() {
    local options="folder $2" target expected
    plain=$(contain busybox "$options" "/bin/$1" sh /volume/jobs "/bin/$1" /volume/app.cfg "$3" 2>&1)
    chmod 666 "$file" # by now another one
    for target in /data /volume; do
        contain busybox "$options" /atomshim/atomshim run --path $target/app.cfg -- "/bin/$1" sh /volume/jobs "/bin/$1" $target/app.cfg "$3" \
            >"$BATS_TEST_TMPDIR/shimmed" 2>&1
        [ "$3" = whole ] && expected=$plain || expected=${plain//: torn/: old}
        diff <(echo "$expected") "$BATS_TEST_TMPDIR/shimmed" >"$BATS_TEST_TMPDIR/differ" || {
            echo "$1 $options $target: left: without the shim, right: with it"
            cat "$BATS_TEST_TMPDIR/differ"
            return 1
        } >&2
    done
}

@test "I2 I3 busybox: what applets do to a file is what they do without the shim, by one commit each, in one inode" {
    need_busybox
    for busybox in busybox busybox-nofork; do
        for options in '' user 'caps no-proc'; do
            jobs_of $busybox "$options" whole
            [[ $plain != *'status '[1-9]* ]]
            [ "$(grep -c '^--- ' <<<"$plain")" -ge 63 ]
        done
    done
}

@test "I1 busybox: applets and shells that are killed in the middle leave the old content" {
    need_busybox
    for busybox in busybox busybox-nofork; do
        for options in '' 'user no-proc'; do
            jobs_of $busybox "$options" killed
            # without the shim every one of them was in the middle
            assert_equal "$(grep -c 'status 137: torn$' <<<"$plain") $(wc -l <<<"$plain")" '15 15'
        done
    done
}

@test "I1 busybox: who reads beside writers reads what one of them wrote, whole" {
    need_busybox
    cat >"$MANAGED/readers" <<'EOF_READERS'
f=$1
shell=$2
cd /tmp
seq 1 5000 >a
seq 5001 9000 >b
cp a $f
$shell sh -c 'while [ ! -e stop ]; do cp a $0; cat b >$0; tee $0 <a >x; sed "" b >$0; done' $f &
n=0
mixes=0
while [ $n -lt $3 ] && [ $mixes -lt $4 ]; do
    cat $f >r
    cmp -s r a || cmp -s r b || mixes=$((mixes + 1))
    n=$((n + 1))
done
: >stop
wait
echo "$n reads, $mixes mixes"
EOF_READERS
    for busybox in busybox busybox-nofork; do
        run -0 contain busybox '' /bin/$busybox sh /volume/readers /data/app.cfg /bin/$busybox 1000000 1
        [[ $output == *' 1 mixes' ]] # they read in the middle
        printf '' >"$file"
        run -0 run_in busybox '' /bin/$busybox sh /volume/readers /data/app.cfg /bin/$busybox 300 1
        assert_equal "$output" '300 reads, 0 mixes' $busybox
    done
}

@test "I1 busybox: flock around read and write keeps two containers apart" {
    need_busybox
    echo 0 | wrapped tee "$file" >/dev/null
    for busybox in busybox busybox-nofork; do
        run_in busybox '' /bin/$busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do
            flock 9; n=$(cat /data/app.cfg); echo $((n + 1)) >/data/app.cfg; flock -u 9
        done 9</data/app.cfg' 3>&- &
    done
    wait
    assert_kept 20
    assert_equal "$(generation "$file")" 21
}

# Writes the script of a first process: traps, an orphan, and a wait without end.
write_first() {
    cat >"$MANAGED/first" <<'EOF_FIRST'
trap 'echo stopped >$f; exit 7' TERM
trap 'echo hup >>$f; echo hup' HUP
f=/data/app.cfg
mkfifo /tmp/p
sh -c 'echo orphaned >>$0; read x </tmp/p & echo $! >/tmp/orphan' $f
read -r orphan </tmp/orphan
set -- /proc/[0-9]*/exe
echo $# # this one and the orphan
echo >/tmp/p
wait
cat /tmp/p &
echo "ready $$ $PPID $((orphan > 1))"
while :; do wait; done
EOF_FIRST
}

@test "busybox: a shell as the first process has its signals, orphans and exit status as without the shim" {
    need_busybox
    out=$BATS_TEST_TMPDIR/out
    mkfifo "$out"
    write_first
    for busybox in busybox busybox-nofork; do
        for entrypoint in contain run_in; do
            echo old >"$file"
            $entrypoint busybox '' /bin/$busybox sh /volume/first >"$out" 3>&- &
            job=$!
            exec 7<"$out"
            read -r processes <&7
            read -r line <&7
            assert_equal "$processes, $line" '2, ready 1 0 1' "$busybox $entrypoint"
            first=$(first_process $job)
            kill -USR1 "$first" # it has no trap, and is the first process: nothing happens
            kill -HUP "$first"
            read -r line <&7
            assert_equal "$line" hup
            assert_equal "$(payload "$file")" $'old\norphaned\nhup'
            kill -TERM "$first"
            status=0
            wait $job || status=$?
            exec 7<&-
            assert_equal "$status $(payload "$file")" '7 stopped' "$busybox $entrypoint"
            for command in 'exit 3' 'kill -9 $$; exit 4' '/bin/false' 'sh -c "kill -9 \$\$"; exit $?' 'nonsense 2>/dev/null; echo $?'; do
                run $entrypoint busybox '' /bin/$busybox sh -c "$command"
                echo "$command: $status $output"
            done >"$out.$entrypoint"
        done
        assert_equal "$(cat "$out.run_in")" "$(cat "$out.contain")" $busybox
        assert_kept stopped
    done
}

@test "busybox: its init as the first process starts, stops and powers off under the shim as without" {
    need_busybox
    # shellcheck disable=SC2016
    printf '%s\n' 'f=/data/app.cfg; echo boot >$f; cp $f /tmp/n; echo new >>/tmp/n; cp /tmp/n $f; kill -USR2 1' >"$MANAGED/boot"
    echo 'echo down >>/data/app.cfg' >"$MANAGED/down"
    for entrypoint in contain run_in; do
        echo old >"$file"
        run $entrypoint busybox '' /bin/busybox init
        # the kernel makes SIGINT of reboot(RB_POWER_OFF) in a container
        assert_equal "$status $(payload "$file")" $'130 boot\nnew\ndown' $entrypoint
    done
    assert_kept $'boot\nnew\ndown'
    assert_equal "$(generation "$file")" 3
}
