#!/usr/bin/env python3
import os, re, shlex, sys  # prints the content of a file that atomshim manages; a plain file as it is. usage: read_image.py FILE
def crc32c(data, crc=0xffffffff):  # RFC 3720, appendix B.4
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return b'%08x' % (crc ^ 0xffffffff)
def mixed(data):  # words of 8 bytes, the last one filled up with zeros, multiplied
    return b''.join((int.from_bytes(data[i:i + 8], 'little') * 0x9e3779b97f4a7c15 % 2**64).to_bytes(8, 'little') for i in range(0, len(data), 8))
def image(at):  # (generation, payload) of the complete image at this offset, if there is one, and its header's twin=
    line = re.match(rb'(#atomshim/1 generation=(\d+) size=(\d+) twin=(\d+) data=(\w+)) head=(\w+) mark=', file[at:at + 128])
    if not line or crc32c(line[1]) != line[6]: return None, None
    generation, size, twin = map(int, line.group(2, 3, 4))
    payload, fits = file[at + 128:at + 128 + size], twin == 0 if at else 128 + size <= twin
    return (generation, payload) if generation and fits and crc32c(mixed(payload)) == line[5] else None, twin
def identity(path):  # the identity of its inode: number, and time of birth
    number, second, nanosecond = map(int, re.split('[ .]', os.popen('stat -Lc "%i %.9W" -- ' + shlex.quote(path)).read()))
    return crc32c(mixed(b''.join(n.to_bytes(8, 'little') for n in (number, second, nanosecond))))
def record(data):  # (word, numbers, checksum of the content, identity, body), if the data are a record
    line = re.match(rb'(([A-Z]{4})((?: \d{10})?(?: \d{15})+) (\w{8}) (\w{8})) (\w{8})', data)
    if line and crc32c(line[1] + data[line.end():]) == line[6]: return line[2], [int(n) for n in line[3].split()], line[4], line[5], data[line.end():]
    old = re.fullmatch(rb'((\d{19}) (\d{19}) (\w{8})) (\w{8})', data)  # a note of an older version
    return (b'NOTE', [int(old[2]), int(old[3])], old[4], None, b'') if old and crc32c(old[1]) == old[5] else None
def journal(found):  # the record in the journal file that a FILE record names, if that is its
    try:
        with open(os.path.join(found[4], b'.atomshim-journal-' + found[3]), 'rb') as f: status, there = os.fstat(f.fileno()), record(f.read())
    except OSError: return None
    trusted = status.st_nlink == 1 and not status.st_mode & 0o77 and status.st_uid in (os.stat(sys.argv[1]).st_uid, os.geteuid())
    return there if trusted and there and there[0] == b'REDO' and there[1:4] == found[1:4] else None
def sums(data): return b''.join(int(crc, 16).to_bytes(4, 'little') for crc in (crc32c(data), crc32c(mixed(data))))
def settled(word, old, new, sum):  # the content, by a REDO or BACK record
    near, untouched = (len(sum) - 2) * 512, len(file) == old
    if file == new: return new
    if len(file) < min(len(new), old) or len(file) > len(new) and len(file) != old: return file
    for at in range(0, min(len(file), near if near < old else len(file)), 512):
        sector, i = file[at:at + 512].ljust(512, b'\0'), at // 512
        written = lambda limit: sector == new[:limit][at:at + 512].ljust(512, b'\0')
        if sums(sector) == sum[i] if i < len(sum) - 2 else written(0): continue
        untouched = False
        if not (word == b'BACK' and written(0) or written(len(file)) or written(old) or i == len(new) // 512 and sums(sector) == sum[-2]): return file
    if len(file) > len(new) and sums(file[near:] if near < old else b'') != sum[-1]: return file
    return file if untouched and word == b'REDO' else new
def plain():  # all bytes, unless a record says that a commit is under way, or died
    try: found = record(os.getxattr(sys.argv[1], 'user.atomshim'))
    except OSError: found = None
    if not found or found[3] not in (None, identity(sys.argv[1])): return file
    if found[0] == b'FILE': found = journal(found) or found
    word, numbers, crc, _, body = found
    if word in (b'REDO', b'BACK'):
        size = numbers[1]
        return settled(word, numbers[2], body[:size], [body[at:at + 8] for at in range(size, len(body), 8)])
    if word != b'NOTE' or not numbers[0] < len(file) <= numbers[1]: return file
    start = file[:numbers[0]]  # without the zeros that a power cut left of a first commit
    return start if crc32c(mixed(start)) == crc and not any(file[len(start):]) else file
file = open(sys.argv[1], 'rb').read()
images = [image(0)[0], image(image(0)[1])[0] if image(0)[1] else None]
if not file.startswith(b'#atomshim/1 '):  # a plain file, unless its first commit got as far as the image
    end = re.match(rb'(#atomshim/1-first-commit plain=(\d+) twin=(\d+) (start=(\w{8}) )?\.+)head=(\w+)\n', file[-128:])
    begun = end and crc32c(end[1]) == end[6] and len(file) % 4096 == 128 and int(end[2]) <= int(end[3]) < len(file)
    images = [image(int(end[3]))[0], (0, file[:int(end[2])])] if begun else [(0, plain())]
    if begun and images[0] and (images[0][0] > 1 or end[5] and crc32c(file[:512]) != end[5]): images = []  # overwritten
images = [i for i in images if i] or sys.exit(sys.argv[1] + ': no complete image')
sys.stdout.buffer.write(max(images)[1])
