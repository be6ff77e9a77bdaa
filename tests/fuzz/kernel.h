/*
 * A kernel for the engine under a fuzzer: every system call of the engine (sys.h, with
 * ATOMSHIM_TEST_KERNEL) comes here. Two files in memory, a lock, a clock that only sleeping moves.
 * So a run costs microseconds, however long the engine sleeps; the counts of its requests are
 * exact; and a call that it must not make ends the run.
 */
#ifndef ATOMSHIM_FUZZ_KERNEL_H
#define ATOMSHIM_FUZZ_KERNEL_H

#include "format/record.h"
#include "os/sys.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KERNEL_INODE = 100,        /* descriptor of the managed file */
    KERNEL_TARGET = 101,       /* the target to which a load copies */
    KERNEL_FILE_MAX = 4 << 20, /* a file cannot grow beyond: EFBIG */
};

struct kernel_file {
    uint64_t note_size; /* the size of its one extended attribute; 0: there is none */
    char note[4000];    /* as much as ext4 takes */
    uint64_t size;
    char bytes[KERNEL_FILE_MAX];
};

struct kernel {
    struct kernel_file *inode;
    struct kernel_file *target;
    uint64_t calls;      /* on the inode */
    uint64_t lock_calls; /* calls about the lock; a longer wait makes more */
    uint64_t bytes_read; /* from the inode */
    uint64_t mapped;     /* bytes of the largest mapping asked for */
    int64_t now;         /* the clock */
    /* Called before each call on the inode. May change the file. A result other than 0 becomes the
     * call's result; a call that moves bytes moves at most *size of them. */
    long (*before)(long number, size_t *size);
    /* Called after each change of the inode that the engine made. */
    void (*changed)(long number, uint64_t offset, const char *bytes, uint64_t size);
    int lock;              /* the engine's lock: F_UNLCK, F_RDLCK or F_WRLCK */
    bool (*is_held)(void); /* another process has it */
    void (*slept)(void);
};

extern struct kernel kernel;

/* Ends the fuzzer's run at once if the condition does not hold. */
#define REQUIRE(condition)                                                                                   \
    ((condition) ? (void)0                                                                                   \
                 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), abort()))

/* record_identity() of the inode, whose number and time are 0. */
#define KERNEL_IDENTITY record_identity(0, 0, 0)

/* Resets hooks and counts; the files stay. */
void kernel_reset(struct kernel_file *inode, struct kernel_file *target);

/* Does what pwrite and ftruncate do. Returns 0 or the count, or -EFBIG. */
long kernel_write(struct kernel_file *file, const char *bytes, uint64_t size, uint64_t offset);
long kernel_cut(struct kernel_file *file, uint64_t size);

#endif
