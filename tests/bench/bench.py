#!/usr/bin/env python3
"""bench.py BUILD FOLDER REPORT [full] [FILESYSTEM=FOLDER...]: measures the shim beside other ways.

Each number is a ratio of medians of ways that took turns in this one run. Files lie in FOLDER, and for
each further FILESYSTEM in its FOLDER, where only the ways to overwrite and to read are compared. Writes
report.md and its plots to the folder REPORT."""
import contextlib, os, resource, shutil, statistics, subprocess, sys, time

import check, report

KIB, MIB = 1 << 10, 1 << 20
SIZES = [4 * KIB, 64 * KIB, MIB, 16 * MIB]


class Bench:
    def __init__(self, build, folder, full):
        self.build, self.folder, self.full = os.path.realpath(build), os.path.realpath(folder), full
        self.library = self.build + "/libatomshim.so"
        self.source = os.path.dirname(os.path.realpath(__file__))

    def environment(self, preload="", paths="", **settings):
        settings = dict(settings, LD_PRELOAD=preload, ATOMSHIM_PATHS=paths, NODE_PATH="/usr/share/nodejs")
        return dict(os.environ, **settings)

    def shim(self, **settings):
        return self.environment(self.library, self.folder + "/managed/", **settings)

    @contextlib.contextmanager
    def servers(self, ways):
        """ways: name = (environment, argument...) of server.c, or of a peer: NAME.py or NAME.js.

        PRELOADED in an environment is a folder with an ld.so.preload, for that server and what it starts."""
        servers = {name: Server(self, *way) for name, way in ways.items()}
        try:
            yield servers
        finally:
            for server in servers.values():
                server.stop()


# Runs a command where FOLDER's files are in /etc, too: in a mount namespace of its own, so that no other
# process finds them. usage: ... FOLDER COMMAND
PRELOADED_RUN = ["unshare", "-m", "sh", "-c", 'mount -t overlay -o "lowerdir=$0:/etc" overlay /etc && exec "$@"']


