#!/usr/bin/env bats
# The things that users install: the Debian package, the tarballs, `make install`, completions.

load ../lib/helpers

setup() {
    helpers_setup
    # shellcheck disable=SC2153 # of helpers_setup
    cd "$ROOT" || return
}

# Prints every file below FOLDER, but for the package manager's own.
files_of() {
    (cd "$1" && find . -path ./var/lib/dpkg -prune -o -print | LC_ALL=C sort)
}

@test "deb: installed, tried and removed in a root file system of its own, nothing is left" {
    command -v dpkg-deb >/dev/null || skip 'needs dpkg'
    [ "$(id -u)" -eq 0 ] || skip 'needs root, for chroot'
    root=$BATS_TEST_TMPDIR/root
    "$ROOT/tests/lib/rootfs" bookworm "$ROOT/build/rootfs/bookworm" >"$BATS_TEST_TMPDIR/reason" || skip "$(cat "$BATS_TEST_TMPDIR/reason")"
    cp -a "$ROOT/build/rootfs/bookworm" "$root"
    mkdir -p "$root/var/lib/dpkg"
    : >>"$root/var/lib/dpkg/status"
    files_of "$root" >"$BATS_TEST_TMPDIR/before"

    package=$(make -s deb)
    dpkg --root="$root" --force-depends --install "$package"
    mkdir "$root/data/d"
    echo old >"$root/data/d/f"
    chroot "$root" atomshim run --path /data/d/ -- sh -c 'echo new >/data/d/f'
    assert_equal "$(chroot "$root" atomshim cat /data/d/f)" new
    # it has every file that documents name
    for page in "$ROOT"/shim/man/*.[1-9]; do
        [ -f "$root/usr/share/man/man${page##*.}/${page##*/}.gz" ]
    done
    rm -r "$root/data/d"

    dpkg --root="$root" --purge atomshim
    files_of "$root" | diff "$BATS_TEST_TMPDIR/before" -
}

@test "deb: lintian finds nothing" {
    command -v lintian >/dev/null || skip 'needs lintian'
    package=$(make -s deb)
    assert_equal "$(lintian --allow-root "$package" 2>&1)" ''
}

@test "dist: two builds in two places are the same bytes; debug symbols match the stripped files" {
    command -v git >/dev/null || skip 'needs git'
    export SOURCE_DATE_EPOCH=1700000000
    other=$BATS_TEST_TMPDIR/elsewhere
    mkdir "$other"
    cp -r Makefile README.md scripts shim "$other/"
    make -s dist >/dev/null
    (cd "$other" && scripts/package/dist >/dev/null)
    machine=$(cc -dumpmachine)
    name=atomshim-$(sed -n 's/^VERSION = //p' Makefile)-${machine%%-*}-linux
    for tarball in "$name.tar.gz" "$name-debug.tar.gz"; do
        cmp "build/dist/$tarball" "$other/build/dist/$tarball"
    done
    tar -C "$BATS_TEST_TMPDIR" -xzf "build/dist/$name.tar.gz"
    tar -C "$BATS_TEST_TMPDIR" -xzf "build/dist/$name-debug.tar.gz"
    cd "$BATS_TEST_TMPDIR" || return
    for file in "$name/lib/libatomshim.so" "$name/bin/atomshim"; do
        run -1 grep ' N ' <(nm --debug-syms "$file" 2>/dev/null)
        link=$(readelf --string-dump=.gnu_debuglink "$file" | sed -n 's/.*\] *//p' | head -n 1)
        [ -s "$name-debug/$link" ]
        assert_equal "$(readelf -n "$file" | grep 'Build ID')" "$(readelf -n "$name-debug/$link" | grep 'Build ID')"
    done
    printf old >file
    "$name/bin/atomshim" run --path "$PWD/file" -- sh -c 'echo new >file'
    assert_equal "$("$name/bin/atomshim" cat file)" new
}

