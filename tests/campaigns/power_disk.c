/*
 * A disk that records, and fails on demand: a FUSE file system with two files.
 *
 *   power_disk IMAGE RECORDING DIRECTORY [FUSE-OPTION...]
 *
 *   DIRECTORY/disk      what is in IMAGE; made to be the backing store of a loop device. Every
 *                       write, discard and flush that reaches it is appended to RECORDING in order
 *                       (power_recording.h).
 *   DIRECTORY/control   takes one command a line:
 *       mark TEXT              puts TEXT into the recording
 *       fail writes [COUNT]    the next COUNT (else all) writes are answered with EIO and not done
 *       fail data [COUNT]      the same for writes that hold a block of a managed file
 *                              (power_is_data)
 *       fail flushes [COUNT]   the same for flushes
 *       fail none              no more of it
 *       slow MILLISECONDS      so long takes each write that holds a block of a managed file from
 *                              now on
 *                       Reading it gives what has come so far: "writes N flushes N failed N".
 *
 * It returns when the file system is mounted, goes on in the background, and ends when it is
 * unmounted. One thread: what it records is what it did, in that order.
 */
#define FUSE_USE_VERSION 31

#include "power_recording.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum fault { FAULT_NONE, FAULT_WRITES, FAULT_DATA, FAULT_FLUSHES };

static struct {
    int image;
    int recording;
    enum fault fault;
    unsigned long faults_left;
    unsigned milliseconds; /* the time of a write of data */
    unsigned long writes, flushes, failed;
} disk;

static bool is_control(const char *path)
{
    return strcmp(path, "/control") == 0;
}

static bool is_disk(const char *path)
{
    return strcmp(path, "/disk") == 0;
}

static int append(const void *bytes, size_t size)
{
    return write(disk.recording, bytes, size) == (ssize_t)size ? 0 : -EIO;
}

static int record(enum recorded_kind kind, bool failed, uint64_t offset, uint64_t size, const void *bytes)
{
    struct recorded recorded = {(uint32_t)kind, failed, offset, size};
    int error = append(&recorded, sizeof recorded);

    return error != 0 || bytes == NULL ? error : append(bytes, size);
}

static bool strike(enum fault fault)
{
    if (disk.fault != fault || disk.faults_left == 0)
        return false;
    disk.faults_left--;
    disk.failed++;
    return true;
}

static bool holds_data(const char *bytes, size_t size)
{
    for (size_t done = 0; done < size; done += POWER_BLOCK)
        if (power_is_data(bytes + done, size - done))
            return true;
    return false;
}

static int set_fault(const char *what)
{
    static const char *const names[] = {"none", "writes", "data", "flushes"};
    char name[16];
    unsigned long count = ULONG_MAX;

    if (sscanf(what, "%15s %lu", name, &count) < 1)
        return -EINVAL;
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
        if (strcmp(name, names[i]) == 0) {
            disk.fault = (enum fault)i;
            disk.faults_left = count;
            return 0;
        }
    }
    return -EINVAL;
}

static int obey(const char *bytes, size_t size)
{
    char line[256];

    if (size == 0 || size >= sizeof line || bytes[size - 1] != '\n')
        return -EINVAL;
    memcpy(line, bytes, size);
    line[size - 1] = '\0';
    if (strncmp(line, "mark ", 5) == 0)
        return record(RECORDED_MARK, false, 0, size - 6, line + 5);
    if (sscanf(line, "slow %u", &disk.milliseconds) == 1)
        return 0;
    return strncmp(line, "fail ", 5) == 0 ? set_fault(line + 5) : -EINVAL;
}

static int on_write(const char *path, const char *bytes, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    bool failed;
    bool data;
    int error;

    if (is_control(path)) {
        error = obey(bytes, size);
        return error == 0 ? (int)size : error;
    }
    disk.writes++;
    data = holds_data(bytes, size);
    failed = strike(FAULT_WRITES) || (data && strike(FAULT_DATA));
    error = record(RECORDED_WRITE, failed, (uint64_t)offset, size, bytes);
    if (error != 0)
        return error;
    if (data && disk.milliseconds != 0)
        (void)usleep(disk.milliseconds * 1000);
    if (failed)
        return -EIO;
    return pwrite(disk.image, bytes, size, offset) == (ssize_t)size ? (int)size : -EIO;
}

static int on_fallocate(const char *path, int mode, off_t offset, off_t size, struct fuse_file_info *info)
{
    bool failed;
    int error;

    if (!is_disk(path))
        return -EINVAL;
    disk.writes++;
    failed = strike(FAULT_WRITES);
    error = record(RECORDED_ZEROES, failed, (uint64_t)offset, (uint64_t)size, NULL);
    if (error != 0)
        return error;
    if (failed)
        return -EIO;
    return fallocate(disk.image, mode, offset, size) == 0 ? 0 : -errno;
}

static int on_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    bool failed;
    int error;

    if (!is_disk(path))
        return 0;
    disk.flushes++;
    failed = strike(FAULT_FLUSHES);
    error = record(RECORDED_FLUSH, failed, 0, 0, NULL);
    return failed ? -EIO : error;
}

static int on_read(const char *path, char *bytes, size_t size, off_t offset, struct fuse_file_info *info)
{
    ssize_t n;

    if (is_control(path)) {
        if (offset != 0)
            return 0;
        return snprintf(bytes, size, "writes %lu flushes %lu failed %lu\n", disk.writes, disk.flushes,
                        disk.failed);
    }
    n = pread(disk.image, bytes, size, offset);
    return n < 0 ? -errno : (int)n;
}

static int on_getattr(const char *path, struct stat *status, struct fuse_file_info *info)
{
    struct stat image;

    if (fstat(disk.image, &image) != 0)
        return -errno;
    memset(status, 0, sizeof *status);
    status->st_nlink = 1;
    status->st_mode = S_IFREG | 0600;
    if (strcmp(path, "/") == 0)
        status->st_mode = S_IFDIR | 0700;
    else if (is_disk(path))
        status->st_size = image.st_size;
    else if (!is_control(path))
        return -ENOENT;
    return 0;
}

static int on_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    static const char *const names[] = {".", "..", "disk", "control"};

    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (fill(buffer, names[i], NULL, 0, 0) != 0)
            return -ENOMEM;
    return 0;
}

static int on_open(const char *path, struct fuse_file_info *info)
{
    info->direct_io = 1; /* every read and write comes to this process at once */
    return 0;
}

/* `echo >control` cuts it first. */
static int on_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    return is_control(path) ? 0 : -EPERM;
}

int main(int argc, char *argv[])
{
    static const struct fuse_operations operations = {
        .getattr = on_getattr,
        .readdir = on_readdir,
        .open = on_open,
        .truncate = on_truncate,
        .read = on_read,
        .write = on_write,
        .fallocate = on_fallocate,
        .fsync = on_fsync,
    };

    if (argc < 4) {
        fprintf(stderr, "usage: power_disk IMAGE RECORDING DIRECTORY [FUSE-OPTION...]\n");
        return 2;
    }
    disk.image = open(argv[1], O_RDWR | O_CLOEXEC);
    disk.recording = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (disk.image < 0 || disk.recording < 0) {
        perror("power_disk");
        return 2;
    }
    argv[1] = argv[0];
    argv[2] = (char[]){"-s"};
    return fuse_main(argc - 1, argv + 1, &operations, NULL);
}
