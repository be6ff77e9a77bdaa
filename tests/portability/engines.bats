#!/usr/bin/env bats
# The kit of scripts/inject on the engines that people run: docker with compose, podman (as root and
# rootless, with compose), systemd-nspawn and bubblewrap. Each is skipped where it is not installed
# or cannot start a container. `scripts/bootstrap engines` installs them; `scripts/test` does not,
# because docker's package starts a service.

load ../lib/helpers

# The images: `app`, a userland of Debian, and `atomshim`, empty but for the two files.
setup_file() {
    export ROOT WORK APP SCRATCH
    ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    WORK=$BATS_FILE_TMPDIR
    APP=$WORK/app.tar
    SCRATCH=$WORK/scratch
    chmod 755 "$BATS_RUN_TMPDIR" "$WORK"
    mkdir -p "$SCRATCH/atomshim"
    cp "$ROOT/build/atomshim" "$ROOT/build/libatomshim.so" "$SCRATCH/atomshim/"
    if [ "$(id -u)" -ne 0 ]; then
        echo 'this is another user' >"$WORK/reason"
    elif "$ROOT/tests/lib/rootfs" bookworm "$ROOT/build/rootfs/bookworm" >"$WORK/reason" 2>&1; then
        tar -C "$ROOT/build/rootfs/bookworm" --exclude=./dev -cf "$APP" .
    fi
    export DOCKER_HOST=unix://$WORK/docker.sock
    command -v dockerd >/dev/null && [ -e "$APP" ] || return 0
    # --bridge=none: containers need no network here, and the machine's firewall is left alone
    dockerd --data-root "$WORK/docker" --exec-root "$WORK/docker.exec" --pidfile "$WORK/docker.pid" -H "$DOCKER_HOST" \
        --bridge=none --iptables=false --ip-forward=false --storage-driver vfs >"$WORK/dockerd.log" 2>&1 3>&- &
    local tries=0
    # `docker version` asks the daemon, which answers once it is up; it refuses at once before that
    until docker version >/dev/null 2>&1 || ! kill -0 $! 2>/dev/null || [ $((tries += 1)) -gt 1000 ]; do :; done
    docker import "$APP" app:latest >/dev/null 2>&1 || return 0
    tar -C "$SCRATCH" -c . | docker import - atomshim:0.1.0 >/dev/null 2>&1 || true
}

teardown_file() {
    [ ! -e "$WORK/docker.pid" ] || { pid=$(cat "$WORK/docker.pid") && kill "$pid" && tail --pid="$pid" -f /dev/null; }
    umount -R "$WORK/docker" 2>/dev/null || true
    rm -rf "$WORK/docker" "$WORK/docker.exec"
}

setup() {
    helpers_setup
    helpers_let_others_in
    [ -e "$APP" ] || skip "needs root, and a userland of Debian: $(cat "$WORK/reason")"
    cd "$BATS_TEST_TMPDIR" || return
    echo value=old >app.cfg
    environment=(-e LD_PRELOAD=/atomshim/libatomshim.so -e ATOMSHIM_PATHS=/data/app.cfg)
    mounts=(-v "$SCRATCH/atomshim:/atomshim:ro" -v "$PWD/app.cfg:/data/app.cfg")
}

# The file is mounted alone: without the shim, sed cannot rename its new file onto it.
edit='sed -i s/old/new/ /data/app.cfg'

edited() {
    assert_equal "$(atomshim cat app.cfg)" value=new
    assert_equal "$(generation app.cfg)" 1
}

needs_docker() {
    command -v dockerd >/dev/null || skip 'needs docker'
    docker image inspect app:latest >/dev/null 2>&1 || skip "needs docker that can start here: $(tail -n 1 "$WORK/dockerd.log")"
    docker run --rm --network none app:latest /bin/true >"$WORK/reason" 2>&1 || skip "docker runs no container here: $(tail -n 1 "$WORK/reason")"
}