@test "install: another LIBDIR than that of the build is compiled in; uninstall leaves nothing" {
    cp -r Makefile shim scripts "$BATS_TEST_TMPDIR/"
    mkdir "$BATS_TEST_TMPDIR/build"
    cp -r build/objects build/exports.* "$BATS_TEST_TMPDIR/build/" # a file that is newer than its source stays
    cd "$BATS_TEST_TMPDIR" || return
    make -s all
    make -s install PREFIX="$PWD/prefix" LIBDIR="$PWD/elsewhere"
    printf old >file
    mv prefix/bin/atomshim tool # neither beside the library nor in ../lib of it
    ./tool run --path "$PWD/file" -- sh -c 'echo new >file'
    assert_equal "$(./tool cat file)" new
    mv tool prefix/bin/atomshim
    LD_SO_PRELOAD=$PWD/list prefix/sbin/atomshim-preload install # the library that was installed with it
    assert_equal "$(cat list)" "$PWD/elsewhere/libatomshim.so"
    grep -qF "$PWD/elsewhere/libatomshim.so" prefix/share/man/man8/atomshim-preload.8
    make -s uninstall PREFIX="$PWD/prefix" LIBDIR="$PWD/elsewhere"
    assert_equal "$(find prefix elsewhere ! -type d)" ''
}

# offered SHELL LINE: prints the words that the shell offers for the last word of LINE, one on each
# line.
offered() {
    case $1 in
    bash)
        # shellcheck disable=SC2016 # for the other shell
        bash -c '. "$1"; eval "COMP_WORDS=($2)"; [[ $2 != *" " ]] || COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _atomshim; printf "%s\n" "${COMPREPLY[@]}"' - "$ROOT/scripts/completions/atomshim.bash" "$2"
        ;;
    zsh) "$ROOT/tests/lib/complete.zsh" "$ROOT/scripts/completions" "$2" ;;
    fish) HOME=$BATS_TEST_TMPDIR fish --no-config -c 'source $argv[1]; complete -C $argv[2]' "$ROOT/scripts/completions/atomshim.fish" "$2" ;;
    esac | sed 's/[	 ].*//' | LC_ALL=C sort -u
}

# accepted ARGUMENT...: the words that the command itself names when it is given a wrong one.
accepted() {
    atomshim "$@" 2>&1 | sed 's/.*accepted are //; s/,//g' | tr ' ' '\n' | grep -xE -- "${form}" | LC_ALL=C sort -u
}

# The words do not come from the text of --help, from which the completions are made: both could
# lack a command or an option.
completes() { # SHELL
    needs "$1"
    PATH=$ROOT/build:$PATH
    form='[a-z]+'
    commands=$(accepted nonsense | grep -vxE 'and|version|help')
    [ "$(wc -w <<<"$commands")" -ge 12 ]
    assert_equal "$(offered "$1" 'atomshim ')" "$(printf '%s\n' "$commands" help version --help --version | LC_ALL=C sort)"
    assert_equal "$(offered "$1" 'atomshim ve')" "$(printf 'verify\nversion')"
    form='--[a-z-]+'
    for command in $commands; do
        options=$(accepted "$command" --nonsense | grep -vx -e --help || :)
        offers=$(offered "$1" "atomshim $command --")
        assert_equal "$(comm -23 - <(echo "$offers") <<<"$options")" '' # all of them are offered
        # the command accepts every offered word: if the line is wrong, it is for another reason
        for option in $offers; do
            [[ $(atomshim "$command" "$option" 2>&1 </dev/null || :) != *'unknown option'* ]]
        done
    done
    assert_equal "$(offered "$1" 'atomshim run --log w')" warn
    assert_equal "$(offered "$1" 'atomshim run --isolation ')" "$(printf 'commit\nsession')"
    assert_equal "$(offered "$1" 'atomshim cat READ')" README.md
    offered "$1" 'atomshim run -p /x -- atomsh' | grep -qx atomshim
}

@test "completion in bash: every command, every option of each, values, the program" {
    completes bash
}

@test "completion in zsh, by its Tab key on a terminal" {
    completes zsh
}

@test "completion in fish" {
    completes fish
}