class Server:
    def __init__(self, bench, environment, way, *arguments):
        runner = {"py": ["python3"], "js": ["node"]}.get(way.rpartition(".")[2])
        command = runner + ["%s/%s" % (bench.source, way)] if runner else [bench.build + "/bench/server", way]
        command += [str(argument) for argument in arguments]
        if "PRELOADED" in environment:
            command = PRELOADED_RUN + [environment["PRELOADED"]] + command
        self.process = subprocess.Popen(command, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.name = " ".join(command)

    def tell(self, size=0, count=0, milliseconds=0):
        self.process.stdin.write("%d %d %d\n" % (size, count, milliseconds))
        self.process.stdin.flush()

    def hear(self):
        """(operations, nanoseconds)"""
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench: %s ended" % self.name)
        return tuple(map(int, line.split()))

    def each(self, *order):
        """Nanoseconds an operation."""
        self.tell(*order)
        operations, nanoseconds = self.hear()
        return nanoseconds / operations

    def stop(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("bench: %s failed" % self.name)


def rounds(seconds, at_least):
    """Counts rounds, of which the caller does not count the first, until the time is up."""
    end = time.monotonic() + seconds
    number = 0
    while number < at_least + 1 or time.monotonic() < end:
        yield number
        number += 1


def interleave(actions, seconds, at_least=5):
    """Medians of what the actions (name: function) return, called in turn; the first round is not counted."""
    values = {name: [] for name in actions}
    for number in rounds(seconds, at_least):
        for name, action in actions.items():
            value = action()
            if number > 0:
                values[name].append(value)
    return {name: statistics.median(list_) for name, list_ in values.items()}


def order(server, size, count):
    return lambda: server.each(size, count)


# ---- overwriting and reading ----

def peers(bench, path):
    ways = {"SQLite, one row, WAL, FULL": (bench.environment(), "peer_sqlite.py", path + "/sqlite.db"),
            "npm write-file-atomic": (bench.environment(), "peer_npm.js", path + "/npm")}
    if not os.path.exists("/usr/share/nodejs/write-file-atomic") or not shutil.which("node"):
        print("bench: skipped: npm write-file-atomic (node-write-file-atomic is not installed)")
        del ways["npm write-file-atomic"]
    return ways


def overwriting(bench, folder, sizes, seconds):
    """Nanoseconds of an overwrite, durable and not: two dictionaries {size: {way: median}}.

    The two kinds take no turns with each other: on ext4 a file that was truncated is written out at its
    close, and would wait for the durable ones."""
    os.makedirs(folder + "/managed")
    bare, managed = bench.environment(), folder + "/managed/"
    shim = lambda **settings: bench.environment(bench.library, managed, **settings)
    durable = {
        report.RENAME: (bare, "rename", folder + "/renamed"),
        report.IN_PLACE: (bare, "in-place", folder + "/in_place"),
        report.SHIM: (shim(), "rewrite", managed + "sized"),
        report.FLOOR: (bare, "protocol", folder + "/protocol"),
        report.PLAIN: (shim(ATOMSHIM_FORMAT="plain"), "rewrite", managed + "plain"),
        report.PLAIN_FLOOR: (bare, "protocol-plain", folder + "/protocol_plain"),
        **peers(bench, folder),
    }
    unsynced = {
        report.TRUNCATED: (bare, "rewrite", folder + "/truncated"),
        report.UNSYNCED: (shim(ATOMSHIM_SYNC="0"), "rewrite", managed + "unsynced"),
        report.FLOOR: (bare, "protocol-unsynced", folder + "/protocol0"),
        report.PLAIN: (shim(ATOMSHIM_SYNC="0", ATOMSHIM_FORMAT="plain"), "rewrite", managed + "plain0"),
    }
    results = []
    for ways, name, share in ((durable, "sized", 0.75), (unsynced, "unsynced", 0.25)):
        result = {}
        with bench.servers(ways) as servers:
            for size in sizes:
                count = 4 if size <= 64 * KIB else 1
                orders = {way: order(server, size, count) for way, server in servers.items()}
                result[size] = interleave(orders, share * seconds)
                check_image(bench, managed + name, size)
        results.append(result)
    return results


def check_image(bench, path, size):
    command = [bench.build + "/atomshim", "cat", path]
    image = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    if len(image) != size or image[:8] != image[-8:]:
        sys.exit("bench: %s does not hold one whole image of %d bytes" % (path, size))


def reading(bench, folder, seconds):
    """Nanoseconds of open, read, close: {(size, "fresh" or "again"): {way: median}}.

    "fresh" is the first time after a commit, "again" a further time in the same process."""
    os.makedirs(folder + "/managed", exist_ok=True)
    bare = bench.environment()
    shim = bench.environment(bench.library, folder + "/managed/", ATOMSHIM_SYNC="0")
    files = {"plain": (bare, folder + "/read"), report.SHIM: (shim, folder + "/managed/read")}
    writers = {name: (environment, "rewrite", file) for name, (environment, file) in files.items()}
    readers = {name: (environment, "read", file) for name, (environment, file) in files.items()}
    alone = {when: (bare, "protocol-read-" + when, folder + "/read") for when in ("fresh", "again")}
    result = {}

    def fresh(writer, reader, size):
        writer.each(size, 1)
        return reader.each(size, 1)

    with bench.servers(writers) as writers, bench.servers(readers) as readers, \
            bench.servers(alone) as alone:
        for size in (4 * KIB, MIB):
            first = {name: lambda name=name: fresh(writers[name], readers[name], size) for name in readers}
            count = 100 if size == 4 * KIB else 5
            again = {name: order(reader, size, count) for name, reader in readers.items()}
            first[report.READ_FLOOR] = lambda: fresh(writers["plain"], alone["fresh"], size)
            again[report.READ_FLOOR] = order(alone["again"], size, count)
            result[size, "fresh"] = interleave(first, seconds)
            result[size, "again"] = interleave(again, seconds)
    return result


# ---- at the same time ----

def together(servers, size, milliseconds):
    """Operations a second of each of these servers while all of them work."""
    for server in servers:
        server.tell(size, 0, milliseconds)
    answers = [server.hear() for server in servers]
    return [operations * 1e9 / nanoseconds for operations, nanoseconds in answers]


def eight_writers(bench, folder, seconds):
    """Commits a second of 8 writers, a file each: {way: median}"""
    bare, shim = bench.environment(), bench.shim()
    ways = {"rename%d" % i: (bare, "rename", "%s/writer%d" % (folder, i)) for i in range(8)}
    ways |= {"shim%d" % i: (shim, "rewrite", "%s/managed/writer%d" % (folder, i)) for i in range(8)}
    with bench.servers(ways) as servers:
        pick = lambda prefix: [server for name, server in servers.items() if name.startswith(prefix)]
        return interleave({report.RENAME: lambda: sum(together(pick("rename"), 4 * KIB, 300)),
                           report.SHIM: lambda: sum(together(pick("shim"), 4 * KIB, 300))}, seconds)


def readers_beside_a_writer(bench, folder, seconds):
    """{measure: operations a second}: of a writer and 4 readers on one file, and on two."""
    bare, shim = bench.environment(), bench.shim()
    ways = {"shim_writer": (shim, "rewrite", folder + "/managed/shared"),
            "rename_writer": (bare, "rename", folder + "/shared"),
            "elsewhere": (shim, "rewrite", folder + "/managed/elsewhere")}
    ways |= {"shim%d" % i: (shim, "read", folder + "/managed/shared") for i in range(4)}
    ways |= {"bare%d" % i: (bare, "read", folder + "/shared") for i in range(4)}
    ways |= {"alone%d" % i: (bare, "protocol-read-fresh", folder + "/managed/shared") for i in range(4)}
    values = {"writer": [], "writer of another file": [], "readers": [], "readers beside rename": [],
              report.READ_FLOOR: []}
    with bench.servers(ways) as servers:
        for name in ("shim_writer", "rename_writer", "elsewhere"):
            servers[name].each(4 * KIB, 1)
        shim_readers = [servers["shim%d" % i] for i in range(4)]
        bare_readers = [servers["bare%d" % i] for i in range(4)]
        alone = [servers["alone%d" % i] for i in range(4)]
        for number in rounds(seconds, 5):
            one = together([servers["shim_writer"], *shim_readers], 4 * KIB, 300)
            two = together([servers["elsewhere"], *shim_readers], 4 * KIB, 300)
            other = together([servers["rename_writer"], *bare_readers], 4 * KIB, 300)
            floor = together([servers["shim_writer"], *alone], 4 * KIB, 300)
            if number > 0:
                for name, value in zip(values, (one[0], two[0], sum(one[1:]), sum(other[1:]), sum(floor[1:]))):
                    values[name].append(value)
    return {name: statistics.median(list_) for name, list_ in values.items()}


# ---- what is not managed ----

def preloads(bench):
    """name: (LD_PRELOAD, ATOMSHIM_PATHS). What matches lies on the file system of what is looked at."""
    result = {
        "without": ("", ""),
        report.EMPTY: (bench.build + "/bench/empty.so", ""),
        report.ASKING: (bench.build + "/bench/asking.so", ""),
        "no pattern": (bench.library, ""),
        "pattern for one file": (bench.library, bench.folder + "/managed/app.cfg"),
        "pattern for a tree": (bench.library, bench.folder + "/managed/"),
    }
    eatmydata = "/usr/lib/%s-linux-gnu/libeatmydata.so" % os.uname().machine
    if os.path.exists(eatmydata):
        result["libeatmydata"] = (eatmydata, "")
    else:
        print("bench: skipped: libeatmydata is not installed")
    return result


def processor_seconds(command, environment, folder):
    """Processor time, which a busy machine changes less than the time that passes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def whole_programs(bench, folder, seconds):
    """Processor seconds of grep -r and tar over 20,000 small files: {program: {preload: median}}"""
    for i in range(200):
        os.makedirs("%s/tree/%d" % (folder, i))
        for j in range(100):
            with open("%s/tree/%d/%d.txt" % (folder, i, j), "w") as file:
                file.write("line %d\n" % j * 40)
    commands = {"grep -r": ["sh", "-c", "! grep -r nowhere tree"], "tar": ["sh", "-c", "tar cf - tree | cat"]}
    return {name: interleave({preload: lambda command=command, ways=ways: processor_seconds(
        command, bench.environment(*ways), folder) for preload, ways in preloads(bench).items()}, seconds)
        for name, command in commands.items()}


def preloaded_starts(bench):
    """As starts: the library in /etc/ld.so.preload, without LD_PRELOAD."""
    folder = bench.folder + "/etc"
    os.makedirs(folder)
    with open(folder + "/ld.so.preload", "w") as file:
        file.write(bench.library + "\n")
    trial = subprocess.run(PRELOADED_RUN + [folder, "cat", "/etc/ld.so.preload"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    if trial.stdout != bench.library + "\n":
        print("bench: skipped: starts with ld.so.preload (that needs root, and overlayfs over /etc)")
        return {}
    # the server itself is not to be measured with the library
    start = lambda paths: (bench.environment(START_PRELOAD="", START_PATHS=paths, PRELOADED=folder,
                                             ATOMSHIM_DISABLE="1"), "start", "-")
    return {report.PRELOADED + ", no pattern": start(""),
            report.PRELOADED + ", pattern for a tree": start(bench.folder + "/managed/")}


def opens_and_starts(bench, folder, seconds):
    """Nanoseconds of an open to write by a longer path, and of a start: {what: {preload: median}}"""
    os.makedirs(folder + "/longer/path")
    opens = {name: (bench.environment(*ways), "open-to-write", folder + "/longer/path/file")
             for name, ways in preloads(bench).items()}
    starts = {name: (bench.environment(START_PRELOAD=preload, START_PATHS=paths), "start", "-")
              for name, (preload, paths) in preloads(bench).items()} | preloaded_starts(bench)
    with bench.servers(opens) as opens, bench.servers(starts) as starts:
        opens = {name: order(server, 0, 200) for name, server in opens.items()}
        starts = {name: order(server, 0, 20) for name, server in starts.items()}
        return {"open to write": interleave(opens, seconds), "start": interleave(starts, seconds)}


def sponge(bench, folder, seconds):
    """Nanoseconds of `sponge FILE` and of `cat >FILE`, started by sh: {way: median}, or None."""
    if not shutil.which("sponge"):
        print("bench: skipped: sponge (moreutils) is not installed")
        return None
    image = folder + "/image"
    with open(image, "wb") as file:
        file.write(bytes(64 * KIB))

    cat, bare = 'cat "$1" >"$2"', bench.environment()
    unsynced = bench.shim(ATOMSHIM_SYNC="0")
    ways = {
        report.SPONGE: (bare, 'sponge "$2" <"$1"', folder + "/sponge"),
        "cat >FILE (not atomic)": (bare, cat, folder + "/cat"),
        "cat >FILE under the shim, ATOMSHIM_SYNC=0": (unsynced, cat, folder + "/managed/cat0"),
        "cat >FILE under the shim, durable": (bench.shim(), cat, folder + "/managed/cat"),
    }

    def run(environment, script, file):
        begin = time.monotonic_ns()
        subprocess.run(["sh", "-c", script, "sh", image, file], env=environment, check=True)
        return time.monotonic_ns() - begin

    return interleave({name: lambda way=way: run(*way) for name, way in ways.items()}, seconds)


# ---- growth ----

def by_patterns(bench, folder, seconds):
    """{what: {number of patterns: nanoseconds}}"""
    kinds = ["%s/d%d/", "%s/e%d/app.cfg", "%s/*.x%d"]
    result = {}
    for what, way, file in (("an open, not managed", "open-to-read", folder + "/longer/path/file"),
                            ("an overwrite, managed", "rewrite", folder + "/managed/patterns")):
        ways = {}
        for count in (1, 10, 100, 1000):
            patterns = [folder + "/managed/"] + [kinds[i % 3] % (folder, i) for i in range(count - 1)]
            environment = bench.environment(bench.library, ":".join(patterns), ATOMSHIM_SYNC="0")
            ways[str(count)] = (environment, way, file)
        with bench.servers(ways) as servers:
            medians = interleave({name: order(server, 100, 200) for name, server in servers.items()}, seconds)
        result[what] = {int(count): value for count, value in medians.items()}
    return result


def by_files(bench, folder, seconds):
    """{way: {number of files in the folder: nanoseconds}}, of an overwrite of one after the other."""
    counts = [1, 100, 10000, 100000]
    kinds = {report.SHIM: (bench.shim(ATOMSHIM_SYNC="0"), "spread", folder + "/managed"),
             report.FLOOR: (bench.environment(), "protocol-spread", folder + "/floor")}
    ways = {}
    for count in counts:
        for name, (environment, way, base) in kinds.items():
            os.makedirs("%s/files%d" % (base, count))
            ways[name, count] = (environment, way, "%s/files%d/file" % (base, count), count)
    with bench.servers(ways) as servers:
        for (_, count), server in servers.items():  # create all, and fill both places
            server.each(100, 2 * count)
        medians = interleave({name: order(server, 100, 100) for name, server in servers.items()}, seconds)
    return {name: {count: medians[name, count] for count in counts} for name in kinds}


def by_sessions(bench, folder, seconds):
    """{number of files that the process has open: nanoseconds of an overwrite of one more}"""
    counts = [1, 100, 1000]
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 16000:
        counts.append(5000)
    else:
        print("bench: skipped: 5,000 open files need a hard limit of 16,000 descriptors")
    shim, ways = bench.shim(ATOMSHIM_SYNC="0"), {}
    for count in counts:
        os.makedirs("%s/managed/open%d" % (folder, count))
        ways[str(count)] = (shim, "beside-open-files", "%s/managed/open%d/file" % (folder, count), count)
    with bench.servers(ways) as servers:
        medians = interleave({name: order(server, 100, 20) for name, server in servers.items()}, seconds)
    return {int(count): value for count, value in medians.items()}


# ---- counted ----

def memory_files(process):
    """Bytes of the memory files that the process has open."""
    folder = "/proc/%d/fd/" % process
    paths = [folder + fd for fd in os.listdir(folder)]
    statuses = [os.stat(path) for path in paths if "/memfd:" in os.readlink(path)]
    return sum({status.st_ino: status.st_blocks * 512 for status in statuses}.values())


def memory(bench):
    """Bytes of memory files beside the image, and the least private bytes with which it is overwritten."""
    file, held = bench.folder + "/managed/memory", None
    for extra in (64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 80 * MIB):
        process = subprocess.Popen([bench.build + "/bench/server", "memory", file, str(extra)], text=True,
                                   env=bench.shim(ATOMSHIM_SYNC="0"), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdin.write("begin\n")
        process.stdin.flush()
        if process.stdout.readline() == "written\n":
            held = memory_files(process.pid) - 64 * MIB
        process.communicate("end\n")
        if process.returncode == 0:
            return held, extra
    sys.exit("bench: an overwrite of 64 MiB needs more than 80 MiB of private memory")


def calls(bench):
    """{step: system calls}, of one open + write + close, or open + read + close."""
    counts = check.count_steps(bench.build, bench.folder)
    return {step: sum(calls.values()) / 2 for step, calls in counts.items()}


def step(name, function, *arguments):
    begin = time.monotonic()
    result = function(*arguments)
    print("bench: %s (%.0f s)" % (name, time.monotonic() - begin), flush=True)
    return result


def main():
    full = "full" in sys.argv[4:]
    bench = Bench(sys.argv[1], sys.argv[2], full)
    more = 3 if full else 1
    folder = bench.folder
    results = {
        "overwriting": step("overwriting", overwriting, bench, folder, SIZES, 10 * more),
        "plain": step("plain", overwriting, bench, folder + "/plain", [3500, 64 * KIB], 5 * more),
        "reading": step("reading", reading, bench, folder, 2 * more),
        "writers": step("8 writers", eight_writers, bench, folder, 6 * more),
        "readers": step("4 readers and a writer", readers_beside_a_writer, bench, folder, 7 * more),
        "programs": step("grep and tar", whole_programs, bench, folder, 30 * more),
        "opens": step("opens and starts", opens_and_starts, bench, folder, 5 * more),
        "sponge": step("sponge", sponge, bench, folder, 4 * more),
        "patterns": step("patterns", by_patterns, bench, folder, 3 * more),
        "files": step("files", by_files, bench, folder, 5 * more),
        "sessions": step("open files", by_sessions, bench, folder, 4 * more),
        "memory": step("memory", memory, bench),
        "calls": step("system calls", calls, bench),
    }
    for name, place in (argument.split("=") for argument in sys.argv[4:] if "=" in argument):
        results["on " + name] = step("overwriting on " + name, overwriting, bench, place, SIZES, 8)
        results["reading on " + name] = step("reading on " + name, reading, bench, place, 2)
    report.write(results, sys.argv[3], folder)


main()
