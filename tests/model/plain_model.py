#!/usr/bin/env python3
"""A model of commits in the plain format that outlive kills and power cuts. usage: plain_model.py [RUNS [SEED]]

The file holds the bare content at all times; what makes a commit safe is one extended attribute of the same inode:
    absent                          never committed, or not possible here: the bytes are the content
    IDLE generation                 nothing is under way: the bytes are the content
    REDO generation new, sums of old   a commit is under way, or died: `new` is the whole new content
    BACK the same as REDO           a commit failed: the old content is written back over whatever bytes it left
    FILE generation                 as REDO, but what does not fit lies in a journal file, which names the generation

Commit, under the exclusive lock: set REDO; fsync; shrink by ftruncate, or reserve; pwrite; fdatasync; set IDLE. With a journal:
write it; fdatasync; set FILE; and so on. The journal is kept, and overwritten by the next commit. If that changes no block and
no size, its pages are only written out, and the fsync of the attribute flushes them, too, in any order.
A commit that fails is undone by another one, of the old content. BACK says so before the old bytes are written back, since the
first record does not know of the sizes in between; the bytes that it finds are no content, untouched or not, and some of them
may be on disk as zeros.
A reader, without the lock: look at the attribute, read, look again: it must not have changed. IDLE: what it read. REDO: the
bytes decide (`settle`):
    the bytes are `new`                        new
    the bytes are the old ones, untouched      old
    each sector is one that our steps leave    new: a commit was cut short
    anything else                              while the lock is held: read again; else somebody else wrote them: as they are
A journal of another generation, or a torn one, says nothing: the bytes are whole then, and as they are.
Recovery, by whoever has the lock next, makes the file what `settle` says and sets IDLE.

The disk: at a power cut the attribute, the size and the blocks go back to any state since the last fsync, in the order in
which they were set (a journal); each block to any version since it was last flushed. Blocks are SECTOR bytes, never torn. A
stranger writes without the lock and without the attribute. Checked: every wrapped reader gets a content that was
committed, or a stranger's; an acknowledged commit is never lost; what a stranger wrote, and synced if the power was cut,
is never undone. The controls, each a protocol with one step left out, must be found wrong.
"""
import random
import sys

SECTOR, BLOCK = 4, 8  # a unit that is never torn; a unit that a cut zeroes to its end
CONTROLS = ("recovery that does not flush", "no fsync of the attribute", "no fdatasync of the bytes", "no sums of the old",
            "readers look once", "no fdatasync of the journal", "no write-out of a kept journal",
            "a failed commit has no record of its way back")


def sector(content, i):
    return content[i * SECTOR:(i + 1) * SECTOR].ljust(SECTOR, b"\0")


def sectors(size):
    return (size + SECTOR - 1) // SECTOR


