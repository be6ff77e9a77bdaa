#!/usr/bin/env bats
# I7 Process trees of real programs in which the last to close a managed file may be one without the
# shim.

load ../lib/helpers

setup() {
    helpers_setup
    file=$MANAGED/app.cfg
    export file
    printf old >"$file"
    ln "$file" "$MANAGED/link"
    # a static program, which cannot load the shim
    static=$PROGRAMS/static_writer
    export static
}

teardown() {
    [ -z "${others:-}" ] || kill "$others"
    [ ! -e "$file" ] || assert_equal "$(stat -c %h "$file")" 2 'I3: links'
}

# expect CONTENT COMMAND...: checks that the command under the shim leaves this content, also for a
# wrapped cat.
expect() {
    local content=$1
    shift
    run --separate-stderr wrapped timeout 60 "$@"
    assert_equal "$status $stderr" '0 ' "status and stderr of $*"
    assert_equal "$output" "$content" "seen by $*"
    assert_equal "$(payload "$file")" "$content" "left by $*"
}

@test "I7 shells: a static child, one without an environment, in front, behind, in between" {
    for shell in dash bash; do
        expect one "$shell" -c '"$static" 1 write one >"$file"; cat "$file"'
        expect two "$shell" -c 'env -i /bin/echo two >"$file"; cat "$file"'
        expect 'a b c' "$shell" -c '{ printf "a "; "$static" 1 write b; printf " c"; } >"$file"; cat "$file"'
        expect 'a b' "$shell" -c '{ printf "a "; "$static" 1 write b; } >"$file"; cat "$file"'
        expect 'a b!' "$shell" -c '"$static" 1 write ! >>"$file"; cat "$file"'
        expect 'in' "$shell" -c 'echo unused | "$static" 1 wait-write in >"$file" 2>&1; cat "$file"'
        expect 'exec' "$shell" -c '(sh -c "exec $static 1 write exec" >"$file"); cat "$file"'
        expect 'err' "$shell" -c '"$static" 2 write err >"$file" 2>&1; cat "$file"'
        expect '' "$shell" -c ': >"$file"; cat "$file"'
        # one with the shim switched off, and one that finds the shim by its bare name
        expect off "$shell" -c 'ATOMSHIM_DISABLE=1 /bin/echo off >"$file"; cat "$file"'
        expect bare "$shell" -c 'LD_LIBRARY_PATH=$BUILT LD_PRELOAD=libatomshim.so /bin/echo bare >"$file"; cat "$file"'
    done
}

# dies HOW: a program that is alone opens the file, changes it, and is killed with it open.
dies() {
    run wrapped timeout 60 python3 -S -c 'import mmap, os, signal, sys
file = os.environ["file"]
fd = os.open(file, os.O_RDWR | {"truncate": os.O_TRUNC, "append": os.O_APPEND}.get(sys.argv[1], 0))
if sys.argv[1] == "map":
    mapping = mmap.mmap(fd, 3)
    mapping[0:3] = b"new"
else: os.write(fd, b"new")
if sys.argv[1] == "sync":
    os.fsync(fd)
    os.write(fd, b" lost")
if sys.argv[1] == "copy":
    copy = os.dup(fd)
    os.close(fd)
os.kill(os.getpid(), signal.SIGKILL)' "$1"
    assert_equal "$status" 137 "$1: $output"
}

@test "I5 a program that is alone and is killed leaves the content of its last commit, and nothing behind" {
    needs python3
    for format in sized plain; do
        export ATOMSHIM_FORMAT=$format
        for how in truncate append write map copy sync; do
            atomshim export -q "$file" || true
            printf old >"$file"
            wrapped sh -c 'printf older >"$file"; printf old >"$file"'
            dies $how
            [ $how = sync ] && content=new || content=old
            assert_equal "$(payload "$file")" "$content" "$format, $how"
            assert_equal "$(wrapped cat "$file")" "$content" "$format, $how, by a reader"
            assert_equal "$(find "$MANAGED" -mindepth 1 -printf '%f\n' | sort | tr '\n' ' ')" 'app.cfg link ' "$format, $how"
            wrapped sh -c 'printf next >>"$file"'
            assert_equal "$(payload "$file")" "${content}next" "$format, $how, and the next commit"
        done
    done
}

