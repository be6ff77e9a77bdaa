#!/usr/bin/env bats
# The shim gives no user a right that the user would not have without it, and disables no guard of
# the kernel.

load ../lib/helpers

setup() {
    helpers_setup
    helpers_let_others_in
    unprotected=''
    cd "$BATS_TEST_TMPDIR" || return
}

needs_root() {
    [ "$(id -u)" = 0 ] || skip 'needs root'
}

# Makes the kernel protect sticky folders, proc_sys_fs(5); teardown() restores the setting. Another
# run of these tests waits meanwhile.
protect() {
    local setting file
    exec 9</proc/sys/fs/protected_regular || return 1
    flock 9
    for setting in regular symlinks fifos; do
        file=/proc/sys/fs/protected_$setting
        [ -f "$file" ] || return 1
        [ "$(cat "$file")" = 0 ] || continue
        (echo 1 >"$file") 2>/dev/null || return 1
        unprotected="$unprotected $file"
    done
}

teardown() {
    local file
    for file in $unprotected; do echo 0 >"$file"; done
    exec 9>&-
}

as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

# planted FILE: makes a file that belongs to nobody, is writable for all, and holds a whole image.
planted() {
    wrapped sh -c 'echo planted >"$1"' sh "$MANAGED/image"
    cp "$MANAGED/image" "$1"
    chown 65534:65534 "$1"
    chmod 666 "$1"
}

elsewhere() {
    LD_PRELOAD=$BUILT/libatomshim.so ATOMSHIM_PATHS=/nowhere/file "$@"
}

@test "an image in another user's file makes it managed for nobody but him and what belongs to root" {
    needs_root
    mkdir -m 777 box
    planted box/report
    (umask 077 && echo secret >secret)
    elsewhere mv -f secret box/report
    assert_equal "$(stat -c '%u %a' box/report)" '0 600' 'what root moved there'
    assert_equal "$(cat box/report)" secret
    planted box/report
    assert_equal "$(elsewhere cat box/report | head -c 10)" "$(head -c 10 box/report)" 'read by root'
    elsewhere sh -c 'echo new >box/report'
    assert_equal "$(cat box/report)" new 'written by root'
    planted box/report
    assert_equal "$(elsewhere as_nobody cat box/report)" planted 'read by its owner'
    assert_equal "$(elsewhere as_nobody stat -c %s box/report)" 8 'its size for its owner'
    [ "$(elsewhere stat -c %s box/report)" -gt 8 ]
    chown 0:0 box/report
    assert_equal "$(elsewhere as_nobody cat box/report)" planted "root's, read by another user"
}

@test "a managed file that another user left in a sticky folder is replaced by a rename, not overwritten" {
    needs_root
    mkdir -m 1777 "$MANAGED/box"
    for owner in 65534 0; do
        planted "$MANAGED/box/report"
        chown $owner "$MANAGED/box/report"
        before=$(inode "$MANAGED/box/report")
        (umask 077 && echo secret >secret)
        wrapped mv -f secret "$MANAGED/box/report"
        assert_equal "$(payload "$MANAGED/box/report")" secret "$owner"
        if [ $owner = 0 ]; then
            assert_equal "$(inode "$MANAGED/box/report")" "$before" "root's own stays the inode"
        else
            assert_equal "$(stat -c '%u %a' "$MANAGED/box/report")" '0 600' "another user's"
        fi
        rm "$MANAGED/box/report"
    done
    planted "$MANAGED/box/report"
    before=$(inode "$MANAGED/box/report")
    (umask 077 && echo edited >edited && chown 65534:65534 edited)
    wrapped mv -f edited "$MANAGED/box/report"
    assert_equal "$(payload "$MANAGED/box/report") $(inode "$MANAGED/box/report")" "edited $before" 'sed -i by root'
}

