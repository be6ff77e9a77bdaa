/* os/seccomp.h, against the kernel: random filters, and what it does to a call behind each. */
#include "check.h"

#include "os/seccomp.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILTERS = 3000, STEPS = 12, WORDS = 3, CALL = SYS_getppid };

enum outcome { MADE, FAILED, KILLED };

struct filter {
    struct sock_filter steps[2 * STEPS];
    struct sock_fprog program;
};

static unsigned pick(unsigned count)
{
    return (unsigned)rand() % count;
}

static uint32_t pick_number(void)
{
    static const uint32_t numbers[] = {0, 1, 2, 31, 32, 33, 0x7fffffff, 0x80000000, 0xffffffff};

    return pick(3) == 0 ? (uint32_t)rand() : numbers[pick(sizeof numbers / sizeof numbers[0])];
}

static void add(struct filter *filter, unsigned code, unsigned yes, unsigned no, uint32_t k)
{
    filter->steps[filter->program.len++] = (struct sock_filter){(uint16_t)code, (uint8_t)yes, (uint8_t)no, k};
}

/* Adds a step that the kernel accepts: no shift by more than 31 or division by 0 in the text. */
static void add_computation(struct filter *filter)
{
    static const uint16_t operations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,
                                          BPF_AND, BPF_LSH, BPF_RSH, BPF_NEG, BPF_XOR};
    unsigned operation = operations[pick(sizeof operations / sizeof operations[0])];
    unsigned source = operation != BPF_NEG && pick(2) == 0 ? BPF_X : BPF_K;
    uint32_t k = operation == BPF_LSH || operation == BPF_RSH ? pick(32) : pick_number();

    add(filter, BPF_ALU | operation | source, 0, 0, operation == BPF_DIV && k == 0 ? 1 : k);
}

/* Adds a load or store; of the data not the instruction pointer, which differs. */
static void add_move(struct filter *filter)
{
    unsigned field = pick(14);

    switch (pick(10)) {
    case 0:
        add(filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, (field < 2 ? field : field + 2) * 4);
        break;
    case 1:
        add(filter, BPF_LD | BPF_W | BPF_LEN, 0, 0, 0);
        break;
    case 2:
        add(filter, BPF_LDX | BPF_W | BPF_LEN, 0, 0, 0);
        break;
    case 3:
        add(filter, BPF_LD | BPF_IMM, 0, 0, pick_number());
        break;
    case 4:
        add(filter, BPF_LDX | BPF_IMM, 0, 0, pick_number());
        break;
    case 5:
        add(filter, pick(2) == 0 ? BPF_LD | BPF_MEM : BPF_LDX | BPF_MEM, 0, 0, pick(WORDS));
        break;
    case 6:
    case 7:
        add(filter, pick(2) == 0 ? BPF_ST : BPF_STX, 0, 0, pick(WORDS));
        break;
    default:
        add(filter, pick(2) == 0 ? BPF_MISC | BPF_TAX : BPF_MISC | BPF_TXA, 0, 0, 0);
    }
}

static void add_jump(struct filter *filter, unsigned yes, unsigned no)
{
    static const uint16_t conditions[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    unsigned condition = conditions[pick(sizeof conditions / sizeof conditions[0])];

    if (pick(4) == 0)
        add(filter, BPF_JMP | condition | BPF_X, yes, no, 0);
    else
        add(filter, BPF_JMP | condition | BPF_K, yes, no,
            condition == BPF_JSET ? 1u << pick(32) : pick_number());
}

/* Makes a filter for CALL alone: every other call is allowed. */
static void make_filter(struct filter *filter)
{
    static const uint32_t answers[] = {
        SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO | 1,
        SECCOMP_RET_LOG,          SECCOMP_RET_ALLOW,       0x12340000,
    };

    filter->program = (struct sock_fprog){0, filter->steps};
    add(filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
    add(filter, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, CALL);
    add(filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    for (uint32_t i = 0; i < WORDS; i++) /* the kernel refuses to load what was not stored */
        add(filter, BPF_ST, 0, 0, i);
    for (unsigned i = pick(STEPS); i > 0; i--)
        if (pick(2) == 0)
            add_computation(filter);
        else if (i > 1 && pick(6) == 0)
            add(filter, BPF_JMP | BPF_JA, 0, 0, pick(2));
        else
            add_move(filter);
    add_jump(filter, 0, 2);
    add(filter, BPF_LD | BPF_IMM, 0, 0, answers[pick(sizeof answers / sizeof answers[0])]);
    add(filter, BPF_RET | BPF_A, 0, 0, 0);
    add(filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | 2);
}

/* Makes the call in a child behind the filter. */
static enum outcome ask_kernel(const struct filter *filter)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter->program) != 0)
            _exit(2);
        _exit(syscall(CALL, 0L, 0L, 0L, 0L, 0L, 0L) < 0 ? FAILED : MADE);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) < 2); /* else the kernel refused the filter */
    return WIFSIGNALED(status) ? KILLED : (enum outcome)WEXITSTATUS(status);
}