@test "I5 a static child that is killed leaves the old content" {
    run wrapped bash -c '"$static" 1 die half >"$file"; cat "$file"'
    [[ $output == *old ]]
    assert_equal "$(payload "$file")" old
}

# expect_old SHELL SCRIPT: checks that a script which is killed with the file open commits nothing;
# without the kill it commits.
expect_old() {
    printf old >"$file"
    run wrapped timeout 60 "$1" -c "$2"' kill -9 $$'
    assert_equal "$(wrapped cat "$file")" old "after $2 kill"
    run wrapped timeout 60 "$1" -c "$2"
    assert_equal "$(wrapped cat "$file")" 'half more' "after $2"
}

@test "I5 who is killed after a child without the shim has ended leaves the old content" {
    for turn in {1..5}; do
        for shell in dash bash; do
            expect_old "$shell" 'exec >"$file"; printf half; "$static" 1 write " more";'
            expect_old "$shell" 'exec >"$file"; printf half; env -i /bin/echo -n " more";'
            expect_old "$shell" 'exec >"$file"; printf half; (exec "$static" 1 write " m"); "$static" 1 write ore;'
            expect_old "$shell" 'exec >"$file"; printf half; echo | { "$static" 1 write " more"; };'
        done
    done
}

# as_user COMMAND...: runs it wrapped, as a user who may not look into root's processes, some of
# which begin and end meanwhile.
as_user() {
    wrapped setpriv --reuid 65534 --clear-groups "$@"
}

user_setup() {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    helpers_let_others_in
    static=$PROGRAMS/static_writer
    chmod 666 "$file"
    while :; do /bin/true; done 3>&- &
    others=$!
}

@test "I5 the same of a user who sees not all processes" {
    user_setup
    for turn in {1..10}; do
        for shell in dash bash; do
            printf old >"$file"
            run as_user "$shell" -c 'exec >"$file"; printf half; "$static" 1 write " more"; kill -9 $$'
            assert_equal "$(as_user cat "$file")" old "killed: $shell"
            as_user "$shell" -c 'exec >"$file"; printf half; "$static" 1 write " more"'
            assert_equal "$(as_user cat "$file")" 'half more' "not killed: $shell"
        done
    done
}

@test "I5 a killed child of which a user may not know how it ended, until it was waited for" {
    user_setup
    cp "$static" "$BATS_TEST_TMPDIR/hidden"
    chmod 711 "$BATS_TEST_TMPDIR/hidden"
    for turn in 1 2 3; do
        printf old >"$file"
        PATH=/usr/bin:/bin as_user python3 -S -c '
import os, sys
if os.fork() == 0:
    os.dup2(os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC), 1)
    os.execv(sys.argv[1], [sys.argv[1], "1", "die", "half"])
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
os.wait()' "$BATS_TEST_TMPDIR/hidden"
        assert_equal "$(as_user cat "$file")" old
    done
}

@test "I7 who has closed it, and is killed when the child has ended, takes nothing back" {
    for turn in {1..10}; do
        printf old >"$file"
        run wrapped bash -c 'exec 8>"$file"; "$static" 8 write "new $0" & exec 8>&-; wait; kill -9 $$' "$turn"
        assert_equal "$(wrapped cat "$file")" "new $turn"
    done
}

@test "I5 the opener is killed while a child without the shim goes on: nothing of that open is committed" {
    mkfifo "$BATS_TEST_TMPDIR/in"
    exec 4<>"$BATS_TEST_TMPDIR/in"
    run wrapped bash -c 'exec 8>"$file"; printf parent >&8; "$static" 8 wait-write " and child" <"$0" >/dev/null 2>&1 4>&- & echo $!; kill -9 $$' "$BATS_TEST_TMPDIR/in"
    assert_equal "$(wrapped cat "$file")" old # wrapped: it waits until the guardian has looked
    exec 4>&-
    ended "$output"
    assert_equal "$(wrapped cat "$file")" old
}