@test "a damaged image under a name that no pattern names makes nothing managed" {
    wrapped sh -c 'echo content >"$1"' sh "$MANAGED/image"
    cp "$MANAGED/image" copy
    assert_equal "$(elsewhere cat copy)" content 'whole'
    sed -i 's/content/contenT/' copy
    assert_equal "$(elsewhere head -c 10 copy)" '#atomshim/' damaged
    elsewhere sh -c 'echo new >copy'
    assert_equal "$(cat copy)" new 'written'
}

@test "fs.protected_regular, fs.protected_symlinks, fs.protected_fifos keep their meaning for managed files" {
    needs_root
    protect || skip 'needs fs.protected_regular, fs.protected_symlinks and fs.protected_fifos'
    chmod 1777 "$MANAGED"
    tries() { # FILE FLAGS: opens it with these flags, and says how that went
        python3 -S -c '
import errno, os, sys
try: os.close(os.open(sys.argv[1], eval(sys.argv[2]), 0o600)); print("opened")
except OSError as error: print(errno.errorcode[error.errno])' "$1" "$2"
    }
    wrapped as_nobody sh -c 'echo his >"$1" && chmod 666 "$1"' sh "$MANAGED/sized"
    as_nobody sh -c 'echo his >"$1" && chmod 666 "$1" && mkfifo -m 666 "$2" && ln -s /etc/hostname "$3"' sh \
        "$MANAGED/plain" "$MANAGED/fifo" "$MANAGED/link"
    for name in sized plain fifo link; do
        for flags in 'os.O_WRONLY | os.O_CREAT' 'os.O_RDWR | os.O_CREAT | os.O_TRUNC' 'os.O_RDWR | os.O_CREAT | os.O_APPEND'; do
            assert_equal "$(tries "$MANAGED/$name" "$flags")" EACCES "$name, $flags, without the shim"
            assert_equal "$(wrapped tries "$MANAGED/$name" "$flags")" EACCES "$name, $flags"
        done
    done
    tries_openat2() { # FILE: with O_RDWR | O_CREAT
        # SYS_openat2, AT_FDCWD and struct open_how
        perl -e '$how = pack("QQQ", 0102, 0600, 0); $! = 0; syscall(437, -100, $ARGV[0], $how, 24);
            print $! ? ($! == 13 ? "EACCES" : $!) : "opened"' "$1"
    }
    for name in sized plain; do
        assert_equal "$(tries_openat2 "$MANAGED/$name")" EACCES "$name by openat2(2), without the shim"
        assert_equal "$(wrapped tries_openat2 "$MANAGED/$name")" EACCES "$name by openat2(2)"
        assert_equal "$(wrapped tries "$MANAGED/$name" 'os.O_WRONLY')" opened "$name, not to be created"
        assert_equal "$(payload "$MANAGED/$name")" his "$name"
        wrapped as_nobody sh -c 'printf new >"$1"' sh "$MANAGED/$name"
        assert_equal "$(payload "$MANAGED/$name")" new "$name, by its owner"
    done
}

@test "openat2() creates a file under a mode that denies its owner, as open() does, for a user who is not root" {
    needs_root
    chmod 777 "$MANAGED"
    for program in calls_open by_syscall_open; do
        for name in open openat64; do # by syscall(2) the latter is openat2(2)
            as_nobody sh -c 'printf old >"$1"' sh "$MANAGED/file"
            wrapped as_nobody timeout 60 "$PROGRAMS/$program" $name "$MANAGED/file"
            rm -f "$MANAGED/file"
        done
    done
}

# killed_rename CALL COUNT: renames a new file onto the managed one, with SIGKILL at that call.
killed_rename() {
    wrapped strace -qq -o trace -e "trace=$1" -e "inject=$1:signal=KILL:when=$2" \
        perl -e 'rename $ARGV[0], $ARGV[1] or die $!' "$MANAGED/made" "$MANAGED/file" 2>/dev/null || true
    grep -q 'killed by SIGKILL' trace
}

