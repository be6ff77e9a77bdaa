/* Starts guardians, and waits for them; post.c has their work. */
#include "guardian/post.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/process.h"
#include "os/signals.h"
#include "session/session.h"
#include "store/rendezvous.h"

#include <errno.h>
#include <linux/sched.h>
#include <sys/wait.h>

/* ---- the table of guardians that a tree of processes shares ---- */

enum { ENTRIES = 4096, BATCH = 64 };

/* The table is shared with every process that was forked since. An exit does not wait for guardians
 * that found no free entry. */
struct tree {
    unsigned used; /* no entry from here on was ever used */
    struct guardian_entry entries[ENTRIES];
};

static struct tree *tree_of_all;
static int64_t wait_timeout;

static void start_for_kernel(void)
{
    guardian_start(0);
}

void guardian_configure(int64_t timeout)
{
    wait_timeout = timeout;
    session_start_guardian = start_for_kernel;
}

static struct tree *get_tree(void)
{
    struct tree *tree = __atomic_load_n(&tree_of_all, __ATOMIC_ACQUIRE);
    struct tree *other = NULL;

    if (tree != NULL)
        return tree;
    tree = sys_mmap(NULL, sizeof *tree, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sys_is_error(tree))
        return NULL;
    if (__atomic_compare_exchange_n(&tree_of_all, &other, tree, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return tree;
    (void)sys_munmap(tree, sizeof *tree);
    return other;
}

void guardian_before_fork(void)
{
    (void)get_tree();
    session_share();
}

/* Finds a free entry, for a guardian to write its pid to, or returns NULL. */
static struct guardian_entry *claim_entry(void)
{
    struct tree *tree = get_tree();

    for (unsigned i = 0; tree != NULL && i < ENTRIES; i++) {
        unsigned used = __atomic_load_n(&tree->used, __ATOMIC_ACQUIRE);
        int free = 0;

        if (!__atomic_compare_exchange_n(&tree->entries[i].process, &free, -1, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        while (used <= i)
            if (__atomic_compare_exchange_n(&tree->used, &used, i + 1, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE))
                break;
        return &tree->entries[i];
    }
    return NULL;
}

static void free_entry(struct guardian_entry *entry)
{
    if (entry != NULL)
        __atomic_store_n(&entry->process, 0, __ATOMIC_RELEASE);
}

/* True if the guardian has ended, or has looked twice since. Wakes the guardian to look. */
static bool is_done(const struct guardian_entry *entry, const struct guardian_entry *since)
{
    return __atomic_load_n(&entry->process, __ATOMIC_ACQUIRE) != since->process ||
           __atomic_load_n(&entry->looks, __ATOMIC_ACQUIRE) - since->looks >= 2 ||
           SYS_CALL(SYS_kill, since->process, RENDEZVOUS_SIGNAL, 0, 0, 0, 0) == -ESRCH;
}

/* Waits for those of the guardians that are in this pid namespace: the kernel kills the others
 * unseen when theirs ends (pid_namespaces(7)). */
static void wait_for_batch(const struct guardian_entry *entries, unsigned count, uint64_t pid_namespace,
                           int64_t deadline)
{
    struct guardian_entry since[BATCH];
    int64_t pause = RENDEZVOUS_PAUSE;
    unsigned left;

    for (unsigned i = 0; i < count; i++) {
        since[i].process = __atomic_load_n(&entries[i].process, __ATOMIC_ACQUIRE);
        since[i].looks = __atomic_load_n(&entries[i].looks, __ATOMIC_ACQUIRE);
        if (since[i].process > 0 && entries[i].pid_namespace != pid_namespace)
            since[i].process = 0;
    }
    for (;;) {
        left = 0;
        for (unsigned i = 0; i < count; i++)
            if (since[i].process > 0 && is_done(&entries[i], &since[i]))
                since[i].process = 0;
            else
                left += since[i].process > 0;
        if (left == 0 || sys_now() > deadline)
            return;
        rendezvous_pause(&pause);
    }
}

void guardian_wait(void)
{
    const struct tree *tree = __atomic_load_n(&tree_of_all, __ATOMIC_ACQUIRE);
    unsigned used = tree != NULL ? __atomic_load_n(&tree->used, __ATOMIC_ACQUIRE) : 0;
    int64_t deadline = used != 0 ? sys_now() + wait_timeout : 0;
    uint64_t pid_namespace = used != 0 ? process_namespace() : 0;

    for (unsigned i = 0; i < used; i += BATCH)
        wait_for_batch(&tree->entries[i], used - i < BATCH ? used - i : BATCH, pid_namespace, deadline);
}

/* ---- the start ---- */

/*
 * Runs in the process between the starter and the guardian, whose end makes an orphan of the
 * guardian. That process has its starter's memory, which need not be copied twice: the starter
 * waits meanwhile (vfork(2)), and its frame stays untouched.
 */
static __attribute__((noinline)) _Noreturn void start_orphan(const struct guardian_order *order,
                                                             const int ends[2])
{
    (void)sys_close(ends[0]);
    (void)SYS_CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
    if (sys_fork_silently() == 0)
        guardian_main(order, ends[1]);
    sys_exit_group(0);
}

/* Returns 0 when the guardian is at its post, or a negative errno. */
static int start_guardian(const struct guardian_order *order, int ends[2])
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;
    char byte;
    ssize_t n = 0;
    int child;

    (void)sys_sigprocmask(&all, &mask); /* none of the program's handlers runs in it */
    child = (int)SYS_CALL(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, 0);
    if (child == 0)
        start_orphan(order, ends);
    if (child > 0)
        (void)sys_wait(child, NULL);
    (void)sys_sigprocmask(&mask, NULL);
    (void)sys_close(ends[1]);
    ends[1] = -1;
    if (child < 0)
        return child;
    do
        n = sys_read(ends[0], &byte, 1);
    while (n == -EINTR);
    return n == 1 ? 0 : -EAGAIN;
}

bool guardian_start(int opener)
{
    struct guardian_order order = {.starter = sys_getpid(), .opener = opener};
    int ready[2] = {-1, -1};
    int error = -EPERM;

    /* a guardian would be the first process of a new pid namespace, and end it */
    if (!process_children_are_elsewhere())
        error = DESCRIPTOR_INSIST(sys_pipe(ready));
    order.entry = claim_entry();
    if (error == 0)
        error = start_guardian(&order, ready);
    descriptor_close_if_open(ready[0]);
    descriptor_close_if_open(ready[1]);
    if (error == 0)
        return true;
    free_entry(order.entry);
    log_line(
        LOG_ERROR,
        "cannot start a guardian: %s; if a program without the shim is the last to close a managed file, "
        "what was written is lost",
        log_errno(error));
    return false;
}
