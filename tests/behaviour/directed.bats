#!/usr/bin/env bats
# Failures, and programs that come in between, at places of shim/session/ that no other test
# reaches: tests/lib/with_faults.c. After each the file holds the old or the new content, and nothing
# is lost without a word.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/file
    rescue=$BATS_TEST_TMPDIR/rescue
    log=$BATS_TEST_TMPDIR/log
    mkdir "$rescue"
    export file log ATOMSHIM_RESCUE_DIR=$rescue ATOMSHIM_LOG_FILE=$log
    mkfifo "$BATS_TEST_TMPDIR/go" "$BATS_TEST_TMPDIR/done"
    export go=$BATS_TEST_TMPDIR/go done=$BATS_TEST_TMPDIR/done
    wrapped sh -c 'printf 0123456789 >"$file"'
    python=$(PATH=/usr/bin:$PATH command -v python3)
}

# The other thread of threads(), as a stranger.
other_thread='!: >"$go"; read -r _ <"$done"'

# threads ENTRY... -- MAIN OTHER: with_faults for a program whose second thread executes the
# statements OTHER when $other_thread acts, while the first is in a call of MAIN. Both have a
# descriptor `fd` of the file.
threads() {
    with_faults "${@:1:$#-2}" "$python" -c 'import os, signal, sys, threading
file = os.environ["file"]
fd = os.open(file, os.O_RDWR)
def other():
    done = os.open(os.environ["done"], os.O_RDWR)
    os.close(os.open(os.environ["go"], os.O_RDONLY))
    exec(sys.argv[2], globals())
    os.write(done, b"\n") # takes no number that was closed
threading.Thread(target=other, daemon=True).start()
exec(sys.argv[1])' "${@: -2}"
}

# Writes A over the first byte of the file, of which it has locked a range, so that its commit
# merges what others commit meanwhile. Prints the error of the close.
locks_and_writes='import fcntl, os
fd = os.open(os.environ["file"], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1)
fcntl.lockf(fd, fcntl.LOCK_UN, 1)
os.pwrite(fd, b"A", 0)
try:
    os.close(fd)
except OSError as error:
    print(os.strerror(error.errno))'

# Another program commits B in the middle of the file.
other='!printf B | wrapped dd of="$file" bs=1 seek=5 conv=notrunc status=none'

@test "merge: a program that comes in between loses nothing" {
    with_faults "=commit_alone fstat 3 $other" -- "$python" -c "$locks_and_writes"
    assert_equal "$output" ''
    assert_equal "$(payload "$file")" A1234B6789
}

