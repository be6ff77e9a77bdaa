#!/usr/bin/env bats
# Hard places for programs: without /proc, in sandboxes, beside other preloads, with few or many
# descriptors.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/app.cfg
    export file
    printf old >"$file"
    helpers_let_others_in
}

# Does the things that shells do with redirections, and leaves a result for the test.
redirections='
    echo a >"$file"; cat <"$file"; echo b >>"$file"; cat "$file"
    { echo c; cat "$file"; } >"$file.2"; sed s/a/A/ "$file" >"$file.3"; ln "$file" "$file.4"
    sed -i s/b/B/ "$file"; exec 3>"$file.5"; echo one >&3; (echo two >&3); /bin/echo three >&3'

assert_redirected() { # OUTPUT
    assert_equal "$(printf '%s' "$1" | tr '\n' ' ')" 'a a b' 'seen'
    assert_equal "$(for n in '' .2 .3 .4 .5; do payload "$file$n" | tr '\n' ' '; done)" 'a B c a b A b a B one two three '
    assert_equal "$(stat -c %h "$file")" 2 'I3: links'
    for n in '' .2 .3 .5; do
        atomshim verify "$file$n" >/dev/null
        [[ "$(atomshim info "$file$n")" == *'format: sized'* ]] # managed, not written raw
    done
}

needs_namespaces() {
    unshare "$@" true 2>/dev/null || skip "needs the right to unshare $*"
}

