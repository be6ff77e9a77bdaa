/*
 * The library with the failing kernel shares a mapped file with the campaign `errors`, or with the
 * runner of directed faults (with_faults.c). The environment of the program has its path in
 * FAILING_KERNEL_VARIABLE.
 */
#ifndef ATOMSHIM_FAILING_KERNEL_H
#define ATOMSHIM_FAILING_KERNEL_H

#include <stdatomic.h>
#include <stdint.h>

#define FAILING_KERNEL_VARIABLE "FAILING_KERNEL="

enum {
    KERNEL_CALLS = 4096,
    KERNEL_IMAGES = 4096,
    KERNEL_ERRORS = 8,
    KERNEL_FRAMES = 10,
    KERNEL_DIRECTED = 8
};

/* Not an errno: a read or a write transfers one byte, or the first piece of its vector. */
enum { KERNEL_SHORT = 4000 };

enum kernel_mode {
    KERNEL_ONCE,   /* the first call of this stack fails */
    KERNEL_REST,   /* and from then on every call that can fail with this errno */
    KERNEL_ALWAYS, /* each call with this number fails */
};

enum { LEARNS_CALLS = 1, LEARNS_IMAGES = 2 };

/* A place of the library that makes a call: the addresses of the call and of its callers. */
struct kernel_call {
    _Atomic uint64_t stack; /* 0: the entry is free */
    uint32_t frames[KERNEL_FRAMES];
    int32_t number;
    int32_t errors[KERNEL_ERRORS]; /* those that it can fail with; 0 behind the last */
    _Atomic uint32_t is_filled;
};

/* Directed: the call with this ordinal, of those that a function or its callees make, fails; or it
 * waits for a stranger, and is made then. */
struct kernel_directed {
    struct {
        uint64_t start, end; /* the function's code, from the beginning of the library; 0: unused */
    } code[2];               /* a compiler may move a part of a function away */
    int32_t number, command; /* the call; for fcntl(2) its command, or -1 for any */
    uint32_t first, last;    /* ordinals, from 1 on */
    int32_t error;           /* 0: a stranger acts */
    uint32_t is_caller;      /* the function itself makes the call */
    _Atomic uint32_t met;    /* such calls until now */
    _Atomic uint32_t asks;   /* a futex: the call waits while this is not 0 */
};

struct kernel_control {
    struct kernel_directed directed[KERNEL_DIRECTED];
    uint32_t directed_count;
    _Atomic uint32_t failed; /* a stranger's command has */
    _Atomic uint32_t asked;  /* a futex: how often a stranger was asked for */
    _Atomic uint32_t learns; /* LEARNS_...: what is noted */
    struct kernel_fault {
        uint64_t stack;
        int32_t number, error; /* 0: no fault */
        uint32_t mode;
        _Atomic uint32_t met;
    } faults[2];                            /* the second: of a call that only the first leads to */
    struct kernel_call calls[KERNEL_CALLS]; /* a hash table by stack */
    _Atomic uint32_t images;
    uint64_t image[KERNEL_IMAGES]; /* what a buffer held at a call */
};

#define KERNEL_HASH UINT64_C(0xcbf29ce484222325)

/* FNV-1a: continues `hash` by `size` bytes. */
static inline uint64_t kernel_hash(uint64_t hash, const void *bytes, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