@test "I5 a child of another user that has written nothing publishes nothing when the opener is killed" {
    user_setup
    for turn in 1 2 3; do
        printf old >"$file"
        run wrapped timeout 60 python3 -S -c '
import os, subprocess, sys
f = open(os.environ["file"], "w"); f.write("half"); f.flush()
for program in ["/bin/true", os.environ["static"]]:
    for close_fds in True, False:
        subprocess.run([program], user=65534, group=65534, extra_groups=[], close_fds=close_fds)
os.dup2(f.fileno(), 7)
subprocess.run(["/bin/true"], user=65534, group=65534, extra_groups=[], pass_fds=[7])
subprocess.run([os.environ["static"], "7", "write", ""], user=65534, group=65534, extra_groups=[], pass_fds=[7])
os.kill(os.getpid(), 9)'
        assert_equal "$status" 137
        assert_equal "$(wrapped cat "$file")" old
    done
}

# left_behind COMMAND: runs a script that writes the file, leaves the command behind with the file
# open, and ends.
left_behind() {
    printf old >"$file"
    wrapped sh -c '(echo one; '"$1"' 3>&- & echo $! >&4; echo two) >"$file"' 4>"$BATS_TEST_TMPDIR/pid"
    assert_equal "$(payload "$file")" $'one\ntwo' "at the end of the script: $1"
}

@test "I7 a script has ended properly: its output is there while what it left behind has the file open, and when that is killed" {
    mkfifo "$BATS_TEST_TMPDIR/in"
    export in=$BATS_TEST_TMPDIR/in
    exec 5<>"$in"
    for command in '"$static" 1 wait-write end <"$in"' 'env -i "$static" 1 wait-write end <"$in"' 'cat "$in"'; do
        left_behind "$command"
        kill -9 "$(cat "$BATS_TEST_TMPDIR/pid")"
        ended "$(cat "$BATS_TEST_TMPDIR/pid")"
        assert_equal "$(wrapped cat "$file")" $'one\ntwo' "killed: $command"
    done
    left_behind '"$static" 1 wait-write end <"$in" 5<&-'
    exec 5<&-
    ended "$(cat "$BATS_TEST_TMPDIR/pid")"
    assert_equal "$(wrapped cat "$file")" $'one\ntwo\nend' 'what is written later'
}

@test "I5 posix_spawn opens the file for the child: the child decides" {
    for program in static python3; do
        [ "$program" = static ] && words='[static, "1", "die", "half"]' ||
            words='["python3", "-c", "import os; os.write(1, b\"half\"); os.kill(os.getpid(), 9)"]'
        for turn in 1 2 3 4 5; do
            printf old >"$file"
            wrapped python3 -S -c '
import os
static, file = os.environ["static"], os.environ["file"]
words = '"$words"'
os.posix_spawnp(static if words[0] == static else words[0], words, os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 1, file, os.O_WRONLY | os.O_TRUNC, 0)])
os.wait()'
            assert_equal "$(wrapped cat "$file")" old "$program"
        done
    done
}

@test "I7 a program with the shim, below one without it, that has opened the file by itself" {
    mkfifo "$BATS_TEST_TMPDIR/out"
    export out=$BATS_TEST_TMPDIR/out preload=$BUILT/libatomshim.so
    wrapped bash -c 'env -i file="$file" out="$out" preload="$preload" folder="$MANAGED" sh -c "
        LD_PRELOAD=\$preload ATOMSHIM_PATHS=\$folder/ bash -c \"exec 3<\\\$file; echo ready >\\\$out; read -r x <\\\$out; echo new\" &
        exit 0" >"$file"' 3>&-
    read -r _ <"$out"
    assert_equal "$(wrapped cat "$file")" '' # the opener, env and then sh, has ended properly, and had truncated it
    for process in $(guardians); do
        ended "$process" &
    done
    echo >"$out"
    wait
    assert_equal "$(wrapped cat "$file")" new
}

