/* Reads, sums and copies the bytes of a file, and leaves holes out. */
#include "store/internal.h"

#include "format/crc32c.h"
#include "os/scratch.h"
#include "store/calls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* bytes that are read, summed and written while they are in the CPU's cache */
enum { READ_CHUNK = 1 << 17 };

ssize_t store_read_at(int inode, void *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = STORE_RETRY(store_calls.pread(inode, (char *)buffer + done, size - done, offset + done));

        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int store_write_target(int target, const char *bytes, size_t size, uint64_t offset)
{
    while (size != 0) {
        ssize_t n = sys_pwrite(target, bytes, size, offset);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        bytes += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

bool store_is_zero(const char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/*
 * Returns the end of the hole in which `offset` lies, `end` at most; `offset` if there is none. The
 * description's own offset belongs to a session (session_get_base), and this changes it for a
 * moment: the caller must keep its other users out, which the caller of a LOOK does not.
 */
static uint64_t end_of_hole(int inode, uint64_t offset, uint64_t end)
{
    int64_t position = store_calls.lseek(inode, 0, SEEK_CUR);
    int64_t data = position < 0 ? position : store_calls.lseek(inode, (int64_t)offset, SEEK_DATA);

    if (position < 0)
        return offset;
    (void)store_calls.lseek(inode, position, SEEK_SET);
    if (data == -ENXIO || (data >= 0 && (uint64_t)data > end))
        return end;
    return data < (int64_t)offset ? offset : (uint64_t)data;
}

int store_read_bytes(const struct attempt *attempt, uint64_t offset, uint64_t size, uint32_t *crc)
{
    struct scratch scratch;
    uint64_t done = 0;
    uint64_t written = 0; /* the size of the target */
    int error = scratch_take(&scratch, READ_CHUNK);

    *crc = 0;
    if (error == 0 && attempt->depth == COPY)
        error = sys_ftruncate(attempt->target, 0); /* zeros are not written */
    while (error == 0 && done < size) {
        size_t chunk = size - done < READ_CHUNK ? (size_t)(size - done) : READ_CHUNK;
        ssize_t n = store_read_at(attempt->inode, scratch.bytes, chunk, offset + done);
        uint64_t hole = 0;

        if (n < 0)
            error = (int)n;
        else if ((size_t)n < chunk)
            error = CHANGED;
        else if (attempt->depth > LOOK && store_is_zero(scratch.bytes, chunk))
            hole =
                end_of_hole(attempt->inode, offset + done + chunk, offset + size) - (offset + done + chunk);
        else if (attempt->depth == COPY) {
            error = store_write_target(attempt->target, scratch.bytes, chunk, done);
            written = done + chunk;
        }
        if (done + chunk + hole < size)
            hole &= ~WORD_MASK;
        if (error == 0)
            *crc = crc32c_zeros(crc32c_mixed(*crc, scratch.bytes, chunk), (hole + WORD_MASK) & ~WORD_MASK);
        done += chunk + hole;
    }
    if (error == 0 && attempt->depth == COPY && written != size)
        error = sys_ftruncate(attempt->target, size);
    scratch_give(&scratch);
    return error;
}

int store_sum(int fd, uint64_t size, uint32_t *crc)
{
    struct attempt attempt = {.inode = fd, .target = -1, .depth = VERIFY};
    int result = store_read_bytes(&attempt, 0, size, crc);

    return result == CHANGED ? -EIO : result;
}
