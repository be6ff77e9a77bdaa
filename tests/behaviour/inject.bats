#!/usr/bin/env bats
# The files of scripts/inject, which users copy, do what they say.

load ../lib/helpers

setup() {
    helpers_setup
    inject=$ROOT/scripts/inject
    cd "$BATS_TEST_TMPDIR" || exit
}

# root_with_shell FOLDER: makes a root file system with a shell, and the two files in FOLDER.
root_with_shell() {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    mkdir -p root/bin root/data root/inject root/etc root/proc "root/$1"
    cp "$ROOT/build/atomshim" "$ROOT/build/libatomshim.so" "root/$1/"
    for file in /bin/sh /bin/cp /bin/true /bin/grep /bin/mv /bin/rm /bin/chmod $(ldd /bin/sh /bin/cp /bin/grep /bin/mv | grep -o '/[^ ]*' | grep -v ':$' | sort -u); do
        mkdir -p "root${file%/*}"
        cp -L "$file" "root$file"
    done
    echo old >root/data/app.cfg
}

read_yaml() { # FILE EXPRESSION, of `d`; a list is printed as words
    python3 -c '
import sys, yaml
d = yaml.safe_load(open(sys.argv[1]))
v = eval("(" + sys.argv[2] + ")")
print(*v if isinstance(v, list) else [v])' "$inject/$1" "$2"
}

@test "inject: the Dockerfile's COPY and ENV in a root file system" {
    [ "$(grep -cE '^(COPY|ENV) ' "$inject/Dockerfile.fragment")" -eq 2 ]
    folder=$(sed -n 's/^COPY atomshim libatomshim.so //p' "$inject/Dockerfile.fragment")
    root_with_shell "$folder"
    # the image's environment: it loads the shim into the first process of the container
    # shellcheck disable=SC2046 # words
    run -7 chroot root /bin/sh -c 'export "$@"; exec sh -c "echo new >/data/app.cfg; exit 7"' - \
        $(sed -n 's/^ENV //p' "$inject/Dockerfile.fragment")
    assert_equal "$(payload root/data/app.cfg)" new
    assert_equal "$(generation root/data/app.cfg)" 1
}