@test "I7 a descriptor in a message, a fork, and another message" {
    mkfifo "$BATS_TEST_TMPDIR/out"
    export out=$BATS_TEST_TMPDIR/out
    wrapped python3 -S -c '
import os, socket, subprocess
file = open(os.environ["file"], "w")
file.write("by us "); file.flush()
a, b = socket.socketpair()
def send_to(code):
    begin = "import os, socket; _, (fd,), *_ = socket.recv_fds(socket.socket(fileno=0), 1, 1); "
    child = subprocess.Popen(["python3", "-c", begin + code], stdin=b, stdout=subprocess.PIPE,
                             env={"PATH": os.environ["PATH"], "out": os.environ["out"]})
    socket.send_fds(a, [b"x"], [file.fileno()])
    return child
send_to("").wait()
parent = os.getpid()
if os.fork() != 0: os._exit(0)
while os.getppid() == parent: pass # the guardian of the first one ends with its sender
send_to("""
end = os.open(os.environ["out"], os.O_WRONLY) # until it has ended
sender = os.getppid()
print("got", flush=True)
while os.getppid() == sender: pass
os.write(fd, b"by a stranger")""").stdout.readline()
os._exit(0)' 3>&-
    read -r _ <"$out" || true # the end of the stranger
    assert_equal "$(wrapped cat "$file")" 'by us by a stranger'
}

@test "I5 the same of a program that is a child, when its parent has the file open, and was not killed" {
    expect 'half more end' python3 -S -c '
import os, subprocess
with open(os.environ["file"], "w") as out:
    subprocess.run(["dash", "-c", """printf half; "$static" 1 write " more"; kill -9 $$"""], stdout=out)
    out.write(" end")
print(open(os.environ["file"]).read(), end="")'
}

@test "I5 a tree without the shim that is killed leaves the old content" {
    mkfifo "$BATS_TEST_TMPDIR/fifo"
    export fifo=$BATS_TEST_TMPDIR/fifo
    for kill in 'kill -9 -$!' 'echo >"$fifo"'; do
        printf old >"$file"
        run wrapped timeout 60 bash -c '
set -m
env -i sh -c "printf half; echo >$fifo; read -r x <$fifo & wait; printf \" more\"" >"$file" &
read -r x <"$fifo"
'"$kill"'
wait $!'
        assert_equal "$(wrapped cat "$file")" "$([ "${kill%% *}" = kill ] && echo old || echo half more)" "after $kill"
    done
}

# python_killed HOW: does the same with a python that still has the file open.
python_killed() {
    printf old >"$file"
    run wrapped timeout 60 python3 -S -c '
import os, signal, socket, subprocess, sys
file, static = os.environ["file"], os.environ["static"]
out = open(file, "w")
print("half", end="", file=out, flush=True)
os.dup2(out.fileno(), 7)
os.environ["LD_PRELOAD"] = ""
'"$1"'
os.kill(os.getpid(), signal.SIGKILL)'
    assert_equal "$status" 137
    assert_equal "$(wrapped cat "$file")" old "after $1"
}

@test "I5 python: system, popen, posix_spawn, a message, then killed" {
    for turn in 1 2 3; do
        python_killed 'os.system("printf more >&7")'
        python_killed 'os.popen("printf more >&7; echo x", "r").read()'
        python_killed 'os.waitpid(os.posix_spawn(static, [static, "7", "write", "more"], {}), 0)'
        python_killed 'subprocess.run([static, "7", "write", "more"], pass_fds=[7])'
        python_killed 'subprocess.run([static, "7", "write", "more"], close_fds=False)'
        python_killed '
a, b = socket.socketpair()
child = subprocess.Popen(["python3", "-c", """
import os, socket
_, (fd,), *_ = socket.recv_fds(socket.socket(fileno=0), 1, 1)
os.write(fd, b" more")"""], stdin=b, env={"PATH": os.environ["PATH"]})
socket.send_fds(a, [b"x"], [7])
child.wait()'
    done
}

