#!/usr/bin/env bats
# I3 Programs that replace by rename: on a file with two names, and on a file that is mounted. The
# tests show, too, that the same command without the shim splits the links or fails.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/app.cfg
    export file HOME=$BATS_TEST_TMPDIR
    cd "$BATS_TEST_TMPDIR" || return
}

# on_links WHAT COMMAND...: WHAT is the fate of two names without the shim, split or kept. The
# command changes key=old to key=new.
on_links() {
    local what=$1 before
    shift
    command -v "$1" >/dev/null || {
        echo "# skipped: $1 is not installed" >&3
        return 0
    }
    rm -rf "$MANAGED"
    mkdir "$MANAGED"
    echo key=old >"$file"
    ln "$file" "$MANAGED/link"
    before=$(stat -c '%i %h' "$file")
    timeout 60 "$@" >/dev/null
    assert_equal "$(cat "$file")" key=new "without the shim: $*"
    [ "$before" = "$(stat -c '%i %h' "$file")" ] && kept="kept" || kept="split"
    assert_equal "$kept" "$what" "without the shim: $*"

    rm -rf "$MANAGED"
    mkdir "$MANAGED"
    echo key=old >"$file"
    ln "$file" "$MANAGED/link"
    before=$(stat -c '%i %h' "$file")
    wrapped timeout 60 "$@" >/dev/null
    assert_equal "$(payload "$file")" key=new "$*"
    assert_equal "$(payload "$MANAGED/link")" key=new "by its other name: $*"
    assert_equal "$(stat -c '%i %h' "$file")" "$before" "I3: $*"
    assert_equal "$(generation "$file")" 1 "commits of $*"
    assert_equal "$(cd "$MANAGED" && echo .[!.]* *)" '.[!.]* app.cfg link' "left behind by $*"
}

# on_mount WHAT COMMAND...: the same where the file is a mount of its own. WHAT: fails or works.
on_mount() {
    local what=$1 kept before
    shift
    command -v "$1" >/dev/null || return 0
    rm -rf "$MANAGED"
    mkdir "$MANAGED"
    : >"$file"
    echo key=old >outside
    # shellcheck disable=SC2016
    unshare -m sh -c 'mount --bind outside "$file" && exec "$@"' sh timeout 60 "$@" >/dev/null 2>&1 && kept=works || kept=fails
    assert_equal "$kept" "$what" "without the shim: $*"
    rm -rf "$MANAGED"
    mkdir "$MANAGED"
    : >"$file"
    echo key=old >outside
    before=$(stat -c '%i %h' outside)
    # shellcheck disable=SC2016
    LD_PRELOAD='' unshare -m sh -c 'mount --bind outside "$file" && LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS=$file:$MANAGED/ exec "$@"' sh \
        timeout 60 "$@" >/dev/null
    assert_equal "$(payload outside)" key=new "$*"
    assert_equal "$(stat -c '%i %h' outside)" "$before" "I3: $*"
}

# both LINKS MOUNT COMMAND...: does on_links and on_mount.
both() {
    local links=$1 mount=$2
    shift 2
    on_links "$links" "$@"
    ! unshare -m true 2>/dev/null || on_mount "$mount" "$@"
}

@test "I3 sed -i" {
    both split fails sed -i s/old/new/ "$file"
    both split fails sed --follow-symlinks -i s/old/new/ "$file"
    ln -s "$file" "$BATS_TEST_TMPDIR/symbolic"
    both split fails sed --follow-symlinks -i s/old/new/ "$BATS_TEST_TMPDIR/symbolic"
}

@test "I3 perl -i" {
    both split fails perl -i -pe s/old/new/ "$file"
}

@test "I3 mv, also from another file system" {
    both split fails sh -c 'echo key=new >"$file.new"; mv "$file.new" "$file"'
    both split fails sh -c 'echo key=new >"$file.new"; chmod 600 "$file.new"; mv -f "$file.new" "$file"'
    [ "$(stat -c %d /dev/shm)" != "$(stat -c %d .)" ] || return 0
    elsewhere=$(mktemp /dev/shm/atomshim.XXXXXX)
    export elsewhere
    both split fails sh -c 'echo key=new >"$elsewhere"; mv "$elsewhere" "$file"'
    rm -f "$elsewhere"
}

