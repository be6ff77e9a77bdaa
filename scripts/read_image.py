#!/usr/bin/env python3
import os, re, sys  # prints what a file managed by atomshim contains; a plain file as it is. usage: read_image.py FILE
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
def plain():  # all bytes, but not the zeros that a power cut left of a first commit, if the file's note tells of them
    try: note = re.fullmatch(rb'((\d{19}) (\d{19}) (\w{8})) (\w{8})', os.getxattr(sys.argv[1], 'user.atomshim'))
    except OSError: note = None
    if not note or crc32c(note[1]) != note[5] or not int(note[2]) < len(file) <= int(note[3]): return file
    start = file[:int(note[2])]
    return start if crc32c(mixed(start)) == note[4] and not any(file[len(start):]) else file
file = open(sys.argv[1], 'rb').read()
images = [image(0)[0], image(image(0)[1])[0] if image(0)[1] else None]
if not file.startswith(b'#atomshim/1 '):  # a plain file, unless its first commit got as far as the image
    end = re.match(rb'(#atomshim/1-first-commit plain=(\d+) twin=(\d+) (start=(\w{8}) )?\.+)head=(\w+)\n', file[-128:])
    begun = end and crc32c(end[1]) == end[6] and len(file) % 4096 == 128 and int(end[2]) <= int(end[3]) < len(file)
    images = [image(int(end[3]))[0], (0, file[:int(end[2])])] if begun else [(0, plain())]
    if begun and images[0] and (images[0][0] > 1 or end[5] and crc32c(file[:512]) != end[5]): images = []  # overwritten
images = [i for i in images if i] or sys.exit(sys.argv[1] + ': no complete image')
sys.stdout.buffer.write(max(images)[1])