class Disk:
    """One inode: what a process sees, and what a power cut may leave of it."""

    def __init__(self, rng, content):
        self.rng = rng
        self.blocks = 0
        self.data = {}  # block -> its bytes as a process sees them
        self.versions = {}  # block -> the versions that the disk may have: the flushed one, and all since
        self.journal = [None]  # the attributes that the disk may have; a process sees the last one
        self.meta = [(None, 0, ())]  # (attribute, size, blocks by sector) since the last fsync, oldest first
        for _ in self.write(0, content):
            pass
        self.fsync()

    attribute = property(lambda self: self.meta[-1][0])
    size = property(lambda self: self.meta[-1][1])
    map = property(lambda self: self.meta[-1][2])

    def content(self):
        return b"".join(self.data[block] for block in self.map)[:self.size]

    def set_attribute(self, value):
        self.meta.append((value, self.size, self.map))

    def set_size(self, size):
        """As ftruncate to less: the rest of the block with the new end is zeroed, what lies behind it is freed."""
        for i in range(size // SECTOR, min(len(self.map), -(-size // BLOCK) * BLOCK // SECTOR)):
            keep = max(0, size - i * SECTOR)
            self.write_block(self.map[i], self.data[self.map[i]][:keep].ljust(SECTOR, b"\0"))
        self.meta.append((self.attribute, size, self.map[:sectors(size)]))

    def write_block(self, block, value):
        self.versions.setdefault(block, [self.data[block]]).append(value)
        self.data[block] = value

    def write(self, offset, data):
        """As pwrite: a sector after the other, the size with each; a new block is zeros until it is flushed."""
        end = offset + len(data)
        for i in range(offset // SECTOR, sectors(end)):
            if i >= len(self.map):
                self.data[self.blocks] = bytes(SECTOR)
                self.meta.append((self.attribute, self.size, self.map + (self.blocks,)))
                self.blocks += 1
            now = bytearray(self.data[self.map[i]])
            for at in range(max(offset, i * SECTOR), min(end, (i + 1) * SECTOR)):
                now[at - i * SECTOR] = data[at - offset]
            self.write_block(self.map[i], bytes(now))
            if min(end, (i + 1) * SECTOR) > self.size:
                self.meta.append((self.attribute, min(end, (i + 1) * SECTOR), self.map))
            yield

    def fdatasync(self):
        """Flushes the bytes, and of the metadata what is needed to read them."""
        self.versions.clear()
        last = max((k for k in range(1, len(self.meta)) if self.meta[k][1:] != self.meta[k - 1][1:]), default=0)
        self.meta = self.meta[last:]

    def fsync(self):
        self.versions.clear()
        self.meta = self.meta[-1:]

    def flush_journal(self):
        self.journal = self.journal[-1:]

    def power_cut(self):
        # a journal of which only a part got to the disk has no valid checksum
        self.journal = [self.rng.choice(self.journal + [None] * (len(self.journal) > 1))]
        self.meta = [self.rng.choice(self.meta)]
        for block, choice in self.versions.items():
            self.data[block] = self.rng.choice(choice)
        self.versions.clear()
        self.meta = [(self.attribute, self.size, self.map[:sectors(self.size)])]  # nothing stale lies behind the end
        if self.size % SECTOR:
            block = self.map[-1]
            self.data[block] = self.data[block][:self.size % SECTOR].ljust(SECTOR, b"\0")


def block_end(size):
    return -(-size // BLOCK) * BLOCK


def redo(generation, old, new, word="REDO"):
    """Sums of the old sectors up to the end of the block in which the new content ends, of the sector there as a cut leaves it,
    and of all that lies behind that block. BACK has a sum of each sector. Here the sums are the bytes."""
    near = old[:block_end(len(new))] if word == "REDO" else old
    cut = sector(old[:len(new)], len(new) // SECTOR)
    return (word, generation, new, len(old), [sector(near, i) for i in range(sectors(len(near)))], cut, old[len(near):])


def record(attribute, journal):
    """What counts: the attribute, or the journal that it leads to."""
    if attribute is None or attribute[0] != "FILE":
        return attribute
    if journal is not None and journal[1] == attribute[1]:
        return journal
    return ("IDLE", attribute[1])


def settle(control, content, attribute, journal):
    """What the content is, where nobody is at it."""
    attribute = record(attribute, journal)
    if attribute is None or attribute[0] == "IDLE":
        return content
    word, _, new, old_size, sums, cut, far = attribute
    if content == new or control == "no sums of the old":
        return new
    if not min(old_size, len(new)) <= len(content) <= max(old_size, len(new)):
        return content  # no step of ours leaves such a size
    if len(content) > len(new) and len(content) != old_size:
        return content
    untouched = len(content) == old_size
    end = block_end(len(new)) if word == "REDO" else max(old_size, len(content))
    if len(content) > len(new) and content[end:] != far:
        return content
    for i in range(sectors(min(len(content), end))):
        now, was = sector(content[:end], i), sums[i] if i < len(sums) else bytes(SECTOR)
        if now == was:
            continue
        untouched = False
        ours = {sector(new[:len(content)], i), sector(new[:old_size], i)}  # the new one: the size did not get to the disk
        if word == "BACK":
            ours.add(bytes(SECTOR))  # only the size of the earlier write got to the disk
        if i == len(new) // SECTOR:
            ours.add(cut)  # cut, not yet written
        if now not in ours:
            return content
    return content if untouched and word == "REDO" else new


def recover(control, disk, content):
    """The steps that end a commit that died: a commit of the content that the file has."""
    if disk.content() != content:
        yield from apply(disk, content)
    if control != "recovery that does not flush":
        disk.fdatasync()
    yield
    disk.set_attribute(("IDLE", disk.attribute[1]))
    yield


def announce(control, disk, record, journal):
    """The steps that put the record on disk: in the attribute, or in a journal that is "removed" or "kept" afterwards."""
    if journal:
        disk.journal.append(None)  # half of it
        yield
        disk.journal.append(record)
        yield
        if journal == "removed" and control != "no fdatasync of the journal":
            disk.journal = [record]
        yield
    disk.set_attribute(("FILE", record[1]) if journal else record)
    yield
    flushes = [disk.fsync] if control != "no fsync of the attribute" else []
    if journal == "kept" and control not in ("no fdatasync of the journal", "no write-out of a kept journal"):
        flushes.insert(disk.rng.randrange(2), disk.flush_journal)
    for flush in flushes:
        flush()
        yield


def go_back(control, disk, old, generation):
    """The steps behind a write that failed: the old content again."""
    if control != "a failed commit has no record of its way back":
        disk.set_attribute(redo(generation, disk.content(), old, "BACK"))
        yield
        disk.fsync()
        yield
    yield from apply(disk, old)
    disk.fdatasync()
    yield
    disk.set_attribute(("IDLE", generation))
    yield


def commit(control, disk, new, journal, fails_at):
    """The steps of a commit, with the lock held; a kill or a power cut may come at each yield. The fails_at-th step of those
    that change the bytes fails, if there are so many. Returns whether it failed."""
    old = settle(control, disk.content(), disk.attribute, disk.journal[-1])
    generation = disk.attribute[1] if disk.attribute else 0
    if disk.attribute and disk.attribute[0] != "IDLE":
        yield from recover(control, disk, old)
    yield from announce(control, disk, redo(generation + 1, old, new), journal)
    for step, _ in enumerate(apply(disk, new)):
        if step == fails_at:
            yield from go_back(control, disk, old, generation + 2)
            return True
        yield
    if control != "no fdatasync of the bytes":
        disk.fdatasync()
    yield
    disk.set_attribute(("IDLE", generation + 1))
    yield
    return False


def apply(disk, new):
    if len(new) < disk.size:
        disk.set_size(len(new))
        yield
    for _ in disk.write(0, new):
        yield


def reader(control, disk, is_locked):
    """A wrapped reader without the lock. Returns None if it has to try again."""
    before = disk.attribute
    journal = disk.journal[-1]
    got = bytearray()
    size = disk.size
    for i in range(sectors(size)):
        got += sector(disk.content(), i)
        yield None
    got = bytes(got[:size])
    if control == "readers look once":
        before = record(before, journal)
        return got if before is None or before[0] == "IDLE" else before[2]
    if disk.attribute != before or disk.size != size:
        return None
    found = settle(control, got, before, journal)
    before = record(before, journal)
    if before is not None and before[0] != "IDLE" and found == got != before[2] and is_locked():
        return None  # perhaps a sector in the middle of its change: to be read again, or waited for
    return found


class Run:
    def __init__(self, rng, control):
        self.rng, self.control = rng, control
        self.serial = 0
        first = self.fresh()
        self.disk = Disk(rng, first)
        self.writer = None  # the steps of a commit that holds the lock
        self.allowed = {first}  # the contents that a wrapped reader may get now
        self.durable = {first}  # the contents that may be there after a power cut
        self.dirty = False  # a stranger wrote without syncing: a power cut leaves any of the disk's versions

    def fresh(self):
        self.serial += 1
        return bytes(self.rng.choice(b"abc") for _ in range(self.rng.randrange(0, 5 * SECTOR))) + b"%d" % self.serial

    def look(self):
        steps = reader(self.control, self.disk, lambda: self.writer is not None)
        try:
            while True:
                next(steps)
                if self.writer is not None and self.rng.random() < 0.5:
                    self.step()
        except StopIteration as end:
            if end.value is not None and end.value not in self.allowed:
                raise AssertionError(f"a reader got {end.value}, allowed {self.allowed}")

    def step(self):
        try:
            next(self.writer)
        except StopIteration as end:
            left = self.old if end.value else self.new
            self.writer = None
            self.allowed = {left}
            self.durable = {left}
            self.dirty = False
            if self.disk.content() != left:
                raise AssertionError("a commit did not leave its bytes")

    def begin(self):
        self.old = settle(self.control, self.disk.content(), self.disk.attribute, self.disk.journal[-1])
        self.new = self.fresh()
        self.allowed = self.allowed | {self.new}
        self.durable = self.durable | {self.new, self.old}
        fails_at = self.rng.randrange(6) if self.rng.random() < 0.2 else None
        with_journal, is_kept = self.rng.random() < 0.4, self.rng.random() < 0.5
        journal = None if not with_journal else "kept" if is_kept else "removed"
        self.writer = commit(self.control, self.disk, self.new, journal, fails_at)

    def stranger(self):
        """Between commits, or after one was killed: rewrites, appends, or edits in place; may sync."""
        kind = self.rng.randrange(3)
        disk = self.disk
        data = self.fresh()
        if kind == 0:
            disk.set_size(0)
        for _ in disk.write(0 if kind == 0 else disk.size if kind == 1 else self.rng.randrange(disk.size + 1), data):
            pass
        self.allowed = {disk.content()}
        self.durable = self.durable | {disk.content()}
        self.dirty = True
        if self.rng.random() < 0.5:
            disk.fsync()
            self.durable = {disk.content()}
            self.dirty = False

    def power_cut(self):
        self.writer = None
        self.disk.power_cut()
        got = settle(self.control, self.disk.content(), self.disk.attribute, self.disk.journal[-1])
        if not self.dirty and got not in self.durable:
            raise AssertionError(f"after a power cut: {got}, allowed {self.durable}")
        self.allowed = {got}
        self.durable = {got}
        self.dirty = False

    def go(self):
        for _ in range(self.rng.randrange(1, 30)):
            what = self.rng.random()
            if self.writer is not None:
                if what < 0.70:
                    self.step()
                elif what < 0.85:
                    self.look()
                elif what < 0.93:
                    self.writer = None  # killed
                    self.look()
                else:
                    self.power_cut()
            elif what < 0.5:
                self.begin()
            elif what < 0.7:
                self.look()
            elif what < 0.85:
                self.stranger()
            elif what < 0.9:
                self.power_cut()
        self.look()


def wrong_runs(runs, seed, control=None):
    """The runs in which a reader found what it must not, one after the other."""
    for i in range(runs):
        try:
            Run(random.Random(f"{seed}-{i}"), control).go()
        except AssertionError as error:
            yield f"run {i}: {error}"


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    seed = sys.argv[2] if len(sys.argv) > 2 else "1"
    wrong = list(wrong_runs(runs, seed))
    print(f"the protocol: {len(wrong)} of {runs} wrong", *wrong[:1])
    failed = bool(wrong)
    for control in CONTROLS:  # one run that finds it is enough
        found = next(wrong_runs(runs, seed, control), None)
        print(f"control, {control}:", found or f"NOT FOUND in {runs} runs")
        failed |= found is None
    sys.exit(failed)


if __name__ == "__main__":
    main()