@test "I2 I7 without /proc" {
    needs_namespaces -m
    for shell in dash bash; do
        rm -f "$MANAGED"/*
        run unshare -m sh -c 'mount -t tmpfs none /proc && exec env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" "$@"' sh \
            timeout 60 "$shell" -c "$redirections"
        assert_equal "$status" 0
        assert_redirected "$output"
    done
}

@test "without /proc, a process that maps a file leaves no guardian behind that holds the mapping itself" {
    needs_namespaces -m
    needs pidwait
    for way in kill errno; do
        printf old >"$file"
        unshare -m sh -c 'mount -t tmpfs none /proc && exec env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" "$@"' sh \
            "$PROGRAMS/without_memfd" "$way" timeout 60 "$PROGRAMS/calls_sync" msync "$file" 3>&-
        # pidwait does not match its own pattern, but timeout would
        run timeout 60 pidwait -f "calls_syn[c] msync $file"
        [ "$status" -ne 124 ] || { pkill -KILL -f "calls_syn[c] msync $file"; return 1; }
    done
}

@test "without /proc, the guardian of a program that takes the place of one that mapped the file ends, too" {
    needs_namespaces -m
    needs pidwait python3
    for format in plain sized; do
        printf oldold >"$file"
        ATOMSHIM_FORMAT=$format unshare -m sh -c 'mount -t tmpfs none /proc && exec env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" "$@"' sh \
            python3 -S -c 'import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.set_inheritable(fd, True)
mapping = mmap.mmap(fd, 0)
mapping[3:6] = b"map"
os.execv(sys.argv[2], [sys.argv[2], str(fd), "write", "new"])' "$file" "$PROGRAMS/static_writer" 3>&-
        run timeout 60 pidwait -f "${file%g}[g] $PROGRAMS/static_writer"
        [ "$status" -ne 124 ] || { pkill -KILL -f "${file%g}[g] $PROGRAMS/static_writer"; return 1; }
        assert_equal "$(payload "$file")" newmap "$format"
    done
}

@test "I2 I7 without /proc: every call, fork, exec and exit" {
    needs_namespaces -m
    run unshare -m bash -c '
        mount -t tmpfs none /proc || exit
        for program in calls_open calls_close calls_exit calls_exec calls_stream calls_sync calls_rename; do
            for name in $("$PROGRAMS/$program"); do
                case $name in
                # the test itself looks into /proc for mappings and killed processes
                fexecve | exec-no-more | exec-killed | spawn-taken-numbers | *mapp* | munmap | freopen*) continue ;;
                # nothing tells which file a mapping is of: any may be meant
                msync_elsewhere) continue ;;
                esac
                printf old >"$file"
                ln -f "$file" "$file.link2"
                LD_PRELOAD=$ROOT/build/libatomshim.so ATOMSHIM_PATHS=$MANAGED/ timeout 60 "$PROGRAMS/$program" "$name" "$file" >&2 ||
                    echo "$program $name" >>"$BATS_TEST_TMPDIR/failed"
                rm -rf "${MANAGED:?}"/*
                echo "$program $name" >>"$BATS_TEST_TMPDIR/ran"
            done
        done'
    echo "$output"
    [ "$status" -eq 0 ]
    assert_equal "$(cat "$BATS_TEST_TMPDIR/failed" 2>/dev/null)" ''
    [ "$(cut -d ' ' -f 1 "$BATS_TEST_TMPDIR/ran" | sort -u | wc -l)" -eq 7 ]
}

@test "I2 seccomp filters that kill or refuse memfd_create" {
    for way in kill errno; do
        rm -f "$MANAGED"/*
        run wrapped "$PROGRAMS/without_memfd" "$way" timeout 60 dash -c "$redirections"
        assert_equal "$status" 0 "$way"
        assert_redirected "$output"
    done
    printf old >"$file"
    wrapped "$PROGRAMS/without_memfd" self "$file"
    assert_equal "$(payload "$file") $(generation "$file")" 'sandboxed 2'
}

@test "I2 I7 a seccomp filter that kills for memfd_create: every call" {
    for program in calls_open calls_close calls_exit calls_exec calls_lock calls_stream calls_sync calls_status situations trouble; do
        for name in $("$PROGRAMS/$program"); do
            case $name in
            exec-no-more | closefrom_older) continue ;; # looks for a memfd; sets up a filter by prctl()
            esac
            printf old >"$file"
            wrapped "$PROGRAMS/without_memfd" kill timeout 60 "$PROGRAMS/$program" "$name" "$file" 3>&- ||
                echo "$program $name" >>"$BATS_TEST_TMPDIR/failed"
            rm -rf "${MANAGED:?}"/*
        done
    done
    assert_equal "$(cat "$BATS_TEST_TMPDIR/failed" 2>/dev/null)" ''
}

@test "a seccomp filter that a container has from its first process on is tried out in a child" {
    needs_namespaces --pid --fork --mount-proc
    wrapped unshare --pid --fork --mount-proc "$PROGRAMS/without_memfd" kill sh -c 'echo new >"$file"'
    assert_equal "$(payload "$file")" new
    wrapped unshare --pid --fork --mount-proc "$PROGRAMS/without_memfd" other \
        sh -c 'exec 3>"$file"; LD_PRELOAD= readlink /proc/$$/fd/3; echo newer >&3' >"$BATS_TEST_TMPDIR/link"
    grep -q ^/memfd:atomshim "$BATS_TEST_TMPDIR/link"
    assert_equal "$(payload "$file")" newer
    # no child tries out close_range()
    wrapped unshare --pid --fork --mount-proc "$PROGRAMS/without_memfd" ranges dash -c 'echo one >"$file"; echo two >"$file"'
    assert_equal "$(payload "$file")" two
}

@test "without /proc: links, relative paths and directory descriptors lead to the managed file" {
    needs_namespaces -m
    mkdir "$MANAGED/sub"
    ln -s ../../managed/./app.cfg "$MANAGED/sub/link"
    ln -s "$MANAGED/sub" "$BATS_TEST_TMPDIR/elsewhere"
    for how in "open('$BATS_TEST_TMPDIR/elsewhere/link', flags)" "open('../app.cfg', flags)" \
        "open('link', flags, dir_fd=os.open('$BATS_TEST_TMPDIR/elsewhere', os.O_RDONLY))"; do
        printf old >"$file"
        (cd "$MANAGED/sub" && wrapped unshare -m sh -c 'mount -t tmpfs none /proc && exec "$@"' sh python3 -S -c "
import os
flags = os.O_WRONLY | os.O_TRUNC
fd = os.$how
os.write(fd, b'new')
os.close(fd)")
        assert_equal "$(payload "$file") $(generation "$file")" 'new 1' "$how"
    done
}

@test "I7 without /proc and any directory to write in: the open fails and says so, the file stays as it is" {
    [ "$(id -u)" -eq 0 ] || skip 'chroot needs root'
    chmod 666 "$file"
    ATOMSHIM_PATHS=/app.cfg LD_PRELOAD=$ROOT/build/libatomshim.so run python3 -S -c "
import os
os.chroot('$MANAGED')
os.chdir('/')
os.setuid(65534)
os.open('app.cfg', os.O_WRONLY | os.O_TRUNC)"
    [ "$status" -eq 1 ]
    [[ "$output" == *'no memory for a managed file'*'Cannot allocate memory'* ]]
    assert_equal "$(cat "$file")" old
}

@test "I2 vm.memfd_noexec forbids memory files that may be executed, and any" {
    needs_namespaces --pid --fork --mount-proc
    for value in 1 2; do
        rm -f "$MANAGED"/*
        run unshare --pid --fork --mount-proc sh -c "echo $value >/proc/sys/vm/memfd_noexec"' 2>/dev/null || exit 99
            exec env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" "$@"' sh timeout 60 dash -c "$redirections"
        [ "$status" -ne 99 ] || skip 'this kernel has no vm.memfd_noexec'
        assert_redirected "$output"
    done
}

@test "I2 in a chroot that was entered with a file open, and in a user namespace" {
    needs_namespaces -Ur
    rm -f "$MANAGED"/*
    run wrapped unshare -Ur timeout 60 dash -c "$redirections"
    assert_redirected "$output"
    [ "$(id -u)" -eq 0 ] || skip 'the chroot needs root; the user namespace passed'
    printf old >"$file"
    mkdir "$BATS_TEST_TMPDIR/root"
    wrapped python3 -c '
import os, sys
f = open(os.environ["file"], "w")
os.chroot(sys.argv[1]); os.chdir("/")
f.write("from the chroot"); f.close()' "$BATS_TEST_TMPDIR/root"
    assert_equal "$(payload "$file")" 'from the chroot'
}

@test "I7 setuid() after open" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    wrapped python3 -c '
import os
f = open(os.environ["file"], "w")
os.setgid(65534); os.setuid(65534)
f.write("as nobody"); f.close()'
    assert_equal "$(payload "$file")" 'as nobody'
}

@test "less than 6 KiB of stack: handlers and threads have as little as 8" {
    for name in $("$PROGRAMS/stack"); do
        printf old >"$file"
        wrapped "$PROGRAMS/stack" "$name" "$file" # stderr says what failed
        printf old >"$file"
        wrapped "$PROGRAMS/without_memfd" kill "$PROGRAMS/stack" "$name" "$file"
    done
}

@test "I2 I7 constructors and destructors of other libraries, before and behind ours" {
    cat >"$BATS_TEST_TMPDIR/other.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static FILE *left_open;

static void put(const char *end)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof path, "%s.%s.fd", getenv("file"), end);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, end, strlen(end)) < 0 || close(fd) != 0)
        _exit(9);
    snprintf(path, sizeof path, "%s.%s.stream", getenv("file"), end);
    left_open = fopen(path, "w");
    if (left_open == NULL || fputs(end, left_open) < 0)
        _exit(9);
}

__attribute__((constructor)) static void begin(void)
{
    put("begin");
}

__attribute__((destructor)) static void end(void)
{
    if (fclose(left_open) != 0)
        _exit(9);
    put("end"); /* left for exit() to flush */
}
C
    cc -shared -fPIC -o "$BATS_TEST_TMPDIR/other.so" "$BATS_TEST_TMPDIR/other.c"
    for order in "$BATS_TEST_TMPDIR/other.so:$ROOT/build/libatomshim.so" "$ROOT/build/libatomshim.so:$BATS_TEST_TMPDIR/other.so"; do
        rm -f "$MANAGED"/*
        timeout 60 env LD_PRELOAD="$order" ATOMSHIM_PATHS="$MANAGED/" /bin/true
        for end in begin end; do
            for way in fd stream; do
                assert_equal "$(payload "$file.$end.$way") $(generation "$file.$end.$way")" "$end 1" "$order $end $way"
            done
        done
    done
}

@test "I2 other preloads, before ours and behind it" {
    for other in libjemalloc.so.2 libtcmalloc_minimal.so.4 libeatmydata.so libfakeroot/libfakeroot-sysv.so coreutils/libstdbuf.so; do
        path=$(find /usr/lib /usr/libexec -path "*/$other" 2>/dev/null | head -n 1)
        if [ -z "$path" ]; then
            echo "# skipped: $other is not installed" >&3
            continue
        fi
        for order in "$path:$ROOT/build/libatomshim.so" "$ROOT/build/libatomshim.so:$path"; do
            rm -f "$MANAGED"/*
            run env LD_PRELOAD="$order" ATOMSHIM_PATHS="$MANAGED/" _STDBUF_O=L timeout 60 dash -c "$redirections"
            assert_equal "$status" 0 "$order"
            assert_redirected "$output"
            LD_PRELOAD=$order ATOMSHIM_PATHS=$MANAGED/ timeout 60 python3 -c '
import os, subprocess
open(os.environ["file"], "w").write("python")
subprocess.run(["cat", os.environ["file"]], stdout=open(os.environ["file"] + ".copy", "w"))'
            assert_equal "$(payload "$file.copy")" python "$order"
        done
    done
}

@test "I2 fakeroot, stdbuf and eatmydata as commands, around and inside" {
    for command in fakeroot 'stdbuf -o0' eatmydata; do
        command -v "${command%% *}" >/dev/null || continue
        rm -f "$MANAGED"/*
        # shellcheck disable=SC2086
        run $command "$ROOT/build/atomshim" run --path "$MANAGED/" -- timeout 60 dash -c "$redirections"
        assert_redirected "$output"
        rm -f "$MANAGED"/*
        # shellcheck disable=SC2086
        run atomshim run --path "$MANAGED/" -- $command timeout 60 dash -c "$redirections"
        assert_redirected "$output"
    done
}

@test "valgrind has nothing to say of a program under the shim" {
    command -v valgrind >/dev/null || skip 'valgrind is not installed'
    run timeout 120 env LD_PRELOAD="$ROOT/build/libatomshim.so" ATOMSHIM_PATHS="$MANAGED/" valgrind --quiet --error-exitcode=9 \
        dash -c "$redirections"
    assert_equal "$status" 0 "$output"
    assert_redirected "$output"
}

@test "I2 programs built with AddressSanitizer: its library goes first" {
    printf '%s\n' '#include <stdio.h>' 'int main(int n, char **a) { FILE *f = fopen(a[1], "w"); return n < 2 || fputs("asan", f) < 0 || fclose(f) != 0; }' >"$BATS_TEST_TMPDIR/a.c"
    cc -fsanitize=address -o "$BATS_TEST_TMPDIR/a" "$BATS_TEST_TMPDIR/a.c" 2>/dev/null || skip 'no AddressSanitizer'
    LD_PRELOAD=$(cc -print-file-name=libasan.so):$ROOT/build/libatomshim.so ATOMSHIM_PATHS=$MANAGED/ "$BATS_TEST_TMPDIR/a" "$file"
    assert_equal "$(payload "$file") $(generation "$file")" 'asan 1'
}

@test "I2 16 descriptors, and a million, or as many as may be set" {
    rm -f "$MANAGED"/*
    (
        ulimit -n 16
        wrapped timeout 60 dash -c "$redirections" >"$BATS_TEST_TMPDIR/seen"
    )
    assert_redirected "$(cat "$BATS_TEST_TMPDIR/seen")"
    most=1048576
    (ulimit -n "$most") 2>/dev/null || most=$(ulimit -Hn)
    export most
    rm -f "$MANAGED"/*
    (
        ulimit -n "$most"
        wrapped timeout 60 bash -c "$redirections" >"$BATS_TEST_TMPDIR/seen"
        # daemons do this before they go on, with the file open all the while
        wrapped timeout 60 python3 -c '
import os, subprocess
f = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
os.dup2(f, 1)
for fd in range(3, int(os.environ["most"])):
    try: os.close(fd)
    except OSError: pass
os.closerange(3, 1048576)
subprocess.run(["/bin/echo", "kept"], close_fds=True)'
    )
    assert_equal "$(payload "$file")" kept
}

@test "I2 a thread that calls while another one sets the shim up waits for it; what the set-up calls need not" {
    wrapped sh -c 'printf sized >"$file"'
    cc -D_GNU_SOURCE -shared -fPIC -o "$BATS_TEST_TMPDIR/race.so" "$ROOT/tests/lib/set_up_race.c" -lpthread
    run timeout 60 env LD_PRELOAD="$BUILT/libatomshim.so:$BATS_TEST_TMPDIR/race.so" ATOMSHIM_PATHS="$MANAGED/" /bin/true
    [ "$status" -ne 77 ] || skip 'needs a kernel that tells of calls'
    # in the middle of the set-up the thread that makes it reads the bytes of the file
    assert_equal "$status $output" '0 #atomshim, sized, sized'
}

# A process begins system(3), which hands the file over, and executes a program past the shim, which
# closes its descriptor of the file.
hands_over_and_execs='
import ctypes, os, sys, threading
os.closerange(3, 7) # a shell names descriptors by one digit
def hand_over_and_exec(fd, line, *program):
    ready, ready_end = os.pipe()
    os.set_inheritable(fd, True)
    os.set_inheritable(ready_end, True)
    threading.Thread(target=os.system, args=(line % (fd, ready_end),), daemon=True).start()
    os.read(ready, 1)
    os.set_inheritable(fd, False)
    words = (ctypes.c_char_p * (len(program) + 1))(*(word.encode() for word in program), None)
    libc = ctypes.CDLL("libc.so.6")
    libc.execve(words[0], words, ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ"))
'

@test "I7 a program that got a session and no descriptor of the file: it commits if it is the last, and else lets go" {
    needs python3
    mkfifo "$BATS_TEST_TMPDIR/begun" "$BATS_TEST_TMPDIR/go" "$BATS_TEST_TMPDIR/end"
    exec 7<>"$BATS_TEST_TMPDIR/end" 8<>"$BATS_TEST_TMPDIR/begun" 9<>"$BATS_TEST_TMPDIR/go"
    # the shell of system(3) has closed the file: the program is the last
    wrapped timeout 60 python3 -c "$hands_over_and_execs"'
fd = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"new")
hand_over_and_exec(fd, "exec %d>&-; echo >&%d; read -r x <&7", "/bin/sh", "-c", "echo >&8; read -r x <&9")' 3>&- &
    read -r -t 60 _ <&8
    assert_equal "$(payload "$file")" new
    echo >&9
    wait $!
    # its parent has the file open
    wrapped timeout 60 python3 -c "$hands_over_and_execs"'
fd = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"newer")
if os.fork() == 0:
    hand_over_and_exec(fd, ": %d; echo >&%d; read -r x <&7", "/bin/sh", "-c", "ls /proc/$$/fd; :")
os.wait()' >"$BATS_TEST_TMPDIR/numbers"
    printf '\n\n' >&7 # both shells of system(3) end
    assert_equal "$(grep -c '^7..$' "$BATS_TEST_TMPDIR/numbers")" 0 "$(cat "$BATS_TEST_TMPDIR/numbers")"
    assert_equal "$(payload "$file")" newer
}

# The sum of a file without /proc is one of st_ino * 31 + st_dev: of 32 file systems two have numbers
# that differ by a multiple of 31.
@test "I7 without /proc two files of one sum are not committed, and a line says so; several opens of one file are told apart" {
    needs_namespaces -m
    needs python3
    run unshare -m python3 -c '
import os, subprocess, sys
folders = [os.environ["MANAGED"] + f"/{n}" for n in range(32)]
for folder in folders:
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
device = {folder: os.stat(folder).st_dev for folder in folders}
one, other = next((a, b) for a in folders for b in folders if device[a] < device[b] and (device[b] - device[a]) % 31 == 0)
def make(path, number):
    while True:
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"old")
        if number in (None, os.fstat(fd).st_ino): return os.fstat(fd).st_ino
        os.unlink(path)
make(one + "/a", make(other + "/b", None) + (device[other] - device[one]) // 31)
run = lambda line: subprocess.run(["bash", "-c", line, "bash", one + "/a", other + "/b"], check=True,
                                  env=dict(os.environ, LD_PRELOAD=os.environ["BUILT"] + "/libatomshim.so", ATOMSHIM_PATHS=os.environ["MANAGED"] + "/"))
run("exec 3<$1 4<$1 5<>$1; exec bash -c \"cat <&3; printf new >&5; cat <&4\"")
run("cat $1")
print()
run("exec 5<>$1 6<>$2; exec bash -c \"printf lost >&5; printf lost >&6\"")
run("cat $1 $2")'
    [ "$status" -eq 0 ]
    assert_equal "${lines[0]}" oldoldnew
    assert_equal "${lines[-1]}" newold
    [ "${#lines[@]}" -ge 4 ]
    for line in "${lines[@]:1:${#lines[@]}-2}"; do
        [[ $line == *'error: this process inherited managed files and cannot tell them apart without /proc; it does not commit one of them' ]]
    done
}

@test "I2 at the start there is no memory to copy the settings to: they count all the same" {
    ATOMSHIM_LOG_FILE=/none/$(printf '%0600d' 0) with_faults 'copy_environment mmap 1 ENOMEM' -- sh -c 'printf new >"$file"'
    assert_equal "$(payload "$file") $(generation "$file")" 'new 1'
}

@test "a process that shares its descriptors ends, on a kernel without CLOSE_RANGE_UNSHARE: the parent keeps them" {
    with_faults 'leave_shared_table close_range 1+ EINVAL' -- "$PROGRAMS/calls_exit" clone "$file"
    assert_equal "$status" 0 "$output"
}