# killed_renames MODE-OF-OLD MODE-OF-NEW [PREPARE CHECK]: kills a rename at each call that changes
# something. Afterwards the file has the old or the new content, under a mode that has no bit which
# that content's file did not have.
killed_renames() {
    local call count allowed kills=0
    for call in fchmod pwrite64 pwritev ftruncate fallocate fsync fdatasync fsetxattr fremovexattr unlinkat utimensat; do
        for ((count = 1; ; count++)); do
            rm -rf "$MANAGED" && mkdir "$MANAGED"
            wrapped sh -c 'echo old >"$1"' sh "$MANAGED/file"
            chmod "$1" "$MANAGED/file"
            echo new >"$MANAGED/made"
            chmod "$2" "$MANAGED/made"
            [ $# -lt 3 ] || "$3"
            killed_rename "$call" "$count" || break
            kills=$((kills + 1))
            mode=$(stat -c %a "$MANAGED/file")
            case $(payload "$MANAGED/file") in
            old) allowed=$1 ;;
            new) allowed=$2 ;;
            *) return 1 ;;
            esac
            [ $((0$mode & ~0$allowed)) = 0 ] || {
                echo "killed at $call $count: $(payload "$MANAGED/file") with mode $mode, which had $allowed"
                return 1
            }
            [ $# -lt 4 ] || "$4" || return 1
        done
        assert_equal "$(payload "$MANAGED/file") $(stat -c %a "$MANAGED/file")" "new $2" "not killed"
    done
    [ "$kills" -ge 10 ]
}

@test "a rename onto a managed file, killed at any call: no content under a mode that is wider than its own" {
    needs strace
    killed_renames 644 640
    killed_renames 600 664
    killed_renames 4755 755
    killed_renames 664 606
}

@test "a rename that fails leaves the old content and the old mode, wherever it fails" {
    needs strace
    for call in unlinkat pwrite64 fdatasync fchmod; do
        rm -rf "$MANAGED" && mkdir "$MANAGED"
        wrapped sh -c 'echo old >"$1"' sh "$MANAGED/file"
        chmod 600 "$MANAGED/file"
        [ "$call" != fchmod ] || chmod 644 "$MANAGED/file"
        before=$(stat -c %a "$MANAGED/file")
        echo new >"$MANAGED/made"
        chmod 640 "$MANAGED/made"
        # the first unlinkat() asks whether the name may go, the first fchmod() is of the buffer
        when=1
        [[ "$call" != unlinkat && "$call" != fchmod ]] || when=2
        run wrapped strace -qq -f -o trace -e "trace=$call" -e "inject=$call:error=EPERM:when=$when" \
            perl -e 'rename $ARGV[0], $ARGV[1] or die $!' "$MANAGED/made" "$MANAGED/file"
        [ "$status" -ne 0 ] || { echo "$call did not fail: $output"; cat trace; return 1; }
        assert_equal "$(payload "$MANAGED/file") $(stat -c %a "$MANAGED/file")" "old $before" "after a failing $call"
        assert_equal "$(cat "$MANAGED/made")" new 'the source'
    done
}

@test "set-id bits are not inherited by what is renamed onto a file" {
    echo old >"$MANAGED/file"
    chmod 4755 "$MANAGED/file"
    echo new >"$MANAGED/made"
    chmod 600 "$MANAGED/made"
    wrapped perl -e 'rename $ARGV[0], $ARGV[1] or die $!' "$MANAGED/made" "$MANAGED/file"
    assert_equal "$(payload "$MANAGED/file") $(stat -c %a "$MANAGED/file")" 'new 755'
}

@test "an access control list goes with the mode: a rename shows the new content to nobody whom the new file left out" {
    needs_root
    needs strace
    needs setfacl
    : >probe
    setfacl -m u:65534:rw probe 2>/dev/null || skip 'needs a file system with access control lists'
    give() { setfacl -m u:65534:rw "$MANAGED/file"; }
    check() {
        [ "$(payload "$MANAGED/file")" = old ] || ! as_nobody cat "$MANAGED/file" >/dev/null 2>&1 || {
            echo 'nobody reads the new content'
            return 1
        }
    }
    killed_renames 660 640 give check
    assert_equal "$(getfacl -cs "$MANAGED/file")" '' 'in the end'
    # a program that keeps the mode also keeps the list
    rm -rf "$MANAGED" && mkdir "$MANAGED"
    echo old >"$MANAGED/file" && give
    wrapped sed -i s/old/new/ "$MANAGED/file"
    assert_equal "$(as_nobody "$ROOT/build/atomshim" cat "$MANAGED/file")" new 'kept by sed -i'
}

