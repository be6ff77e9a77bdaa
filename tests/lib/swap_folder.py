"""For folders.bats: puts a symbolic link in place of a folder, then writes to a file there.

Arguments: where the folders are made, where the links lead, and the way to make a link.
"""
import os, sys
work, managed, way = sys.argv[1:]

def put(path, flags=os.O_TRUNC):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    os.write(fd, b"new\n")
    os.close(fd)

def remove(folder):
    os.unlink(folder + "/file")
    os.rmdir(folder)

def swap(folder):
    link = folder
    if way == "fork":
        if os.fork() == 0:
            remove(folder)
            os.symlink(managed, folder)
            os._exit(0)
        os.wait()
        return
    if way == "rename":
        link = folder + ".link"
        os.symlink(managed, link)
        put(folder + "/file")
    remove(folder)
    if way == "symlinkat":
        os.symlink(managed, os.path.basename(folder), dir_fd=os.open(work, os.O_PATH))
    elif way == "symlink":
        os.symlink(managed, folder)
    else:
        os.rename(link, folder)

for i in range(20):
    folder = "%s/%s%d" % (work, way, i)
    os.mkdir(folder)
    put(folder + "/file")
    put(folder + "/file")
    swap(folder)
    put("%s/%s%d" % (folder, way, i))