@test "I5 I7 merge: the buffer cannot be asked for its size" {
    with_faults "=commit_alone fstat 3 $other" '=session_commit_merged fstat 1+ EIO' -- \
        "$python" -c "$locks_and_writes"
    assert_equal "$output" 'Input/output error'
    assert_equal "$(payload "$file")" 01234B6789 'the content of the other program'
    for new in "$rescue"/*; do
        assert_equal "$(cat "$new")" A123456789 'the rescue file'
    done
}

# The slot of the session that ends is the next one's.
@test "I4 another thread closes the file, and opens another, while this one opens it again" {
    threads "session_open_again rt_sigprocmask 1 $other_thread" -- \
        'os.pwrite(fd, b"A", 0); print(os.pread(os.open(file, os.O_RDWR), 10, 0).decode())' \
        'os.close(fd); os.write(os.open(file + "2", os.O_RDWR | os.O_CREAT), b"wrong")'
    assert_equal "$output" A123456789
    assert_equal "$(payload "$file")" A123456789
}

# A name elsewhere publishes what is written, as chown() does.
@test "I2 another thread closes the file, and writes to another, while this one gives it a second name" {
    wrapped sh -c 'printf old >"${file}2"'
    threads "session_settle_rights rt_sigprocmask 2 $other_thread" -- \
        'os.pwrite(fd, b"A", 0); os.link(file, os.environ["log"]); os.kill(os.getpid(), signal.SIGKILL)' \
        'os.close(fd); os.write(os.open(file + "2", os.O_WRONLY | os.O_TRUNC), b"half")'
    assert_equal "$status" 137
    assert_equal "$(payload "${file}2")" old
    assert_equal "$(payload "$file")" A123456789
}

@test "I2 I7 another thread unmaps memory while this one asks for the status: nothing is published, and its lock stays" {
    threads "=look_at_buffer fstat 1 $other_thread" -- \
        'import fcntl
fcntl.lockf(fd, fcntl.LOCK_EX, 1)
os.pwrite(fd, b"A", 0)
os.stat(file)
if os.fork() == 0:
    try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError as error: print(os.strerror(error.errno), flush = True)
    os._exit(0)
os.wait()
os.kill(os.getpid(), signal.SIGKILL)' 'import mmap; mmap.mmap(-1, 4096).close()'
    assert_equal "$status $output" '137 Resource temporarily unavailable'
    assert_equal "$(payload "$file")" 0123456789
}

# The child is killed without a close. The other thread finds the first one at work, and leaves it
# to that one to look once more.
@test "I7 the last holder is killed while a thread looks at the file: it is committed at once" {
    threads "count_writers getdents64 2 $other_thread" -- \
        'os.pwrite(fd, b"A", 0)
child = os.fork()
if child == 0: signal.pause()
os.close(fd)
os.stat(file)
os.kill(os.getpid(), signal.SIGKILL)' \
        'os.kill(child, signal.SIGKILL); os.waitpid(child, 0); os.open(file + "2", os.O_RDWR | os.O_CREAT)'
    assert_equal "$status" 137
    assert_equal "$(payload "$file")" A123456789
}

@test "I5 another thread closes the file while this one sets its mode" {
    chmod 600 "$file"
    threads "session_set_mode rt_sigprocmask 1 $other_thread" -- \
        'os.pwrite(fd, b"A", 0)
try: os.fchmod(fd, 0o644)
except OSError as error: print(os.strerror(error.errno))' 'os.close(fd)'
    assert_equal "$output" 'Bad file descriptor'
    assert_equal "$(payload "$file") $(stat -c %a "$file")" 'A123456789 600'
}

@test "msync commits the file that is mapped there, of two" {
    wrapped "$python" -c 'import mmap, os
maps = []
for name in "", "2":
    fd = os.open(os.environ["file"] + name, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 10)
    maps.append(mmap.mmap(fd, 10))
for each in maps: each[0:1] = b"A"
maps[1].flush()
os.kill(os.getpid(), 9)' || [ $? -eq 137 ]
    assert_equal "$(payload "$file") $(payload "${file}2" | tr '\0' 0)" '0123456789 A000000000'
}

# ---- merge.c, with the stranger in between ----

# merge_fails ENTRY ERROR: with $other in between, each attempt to merge fails so.
merge_fails() {
    with_faults "=commit_alone fstat 3 $other" "$1" -- "$python" -c "$locks_and_writes"
    assert_equal "$output" "$2"
    assert_equal "$(payload "$file")" 01234B6789 'the content of the other program'
    for new in "$rescue"/*; do
        assert_equal "$(cat "$new")" A123456789 'the rescue file'
    done
}

@test "I5 I7 merge: no descriptor is left" {
    merge_fails 'session_commit_merged memfd_create 1+ EMFILE' 'Too many open files'
}

@test "I5 I7 merge: a buffer cannot be read" {
    merge_fails 'read_chunk pread64 1+ EIO' 'Input/output error'
}

@test "I5 I7 merge: a buffer is full" {
    merge_fails 'write_changes pwrite64 1+ ENOSPC' 'No space left on device'
}

@test "merge: a short write goes on" {
    with_faults "=commit_alone fstat 3 $other" 'write_changes pwrite64 1 short' -- \
        "$python" -c "${locks_and_writes/b\"A\"/b\"AAA\"}"
    assert_equal "$output" ''
    assert_equal "$(payload "$file")" AAA34B6789
}

@test "I7 merge: where the first content cannot be kept, a line tells that the other's change is lost" {
    ATOMSHIM_LOG=warn with_faults "=commit_alone fstat 3 $other" 'session_set_kept F_DUPFD_CLOEXEC 1+ EMFILE' -- \
        "$python" -c "$locks_and_writes"
    assert_equal "$output" ''
    assert_equal "$(payload "$file")" A123456789
    grep -q 'that change is overwritten' "$log"
}

# ---- locks ----

# lock_fails ENTRY ERROR: another program commits, and then the content cannot be loaded behind a
# lock.
lock_fails() {
    wrapped sh -c 'printf 0123456789 >"$file"'
    with_faults "shim_lock fstat 1 $other" "$1" -- "$python" -c 'import fcntl, os
fd = os.open(os.environ["file"], os.O_RDWR)
try: fcntl.lockf(fd, fcntl.LOCK_EX)
except OSError as error: print(os.strerror(error.errno))
os.close(fd)'
    assert_equal "$output" "$2"
    assert_equal "$(payload "$file")" 01234B6789
}

@test "I4 no lock is given on content that cannot be loaded" {
    lock_fails '=refresh_alone fstat 1 EIO' 'Input/output error'
    lock_fails 'store_sum pread64 1+ EIO' 'Input/output error'
    lock_fails 'refresh_alone memfd_create 1+ EMFILE' 'Too many open files'
    lock_fails 'replace_buffer mmap 1 ENOMEM' 'Cannot allocate memory'
}

@test "I4 no lock is given to a reader whose buffer cannot be made or opened anew" {
    for entry in 'session_refresh_reader memfd_create 1+ EMFILE' '=session_refresh_reader fstat 1 EIO' \
        '=swap_one openat 1+ EMFILE'; do
        wrapped sh -c 'printf 0123456789 >"$file"'
        with_faults "shim_lock fstat 1 $other" "$entry" -- "$python" -c 'import fcntl, os
fd = os.open(os.environ["file"], os.O_RDONLY)
try: fcntl.lockf(fd, fcntl.LOCK_SH)
except OSError as error: print("error")
print(os.read(fd, 10).decode())'
        assert_equal "$output" $'error\n0123456789' "$entry"
    done
}

@test "a descriptor with O_PATH stays one, where a lock loads the content anew" {
    with_faults "shim_lock fstat 1 $other" -- "$python" -c 'import fcntl, os
fd = os.open(os.environ["file"], os.O_RDONLY)
path = os.open(f"/proc/self/fd/{fd}", os.O_PATH)
fcntl.lockf(fd, fcntl.LOCK_SH)
print(os.read(fd, 10).decode())
try: os.read(path, 10)
except OSError as error: print(os.strerror(error.errno))'
    assert_equal "$output" $'01234B6789\nBad file descriptor'
}

@test "a lock through a second open holds, wherever its description is" {
    for entry in 'open_lock_inode openat 1+ EMFILE' 'open_lock_inode F_DUPFD_CLOEXEC 1+ EMFILE'; do
        with_faults "$entry" -- "$python" -c 'import fcntl, os
fd = os.open(os.environ["file"], os.O_RDWR)
again = os.open(os.environ["file"], os.O_RDWR)
fcntl.flock(again, fcntl.LOCK_EX)
os.environ.pop("LD_PRELOAD")
os.system("flock -n \"$file\" true || echo held")
fcntl.flock(again, fcntl.LOCK_UN)
os.system("flock -n \"$file\" true && echo free")'
        assert_equal "$output" $'held\nfree' "$entry"
    done
}

@test "two threads that lock through one second open at once share its description" {
    threads "session_lock_inode rt_sigprocmask 1 $other_thread" -- \
        'import fcntl
again = os.open(file, os.O_RDWR)
fcntl.flock(again, fcntl.LOCK_SH)
os.environ.pop("LD_PRELOAD")
os.system("ls -l /proc/$PPID/fd | grep -c \"> $file\$\"")' \
        'fcntl.flock(again, fcntl.LOCK_SH)'
    assert_equal "$output" 2 'descriptors of the file: one for each description'
}

# ---- other opens ----

@test "an appender that has not written sees what others append" {
    wrapped "$python" -c 'import os, subprocess
fd = os.open(os.environ["file"], os.O_WRONLY | os.O_APPEND)
subprocess.run(["sh", "-c", "printf B >>\"$file\""], check=True)
print(open(os.environ["file"]).read(), os.stat(os.environ["file"]).st_size)' >"$BATS_TEST_TMPDIR/result"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/result")" '0123456789B 11'
}

@test "I5 no file is made for a buffer whose name would be too long" {
    ATOMSHIM_RESCUE_DIR=$BATS_TEST_TMPDIR/$(printf '%0250d/%0250d/%0250d' 0 0 0)
    mkdir -p "$ATOMSHIM_RESCUE_DIR"
    with_faults 'create_memfd memfd_create 1+ ENOSYS' '=create_named openat '{1..5}' EACCES' -- \
        sh -c 'echo new >"$file"'
    [ "$status" -ne 0 ]
    assert_equal "$(payload "$file")" 0123456789
}

@test "I5 a commit is done, though the line that tells of it cannot be written" {
    ATOMSHIM_LOG=info with_faults 'session_tell_commit pread64 1+ EIO' -- sh -c 'printf new >"$file"'
    assert_equal "$status $(payload "$file")" '0 new'
    run ! grep -q committed "$log"
}

# The bytes are those of the first commit of the file when the new image lies behind the old
# content: a plain file that a reader takes for an image.
@test "I1 plain bytes that look like an image are written in one" {
    copy=$BATS_TEST_TMPDIR/copy
    export copy
    rm "$file"
    echo old >"$file"
    with_faults 'first_commit fdatasync 2 !cp "$file" "$copy"' -- sh -c 'echo new >"$file"'
    assert_equal "$status" 0 "$output"
    [ "$(head -c 4 "$copy")" = old ]
    ATOMSHIM_FORMAT=plain wrapped sh -c 'cat >"${file}2"' <"$copy"
    atomshim cat "${file}2" | cmp - "$copy"
    wrapped cat "${file}2" | cmp - "$copy"
}

@test "I7 a sync fails where another program has claimed the file meanwhile" {
    wrapped "$python" -c 'import os, subprocess, sys
def begin():
    global fd
    fd = os.open(os.environ["file"], os.O_RDWR)
    write("A")
def write(text):
    os.pwrite(fd, text.encode(), 0)
    os.fsync(fd)
begin()
other = subprocess.Popen([sys.executable, "-c", """import os
fd = os.open(os.environ["file"], os.O_RDWR)
for text in b"BC":
    os.pwrite(fd, bytes([text]), 0)
    os.fsync(fd)
print(flush=True)
input()"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
other.stdout.readline()
try: write("D")
except OSError as error: print(os.strerror(error.errno))
other.communicate(b"\n")
try: os.close(fd)
except OSError as error: print(os.strerror(error.errno))' >"$BATS_TEST_TMPDIR/result"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/result")" $'Device or resource busy\nDevice or resource busy'
    assert_equal "$(payload "$file")" C123456789
    assert_equal "$(cat "$rescue"/*)" D123456789
    grep -q 'not synced: another program has claimed it by fsync()' "$log"
}

@test "I5 ATOMSHIM_ISOLATION=session: an open mends a plain file whose commit died" {
    rm "$file"
    seq 700 >"$file" # the new content is shorter: a cut is the first change
    run strace -f -qq -o /dev/null -e trace=pwritev -e inject=pwritev:signal=KILL \
        env LD_PRELOAD="$BUILT/libatomshim.so" ATOMSHIM_PATHS="plain=$MANAGED/" sh -c 'seq 1001 1300 >"$file"'
    run ! cmp -s "$file" <(seq 1001 1300)
    run -0 env ATOMSHIM_PATHS="plain=$MANAGED/" ATOMSHIM_ISOLATION=session LD_PRELOAD="$BUILT/libatomshim.so" \
        ATOMSHIM_LOCK_TIMEOUT=0 ATOMSHIM_LOG_FILE="$log" sh -c '(exec 3>>"$file"; sh -c ": >>\"\$file\"" 2>&1); :'
    [[ $output == *'Connection timed out'* ]] # the open has mended it, and has its lock
    cmp "$file" <(seq 1001 1300)
}

# The numbers where the next program looks for a beacon are taken while the shim lights it.
@test "I7 exec: a session for which there is no beacon is committed by a guardian" {
    threads "light_beacon F_DUPFD 1 $other_thread" -- \
        'import ctypes # its calls let other threads run
os.set_inheritable(fd, True)
os.pwrite(fd, b"A", 0)
ctypes.CDLL(None).execlp(b"sh", b"sh", b"-c", f"printf B >&{fd}".encode(), None)' \
        'import resource
first = min(768, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4)
for n in range(first, first + 8):
    try: os.fstat(n)
    except OSError: os.dup2(0, n, False)'
    assert_equal "$status" 0 "$output"
    assert_equal "$(wrapped cat "$file")" B123456789 'an open waits for the guardian'
}

@test "a file of holes whose holes cannot be asked for is one without" {
    rm "$file"
    truncate -s 1T "$file" || skip 'no file of 1 TiB here'
    for entry in 'count_data lseek 1 EINVAL' 'count_data lseek 1+ EINVAL'; do
        with_faults "$entry" -- head -c 1 "$file"
        [ "$status" -ne 0 ]
        [[ $output == *'Cannot allocate memory'* ]]
    done
}

@test "msync commits, where bytes behind the end cannot be cleared" {
    for entry in '=clear_tail fstat 1+ EIO' '=clear_tail mmap 1+ ENOMEM'; do
        with_faults "$entry" -- "$python" -c 'import mmap, os
fd = os.open(os.environ["file"], os.O_RDWR)
map = mmap.mmap(fd, 10)
map[0:1] = b"A"
map.flush()
os.kill(os.getpid(), 9)'
        assert_equal "$status $(payload "$file")" '137 A123456789' "$entry"
        wrapped sh -c 'printf 0123456789 >"$file"'
    done
}

# The first session keeps its first content at one of them; at the other is the second one's file.
@test "numbers that the program takes for itself stay the program's" {
    wrapped "$python" -c 'import fcntl, os, subprocess
fd = os.open(os.environ["file"], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1)
second = os.open(os.environ["file"] + "2", os.O_RDWR | os.O_CREAT)
mine = os.open("/", os.O_RDONLY)
entries = subprocess.run(["sh", "-c", "ls -l /proc/$PPID/fd"], text=True, check=True, stdout=subprocess.PIPE,
                         env={"PATH": os.environ["PATH"]}).stdout.split("\n")
numbers = [int(entry.split()[-3 - entry.endswith("(deleted)")]) for entry in entries
           if "atomshim-scratch" in entry or entry.endswith("file2")]
assert len(numbers) == 2
for number in numbers: os.dup2(mine, number)
for each in fd, second:
    os.pwrite(each, b"A", 0)
    os.close(each)
for number in numbers: assert os.path.samestat(os.fstat(number), os.fstat(mine))'
    assert_equal "$(payload "$file") $(payload "${file}2")" 'A123456789 A'
}

@test "a POSIX lock that an exec keeps ends with the first close" {
    wrapped "$python" -c 'import fcntl, os, sys
fd = os.open(os.environ["file"], os.O_RDWR)
os.set_inheritable(fd, True)
fcntl.lockf(fd, fcntl.LOCK_EX, 1)
os.execv(sys.executable, [sys.executable, "-c", """import os, subprocess, sys
fd = int(sys.argv[1])
again = os.dup(fd)
other = "import fcntl, os; fcntl.lockf(os.open(os.environ[\\"file\\"], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 1)"
def is_free():
    return subprocess.run([sys.executable, "-c", other], stderr=subprocess.DEVNULL,
                          env={"file": os.environ["file"]}).returncode == 0
held = not is_free()
os.close(fd)
print(held, is_free())""", str(fd)])' >"$BATS_TEST_TMPDIR/result"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/result")" 'True True'
}