static void test_against_kernel(void)
{
    struct filter filter;
    enum outcome outcome;
    int seen[3] = {0};

    for (int i = 0; i < FILTERS && check_failures == 0; i++) {
        make_filter(&filter);
        outcome = ask_kernel(&filter);
        seen[outcome]++;
        CHECK_EQUAL(seccomp_kills(&filter.program, CALL), outcome == KILLED);
        CHECK_EQUAL(seccomp_lets_fail(&filter.program, CALL), outcome == FAILED);
        CHECK(!seccomp_kills(&filter.program, CALL + 1) && !seccomp_lets_fail(&filter.program, CALL + 1));
        for (int step = 0; check_failures != 0 && step < filter.program.len; step++)
            (void)fprintf(stderr, "  %2d: %04x %u %u %x\n", step, filter.steps[step].code,
                          filter.steps[step].jt, filter.steps[step].jf, filter.steps[step].k);
    }
    CHECK(seen[MADE] > FILTERS / 20 && seen[FAILED] > FILTERS / 20 && seen[KILLED] > FILTERS / 20);
}

/* A program may hand over anything; the kernel refuses it, and so it kills nobody. */
static void test_malformed(void)
{
    struct sock_filter far[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4096),
        BPF_STMT(BPF_LD | BPF_MEM, 4096),
        BPF_STMT(BPF_ST, 4096),
        BPF_STMT(BPF_STX, 4096),
        BPF_STMT(BPF_JMP | BPF_JA, 0x7fffffff),
    };
    struct sock_fprog program = {sizeof far / sizeof far[0], far};

    CHECK(!seccomp_kills(&program, CALL));
    CHECK(!seccomp_lets_fail(&program, CALL));
}

static void test_readable(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 3 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sock_filter *first = (struct sock_filter *)pages;
    struct sock_fprog filter = {1, first};
    unsigned short in_two_pages = (unsigned short)(2 * (size_t)page / sizeof *first);

    CHECK(mprotect(pages + 2 * page, (size_t)page, PROT_NONE) == 0);
    CHECK(seccomp_is_readable(&filter));
    filter.len = in_two_pages;
    CHECK(seccomp_is_readable(&filter));
    filter.len++;
    CHECK(!seccomp_is_readable(&filter));
    filter.filter = (struct sock_filter *)(pages + 2 * page);
    CHECK(!seccomp_is_readable(&filter));
    filter = (struct sock_fprog){0, first};
    CHECK(!seccomp_is_readable(&filter));
    filter.len = BPF_MAXINSNS + 1;
    CHECK(!seccomp_is_readable(&filter));
    CHECK(!seccomp_is_readable(NULL));
    CHECK(!seccomp_is_readable((struct sock_fprog *)(pages + 2 * page)));
    CHECK(!seccomp_is_readable((struct sock_fprog *)(pages + 2 * page - 8)));
    CHECK(munmap(pages + page, (size_t)page) == 0); /* a hole in it */
    CHECK(mprotect(pages + 2 * page, (size_t)page, PROT_READ) == 0);
    filter.len = (unsigned short)(in_two_pages + 1);
    CHECK(!seccomp_is_readable(&filter));
}

int main(void)
{
    srand(1);
    test_against_kernel();
    test_malformed();
    test_readable();
    return check_result();
}