@test "I3 cp writes in place; so does cat" {
    echo key=new >new
    both kept works cp new "$file"
    both kept works sh -c 'cat new >"$file"'
}

@test "I3 vim, whatever its backupcopy" {
    for way in auto yes no; do
        both kept works vim -es -u NONE -c "set backupcopy=$way" -c 's/old/new/' -c wq "$file"
    done
}

@test "I3 git config, by a lock file" {
    printf '[a]\n\tkey = old\n' >git.old
    for way in '' wrapped; do
        rm -rf "$MANAGED" && mkdir "$MANAGED"
        cp git.old "$file"
        ln "$file" "$MANAGED/link"
        $way git config -f "$file" a.key new
        assert_equal "$(stat -c %h "$file")" "$([ -n "$way" ] && echo 2 || echo 1)" "links: $way"
        assert_equal "$($way git config -f "$file" a.key)" new
    done
}

@test "I3 npm, package.json" {
    command -v npm >/dev/null || skip 'npm is not installed'
    for way in '' wrapped; do
        rm -rf "$MANAGED" && mkdir "$MANAGED"
        echo '{"name":"x","version":"1.0.0"}' >"$MANAGED/package.json"
        ln "$MANAGED/package.json" "$MANAGED/link"
        (cd "$MANAGED" && $way npm version 2.0.0 --no-git-tag-version --offline >/dev/null 2>&1)
        [[ "$(atomshim cat "$MANAGED/package.json")" == *2.0.0* ]]
    done
    assert_equal "$(stat -c %h "$MANAGED/package.json")" 2 'I3: links'
    [[ "$(atomshim cat "$MANAGED/link")" == *2.0.0* ]]
}

@test "I3 python: os.replace in its idioms, and Ansible's" {
    both split fails python3 -c '
import os, tempfile
path = os.environ["file"]
with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), delete=False) as temp:
    temp.write("key=new\n"); temp.flush(); os.fsync(temp.fileno())
os.replace(temp.name, path)'
    both split fails python3 -c '
import os, pathlib
path = pathlib.Path(os.environ["file"])
new = path.with_suffix(".tmp")
new.write_text("key=new\n")
new.rename(path)'
    # as atomic_move(): the new file gets the old one's mode and owner, is renamed, and its
    # directory synced
    both split fails python3 -c '
import os, shutil, tempfile
path = os.environ["file"]
status = os.stat(path)
fd, source = tempfile.mkstemp(dir=os.environ["HOME"])
os.write(fd, b"key=new\n"); os.close(fd)
os.chmod(source, status.st_mode & 0o7777); os.chown(source, status.st_uid, status.st_gid)
fd, temp = tempfile.mkstemp(prefix=".ansible_tmp", dir=os.path.dirname(path)); os.close(fd)
shutil.copy2(source, temp); os.unlink(source)
os.chown(temp, status.st_uid, status.st_gid)
os.rename(temp, path)'
}

@test "I3 ansible: lineinfile, copy" {
    export ANSIBLE_HOME=$BATS_TEST_TMPDIR/ansible ANSIBLE_LOCALHOST_WARNING=False ANSIBLE_INVENTORY_UNPARSED_WARNING=False
    run_module() { both split fails ansible localhost -c local -e ansible_python_interpreter=/usr/bin/python3 "$@"; }
    run_module -m lineinfile -a "path=$file regexp=^key= line=key=new"
    run_module -m copy -a "dest=$file content='key=new\n'"
}

@test "I3 rsync, with and without --inplace" {
    mkdir source
    echo key=new >source/app.cfg
    touch -d 2001-02-03 source/app.cfg
    both split fails rsync -a source/app.cfg "$file"
    if [ -e outside ]; then # rsync is installed, and mounts can be made
        assert_equal "$(stat -c %Y outside)" "$(stat -c %Y source/app.cfg)" 'times are carried over'
    fi
    both kept works rsync -a --inplace source/app.cfg "$file"
}

@test "I3 crudini and augeas" {
    both split fails crudini --set "$file" '' key new
    # shellcheck disable=SC2016
    both split fails sh -c 'command -v augtool >/dev/null || { cat >"$file.n"; mv "$file.n" "$file"; exit; }
        augtool -A -t "Simplevars incl $file" set "/files$file/key" new' <<<key=new
}

