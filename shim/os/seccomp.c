#include "os/seccomp.h"

#include "os/sys.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>

#if defined(__x86_64__)
#define NATIVE_ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define NATIVE_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

enum { PAGE = 4096 };

bool seccomp_is_readable(const struct sock_fprog *filter)
{
    const char *start;
    const char *end;

    if (!sys_is_readable(filter) || !sys_is_readable((const char *)filter + 8) || filter->len == 0 ||
        filter->len > BPF_MAXINSNS)
        return false;
    start = (const char *)filter->filter;
    end = (const char *)(filter->filter + filter->len - 1);
    for (const char *at = start; at < end; at += PAGE)
        if (!sys_is_readable(at))
            return false;
    return sys_is_readable(end);
}

/* The registers of classic BPF. */
struct machine {
    uint32_t a;
    uint32_t x;
    uint32_t memory[BPF_MEMWORDS];
    struct seccomp_data data;
};

static uint32_t load_word(const struct machine *machine, const struct sock_filter *step)
{
    uint32_t word = 0;

    switch (BPF_MODE(step->code)) {
    case BPF_ABS:
        if (step->k <= sizeof machine->data - sizeof word)
            memcpy(&word, (const char *)&machine->data + step->k, sizeof word);
        return word;
    case BPF_MEM:
        return step->k < BPF_MEMWORDS ? machine->memory[step->k] : 0;
    case BPF_LEN:
        return sizeof machine->data;
    default:
        return step->k;
    }
}

/* The kernel shifts by the lowest five bits of the operand: ___bpf_prog_run() in its
 * kernel/bpf/core.c. */
static uint32_t compute_word(uint16_t code, uint32_t a, uint32_t operand)
{
    switch (BPF_OP(code)) {
    case BPF_ADD:
        return a + operand;
    case BPF_SUB:
        return a - operand;
    case BPF_MUL:
        return a * operand;
    case BPF_DIV:
        return a / operand;
    case BPF_OR:
        return a | operand;
    case BPF_AND:
        return a & operand;
    case BPF_LSH:
        return a << (operand & 31);
    case BPF_RSH:
        return a >> (operand & 31);
    case BPF_NEG:
        return 0 - a;
    default:
        return a ^ operand;
    }
}

/* Returns how many steps a jump skips. */
static uint32_t jump_length(const struct machine *machine, const struct sock_filter *step)
{
    uint32_t operand = BPF_SRC(step->code) == BPF_X ? machine->x : step->k;
    bool taken;

    switch (BPF_OP(step->code)) {
    case BPF_JA:
        return step->k;
    case BPF_JEQ:
        taken = machine->a == operand;
        break;
    case BPF_JGT:
        taken = machine->a > operand;
        break;
    case BPF_JGE:
        taken = machine->a >= operand;
        break;
    default:
        taken = (machine->a & operand) != 0;
    }
    return taken ? step->jt : step->jf;
}

static void store_word(struct machine *machine, uint32_t place, uint32_t value)
{
    if (place < BPF_MEMWORDS)
        machine->memory[place] = value;
}

/* Runs the filter and returns its verdict. */
static uint32_t run_filter(const struct sock_fprog *filter, struct machine *machine)
{
    for (uint32_t at = 0; at < filter->len; at++) {
        const struct sock_filter *step = &filter->filter[at];
        uint32_t operand;

        switch (BPF_CLASS(step->code)) {
        case BPF_LD:
            machine->a = load_word(machine, step);
            break;
        case BPF_LDX:
            machine->x = load_word(machine, step);
            break;
        case BPF_ST:
            store_word(machine, step->k, machine->a);
            break;
        case BPF_STX:
            store_word(machine, step->k, machine->x);
            break;
        case BPF_ALU:
            operand = BPF_SRC(step->code) == BPF_X ? machine->x : step->k;
            if (BPF_OP(step->code) == BPF_DIV && operand == 0)
                return SECCOMP_RET_KILL_THREAD; /* the program ends with 0, bpf_convert_filter() */
            machine->a = compute_word(step->code, machine->a, operand);
            break;
        case BPF_JMP:
            at += jump_length(machine, step);
            break;
        case BPF_RET:
            return BPF_RVAL(step->code) == BPF_A ? machine->a : step->k;
        default: /* BPF_MISC */
            if (BPF_MISCOP(step->code) == BPF_TAX)
                machine->x = machine->a;
            else
                machine->a = machine->x;
        }
    }
    return SECCOMP_RET_ALLOW;
}

static uint32_t answer_to(const struct sock_fprog *filter, int number)
{
    struct machine machine = {.data = {.nr = number, .arch = NATIVE_ARCHITECTURE}};

    return run_filter(filter, &machine) & SECCOMP_RET_ACTION_FULL;
}

bool seccomp_kills(const struct sock_fprog *filter, int number)
{
    switch (answer_to(filter, number)) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_USER_NOTIF:
        return false;
    default: /* an action that the kernel does not know kills, too */
        return true;
    }
}

bool seccomp_lets_fail(const struct sock_fprog *filter, int number)
{
    return answer_to(filter, number) == SECCOMP_RET_ERRNO;
}
