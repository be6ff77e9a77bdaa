#!/usr/bin/env python3
"""check.py BUILD TABLE [--update]: counts the system calls of fixed steps under the shim.

Counts, unlike times, are the same on a busy machine: the check is exact. It fails if a step needs more
calls than TABLE says, or if no two rounds of one step need the same; it tells of a step that needs
fewer. A round of an other- step may need more if the kernel's coarse clock ticks in it. With --update it writes TABLE anew."""
import collections, os, re, shutil, subprocess, sys, tempfile

MANAGED = ["rewrite-4k", "rewrite-1m", "append-100", "edit-100", "stream-4k", "read-4k", "read-1m", "stat"]
OTHER = ["other-read", "other-walk", "other-write", "other-write-here", "other-create", "other-stat", "child"]
# name: its steps, the pattern for the folder {managed}, settings
SETTINGS = {
    "tree": (MANAGED + OTHER, "{managed}/", {}),
    "file": (OTHER, "{managed}/file", {}),
    "none": (OTHER, "", {}),
    "tree unsynced": (["rewrite-4k", "rewrite-1m"], "{managed}/", {"ATOMSHIM_SYNC": "0"}),
    "tree plain": (["rewrite-4k", "read-4k", "stat"], "{managed}/", {"ATOMSHIM_FORMAT": "plain"}),
}


def trace(folder, command, settings):
    """The lines of strace: PID, a space, the call."""
    log = folder + "/trace"
    wrapped = [argument for pair in settings.items() for argument in ("-E", "%s=%s" % pair)]
    subprocess.run(["strace", "-f", "-qq", "-o", log, *wrapped, *command], check=True)
    with open(log) as lines:
        return lines.readlines()


def calls_of(line):
    """The name of the call that begins in this line; None for signals, ends, and resumed calls."""
    match = re.match(r"\d+\s+([a-z_0-9]+)\(", line)
    return match and match.group(1)


def rounds_of(lines):
    """The calls between each two marks, as (step, Counter)."""
    current = None
    for line in lines:
        mark = re.search(r'prctl\(PR_SET_NAME, "(.*)"', line)
        if mark and mark.group(1) == "between":
            yield current
            current = None
        elif mark:
            current = (mark.group(1), collections.Counter())
        elif current and calls_of(line):
            current[1][calls_of(line)] += 1


def least_of(row, rounds):
    """The calls of the round that needs the fewest of those that another one needs, too."""
    repeated = [calls for calls in rounds if rounds.count(calls) >= 2]
    if not repeated:
        sys.exit("bench-check: %s: no two rounds need the same: %s" % (row, "; ".join(map(show, rounds))))
    return min(repeated, key=lambda calls: sum(calls.values()))


def count_steps(build, folder):
    rounds = {}
    for setting, (steps, pattern, settings) in SETTINGS.items():
        managed, other = tempfile.mkdtemp(dir=folder), tempfile.mkdtemp(dir=folder)
        settings = dict(settings, ATOMSHIM_PATHS=pattern.format(managed=managed),
                        LD_PRELOAD=build + "/libatomshim.so")
        command = [build + "/bench/steps", managed, other, *steps]
        for step, calls in rounds_of(trace(folder, command, settings)):
            row = "%s: %s" % (setting, next(name for name in steps if name[:15] == step))
            twice = calls + calls if step.startswith("other") else calls  # a round does it once
            rounds.setdefault(row, []).append(twice)
    return {row: least_of(row, list_) for row, list_ in rounds.items()}


def count_start(build, folder):
    """What a start of /bin/true costs with the shim more than with a library that does nothing."""
    def count(library):
        lines = trace(folder, ["/bin/true"], {"LD_PRELOAD": "%s/%s" % (build, library)})
        return collections.Counter(filter(None, map(calls_of, lines)))
    return count("libatomshim.so") - count("bench/empty.so")


def show(calls):
    return " ".join("%s=%d" % item for item in sorted(calls.items()))


def write_table(path, counts):
    with open(path, "w") as table:
        table.write("# System calls of each step, done twice, under the shim, in the steady state.\n"
                    "# Written by make bench-check UPDATE=1. setting: step | calls | which\n"
                    "# Of the C library and its fork: %s\n" % os.confstr("CS_GNU_LIBC_VERSION"))
        for row, calls in counts.items():
            table.write("%s | %d | %s\n" % (row, sum(calls.values()), show(calls)))


def read_table(path):
    table = {}
    with open(path) as lines:
        for line in lines:
            if not line.startswith("#"):
                row, _, calls = line.strip().split(" | ")
                table[row] = collections.Counter({name: int(number) for name, number in
                                                  (item.split("=") for item in calls.split())})
    return table


def compare(expected, counts):
    """Says what differs. Returns whether a step needs more calls, or is in only one of the two."""
    worse = False
    for row in sorted(expected.keys() | counts.keys()):
        if row not in expected or row not in counts:
            print("bench-check: %s: only in %s" % (row, "the table" if row in expected else "the program"))
            worse = True
            continue
        before, now = sum(expected[row].values()), sum(counts[row].values())
        if expected[row] == counts[row]:
            continue
        names = sorted(expected[row] | counts[row])
        both = [(name, expected[row][name], counts[row][name]) for name in names]
        changes = ["%s %d -> %d" % change for change in both if change[1] != change[2]]
        print("bench-check: %s: %s: %d -> %d calls: %s"
              % (row, "more" if now > before else "not more", before, now, ", ".join(changes)))
        worse |= now > before
    return worse


def main():
    build, table = os.path.realpath(sys.argv[1]), sys.argv[2]
    folder = tempfile.mkdtemp(prefix="bench-check.", dir=build)
    try:
        counts = count_steps(build, folder)
        counts["none: start of /bin/true, over an empty library"] = count_start(build, folder)
    finally:
        shutil.rmtree(folder)
    if sys.argv[3:] == ["--update"]:
        write_table(table, counts)
    elif compare(read_table(table), counts):
        sys.exit("bench-check: more system calls than %s says. "
                 "If the change is worth them: make bench-check UPDATE=1" % os.path.relpath(table))
    total = sum(sum(calls.values()) for calls in counts.values())
    print("bench-check: %d steps, %d calls" % (len(counts), total))


if __name__ == "__main__":
    main()
