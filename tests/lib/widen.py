"""For rights.bats: truncates a secret file, writes, gives others a right to it, and ends.

Arguments: the file, how the right is given, and how the process ends. Prints what the user nobody
reads then.
"""
import fcntl, os, signal, struct, sys, threading
path, how, end = sys.argv[1:]

def in_child(work):
    child = os.fork()
    if child == 0:
        try: work()
        finally: os._exit(0)
    os.waitpid(child, 0)

def look():
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    try: print("nobody:", open(path).read().strip(), flush=True)
    except PermissionError: print("nobody: refused", flush=True)

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

# user::rw-, user:nobody:r--, group::---, mask::r--, other::---: acl(5) in its binary form
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (
    (1, 6, 2**32 - 1), (2, 4, 65534), (4, 0, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)))
fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
if how != "empty": os.write(fd, b"new\n")
{"fchmod": lambda: os.fchmod(fd, 0o644), "empty": lambda: os.fchmod(fd, 0o644),
 "chmod": lambda: os.chmod(path, 0o644), "thread": lambda: in_thread(lambda: os.chmod(path, 0o644)),
 "child": lambda: in_child(lambda: os.fchmod(fd, 0o644)),
 "fchown": lambda: os.fchown(fd, 65534, -1), "chown": lambda: os.chown(path, -1, 65534) or os.chmod(path, 0o640),
 "lchown": lambda: os.lchown(path, 65534, -1),
 "acl": lambda: os.setxattr(path, "system.posix_acl_access", acl),
 "lacl": lambda: os.setxattr(path, "system.posix_acl_access", acl, follow_symlinks=False),
 "both": lambda: os.fchmod(fd, 0o644) or os.fchown(fd, 65534, -1),
 "back": lambda: os.fchmod(fd, 0o644) or os.fchmod(fd, 0o600),
 "outside": lambda: os.fchmod(fd, 0o644) or in_child(lambda: os.chmod(path, 0o400)),
 "exec": lambda: os.fchmod(fd, 0o644)}[how]()
print("mode: %o" % (os.fstat(fd).st_mode & 0o7777), flush=True)
in_child(look)
if how == "empty": os.write(fd, b"new\n")
if how == "exec": os.set_inheritable(fd, True); os.execvp("sh", ["sh", "-c", "kill -9 $$"])
if end == "fail":
    locked, leave = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(fd)
        os.close(leave[1])
        fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX)
        os.write(locked[1], b"x")
        os.read(leave[0], 1)
        os._exit(0)
    os.read(locked[0], 1)
if end == "kill": os.kill(os.getpid(), signal.SIGKILL)
try: os.close(fd)
except OSError as error: print("failed", flush=True)
in_child(look)