@test "a list comes with the new file of a rename, and goes where the rename fails" {
    needs_root
    needs strace setfacl
    : >probe
    setfacl -m u:65534:rw probe 2>/dev/null || skip 'needs a file system with access control lists'
    echo old >"$MANAGED/file"
    echo new >"$MANAGED/made"
    chmod 644 "$MANAGED/file"
    chmod 640 "$MANAGED/made"
    setfacl -m u:65534:r "$MANAGED/made"
    run wrapped strace -qq -o /dev/null -e trace=unlinkat,unlink -e inject=unlinkat,unlink:error=EIO mv "$MANAGED/made" "$MANAGED/file"
    [ "$status" -ne 0 ]
    assert_equal "$(payload "$MANAGED/file") $(getfacl -cs "$MANAGED/file") $(stat -c %a "$MANAGED/file")" 'old  644' 'put back'
    wrapped mv "$MANAGED/made" "$MANAGED/file"
    assert_equal "$(as_nobody "$ROOT/build/atomshim" cat "$MANAGED/file")" new 'taken over'
}

# The reader may send the guardian no signal; it wakes it by a read, or by an open.
@test "I7 another user's read finds what a guardian of root has to commit" {
    needs_root
    for old in '' old; do
        wrapped sh -c 'printf %s "$1" >"$MANAGED/file"' sh "$old"
        [ -n "$old" ] || : >"$MANAGED/file"
        rm -f ready go
        mkfifo ready go
        exec 7<>ready 8<>go
        wrapped sh -c 'exec >>"$MANAGED/file"; "$PROGRAMS/static_writer" 2 write there 2>ready; exec "$PROGRAMS/static_writer" 1 wait-write new <go' 3>&- 7>&- 8>&- &
        read -r -N 5 -u 7 _
        assert_equal "$(as_nobody env LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" timeout 20 cat "$MANAGED/file")" "$old" 'before'
        echo >&8
        exec 7>&- 8>&-
        wait $!
        assert_equal "$(as_nobody env LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" timeout 20 cat "$MANAGED/file")" "${old}new" 'after'
    done
}

@test "another user sees the size of the content of a file that he may read" {
    needs_root
    wrapped sh -c 'echo content >"$MANAGED/file"'
    assert_equal "$(as_nobody env LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" stat -c %s "$MANAGED/file")" 8
    chmod 600 "$MANAGED/file"
    assert_equal "$(as_nobody env LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" stat -c %s "$MANAGED/file")" \
        "$(stat -c %s "$MANAGED/file")"
}

# widens HOW END: a program truncates a secret file, writes, gives others a right to it, and ends.
# Prints the bytes that the user nobody reads of it then, and the mode that the program sees.
widens() {
    rm -f "$MANAGED/secret"
    (umask 077 && wrapped sh -c 'echo old >"$1"' sh "$MANAGED/secret")
    wrapped python3 -S "$ROOT/tests/lib/widen.py" "$MANAGED/secret" "$1" "$2"
    echo "end: $(payload "$MANAGED/secret") $(stat -c '%a %u' "$MANAGED/secret")"
}

