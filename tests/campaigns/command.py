"""Runs subcommands of atomshim, each system call of which fails in turn, and prints a line CASE|TRIALS|VIOLATIONS for each;
behind it a line for each violation. usage: command.py BUILD FOLDER ci|full|long [REGEX]"""
import os, re, subprocess, sys

BUILD, FOLDER, SIZE = sys.argv[1:4]
ATOMSHIM = BUILD + "/atomshim"
LIBRARY = BUILD + "/libatomshim.so"
HANG = 20  # seconds
MANY = 2 if SIZE == "ci" else 20  # of the calls of one kind in one run, the first and the last
os.environ["LC_ALL"] = "C"

# The errnos of each call; the small size takes the first. A call that is not here fails the campaign.
ERRNOS = {
    "open openat": "EMFILE EIO",
    "stat lstat statx newfstatat fstat statfs fstatfs": "EIO",
    "access faccessat faccessat2 readlink readlinkat": "EACCES EIO",
    "read pread64 preadv getdents64 sendfile": "EIO EINTR",
    "write pwrite64 pwritev": "ENOSPC EIO",
    "fsync fdatasync sync_file_range": "EIO ENOSPC",
    "ftruncate fallocate": "ENOSPC EIO",
    "fsetxattr fchown": "ENOSPC EPERM EIO",
    "fgetxattr fremovexattr getxattr": "EIO",
    "mmap mremap munmap": "ENOMEM",
    "memfd_create inotify_init1": "EMFILE EPERM",
    "inotify_add_watch": "ENOSPC EACCES ENOENT",
    "fcntl": "ENOLCK EINVAL",
    "ioctl": "EINVAL",
    "lseek": "EINVAL",
    "fchmod unlink unlinkat rename renameat renameat2 link linkat": "EPERM EIO",
    "close": "EIO",
    "clone clone3 vfork fork": "EAGAIN",
    "wait4": "EINTR",
    "execve": "EACCES ENOENT",
}
ERRNOS = {call: errnos.split() for calls, errnos in ERRNOS.items() for call in calls.split()}
# how a process starts and ends, and calls that do not fail
OTHERS = set("brk setpgid nanosleep arch_prctl set_tid_address set_robust_list rseq prlimit64 mprotect exit_group exit getpid gettid geteuid getuid getppid umask "
             "rt_sigaction rt_sigprocmask rt_sigreturn getrandom clock_gettime clock_nanosleep futex madvise uname sysinfo prctl dup dup2 dup3 "
             "getegid getgid kill tgkill sched_yield restart_syscall getcwd kcmp pipe2 poll ppoll".split())


def shim(command, *injected, patterns=None):
    environment = dict(os.environ, LD_PRELOAD=LIBRARY, ATOMSHIM_PATHS=patterns or FOLDER + "/")
    return subprocess.run([*injected, "sh", "-c", command], env=environment, cwd=FOLDER, check=not injected)


def make_files():
    """Makes a file in each state that a subcommand tells apart."""
    killed = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:signal=KILL"]
    os.mkdir(FOLDER + "/below")
    for name in ("plain", "below/plain"):
        with open(FOLDER + "/" + name, "w") as file:
            file.write("plain content\n")
    shim("echo one >sized; echo two >sized; echo three >below/sized; echo one >bad; echo two >bad")
    shim("echo one >recorded; echo two >recorded", patterns="plain=%s/recorded" % FOLDER)
    shim("echo one >died", patterns="plain=%s/died" % FOLDER)
    shim("echo two >died", *killed, patterns="plain=%s/died" % FOLDER)
    with open(FOLDER + "/bad", "r+b") as file:
        data = file.read()
        for content in (b"one\n", b"two\n"):
            file.seek(data.index(content))
            file.write(b"X")
    with open(FOLDER + "/big", "wb") as file:
        file.write(bytes(range(256)) * 400)
    shim("cat big >torn", patterns="plain=%s/torn" % FOLDER)
    shim("tac big >torn", *killed[:-4], "-e", "trace=pwritev", "-e", "inject=pwritev:signal=KILL", patterns="plain=%s/torn" % FOLDER)
    for journal in [name for name in os.listdir(FOLDER) if name.startswith(".atomshim-journal")]:
        os.unlink(FOLDER + "/" + journal)  # nothing protects the file now
    os.mkdir(FOLDER + "/out")


def files():
    for folder, _, names in os.walk(FOLDER):
        for name in names:
            yield os.path.join(folder, name)


class State:
    """The bytes, attributes and mode of every file; the inodes stay."""

    def __init__(self):
        self.files = {name: self.look(name) for name in files()}

    @staticmethod
    def look(name):
        attributes = {key: os.getxattr(name, key) for key in os.listxattr(name)}
        with open(name, "rb") as file:
            return file.read(), attributes

    def has(self, name):
        """Tells whether the file is as it was."""
        return os.path.exists(name) and self.look(name) == self.files[name]

    def restore(self):
        """Makes the files so again."""
        for name in set(files()) | set(self.files):
            if name not in self.files:
                os.unlink(name)
                continue
            if not self.has(name):
                data, attributes = self.files[name]
                with open(name, "wb") as file:
                    file.write(data)
                for key in os.listxattr(name):
                    os.removexattr(name, key)
                for key, value in attributes.items():
                    os.setxattr(name, key, value)