# ended PROCESS: waits for its end, also where it stays a zombie, since process 1 waits for nobody.
ended() {
    timeout 60 python3 -S -c '
import os, select, sys
try:
    select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
except ProcessLookupError:
    pass' "$1"
}

# Prints the guardians that were started below this test.
guardians() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2>/dev/null)" != atomshim-guard ] ||
            ! tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qxF "file=$file" || echo "${process#/proc/}"
    done
}

@test "one guardian serves all children without the shim, and ends with the last close" {
    mkfifo "$BATS_TEST_TMPDIR/in" "$BATS_TEST_TMPDIR/out"
    wrapped bash -c '
exec 8>"$file"
for i in {1..20}; do "$static" 8 write x; done
echo done
read -r x
printf end >&8' <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 3>&- &
    exec 4>"$BATS_TEST_TMPDIR/in"
    read -r _ <"$BATS_TEST_TMPDIR/out"
    guardian=$(guardians)
    assert_equal "$(wc -w <<<"$guardian")" 1 guardians
    assert_equal "$(payload "$file")" old
    echo >&4
    exec 4>&-
    wait $!
    assert_equal "$(payload "$file")" xxxxxxxxxxxxxxxxxxxxend
    ended "$guardian"
}

@test "a guardian holds no pipe that its program does not hold" {
    mkfifo "$BATS_TEST_TMPDIR/in" "$BATS_TEST_TMPDIR/pipe"
    export in=$BATS_TEST_TMPDIR/in
    wrapped dash -c 'env -i sh -c "exec 2>&-; read -r x <$in; printf late" >"$file" 3>&- & echo started' \
        >"$BATS_TEST_TMPDIR/pipe" 2>&1 3>&- &
    assert_equal "$(timeout 60 cat "$BATS_TEST_TMPDIR/pipe" && echo ended)" $'started\nended'
    [ -n "$(guardians)" ]
    echo >"$in"
    for process in $(guardians); do
        ended "$process"
    done
    assert_equal "$(payload "$file")" late
}

@test "I7 appends of 40 static children at once are all there" {
    : >"$file"
    wrapped bash -c 'for i in {1..40}; do "$static" 1 write "$i
" >>"$file" & done; wait'
    assert_equal "$(payload "$file" | sort -n | tr '\n' ' ')" "$(seq -s ' ' 40) "
}

@test "I7 python: subprocess in its ways, os.exec, os.posix_spawn, os.system" {
    expect 'run popen env gone session spawn exec system' python3 -S -c '
import os, subprocess
file, static = os.environ["file"], os.environ["static"]
seen = []
def look():
    seen.append(open(file).read())
with open(file, "w") as f: subprocess.run([static, "1", "write", "run"], stdout=f)
look()
with open(file, "w") as f: p = subprocess.Popen([static, "1", "write", "popen"], stdout=f)
p.wait(); look()
with open(file, "w") as f: subprocess.run(["/bin/echo", "-n", "env"], stdout=f, env={})
look()
gone = {**os.environ, "LD_PRELOAD": "/nonexistent/libatomshim.so"}
if os.fork() == 0:
    os.dup2(os.open(file, os.O_WRONLY | os.O_TRUNC), 1)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    os.execve("/bin/echo", ["echo", "-n", "gone"], gone)
os.wait(); look()
with open(file, "w") as f: subprocess.run([static, "1", "write", "session"], stdout=f, start_new_session=True, preexec_fn=lambda: None)
look()
os.posix_spawn(static, [static, "1", "write", "spawn"], os.environ,
               file_actions=[(os.POSIX_SPAWN_OPEN, 1, file, os.O_WRONLY | os.O_TRUNC, 0)])
os.wait(); look()
if os.fork() == 0:
    os.dup2(os.open(file, os.O_WRONLY | os.O_TRUNC), 1)
    os.execv(static, [static, "1", "write", "exec"])
os.wait(); look()
os.system("$static 1 write system >$file"); look()
open(file, "w").write(" ".join(seen))
print(open(file).read(), end="")'
}

