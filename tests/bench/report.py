"""Turns what bench.py measured into report.md, with each goal beside its number, and plots."""
import os, shutil, subprocess

RENAME = "temp + fsync + rename + fsync(dir)"
IN_PLACE = "in place: pwrite + fdatasync (not atomic)"
SHIM = "under the shim"
PLAIN = "under the shim, plain format"
FLOOR = "the calls that the sized format needs, alone"
PLAIN_FLOOR = "the calls that the plain format needs, alone"
READ_FLOOR = "the calls that such a read needs, alone"
EMPTY = "empty library"
ASKING = "library that asks for the status at each open"
TRUNCATED = "O_TRUNC + write + close (not atomic)"
SPONGE = "sponge FILE (not synced)"
UNSYNCED = "under the shim, ATOMSHIM_SYNC=0"
PRELOADED = "library in ld.so.preload"
KIB, MIB = 1 << 10, 1 << 20


def size_name(size):
    if size >= MIB:
        return "%d MiB" % (size // MIB)
    return "%d KiB" % (size // KIB) if size % KIB == 0 else "%d bytes" % size


class Goals:
    """The table of goals: a row is what, its number, the goal, the number of the floor, met or not. The
    floor is a program or library that makes the calls which the shim cannot leave out, and nothing else."""

    def __init__(self):
        self.rows = []

    def at_most(self, what, value, goal, form="%.2f", floor=None):
        self.add(what, form % value, "≤ " + form % goal, "" if floor is None else form % floor, value <= goal)

    def ratio(self, what, ways, way, reference, goal, floor=None):
        """The ratio of two ways of one dictionary, which is to be at most `goal`; `floor` is a third way."""
        base = ways[reference]
        self.at_most(what, ways[way] / base, goal, floor=ways[floor] / base if floor in ways else None)

    def at_least(self, what, value, goal, floor=None):
        self.add(what, "%.2f" % value, "≥ %.2f" % goal, "" if floor is None else "%.2f" % floor, value >= goal)

    def add(self, what, value, goal, floor, met):
        self.rows.append((what, value, goal, floor, "met" if met else "**not met**"))


def table(head, rows):
    lines = ["| %s |" % " | ".join(map(str, row)) for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n\n"


def beside(medians, reference, unit=1000, form="%.0f us"):
    """Rows of a table: way, median, ratio to the reference."""
    base = medians[reference]
    return [[way, form % (value / unit), "%.2f" % (value / base)] for way, value in medians.items()]


def overwriting_goals(goals, overwriting, plain):
    sizes, unsynced = overwriting
    for reference, limits in ((RENAME, (0.35, 0.42, 0.60, 0.90)), (IN_PLACE, (1.3, 1.4, 1.8, 1.8))):
        for (size, ways), limit in zip(sizes.items(), limits):
            what = "durable commit of %s / %s" % (size_name(size), reference)
            goals.ratio(what, ways, SHIM, reference, limit, FLOOR)
    for (size, ways), limit in zip(unsynced.items(), (0.45, 0.50, 0.80)):
        what = "ATOMSHIM_SYNC=0, %s / O_TRUNC + write + close" % size_name(size)
        goals.ratio(what, ways, UNSYNCED, TRUNCATED, limit, FLOOR)
    for (size, ways), limit in zip(plain[0].items(), (0.6, 0.7)):
        goals.ratio("plain format, durable, %s / %s" % (size_name(size), RENAME), ways, PLAIN, RENAME, limit,
                    PLAIN_FLOOR)


def reading_goals(goals, reading):
    limits = {(4 * KIB, "fresh"): 10, (MIB, "fresh"): 2.5, (4 * KIB, "again"): 4, (MIB, "again"): 4}
    for (size, when), limit in limits.items():
        what = "the same generation again" if when == "again" else "after a commit"
        what = "open + read + close, managed / plain, %s, %s" % (size_name(size), what)
        goals.ratio(what, reading[size, when], SHIM, "plain", limit, READ_FLOOR)


def other_goals(goals, results):
    limits = {"pattern for a tree": 1.10, "pattern for one file": 1.02, "no pattern": 1.02}
    for program, ways in results["programs"].items():
        for preload, limit in limits.items():
            what = "%s, 20,000 files, %s / without" % (program, preload)
            goals.ratio(what, ways, preload, "without", limit, ASKING)
    opens, starts = results["opens"]["open to write"], results["opens"]["start"]
    goals.ratio("opens to write by a longer path, not managed, pattern for a tree / without",
                opens, "pattern for a tree", "without", 1.25, ASKING)
    for preload in ("no pattern", "pattern for a tree"):
        goals.ratio("starts of /bin/true, %s / without" % preload, starts, preload, "without", 1.10, EMPTY)
    writers = results["writers"]
    goals.at_least("8 writers on 8 files: commits a second / the rename way",
                   writers[SHIM] / writers[RENAME], 2.5)
    readers = results["readers"]
    goals.at_least("a writer beside 4 readers of its file / beside 4 readers of another",
                   readers["writer"] / readers["writer of another file"], 0.9)
    goals.at_least("4 readers beside a writer: reads a second / beside a rename writer, without the shim",
                   readers["readers"] / readers["readers beside rename"], 0.5,
                   readers[READ_FLOOR] / readers["readers beside rename"])
    held, private = results["memory"]
    goals.at_most("memory beside one copy of a 64 MiB image, KiB", (held + private) / KIB, KIB, "%.0f")


def growth_goals(goals, results):
    growth = lambda costs: costs[max(costs)] / costs[min(costs)]
    rows = [("patterns, %s" % what, costs) for what, costs in results["patterns"].items()]
    rows.append(("managed files in a folder", results["files"][SHIM]))
    rows.append(("files open in the process", results["sessions"]))
    for what, costs in rows:
        floor = growth(results["files"][FLOOR]) if costs is results["files"][SHIM] else None
        goals.at_most("{:,} / {:,} {}".format(max(costs), min(costs), what), growth(costs), 1.2, floor=floor)


def call_goals(goals, calls):
    what = "system calls of open + write + close, managed, steady"
    goals.at_most(what, calls["tree: rewrite-4k"], 45, "%.1f")


# ---- the file ----

def overwriting_table(overwriting):
    text = ""
    for sizes, title, reference in zip(overwriting, ("durable", "not durable"), (RENAME, TRUNCATED)):
        cell = lambda ways, way: "%.0f us (%.2f)" % (ways[way] / 1000, ways[way] / ways[reference])
        names = next(iter(sizes.values()))
        rows = [[way] + [cell(ways, way) for ways in sizes.values()] for way in names]
        text += table(["open, write, close, %s" % title] + [size_name(size) for size in sizes], rows)
    return text


def reading_table(reading):
    rows = []
    for (size, when), ways in reading.items():
        rows.append([size_name(size), when] +
                    ["%.1f us" % (ways[way] / 1000) for way in ("plain", SHIM, READ_FLOOR)] +
                    ["%.1f" % (ways[SHIM] / ways["plain"])])
    return table(["open, read, close of", "", "plain", SHIM, "calls alone", "ratio"], rows)


def preload_table(results):
    columns = {**results["programs"], **results["opens"]}
    cell = lambda ways, preload: "%.2f" % (ways[preload] / ways["without"]) if preload in ways else ""
    rows = [[preload] + [cell(ways, preload) for ways in columns.values()] for preload in columns["start"]]
    head = ["LD_PRELOAD, or where it says so", "grep -r", "tar", "open to write by a longer path", "start of /bin/true"]
    return table(head, rows)


def growth_table(head, costs):
    row = ["us"] + ["%.1f" % (cost / 1000) for cost in costs.values()]
    return table([head] + ["{:,}".format(count) for count in costs], [row])


def write_plot(folder, name, title, axes, lines):
    """axes: labels of x and y; lines: {title: {x: y}}. Draws an SVG with a logarithmic x axis; returns the text that shows it."""
    path = "%s/%s" % (folder, name)
    with open(path + ".dat", "w") as file:
        for points in lines.values():
            file.write("%s\n\n\n" % "\n".join("%g %g" % point for point in points.items()))
    curve = '"%s.dat" index %d with linespoints linewidth 2 title "%s" noenhanced'
    curves = [curve % (path, i, line) for i, line in enumerate(lines)]
    script = """set terminal svg size 800,420 background "white"
        set output "%s.svg"; set title "%s"; set xlabel "%s"; set ylabel "%s"
        set logscale x; set yrange [0:]; set key outside below; set grid; plot %s
        """ % (path, title, *axes, ", ".join(curves))
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
    return "![%s](%s.svg)\n\n" % (title, name)


def plots(results, folder):
    if not shutil.which("gnuplot"):
        return "(no plots: gnuplot is not installed)\n\n"
    sizes = results["overwriting"][0]
    ways = [way for way in next(iter(sizes.values())) if way != RENAME]
    ratios = {way: {size / KIB: costs[way] / costs[RENAME] for size, costs in sizes.items()} for way in ways}
    micro = lambda costs: {count: cost / 1000 for count, cost in costs.items()}
    text = write_plot(folder, "sizes", "A durable overwrite, compared with " + RENAME, ("KiB", "ratio"), ratios)
    text += write_plot(folder, "patterns", "Cost by number of patterns", ("patterns", "us"),
                       {what: micro(costs) for what, costs in results["patterns"].items()})
    text += write_plot(folder, "files", "Cost of an overwrite by number of files", ("files", "us"),
                       {"managed files in a folder": micro(results["files"][SHIM]),
                        "the same files, the calls alone": micro(results["files"][FLOOR]),
                        "files open in the process": micro(results["sessions"])})
    return text


def machine(place):
    command = ["findmnt", "-n", "-o", "FSTYPE", "-T", place]
    find = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    filesystem, load, processors = find.stdout.strip(), os.getloadavg()[0], os.cpu_count()
    text = "%s, Linux %s, %d CPUs, load %.1f. " % (filesystem, os.uname().release, processors, load)
    text += "Each number is a ratio of medians of ways that took turns in one run."
    if load > processors + 2:
        text += " The machine was busy: trust the counts more than the times."
    return text


def write(results, folder, place):
    goals = Goals()
    overwriting_goals(goals, results["overwriting"], results["plain"])
    call_goals(goals, results["calls"])
    reading_goals(goals, results["reading"])
    other_goals(goals, results)
    growth_goals(goals, results)
    text = "# What the shim costs\n\n%s\n\n" % machine(place)
    text += "## Goals\n\n*Calls alone*: a program, or a preloaded library, that makes the calls which the shim cannot "
    text += "leave out, and nothing else.\n\n"
    text += table(["what", "measured", "goal", "calls alone", ""], goals.rows)
    text += "## Overwriting\n\nMedians, and in brackets the ratio to the first way of each table.\n\n"
    text += overwriting_table(results["overwriting"]) + overwriting_table(results["plain"])
    if results["sponge"]:
        text += table(["64 KiB by a program that sh starts", "median", "ratio"],
                      beside(results["sponge"], SPONGE, 1e6, "%.2f ms"))
    text += "## Reading\n\n" + reading_table(results["reading"])
    text += "## Programs that touch no managed file\n\nThe ratio to the same without LD_PRELOAD.\n\n"
    text += preload_table(results) + "## Growth\n\n"
    for what, costs in results["patterns"].items():
        text += growth_table("patterns: " + what, costs)
    for way, costs in results["files"].items():
        text += growth_table("managed files, " + way, costs)
    text += growth_table("files open in the process", results["sessions"]) + plots(results, folder)
    calls = [[name, "%.1f" % count] for name, count in results["calls"].items()]
    text += "## System calls\n\n" + table(["setting: step", "calls"], calls)
    for name in results:
        if name.startswith("on "):
            text += "## On %s\n\n" % name[3:]
            text += overwriting_table(results[name]) + reading_table(results["reading " + name])
    with open(folder + "/report.md", "w") as file:
        file.write(text)
    print("\n".join("%-78s %8s  %-8s %6s  %s" % row for row in goals.rows))
    print("bench: %s/report.md" % folder)
