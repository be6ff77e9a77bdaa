#!/usr/bin/env python3
"""What the shim costs programs that touch no managed file: whole programs, with it and without it in turn, in one run.

programs.py BUILD [TURNS]: medians and ratios, of the time that passed and of the processors' time, which a busy machine
changes less. Two patterns: a folder on the same file system, whose every name could be one of it; and one file."""
import os, resource, shutil, statistics, subprocess, sys, tempfile, time

build = os.path.realpath(sys.argv[1])
turns = int(sys.argv[2]) if len(sys.argv) > 2 else 11
source = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
folder = tempfile.mkdtemp(prefix="atomshim-bench.")


def make_tree():
    for i in range(200):
        os.makedirs("%s/tree/%d" % (folder, i))
        for j in range(100):
            with open("%s/tree/%d/%d.txt" % (folder, i, j), "w") as file:
                file.write("line %d\n" % j * 40)
    os.mkdir(folder + "/managed")
    os.mkdir(folder + "/project")
    shutil.copytree(source + "/shim", folder + "/project/shim")
    shutil.copy(source + "/Makefile", folder + "/project")


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(command, environment):
    start = time.perf_counter(), processor_seconds()
    subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start[0], processor_seconds() - start[1]


def compare(name, command, turns, before=None):
    plain = dict(os.environ, LD_PRELOAD="")
    ways = {"without": plain}
    for label, pattern in (("folder", folder + "/managed/"), ("file", folder + "/managed/app.cfg")):
        ways[label] = dict(plain, LD_PRELOAD=build + "/libatomshim.so", ATOMSHIM_PATHS=pattern)
    times = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way in ways:
            if before:
                subprocess.run(before, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            elapsed = seconds(command, ways[way])
            if turn > 0:  # the first fills the caches
                times[way].append(elapsed)
    medians = {way: [statistics.median(turn[i] for turn in times[way]) for i in (0, 1)] for way in ways}
    ratios = [medians[way][i] / medians["without"][i] for way in ("folder", "file") for i in (0, 1)]
    print("%-34s %8.0f ms  %7.3f  %7.3f  %7.3f  %7.3f" % (name, medians["without"][0] * 1000, *ratios), flush=True)


try:
    make_tree()
    print("%-34s %11s  %7s  %7s  %7s  %7s" % ("program, no managed file", "without", "/folder/", "CPU", "/file", "CPU"))
    compare("tar of 20,000 small files", ["sh", "-c", "tar cf - tree | cat"], turns)
    compare("grep -r, 20,000 small files", ["sh", "-c", "! grep -r nowhere tree"], turns)
    for name, path in (("20,000 opens to write, by name", "written"), ("the same by a longer path", "tree/written")):
        compare(name, [sys.executable, "-S", "-c", "import os\nfor i in range(20000): os.close(os.open('%s', %d, 0o644))" %
                       (path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)], turns)
    compare("make -j2 of this shim", ["make", "-C", "project", "-s", "-j2", "build/libatomshim.so"], max(1, turns // 2),
            ["rm", "-rf", "project/build"])
    compare("2,000 starts of /bin/true", ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i + 1)); done"],
            max(1, turns // 2))
finally:
    shutil.rmtree(folder)