@test "a right that a program gives while it writes is no right to the old content: mode, owner, list" {
    needs_root
    needs python3
    refused=$'nobody: refused\n'
    for how in fchmod empty chmod thread; do
        assert_equal "$(widens $how close)" $'mode: 644\n'"$refused"$'nobody: new\nend: new 644 0' "$how"
        assert_equal "$(widens $how kill 2>/dev/null)" $'mode: 644\n'"$refused"'end: old 600 0' "$how, killed"
    done
    for how in fchmod chmod; do
        assert_equal "$(ATOMSHIM_LOCK_TIMEOUT=0.05 widens $how fail 2>/dev/null)" \
            $'mode: 644\n'"$refused"$'failed\n'"$refused"'end: old 600 0' "$how, with a commit that fails"
    done
    # these commit first
    assert_equal "$(widens child kill 2>/dev/null)" $'mode: 644\nnobody: new\nend: new 644 0' 'by a child'
    assert_equal "$(widens fchown kill 2>/dev/null)" $'mode: 600\nnobody: new\nend: new 600 65534' 'fchown'
    assert_equal "$(widens lchown kill 2>/dev/null)" $'mode: 600\nnobody: new\nend: new 600 65534' 'lchown'
    assert_equal "$(widens chown close)" $'mode: 640\nnobody: new\nnobody: new\nend: new 640 0' 'chown of the group'
    assert_equal "$(widens both kill 2>/dev/null)" $'mode: 644\nnobody: new\nend: new 644 65534' 'fchmod, then fchown'
    assert_equal "$(widens exec kill 2>/dev/null)" $'mode: 644\n'"$refused"'end: new 644 0' 'fchmod, then exec'
    # the last word counts
    assert_equal "$(widens back close)" $'mode: 600\n'"$refused${refused}end: new 600 0" 'narrowed again'
    assert_equal "$(widens outside close)" $'mode: 644\n'"$refused${refused}end: new 400 0" 'by another process'
    for how in acl lacl; do
        acl=$(widens $how close 2>&1) || true
        [[ $acl != *'not supported'* ]] || skip 'needs a file system with access control lists'
        assert_equal "$acl" $'mode: 640\nnobody: new\nnobody: new\nend: new 640 0' "access control list, $how"
    done
}