@test "a search along PATH, whose names are not there, starts no guardian" {
    PATH=/nonexistent:/nonexistent/too:$PATH expect none python3 -S -c '
import os, subprocess
with open(os.environ["file"], "w") as f:
    subprocess.run(["sh", "-c", """
exec 2>/dev/null # processes come and go
for p in /proc/[0-9]*; do
    [ "$(cat $p/comm 2>/dev/null)" != atomshim-guard ] || ! tr "\\0" "\\n" <$p/environ | grep -qx "file=$file" || echo guardian
done
printf none"""], stdout=f)
print(open(os.environ["file"]).read(), end="")'
}

@test "I7 perl: system, exec, pipes" {
    expect 'system exec pipe' perl -e '
my ($file, $static) = @ENV{"file", "static"};
my @seen;
sub look { open(my $in, "<", $file); push @seen, join("", <$in>) }
system("$static 1 write system >$file"); look;
if (!fork) { open(STDOUT, ">", $file); exec($static, 1, "write", "exec") }
wait; look;
open(my $pipe, "|-", "$static 1 wait-write pipe >$file"); close($pipe); look;
open(my $out, ">", $file); print $out "@seen"; close($out);
open(my $in, "<", $file); print <$in>'
}

@test "I7 node: child_process with a descriptor, and by a shell" {
    expect 'spawn exec' node -e '
const fs = require("fs"), child = require("child_process");
const { file, static: writer } = process.env, seen = [];
const fd = fs.openSync(file, "w");
child.spawnSync(writer, ["1", "write", "spawn"], { stdio: ["ignore", fd, "inherit"] });
fs.closeSync(fd); seen.push(fs.readFileSync(file, "utf8"));
child.execSync("$static 1 write exec >$file"); seen.push(fs.readFileSync(file, "utf8"));
fs.writeFileSync(file, seen.join(" ")); process.stdout.write(fs.readFileSync(file, "utf8"))'
}

@test "I7 make: recipes with static tools, four at once" {
    # shellcheck disable=SC2016
    printf '%s\n' '$(MANAGED)/%.out:' '	@$(static) 1 write $* >$@' '	@test "`cat $@`" = $*' >"$BATS_TEST_TMPDIR/Makefile"
    wrapped make -s -j4 -f "$BATS_TEST_TMPDIR/Makefile" "$MANAGED"/{1..20}.out
    for i in {1..20}; do
        assert_equal "$(payload "$MANAGED/$i.out")" "$i"
    done
}

@test "I7 java: a process that another program starts for it" {
    command -v java >/dev/null || skip 'needs a JRE'
    cat >"$BATS_TEST_TMPDIR/Run.java" <<'EOF'
import java.io.File;
import java.nio.file.Files;
public class Run {
    public static void main(String[] a) throws Exception {
        File file = new File(System.getenv("file"));
        ProcessBuilder builder = new ProcessBuilder(System.getenv("static"), "1", "write", "java");
        builder.redirectOutput(file).start().waitFor();
        System.out.print(Files.readString(file.toPath()));
    }
}
EOF
    expect java java -XX:TieredStopAtLevel=1 -Xshare:auto "$BATS_TEST_TMPDIR/Run.java"
}

@test "I7 a set-user-id program, which ignores the preload" {
    [ "$(id -u)" -eq 0 ] || skip 'needs root'
    helpers_let_others_in
    chmod 666 "$file"
    cp /bin/echo "$BATS_TEST_TMPDIR/set-id"
    chmod 4755 "$BATS_TEST_TMPDIR/set-id"
    expect 'set-id' setpriv --reuid 65534 --clear-groups dash -c '"$0" -n set-id >"$file"; cat "$file"' "$BATS_TEST_TMPDIR/set-id"
}