# podman ARG...: with its storage in $STORAGE. No limit is asked for that this machine's root may
# not set.
podman() {
    local run=() what=$1
    [ "$what" != run ] || run=(--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
    command podman --root "$STORAGE/root" --runroot "$STORAGE/run" --storage-driver vfs --cgroup-manager cgroupfs --events-backend file \
        ${RUNTIME:+--runtime "$RUNTIME"} "$what" "${run[@]}" "${@:2}" 3>&- # its background processes must not keep the test open
}

# Finds a runtime that works with this machine's control groups.
needs_podman() {
    command -v podman >/dev/null || skip 'needs podman'
    STORAGE=$BATS_TEST_TMPDIR/storage
    podman import "$APP" app:latest >"$BATS_TEST_TMPDIR/reason" 2>&1 || skip "podman: $(tail -n 1 "$BATS_TEST_TMPDIR/reason")"
    for RUNTIME in crun runc; do
        ! command -v $RUNTIME >/dev/null || ! podman run --rm app:latest /bin/true >"$BATS_TEST_TMPDIR/reason" 2>&1 || return 0
    done
    skip "podman runs no container here: $(tail -n 1 "$BATS_TEST_TMPDIR/reason")"
}

@test "docker: a file that is mounted alone is edited in place, also by docker exec" {
    needs_docker
    docker run --rm --network none "${environment[@]}" "${mounts[@]}" app:latest /bin/sh -c "$edit"
    edited
    run ! docker run --rm --network none "${mounts[@]}" app:latest /bin/sh -c 'sed -i s/new/raw/ /data/app.cfg' # the control
    id=$(docker run -d --network none "${environment[@]}" "${mounts[@]}" app:latest /bin/sh -c 'read -r _')
    docker run --rm --network none --entrypoint /atomshim/atomshim "${mounts[@]}" atomshim:0.1.0 cat /data/app.cfg # needs no libc
    docker rm -f "$id" >/dev/null
}

@test "docker: Dockerfile.fragment on an image with CMD, with ENTRYPOINT, with both; exec is covered" {
    needs_docker
    cp "$SCRATCH"/atomshim/* .
    printf '#!/bin/sh\necho "entry $*" >/data/app.cfg\nexec "${@:-/bin/true}"\n' >entry
    chmod 755 entry
    for image in 'CMD ["/bin/sh", "-c", "echo cmd >/data/app.cfg"]' 'ENTRYPOINT ["/entry"]' \
        'ENTRYPOINT ["/entry"]
CMD ["/bin/sh", "-c", ":"]'; do
        printf 'FROM app:latest\nCOPY entry /entry\n%s\n' "$image" >base
        docker build -q -t base -f base . >/dev/null
        case $image in
        CMD*) with='ENTRYPOINT ["/atomshim/atomshim", "run", "--"]
CMD ["/bin/sh", "-c", "echo cmd >/data/app.cfg"]' expected=cmd ;;
        *CMD*) with='ENTRYPOINT ["/atomshim/atomshim", "run", "--", "/entry"]
CMD ["/bin/sh", "-c", ":"]' expected='entry /bin/sh -c :' ;;
        *) with='ENTRYPOINT ["/atomshim/atomshim", "run", "--", "/entry"]' expected='entry ' ;;
        esac
        for more in '' "$with"; do
            { echo 'FROM base' && cat "$ROOT/scripts/inject/Dockerfile.fragment" && echo "$more"; } >Dockerfile
            docker build -q -t with . >/dev/null
            echo value=old >app.cfg
            docker run --rm --network none -v "$PWD/app.cfg:/data/app.cfg" with
            assert_equal "$(atomshim cat app.cfg)" "$expected" "$image $more"
            assert_equal "$(generation app.cfg)" 1 "$image $more"
        done
    done
    mkfifo go
    id=$(docker run -d --network none -v "$PWD/app.cfg:/data/app.cfg" -v "$PWD/go:/go" --entrypoint /bin/sh with -c 'read -r _ </go')
    docker exec "$id" /bin/sh -c 'echo exec >/data/app.cfg'
    assert_equal "$(atomshim cat app.cfg)" exec
    assert_equal "$(generation app.cfg)" 2
    echo end >go
    docker wait "$id" >/dev/null
    docker rm "$id" >/dev/null
}

# The application reads a word from one pipe, writes it to its configuration, and says so in the
# other.
compose_setup() {
    mkdir control
    mkfifo control/words control/done
    cat >override.yaml <<'END'
services:
  atomshim-init:
    network_mode: none
  app:
    network_mode: none
    command: ["/bin/sh", "-c", "while read -r word <>/control/words; do echo value=$$word >/data/app.cfg; echo done >/control/done; done"]
    volumes:
      - ./control:/control
END
}

# write WORD: has the application write it, which must be committed.
write() {
    timeout 60 sh -c 'echo "$1" >control/words && cat control/done >/dev/null' - "$1"
    assert_equal "$(atomshim cat app.cfg)" "value=$1"
}

@test "docker-compose: up twice, and a new library while the application runs: it lives on" {
    command -v docker-compose >/dev/null || skip 'needs docker-compose'
    needs_docker
    compose_setup
    compose() {
        docker-compose --project-directory . -f "$ROOT/scripts/inject/compose.yaml" -f override.yaml -p atomshim-test "$@" >compose.log 2>&1 || { cat compose.log; return 1; }
    }
    compose up -d
    before=$(docker inspect -f '{{.State.Pid}} {{.RestartCount}}' atomshim-test_app_1)
    write one
    compose up -d
    write two
    # the new version: other bytes behind the end of the file, which no loader reads
    cp -r "$SCRATCH" newer
    echo newer >>newer/atomshim/libatomshim.so
    tar -C newer -c . | docker import - atomshim:0.1.0 >/dev/null
    compose run --rm atomshim-init
    write three
    assert_equal "$(docker inspect -f '{{.State.Pid}} {{.RestartCount}}' atomshim-test_app_1)" "$before" 'the application'
    assert_equal "$(docker exec atomshim-test_app_1 /bin/sh -c 'tail -c 6 /inject/libatomshim.so')" newer 'the volume'
    assert_equal "$(generation app.cfg)" 3
    compose down -v -t 1
}

@test "podman as root: a file that is mounted alone is edited in place" {
    needs_podman
    podman run --rm "${environment[@]}" "${mounts[@]}" app:latest /bin/sh -c "$edit"
    edited
}

@test "podman-compose: the init step is waited for by the documented command, and up starts the application" {
    command -v podman-compose >/dev/null || skip 'needs podman-compose'
    needs_podman
    compose_setup
    tar -C "$SCRATCH" -c . | podman import - atomshim:0.1.0 >/dev/null 2>&1
    mkdir bin
    # podman-compose runs podman by its name. It asks for a network of its own, whatever the file
    # says: there is none here.
    {
        echo '#!/bin/bash' && declare -f podman
        echo 'for word; do case ${skip:-}$word in --net | --network-alias | --network) skip=+ ;; +*) skip= ;; *) words+=("$word") ;; esac; done'
        echo 'podman "${words[@]}"'
    } >bin/podman
    sed -i "s|command podman|$(type -P podman)|" bin/podman
    chmod 755 bin/podman
    cp "$ROOT/scripts/inject/compose.yaml" .
    compose() {
        STORAGE=$STORAGE RUNTIME=$RUNTIME PATH=$PWD/bin:$PATH podman-compose -p atomshim-test -f compose.yaml -f override.yaml "$@" >compose.log 2>&1 || { cat compose.log; return 1; }
    }
    compose run --rm atomshim-init
    compose up -d
    write one
    write two
    assert_equal "$(generation app.cfg)" 2
    compose down -t 1
}

@test "podman rootless: a user's container edits the user's file in place" {
    needs_podman
    grep -q '^atomshim-test:' /etc/subuid 2>/dev/null || useradd atomshim-test 2>/dev/null || skip 'needs a user with subordinate ids'
    mkdir home
    echo value=old >home/app.cfg
    cp app.cfg home/
    chown -R atomshim-test home
    chmod 644 "$APP"
    user=(setpriv --reuid=atomshim-test --regid=atomshim-test --init-groups env -i "HOME=$PWD/home" "XDG_RUNTIME_DIR=$PWD/home" "PATH=$PATH" "RUNTIME=$RUNTIME" "STORAGE=$PWD/home/storage")
    { declare -f podman && echo 'cd && podman "$@"'; } >as_user
    "${user[@]}" bash as_user import "$APP" app:latest >reason 2>&1 && "${user[@]}" bash as_user run --rm app:latest /bin/true >reason 2>&1 ||
        skip "podman runs no container without root here: $(tail -n 1 reason)"
    "${user[@]}" bash as_user run --rm "${environment[@]}" -v "$SCRATCH/atomshim:/atomshim:ro" -v "$PWD/home/app.cfg:/data/app.cfg" \
        app:latest /bin/sh -c "$edit"
    mv home/app.cfg .
    edited
    pkill -KILL -u atomshim-test # podman keeps a process for the user's namespace
    userdel -f atomshim-test
}

@test "systemd-nspawn: a file that is mounted alone is edited in place" {
    command -v systemd-nspawn >/dev/null || skip 'needs systemd-nspawn'
    mkdir root
    tar -C root -xf "$APP"
    mkdir -p root/dev root/usr/lib # it refuses a tree without /usr and a release
    : >root/etc/os-release
    # a folder that the engine cleans up below /run must lie on another file system than the tree's
    run_in() {
        timeout 60 systemd-nspawn -q --register=no --keep-unit -D root --bind-ro="$SCRATCH/atomshim:/atomshim" --bind="$PWD/app.cfg:/data/app.cfg" "$@" </dev/null
    }
    run_in /bin/true >reason 2>&1 || skip "systemd-nspawn runs nothing here: $(tail -n 1 reason)"
    run_in --setenv=LD_PRELOAD=/atomshim/libatomshim.so --setenv=ATOMSHIM_PATHS=/data/app.cfg /bin/sh -c "$edit"
    edited
}

@test "bubblewrap: a file that is mounted alone is edited in place" {
    command -v bwrap >/dev/null || skip 'needs bubblewrap'
    mkdir root
    tar -C root -xf "$APP"
    : >root/data/app.cfg
    bwrap --bind root / --dev /dev --proc /proc --ro-bind "$SCRATCH/atomshim" /atomshim --bind app.cfg /data/app.cfg \
        --setenv LD_PRELOAD /atomshim/libatomshim.so --setenv ATOMSHIM_PATHS /data/app.cfg /bin/sh -c "$edit"
    edited
}