@test "I3 shell scripts that write a new file, compare, keep the mode, and move" {
    both split fails sh -c '
        set -e
        new=$(mktemp "$file.XXXXXX")
        trap "rm -f $new" EXIT
        sed s/old/new/ "$file" >"$new"
        cmp -s "$new" "$file" || { chmod --reference="$file" "$new"; mv "$new" "$file"; }'
}

@test "I5 a rename whose commit fails leaves both files, and says so" {
    echo key=old >"$file"
    echo key=new >"$file.new"
    mkfifo ready
    python3 -c '
import fcntl, signal, sys
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
open("ready", "w").write("x")
signal.pause()' "$file" 3>&- &
    read -r _ <ready || true
    ATOMSHIM_LOCK_TIMEOUT=0.1 run --separate-stderr wrapped mv "$file.new" "$file"
    kill $!
    assert_equal "$status" 1
    [[ $stderr == *'Connection timed out'* ]]
    assert_equal "$(payload "$file") $(cat "$file.new")" 'key=old key=new'
}

@test "I5 a new file that is damaged, or that another process still writes to, is told" {
    wrapped sh -c 'echo key=old >"$file"'
    helpers_damage "$file.new"
    run -1 atomshim cat "$file.new"
    run -1 --separate-stderr wrapped mv "$file.new" "$file"
    [[ $stderr == *"$file: cannot be replaced: the new file holds no valid image, or its disk failed (EIO)"* ]]
    [ -e "$file.new" ]
    assert_equal "$(payload "$file")" key=old
    echo key=new >outside
    exec 8>>outside
    ATOMSHIM_LOG=warn run -0 --separate-stderr wrapped mv outside "$file"
    exec 8>&-
    [[ $stderr == *"outside: renamed while another process has it open to write; what that process writes from now on is lost"* ]]
    assert_equal "$(payload "$file")" key=new
}

# fails WORDS [SETTING...]: checks that mv of key=new onto the file, which has the content key=old,
# a mode and times of its own, fails with these words, and leaves both files alone.
fails() {
    local words=$1 new=${new:-$file.new} before
    shift
    wrapped sh -c 'echo key=old >"$file"'
    chmod 640 "$file"
    touch -d 2001-02-03 "$file"
    [ -s "$new" ] || echo key=new >"$new"
    chmod 751 "$new"
    before=$(stat -c '%i %h %a %Y' "$file")
    cp "$new" "$BATS_TEST_TMPDIR/new.before"
    run --separate-stderr "$@" env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" \
        perl -e 'rename($ARGV[0], $ARGV[1]) or die "$!\n"' "$new" "$file"
    [[ $stderr == *"$words"* ]] || {
        echo "status $status: $stderr"
        return 1
    }
    assert_equal "$(payload "$file")" key=old 'I5'
    assert_equal "$(stat -c '%i %h %a %Y' "$file")" "$before" 'I3 I5'
    cmp "$new" "$BATS_TEST_TMPDIR/new.before"
}

@test "I5 the new file cannot be removed after all: the old content is put back, with mode and times" {
    needs strace
    fails 'Input/output error' strace -f -qq -o trace -e trace=unlinkat -e inject=unlinkat:error=EIO:when=2
    assert_equal "$(grep -c INJECTED trace)" 1
    assert_equal "$(generation "$file")" 3 'commits: old, new, old'
    fails 'Permission denied' strace -f -qq -o trace -e trace=unlinkat -e inject=unlinkat:error=EACCES:when=1
    assert_equal "$(generation "$file")" 4 'the kernel says no before the commit: one more, of key=old'
}

@test "I5 the old content cannot be put back either: the file has the new one and its mode, and the old one is rescued" {
    needs strace
    wrapped sh -c 'echo key=old >"$file"'
    chmod 640 "$file"
    echo key=new >"$file.new"
    chmod 751 "$file.new"
    mkdir rescue
    # the second pwritev commits the old content again
    run -5 --separate-stderr strace -f -qq -o trace -e trace=unlinkat,pwritev -e inject=unlinkat:error=EIO:when=2 \
        -e inject=pwritev:error=EIO:when=2 env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" \
        ATOMSHIM_RESCUE_DIR="$PWD/rescue" perl -e 'rename($ARGV[0], $ARGV[1]) or die "$!\n"' "$file.new" "$file"
    assert_equal "$(grep -c INJECTED trace)" 2
    [[ $stderr == *'a rename failed and could not be undone: the file has the new content'*'Input/output error'* ]]
    assert_equal "$(payload "$file") $(stat -c %a "$file") $(cat "$file.new")" 'key=new 751 key=new'
    assert_equal "$(cat rescue/*)" key=old
}