def calls_of(trace, last):
    """The calls of each process of a trace, with how often one process makes it: up to the program's execve() if `last`."""
    most = {}
    counts = {}
    for line in open(trace):
        process, call = re.match(r"(\d+) +(\w+)\(", line).groups() if re.match(r"(\d+) +(\w+)\(", line) else (None, None)
        if call is None:
            continue
        if last and re.search(r'execve\("[^"]*/%s"' % last, line):
            break
        count = counts.setdefault((process, call), 0) + 1
        counts[process, call] = count
        most[call] = max(most.get(call, 0), count)
    return most


def run(arguments, *strace):
    """Runs the command under strace. Returns its status, output and messages."""
    tracer = ["strace", "-f", "-qq", "--signal=none", *strace] if strace else []
    try:
        done = subprocess.run([*tracer, ATOMSHIM, *arguments], cwd=FOLDER, stdin=subprocess.DEVNULL, capture_output=True, timeout=HANG,
                              errors="surrogateescape")
    except subprocess.TimeoutExpired:
        return "it hangs", "", ""
    return done.returncode, done.stdout, done.stderr


def content(name):
    """What a program under the shim reads, or None."""
    if not os.path.exists(name):
        return None
    status, output, _ = run(["cat", name])
    return output if status == 0 else None


def judge(result, good, arguments, call):
    """Returns what is wrong with the outcome of a run in which a call failed, or None."""
    status, output, messages = result
    if result == good:
        return None
    if not isinstance(status, int) or status < 0:
        return "ended by %s" % status
    lines = [line for line in messages.splitlines() if line not in good[2].splitlines()]
    if arguments[0] == "doctor" and status in (0, 1, 2) and (output != good[1] or lines):
        return None  # a finding says what cannot be looked at
    if call == "write" and len(messages) < len(good[2]):
        return None  # the message itself cannot be written
    if arguments[0] == "run" and status == 0 and all(line.startswith("atomshim: ") for line in lines):
        return None
    if status == 0 or len(lines) != 1 or not lines[0].startswith("atomshim: "):
        return "status %s with %r, and %r instead of %r" % (status, messages, output, good[1])
    return None


def scenario(name, arguments, last=None):
    state = State()
    before = {file: content(file) for file in state.files}
    trace = FOLDER + ".trace"
    good = run(arguments, "-o", trace)
    changed = {file: content(file) for file in set(files()) if file not in before or State.look(file) != state.files[file]}
    state.restore()
    violations = []
    trials = 0
    for call, count in sorted(calls_of(trace, last).items()):
        if call in OTHERS:
            continue
        if call not in ERRNOS:
            violations.append("%s: this campaign has no errno for it" % call)
            continue
        for errno in ERRNOS[call][:1] if SIZE == "ci" else ERRNOS[call]:
            for number in [n for n in range(1, count + 1) if n <= MANY or n > count - MANY]:
                trials += 1
                result = run(arguments, "-o", "/dev/null", "-e", "trace=" + call, "-e",
                             "inject=%s:error=%s:when=%d" % (call, errno, number))
                wrong = [judge(result, good, arguments, call)]
                for file in set(files()) | set(state.files):
                    if file not in state.files and file not in changed and not file.endswith(".damaged") and ".atomshim-" not in file:
                        wrong.append("%s is left" % file)
                    elif file in state.files and ".atomshim-" not in file and not state.has(file) and \
                            content(file) not in (before[file], changed.get(file, before[file])):
                        wrong.append("%s: its content is lost" % file)
                state.restore()
                violations += ["%s %d, %s: %s" % (call, number, errno, what) for what in wrong if what]
    print("%s|%d|%d" % (name, trials, len(violations)))
    for violation in violations:
        print("  " + violation.replace("|", "/"))
    sys.stdout.flush()


make_files()
only = sys.argv[4] if len(sys.argv) > 4 else ""
for command in """cat sized;cat --previous sized;cat plain;cat recorded;cat died;cat torn;cat bad;info sized plain died;info --json bad;info -r .
verify -r .;verify --json bad torn sized;recover died torn;recover @/;import plain;import -r below;export sized;export -r below;undo sized
repair bad;repair --yes bad;repair --yes torn;inject out;run --path @/sized -- /bin/true;run --path=@/* --force true;doctor --path @/;doctor --path plain=@/died --path plain=@/torn --path @/*""".replace("\n", ";").split(";"):
    if re.match(only, command):
        scenario(command, command.replace("@", FOLDER).split(" "), last="true" if command.startswith("run") else None)
