#!/usr/bin/env python3
"""Model of the sized format (shim/store/store.h) on a disk that, at a power cut, keeps any subset of what was not flushed.

A file is a row of scaled-down sectors of 8 units; a page has 4 of them; a header, a footer and one unit of payload fill
one sector each. Processes see the page cache. A kill stops a write at the edge of a page and ends the process. A power cut
leaves, of everything since the last flush, any subset of the sectors and any size that the file had, but no size without
the data that extended the file to it, unless a note tells of that size. Sizes and notes come in their order. After each step a reader must find what the rules allow, and the next commit goes on
from there. Keep it in step with shim/store/commit.c and first_commit.c. usage: format_model.py [RUNS]
"""
import random
import sys

SECTOR, PAGE = 8, 32
REMAINDER = SECTOR  # a file's size modulo PAGE
TOO_LARGE = 8


class PowerCut(Exception):
    pass


class Kill(Exception):
    pass


class Inode:
    def __init__(self):
        self.cache, self.size, self.note, self.states = {}, 0, None, []
        self.flush()

    def flush(self):
        # a note's removal may come later, but not later than the next size or note
        old = [n for size, n in self.states if size == self.size and n and not self.note][-1:]
        self.states = [(self.size, note) for note in old + [self.note]]
        self.disk, self.pending = dict(self.cache), {}

    def write_sector(self, i, value):
        self.cache[i] = value
        extends, since = (i + 1) * SECTOR > self.size, 0
        if extends:
            self.set_size((i + 1) * SECTOR)
            since = len(self.states) - 1  # its blocks are new: no earlier state leads to them
        self.pending.setdefault(i, []).append([value, extends, since, None])

    def set_size(self, size):
        if size < self.size:
            self.cache = {i: v for i, v in self.cache.items() if i * SECTOR < size}
            for version in (v for i, versions in self.pending.items() if i * SECTOR >= size for v in versions):
                version[3] = version[3] or len(self.states)  # it is missing from this state on
        self.size = size
        self.states.append((size, self.note))

    def set_note(self, note):
        self.note = note
        self.states.append((self.size, note))

    def read(self, i):
        return self.cache.get(i) if i * SECTOR < self.size else None

    def after_power_cut(self, rng):
        state, new = rng.randrange(len(self.states)), Inode()
        size, note = self.states[state]
        lowest = min(size for size, _ in self.states[:state + 1])
        pending = {i: [v for v in versions if v[2] <= state and not (v[3] and v[3] <= state)]
                   for i, versions in self.pending.items()}
        pending = {i: versions for i, versions in pending.items() if versions}
        keys, p = list(pending), rng.random()
        one = rng.choice(keys) if keys else None
        kept = set(rng.choice([[], keys, [k for k in keys if rng.random() < p], [one] if keys else [],
                               [k for k in keys if k != one]]))
        if not (note and note[1] == size):
            kept |= {k for k in keys if any(v[1] for v in pending[k])}
        new.cache = {k: v for k, v in self.disk.items() if k * SECTOR < lowest}
        new.cache.update((k, rng.choice(pending[k])[0]) for k in kept)
        new.cache = {k: v for k, v in new.cache.items() if k * SECTOR < size}
        new.size, new.note, new.states = size, note, []
        new.flush()
        return new


def round_up(n):
    return (n + PAGE - 1) // PAGE * PAGE


def image_length(units):
    return SECTOR * (1 + units)


