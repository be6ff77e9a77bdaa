#!/usr/bin/env python3
"""peer_sqlite.py FILE: takes the orders of server.c; overwrites the one row of a SQLite database."""
import os, sqlite3, sys, time

database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, image BLOB)")
database.execute("INSERT OR IGNORE INTO files VALUES ('file', '')")
for line in sys.stdin:
    size, count, _ = map(int, line.split())
    images = [os.urandom(8) + bytes(size - 8) for _ in range(count)]
    begin = time.monotonic_ns()
    for image in images:
        database.execute("UPDATE files SET image = ? WHERE name = 'file'", (image,))
    print(count, time.monotonic_ns() - begin, flush=True)