@test "I5 rename and a full disk, RLIMIT_FSIZE, a mounted source, a read-only file system" {
    unshare -m true 2>/dev/null || skip 'mounting needs root'
    export new=$BATS_TEST_TMPDIR/new
    seq 500000 >"$new"
    fails 'File too large' bash -c 'ulimit -f 1000; exec "$@"' -
    [[ $stderr != *'is lost'* ]]
    # shellcheck disable=SC2016
    fails 'No space left on device' unshare -m sh -c 'mount -t tmpfs -o size=1m tmpfs "$MANAGED" &&
        echo key=old >"$file" && ln "$file" "$file.link" && "$@"; status=$?
        [ "$(cat "$file.link")" = key=old ] || echo "the old content is gone" >&2; exit $status' -
    [[ $stderr == *'stays, and so does the new file'* && $stderr != *gone* ]]
    rm "$new"
    # shellcheck disable=SC2016
    fails 'Device or resource busy' unshare -m sh -c 'mount --bind "$new" "$new" && exec "$@"' -
    assert_equal "$(generation "$file")" 3 'commits, all of key=old'
    # shellcheck disable=SC2016
    fails 'Read-only file system' unshare -m sh -c 'mount --bind "$MANAGED" "$MANAGED" &&
        mount -o remount,ro,bind "$MANAGED" && exec "$@"' -
}

@test "I3 I4 rename in the plain format, and with ATOMSHIM_ISOLATION=session" {
    for setting in ATOMSHIM_FORMAT=plain ATOMSHIM_ISOLATION=session ATOMSHIM_SYNC=0; do
        rm -rf "$MANAGED" && mkdir "$MANAGED"
        echo old >"$file"
        ln "$file" "$MANAGED/link"
        before=$(stat -c '%i %h' "$file")
        for round in 1 2 3; do
            echo "$round" >"$BATS_TEST_TMPDIR/new"
            (export "${setting?}"; wrapped mv "$BATS_TEST_TMPDIR/new" "$file")
            assert_equal "$(payload "$MANAGED/link")" "$round" "$setting"
        done
        assert_equal "$(stat -c '%i %h' "$file")" "$before" "I3: $setting"
    done
}

@test "I2 two processes rename onto one file while others read: whole contents only, nothing left" {
    seq 5000 >"$file"
    wrapped python3 - "$file" <<'EOF'
import os, sys
path = sys.argv[1]
def writer(letter):
    for turn in range(60):
        new = "%s.%s" % (path, letter)
        with open(new, "w") as f: f.write(letter * 20000)
        os.rename(new, path)
def reader():
    for turn in range(200):
        text = open(path).read()
        if len(text) == 20000: assert len(set(text)) == 1, "a mix"
        else: assert text == "".join("%d\n" % i for i in range(1, 5001)), "neither"
children = []
for work in (lambda: writer("a"), lambda: writer("b"), reader, reader):
    child = os.fork()
    if child == 0:
        try: work()
        except BaseException as e:
            print(e, file=sys.stderr); os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
EOF
    assert_equal "$(ls "$MANAGED")" app.cfg
    assert_equal "$(generation "$file")" 120
}

@test "a rename onto a file that has more names is told at info, and one onto a file with one name is not" {
    for names in 1 2; do
        rm -rf "$MANAGED" && mkdir "$MANAGED"
        echo old >"$file"
        [ $names = 1 ] || ln "$file" "$MANAGED/link"
        echo new >"$MANAGED/made"
        ATOMSHIM_LOG=info wrapped perl -e 'rename $ARGV[0], $ARGV[1] or die $!' "$MANAGED/made" "$file" 2>log
        assert_equal "$(grep -c 'info: .*other names' log || true)" $((names - 1)) "$(cat log)"
        assert_equal "$(payload "$file")" new
    done
}
