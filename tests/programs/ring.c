/*
 * Writes through a file that only the kernel has open: ring FILE exit|unregister|stay. Opens
 * FILE, registers it with an io_uring, closes it, and writes to it through the ring; then ends,
 * or lets go of it first and tells on descriptor 1, and ends when descriptor 0 does. Exit status
 * 77: there is no io_uring.
 */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static struct io_uring_params parameters;

static int submit(const char *text)
{
    char *queue = mmap(NULL, parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned),
                       PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, parameters.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE,
                                      MAP_SHARED, ring, IORING_OFF_SQES);

    if (queue == MAP_FAILED || entry == MAP_FAILED)
        return 77;
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_WRITE;
    entry->flags = IOSQE_FIXED_FILE; /* entry->fd is 0, the first registered */
    entry->addr = (uintptr_t)text;
    entry->len = (unsigned)strlen(text);
    memset(queue + parameters.sq_off.array, 0, sizeof(unsigned));
    __atomic_store_n((unsigned *)(void *)(queue + parameters.sq_off.tail), 1, __ATOMIC_RELEASE);
    return syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1 ? 0 : 77;
}

int main(int argc, char *argv[])
{
    char byte;
    int fd;

    if (argc < 3)
        return 2;
    ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);
    fd = open(argv[1], O_RDWR | O_TRUNC);
    if (ring < 0 || fd < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &fd, 1) != 0)
        return 77;
    if (close(fd) != 0)
        return 1;
    if (submit("by the kernel") != 0)
        return 77;
    if (strcmp(argv[2], "exit") == 0)
        return 0;
    if (syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_FILES, NULL, 0) != 0)
        return 77;
    if (write(1, "\n", 1) != 1)
        return 1;
    while (read(0, &byte, 1) > 0)
        continue;
    return 0;
}