def place_size(length):
    return round_up(length + length // 4 + PAGE)


def file_size(twin, length):
    return twin + place_size(length) + REMAINDER


def header(generation, payload, twin, mark='-'):
    return ('header', generation, len(payload), twin, hash(tuple(payload)), mark)


def image_at(f, offset):
    """the live image's description, if there is a complete image at this offset"""
    head = f.read(offset // SECTOR)
    if not head or head[0] != 'header' or head[1] == 0:
        return None
    payload = [f.read(offset // SECTOR + 1 + k) for k in range(head[2])]
    if hash(tuple(payload)) != head[4]:
        return None
    return {'generation': head[1], 'place': offset, 'payload': payload, 'flushed': head[5] == '+'}


def load(f):
    """(state, content, what a committer needs to know): state is plain, adopted, sized or eio"""
    head = f.read(0)
    if head and head[0] == 'header':
        images = [i for i in (image_at(f, 0), image_at(f, head[3])) if i]
        if not images:
            return 'eio', None, None
        live = max(images, key=lambda i: i['generation'])
        live['twin'] = head[3]
        return 'sized', live['payload'], live
    footer = f.read(f.size // SECTOR - 1) if f.size % PAGE == REMAINDER else None
    if footer and footer[0] == 'footer':
        twin = image_at(f, footer[2])
        if twin:
            return 'adopted', twin['payload'], footer[2]
        return 'plain', [f.read(k) for k in range(footer[1])], footer[2]
    sectors = [f.read(k) for k in range(f.size // SECTOR)]
    if f.note and f.note[1] == f.size and hash(tuple(sectors[:f.note[0]])) == f.note[2] and not any(sectors[f.note[0]:]):
        return 'plain', sectors[:f.note[0]], 1
    return 'plain', sectors, 0


class Committer:
    # each of the last three is False in a control
    def __init__(self, f, rng, hazard=.06, syncs=True, marks=True, notes=True):
        self.f, self.rng, self.hazard, self.syncs, self.marks, self.notes = f, rng, hazard, syncs, marks, notes

    def mishap(self):
        if self.rng.random() < self.hazard:
            raise self.rng.choice([Kill, PowerCut])()

    def write(self, offset, sectors):
        self.mishap()
        for k, value in enumerate(sectors):
            if k and (offset + k * SECTOR) % PAGE == 0:
                self.mishap()
            self.f.write_sector(offset // SECTOR + k, value)
        self.mishap()

    def flush(self):
        self.mishap()
        if self.syncs:
            self.f.flush()
        self.mishap()

    def make_room(self, place, length):
        size = self.f.size
        if place + length > size:
            size = file_size(place, length)
        elif size % PAGE != REMAINDER:
            size = round_up(size) + REMAINDER
        if size != self.f.size:
            self.f.set_size(size)
            self.mishap()

    def mark(self, place):
        if self.syncs and self.marks:
            i = place // SECTOR
            self.write(place, [self.f.read(i)[:5] + ('+',)])

    def overwrite(self, live, place, payload):
        self.make_room(place, image_length(len(payload)))
        self.write(place, [header(live['generation'] + 1, payload, live['twin'] if place == 0 else 0)] + payload)
        self.flush()
        self.mark(place)

    def relocate(self, live, place, payload):
        length = image_length(len(payload))
        self.make_room(place, length)
        self.write(place, [header(live['generation'] + 1, payload, 0)] + payload)
        self.flush()
        self.write(0, [header(0, [], place)])
        self.flush()
        self.mark(place)
        if place < live['place']:
            self.f.set_size(file_size(place, length))
            self.mishap()

    def note(self, note):
        self.mishap()
        self.f.set_note(note)

    def first_commit(self, plain, remains, payload):
        length = image_length(len(payload))
        place = max(round_up(len(plain) * SECTOR), place_size(length))
        end = file_size(place, length) - SECTOR
        if remains:
            self.f.set_size(len(plain) * SECTOR)
            self.flush()
            self.note(None)
        self.note((len(plain), end + SECTOR, hash(tuple(plain))) if self.notes else (0, end + SECTOR, None))
        self.write(end, [('footer', len(plain), place)])
        self.flush()
        self.note(None)
        self.write(place, [header(1, payload, 0)] + payload)
        self.flush()
        self.write(0, [header(0, [], place)])
        self.flush()
        self.mark(place)

    def rewrite(self, place):
        """an image over itself: its writer died, or its flush failed and would be called done by the next one"""
        i = place // SECTOR
        self.write(place, [self.f.read(k) for k in range(i, i + 1 + self.f.read(i)[2])])

    def finish_adoption(self, twin):
        self.rewrite(twin)
        self.flush()
        self.write(0, [header(0, [], twin)])
        self.flush()

    def commit(self, payload):
        f, length = self.f, image_length(len(payload))
        state, old, live = load(f)
        if state == 'adopted':
            self.finish_adoption(live)
            state, old, live = load(f)
        if state == 'plain':
            self.first_commit(old, live, payload)
            return
        if not live['flushed'] and self.marks and self.syncs:
            self.rewrite(live['place'])
            if live['place'] != 0:
                self.write(0, [f.read(0)])
            self.flush()
        if live['place'] == 0:
            self.overwrite(live, live['twin'], payload)
        elif length > live['twin']:
            self.relocate(live, max(round_up(live['place'] + image_length(len(old))), place_size(length)), payload)
        elif (place_size(length) * 2 <= live['place']
              and f.size // TOO_LARGE > file_size(place_size(length), length)):
            self.relocate(live, place_size(length), payload)
        else:
            self.overwrite(live, 0, payload)


def run(seed, steps=14, **options):
    """None, or the first step after which a reader found what it must not"""
    rng, f = random.Random(seed), Inode()
    for k in range(rng.choice([0, 0, 1, 3, 9, 60])):
        f.write_sector(k, 'plain%d' % k)
    f.flush()
    seen = [f.read(k) for k in range(f.size // SECTOR)]
    durable = [seen]  # the notes that a power cut may bring back
    for step in range(steps):
        payload = ['%d.%d' % (step, k) for k in range(rng.choice([0, 1, 1, 2, 3, 5, 9, 14, 60]))]
        cut = False
        try:
            Committer(f, rng, **options).commit(payload)
            allowed = durable = [payload]
            cut = rng.random() < .15
            f = f.after_power_cut(rng) if cut else f
        except Kill:
            allowed = [seen, payload]
            durable = durable + allowed
        except PowerCut:
            cut, f = True, f.after_power_cut(rng)
            allowed = durable + [seen, payload]
        state, seen, _ = load(f)
        if state == 'eio' or seen not in allowed:
            return seed, step, state, seen, allowed
        if cut:
            durable = [seen]
    return None


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    bad = [r for r in (run(seed) for seed in range(runs)) if r]
    print('the protocol             %d runs, %d violations' % (runs, len(bad)), *bad[:1])
    failed = bool(bad)
    for name, option in (('no flush mark', 'marks'), ('no flush', 'syncs'), ('a note of no use', 'notes')):
        found = next((seed for seed in range(runs) if run(seed, **{option: False})), None)  # one is enough
        print('control: %-15s' % name, 'NOT FOUND in %d runs' % runs if found is None else 'found by run %d' % found)
        failed |= found is None
    return failed


if __name__ == '__main__':
    sys.exit(main())