@test "I7 the first process of a pid namespace ends, and everything with it, once guardians are done" {
    unshare --pid --fork --mount-proc true 2>/dev/null || skip 'needs the right to make pid namespaces'
    for turn in 1 2 3; do
        wrapped unshare --pid --fork --mount-proc dash -c '"$static" 1 write "$0" >"$file"' "turn $turn"
        assert_equal "$(payload "$file")" "turn $turn"
    done
}

@test "I5 I7 the opener is in one pid namespace, and its children in another" {
    unshare --pid --fork true 2>/dev/null || skip 'needs the right to make pid namespaces'
    for inside in 'sh -c "echo b"' '"$static" 1 write b'; do
        for end in 'kill -9 $$' 'exit 3'; do
            printf old >"$file"
            # a wait for the guardian that ended with the inner namespace would not end
            ATOMSHIM_LOCK_TIMEOUT=86400 run wrapped timeout -s KILL 60 bash -c 'exec >"$file"; printf a; unshare --pid --fork '"$inside"'; "$static" 1 write c; '"$end"
            if [ "$end" != 'exit 3' ]; then
                assert_equal "$(wrapped cat "$file")" old "$inside, killed"
            else
                assert_equal "$status $(wrapped cat "$file" | tr -d '\n')" '3 abc' "$inside"
            fi
        done
    done
}

@test "I5 I7 a message that nobody has read when its sender ends" {
    for end in 'os._exit(0)' 'os.kill(os.getpid(), 9)'; do
        printf old >"$file"
        run wrapped python3 -S -c '
import os, socket
a, b = socket.socketpair()
f = os.open(os.environ["file"], os.O_WRONLY | os.O_TRUNC)
os.write(f, b"sent")
socket.send_fds(a, [b"x"], [f])
'"$end"
        assert_equal "$(wrapped cat "$file")" "$([ "$status" -eq 0 ] && echo sent || echo old)" "$end"
    done
}

@test "I5 I7 a program without the shim that dumps core was killed; one that exits with 139 was not" {
    ulimit -c 0
    for end in 'kill -SEGV $$' 'exit 139'; do
        printf old >"$file"
        run wrapped bash -c 'env -i bash -c "printf new; $0" >"$file"; true' "$end"
        assert_equal "$(wrapped cat "$file")" "$([ "$end" = 'exit 139' ] && echo new || echo old)" "$end"
    done
}

@test "I7 what a guardian cannot commit is in the log, and rescued" {
    mkdir "$BATS_TEST_TMPDIR/rescue"
    mkfifo "$BATS_TEST_TMPDIR/ready"
    python3 -S -c '
import fcntl, signal, sys
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
open(sys.argv[2], "w").write("x")
signal.pause()' "$file" "$BATS_TEST_TMPDIR/ready" 3>&- &
    holder=$!
    read -r _ <"$BATS_TEST_TMPDIR/ready" || true
    log=$BATS_TEST_TMPDIR/log
    ATOMSHIM_RESCUE_DIR=$BATS_TEST_TMPDIR/rescue ATOMSHIM_LOCK_TIMEOUT=0.1 ATOMSHIM_LOG_FILE=$log \
        wrapped bash -c '"$static" 1 write new >"$file"; true' 3>&-
    for process in $(guardians); do # no process waits for the guardian for longer than the lock's time
        ended "$process"
    done
    kill "$holder"
    wait "$holder" || true
    [[ $(cat "$log") == *"$file: commit failed: "*ETIMEDOUT*"the new is in $BATS_TEST_TMPDIR/rescue/"* ]]
    for rescued in "$BATS_TEST_TMPDIR"/rescue/*; do
        assert_equal "$(cat "$rescued")" new
    done
    assert_equal "$(payload "$file")" old
}