@test "inject: compose and Kubernetes copy the two files, and the environment loads the shim from there" {
    python3 -c 'import yaml' 2>/dev/null || skip 'needs python3-yaml'
    root_with_shell /atomshim
    n=0
    for what in compose.yaml:'d["services"]["atomshim-init"]["entrypoint"]' \
        kubernetes.yaml:'d["spec"]["initContainers"][0]["command"]'; do
        rm -f root/inject/*
        # shellcheck disable=SC2046 # words
        chroot root $(read_yaml "${what%%:*}" "${what#*:}")
        cmp "$ROOT/build/libatomshim.so" root/inject/libatomshim.so
        [ -x root/inject/atomshim ]
        case $what in
        compose*) list='["%s=%s" % i for i in d["services"]["app"]["environment"].items()]' ;;
        *) list='[e["name"] + "=" + e["value"] for e in d["spec"]["containers"][0]["env"]]' ;;
        esac
        # shellcheck disable=SC2046
        chroot root /bin/sh -c 'export "$@"; sh -c "echo $1 $$ >/data/app.cfg"' - $(read_yaml "${what%%:*}" "$list")
        n=$((n + 1))
        assert_equal "$(generation root/data/app.cfg)" $n "$what"
    done
    # every volume that is mounted is there
    for what in 'set(m["name"] for c in d["spec"]["containers"] + d["spec"]["initContainers"] for m in c["volumeMounts"]) ==
        set(v["name"] for v in d["spec"]["volumes"])' 'd["kind"] == "Pod"'; do
        assert_equal "$(read_yaml kubernetes.yaml "$what")" True "$what"
    done
    assert_equal "$(read_yaml compose.yaml 'all(v.split(":")[0] in d["volumes"] or v[0] == "." for s in d["services"].values()
        for v in s["volumes"])')" True
}

@test "inject: the systemd drop-in" {
    command -v systemd-analyze >/dev/null || skip 'needs systemd-analyze'
    mkdir -p app.service.d
    printf '[Service]\nExecStart=/bin/true\n' >app.service
    cp "$inject/atomshim.conf" app.service.d/
    run -0 systemd-analyze verify --man=no "$PWD/app.service"
    [[ $output != *app.service* && $output != *atomshim.conf* ]]
    mapfile -t settings < <(sed -n "s#^Environment=##; s#/usr/local/lib#$ROOT/build#; s#=/etc/app/#=$MANAGED/#; /^[A-Z_]*=\//p" \
        "$inject/atomshim.conf")
    assert_equal "${#settings[@]}" 2
    env "${settings[@]}" sh -c "echo new >'$MANAGED/file'"
    assert_equal "$(generation "$MANAGED/file")" 1
}

@test "inject: atomshim-preload installs, is switched off, and is removed" {
    root_with_shell /atomshim
    export LD_SO_PRELOAD=$PWD/root/etc/ld.so.preload
    cp "$ROOT/build/libatomshim.so" .
    run -1 "$inject/atomshim-preload" install "$PWD/none.so"
    [[ $output == *'not installed: '*none.so* ]]
    [ ! -e "$LD_SO_PRELOAD" ]
    run -2 "$inject/atomshim-preload" install none.so
    run -2 "$inject/atomshim-preload"
    echo /other.so >"$LD_SO_PRELOAD"
    "$inject/atomshim-preload" install "$ROOT/build/libatomshim.so"
    "$inject/atomshim-preload" install "$ROOT/build/libatomshim.so"
    run -0 "$inject/atomshim-preload" status "$ROOT/build/libatomshim.so"
    [[ $output == "installed: $LD_SO_PRELOAD names $ROOT/build/libatomshim.so"* ]]
    assert_equal "$(cat "$LD_SO_PRELOAD")" "/other.so
$ROOT/build/libatomshim.so"
    "$inject/atomshim-preload" remove "$ROOT/build/libatomshim.so"
    assert_equal "$(cat "$LD_SO_PRELOAD")" /other.so
    run -0 "$inject/atomshim-preload" status "$ROOT/build/libatomshim.so"
    [[ $output == "not installed: "* ]]
    run -0 "$inject/atomshim-preload" --help
    # as a machine's own, in a root file system
    rm "$LD_SO_PRELOAD"
    cp "$inject/atomshim-preload" root/bin/
    env -u LD_SO_PRELOAD chroot root /bin/atomshim-preload install /atomshim/libatomshim.so
    ATOMSHIM_PATHS=/data/ ATOMSHIM_DISABLE=1 chroot root /bin/sh -c 'echo plain >/data/app.cfg'
    assert_equal "$(cat root/data/app.cfg)" plain
    ATOMSHIM_PATHS=/data/ chroot root /bin/sh -c 'echo new >/data/app.cfg'
    assert_equal "$(generation root/data/app.cfg)" 1
    run -0 env ATOMSHIM_PATHS=/data/ chroot root /atomshim/atomshim verify /data/app.cfg
    assert_equal "$output" '/data/app.cfg: good, sized, generation 1, 4 bytes'
    env -u LD_SO_PRELOAD chroot root /bin/atomshim-preload remove /atomshim/libatomshim.so
    [ ! -e "$LD_SO_PRELOAD" ]
    # a broken line is a message
    echo /none.so >"$LD_SO_PRELOAD"
    run -0 chroot root /bin/true
    [[ $output == *"/none.so' from /etc/ld.so.preload cannot be preloaded"* ]]
}

@test "inject: the files that are there are replaced by rename, as often as wanted; what cannot be is said" {
    local before folder=$BATS_TEST_TMPDIR/folder
    needs strace
    mkdir "$folder"
    run -0 atomshim inject "$folder"
    assert_equal "$output" ''
    before=$(inode "$folder/libatomshim.so")
    # a program that has the library mapped
    mkfifo go
    LD_PRELOAD=$folder/libatomshim.so ATOMSHIM_PATHS=$MANAGED/ sh -c 'read -r x <go; echo new >"$MANAGED/f"' &
    exec 8>go
    "$folder/atomshim" inject "$folder"
    [ "$(inode "$folder/libatomshim.so")" != "$before" ]
    echo >&8
    exec 8>&-
    wait $!
    assert_equal "$(payload "$MANAGED/f")" new
    assert_equal "$(cd "$folder" && ls -A)" "atomshim
libatomshim.so"
    cmp "$ROOT/build/atomshim" "$folder/atomshim"
    run -1 atomshim inject "$folder/none"
    assert_equal "$output" "atomshim: inject: $folder/none: No such file or directory"
    run -2 atomshim inject --bogus
    assert_equal "$output" "atomshim: inject: unknown option '--bogus': accepted are a DIR and --help"
    run -0 atomshim inject -- "$folder"
    # one that fails leaves the files that were there
    for call in sendfile fchmod fsync renameat; do
        run -1 strace -qq -o /dev/null -e inject=$call:error=EIO "$ROOT/build/atomshim" inject "$folder"
        assert_equal "$output" "atomshim: inject: $folder: Input/output error" "$call"
        assert_equal "$(cd "$folder" && ls -A)" "atomshim
libatomshim.so" "$call"
        cmp "$ROOT/build/libatomshim.so" "$folder/libatomshim.so"
    done
    run -2 atomshim inject
    assert_equal "$output" 'atomshim: inject: no DIR given'
    run -2 atomshim inject a b
    assert_equal "$output" "atomshim: inject: one DIR at a time, not 'b' too"
    run -0 atomshim inject --help
}