@test "another name in a folder that others can enter shows nobody the old content of a file that is being written" {
    needs_root
    needs python3
    mkdir -m 700 "$MANAGED/private"
    mkdir -m 755 "$MANAGED/public"
    for how in os.link os.rename; do
        rm -f "$MANAGED"/p*/*
        wrapped sh -c 'echo old >"$MANAGED/private/secret"'
        chmod 644 "$MANAGED/private/secret"
        wrapped python3 -S -c 'import os, sys
private, public = sys.argv[1:3]
fd = os.open(private, os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"new")
eval(sys.argv[3])(private, public)
child = os.fork()
if child == 0:
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    print(open(public).read(), flush=True)
    os._exit(0)
os.waitpid(child, 0)' "$MANAGED/private/secret" "$MANAGED/public/name" "$how" >seen
        assert_equal "$(cat seen)" new "$how"
    done
}

# set_id SCRIPT: prints for set-id files in both formats what mode and content they have after
# SCRIPT ran, wrapped if $shim is not empty.
set_id() {
    local mode format
    for format in plain sized; do
        for mode in 4755 2755 6755 4644; do
            printf oldoldold >"$MANAGED/file"
            chmod 755 "$MANAGED/file"
            if [ -n "${shim:-}" ]; then
                ATOMSHIM_FORMAT=$format wrapped bash -c "$1" bash $mode
            else
                bash -c "$1" bash $mode
            fi
            echo "$format $mode: $(stat -c %a "$MANAGED/file") $(payload "$MANAGED/file")"
            rm "$MANAGED/file"
        done
    done
}

@test "a write takes set-id bits where it takes them without the shim, whoever writes and whoever commits" {
    needs_root
    local before='file=$MANAGED/file; chmod "$1" "$file"; '
    local other='setpriv --reuid=65534 --regid=65534 --clear-groups'
    while read -r script; do
        without=$(set_id "$before$script")
        with=$(shim=yes set_id "$before$script")
        assert_equal "$with" "$without" "$script"
    done <<END
exec 5<>"\$file"; $other "\$PROGRAMS/static_writer" 5 write evil; exec 5>&-
exec 5<>"\$file"; $other "\$PROGRAMS/static_writer" 5 write old; exec 5>&-
exec 5<>"\$file"; $other perl -e 'open F, ">&=5"; syswrite F, "evil"'; exec 5>&-
chmod 755 "\$file"; exec 5<>"\$file"; chmod "\$1" "\$file"; $other "\$PROGRAMS/static_writer" 5 write evil; exec 5>&-
chmod 755 "\$file"; exec 5<>"\$file"; $other "\$PROGRAMS/static_writer" 5 write evil; chmod "\$1" "\$file"; exec 5>&-
chmod 755 "\$file"; exec 5<>"\$file"; echo root >&5; chmod "\$1" "\$file"; exec 5>&-
echo root 1<>"\$file"
: >"\$file"
chmod 777 "\$MANAGED"; chown 65534:65534 "\$file"; chmod "\$1" "\$file"; $other sh -c 'echo own 1<>"\$1"' sh "\$file"
chmod 777 "\$MANAGED"; chown 65534:65534 "\$file"; chmod "\$1" "\$file"; $other sh -c ': >"\$1"' sh "\$file"
END
}

@test "file capabilities act on the content that they were set for, never on the old one" {
    needs_root
    needs python3 setcap
    : >probe
    setcap cap_net_raw+ep probe || skip 'no file capabilities here'
    for how in 'os.setxattr(path, name, value)' 'os.setxattr(fd, name, value)' 'subprocess.run(["setcap", "cap_net_raw+ep", path])'; do
        for format in plain sized; do
            printf old >"$MANAGED/file"
            ATOMSHIM_FORMAT=$format wrapped python3 -S -c 'import os, subprocess, sys
path, how, cat = sys.argv[1:]
name, value = "security.capability", os.getxattr("probe", "security.capability")
fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"new")
eval(how)
print(subprocess.check_output([cat, "cat", path]).decode(), name in os.listxattr(path), flush=True)
os.close(fd)
print(name in os.listxattr(path))' "$MANAGED/file" "$how" "$ROOT/build/atomshim" >seen
            assert_equal "$(cat seen)" "$([[ $how == sub* ]] && printf 'old True\nFalse' || printf 'new True\nTrue')" "$format, $how"
            rm "$MANAGED/file"
        done
    done
}

@test "a sized file that may be executed from now on keeps the set-id bits and capabilities that it has" {
    needs_root
    chmod 777 "$MANAGED"
    for script in 'chmod 4755 "$file"' 'exec 5>>"$file"; echo more >&5; chmod 4755 "$file"; exec 5>&-'; do
        wrapped sh -c 'echo new >"$MANAGED/file"; chown 65534:65534 "$MANAGED/file"'
        file=$MANAGED/file wrapped as_nobody sh -c "$script"
        assert_equal "$(stat -c %a "$MANAGED/file") $(head -n 1 "$MANAGED/file")" '4755 new' "$script"
        rm "$MANAGED/file"
    done
    needs setcap getcap
    wrapped sh -c 'echo new >"$MANAGED/file"'
    setcap cap_net_raw+ep "$MANAGED/file" || skip 'no file capabilities here'
    wrapped chmod 755 "$MANAGED/file"
    assert_equal "$(getcap "$MANAGED/file") $(cat "$MANAGED/file")" "$MANAGED/file cap_net_raw=ep new"
}

@test "a program of another user gets the buffer by the caller's descriptor alone, however many programs handed it on" {
    needs_root
    wrapped sh -c 'echo secret >"$MANAGED/file"'
    chmod 600 "$MANAGED/file"
    local other='setpriv --reuid=65534 --regid=65534 --clear-groups'
    for between in '' 'sh -c '\''exec "$@"'\'' sh' 'env'; do
        for last in 'ls -l /proc/self/fd' 'env -u LD_PRELOAD ls -l /proc/self/fd'; do
            assert_equal "$(wrapped bash -c "exec 5>>\"\$MANAGED/file\"; $between $other $last" | grep -c memfd:atomshim)" 1 \
                "$between, $last"
        done
    done
}
