#include "format/crc32c.h"

#include <stdbool.h>
#include <string.h>

/* The reversed Castagnoli polynomial. */
#define POLYNOMIAL 0x82f63b78u

#define ROW1(i) ((i)&1 ? ((i) >> 1) ^ POLYNOMIAL : (i) >> 1)
#define ROW2(i) ROW1(ROW1(i))
#define ROW4(i) ROW2(ROW2(i))
/* clang-format off */
#define TABLE4(i) ROW4(i), ROW4((i) + 1), ROW4((i) + 2), ROW4((i) + 3)
/* clang-format on */

/* The table takes four bits at a time: it has 64 bytes, and needs no start-up code. */
static const uint32_t nibble_table[16] = {TABLE4(0u), TABLE4(4u), TABLE4(8u), TABLE4(12u)};

uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;

    crc = ~crc;
    for (; size != 0; size--) {
        crc ^= *p++;
        crc = (crc >> 4) ^ nibble_table[crc & 15];
        crc = (crc >> 4) ^ nibble_table[crc & 15];
    }
    return ~crc;
}

uint32_t crc32c_mixed_portable(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;

    for (size_t count; size != 0; size -= count, p += count) {
        uint64_t word = 0;
        uint8_t mixed[8];

        count = size < 8 ? size : 8;
        for (size_t i = 0; i < count; i++)
            word |= (uint64_t)p[i] << (8 * i);
        word *= CRC32C_MULTIPLIER;
        for (size_t i = 0; i < 8; i++)
            mixed[i] = (uint8_t)(word >> (8 * i));
        crc = crc32c_portable(crc, mixed, 8);
    }
    return crc;
}

#if defined(__x86_64__)

#include <cpuid.h>

static bool cpu_has(unsigned features)
{
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;

    __cpuid(1, eax, ebx, ecx, edx);
    return (ecx & features) == features;
}

static bool cpu_has_instruction(void)
{
    return cpu_has(bit_SSE4_2);
}

/* AVX2, whose registers the kernel must save as well (XGETBV). */
static bool cpu_has_vectors(void)
{
    enum { SAVED = 6 };
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;

    if (!cpu_has(bit_OSXSAVE | bit_AVX))
        return false;
    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (eax & SAVED) == SAVED && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_AVX2);
}

#define INSTRUCTION_TARGET __attribute__((target("sse4.2")))
#define INSTRUCTION_8(crc, word) __builtin_ia32_crc32di((crc), (word))
#define INSTRUCTION_1(crc, byte) __builtin_ia32_crc32qi((crc), (byte))

#elif defined(__aarch64__)

#include <arm_acle.h>
#include <sys/auxv.h>

static bool cpu_has_instruction(void)
{
    return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; /* HWCAP_CRC32 */
}

static bool cpu_has_vectors(void)
{
    return false;
}

#define INSTRUCTION_TARGET __attribute__((target("+crc")))
#define INSTRUCTION_8(crc, word) __crc32cd((crc), (word))
#define INSTRUCTION_1(crc, byte) __crc32cb((crc), (byte))

#endif

/*
 * One instruction has a latency of three cycles but one can start each cycle, so three lanes run
 * side by side. They are joined with x^(8*LANE) mod P, applied through a table per lane length (see
 * shift_lane()).
 */
#define LANE ((size_t)1024)

/* The CRC register after `LANE` zero bytes, as a linear map: a table for each byte of it. */
static __attribute__((section(".bss.large"))) uint32_t lane_shift[4][256];

static uint32_t shift_lane(uint32_t crc)
{
    return lane_shift[0][crc & 255] ^ lane_shift[1][crc >> 8 & 255] ^ lane_shift[2][crc >> 16 & 255] ^
           lane_shift[3][crc >> 24];
}

/* Fills the tables once. Several threads may do so at once: all write the same values. In the
 * register the highest bit is the coefficient of x^0. */
static void prepare_lanes(void)
{
    static bool are_ready; /* atomic */
    uint32_t column;       /* what a bit becomes, the highest one first */

    if (__atomic_load_n(&are_ready, __ATOMIC_ACQUIRE))
        return;
    column = ~crc32c_zeros(~(UINT32_C(1) << 31), LANE);
    for (int bit = 31; bit >= 0; bit--, column = ROW1(column)) {
        uint32_t *table = lane_shift[bit / 8];
        uint32_t one = UINT32_C(1) << bit % 8;

        for (uint32_t value = one; value < 256; value += 2 * one)
            __atomic_store_n(&table[value], __atomic_load_n(&table[value ^ one], __ATOMIC_RELAXED) ^ column,
                             __ATOMIC_RELAXED);
    }
    __atomic_store_n(&are_ready, true, __ATOMIC_RELEASE);
}

/* Asks the CPU once, when the answer is needed: in a virtual machine CPUID takes microseconds. */
static bool ask_once(int *answer, bool (*find)(void))
{
    enum { NOT_ASKED, NO, YES };
    int known = __atomic_load_n(answer, __ATOMIC_ACQUIRE);

    if (known == NOT_ASKED) {
        known = find() ? YES : NO;
        __atomic_store_n(answer, known, __ATOMIC_RELEASE);
    }
    return known == YES;
}

static bool has_instruction(void)
{
    static int answer;

    return ask_once(&answer, cpu_has_instruction);
}

static bool has_vectors(void)
{
    static int answer;

    return ask_once(&answer, cpu_has_vectors);
}

/* Returns the word that goes into the CRC for the `size` bytes at p, 8 at most. */
static inline uint64_t load_word(const uint8_t *p, size_t size, uint64_t multiplier)
{
    uint64_t word = 0;

    memcpy(&word, p, size);
    return word * multiplier;
}

INSTRUCTION_TARGET static inline __attribute__((always_inline)) uint32_t
sum_words(uint32_t before, const uint8_t **p, size_t *size, uint64_t multiplier)
{
    uint64_t crc = before;

    if (*size >= 3 * LANE)
        prepare_lanes();
    while (*size >= 3 * LANE) {
        uint64_t second = 0;
        uint64_t third = 0;

        for (size_t i = 0; i < LANE; i += 8) {
            crc = INSTRUCTION_8(crc, load_word(*p + i, 8, multiplier));
            second = INSTRUCTION_8(second, load_word(*p + LANE + i, 8, multiplier));
            third = INSTRUCTION_8(third, load_word(*p + 2 * LANE + i, 8, multiplier));
        }
        crc = shift_lane(shift_lane((uint32_t)crc) ^ (uint32_t)second) ^ third;
        *p += 3 * LANE;
        *size -= 3 * LANE;
    }
    for (; *size >= 8; *size -= 8, *p += 8)
        crc = INSTRUCTION_8(crc, load_word(*p, 8, multiplier));
    return (uint32_t)crc;
}

INSTRUCTION_TARGET static uint32_t crc32c_instruction(uint32_t crc, const uint8_t *p, size_t size)
{
    crc = sum_words(~crc, &p, &size, 1);
    for (; size != 0; size--)
        crc = INSTRUCTION_1(crc, *p++);
    return ~crc;
}

INSTRUCTION_TARGET static uint32_t mixed_instruction(uint32_t crc, const uint8_t *p, size_t size)
{
    crc = sum_words(~crc, &p, &size, CRC32C_MULTIPLIER);
    if (size != 0)
        crc = (uint32_t)INSTRUCTION_8(crc, load_word(p, size, CRC32C_MULTIPLIER));
    return ~crc;
}

#if defined(__x86_64__)

/*
 * Does the same for whole blocks of three lanes. Most CPUs execute the multiplication of a word in
 * the same unit as the CRC of one, and that of a vector elsewhere: this takes less than two thirds
 * of the time.
 */
__attribute__((target("avx2,sse4.2"))) static uint32_t mixed_vectors(uint32_t before, const uint8_t *p,
                                                                     size_t size)
{
    typedef uint64_t vector __attribute__((vector_size(32), aligned(1), may_alias));
    const vector multiplier = {CRC32C_MULTIPLIER, CRC32C_MULTIPLIER, CRC32C_MULTIPLIER, CRC32C_MULTIPLIER};
    uint64_t crc = ~before;

    prepare_lanes();
    for (; size != 0; size -= 3 * LANE, p += 3 * LANE) {
        uint64_t second = 0;
        uint64_t third = 0;

        for (size_t i = 0; i < LANE; i += sizeof multiplier) {
            uint64_t words[3][4] = {{0}};

            for (int lane = 0; lane < 3; lane++)
                *(vector *)words[lane] = *(const vector *)(p + (size_t)lane * LANE + i) * multiplier;
            for (int j = 0; j < 4; j++) {
                crc = INSTRUCTION_8(crc, words[0][j]);
                second = INSTRUCTION_8(second, words[1][j]);
                third = INSTRUCTION_8(third, words[2][j]);
            }
        }
        crc = shift_lane(shift_lane((uint32_t)crc) ^ (uint32_t)second) ^ third;
    }
    return ~(uint32_t)crc;
}

#else
#define mixed_vectors mixed_instruction
#endif

/* The two sums need one look at the bytes and do not wait for each other: this takes half the time
 * of one after the other, and as little as three lanes for each would. */
INSTRUCTION_TARGET static void pair_instruction(uint32_t sums[2], const uint8_t *p, size_t size)
{
    uint64_t crc = ~sums[0];
    uint64_t mixed = ~sums[1];

    for (; size >= 8; size -= 8, p += 8) {
        crc = INSTRUCTION_8(crc, load_word(p, 8, 1));
        mixed = INSTRUCTION_8(mixed, load_word(p, 8, CRC32C_MULTIPLIER));
    }
    if (size != 0)
        mixed = INSTRUCTION_8(mixed, load_word(p, size, CRC32C_MULTIPLIER));
    for (; size != 0; size--)
        crc = INSTRUCTION_1((uint32_t)crc, *p++);
    sums[0] = ~(uint32_t)crc;
    sums[1] = ~(uint32_t)mixed;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    return has_instruction() ? crc32c_instruction(crc, bytes, size) : crc32c_portable(crc, bytes, size);
}

uint32_t crc32c_mixed(uint32_t crc, const void *bytes, size_t size)
{
    enum { WORTH_ASKING = 1 << 16 };
    size_t blocks = size / (3 * LANE) * (3 * LANE);

    if (!has_instruction())
        return crc32c_mixed_portable(crc, bytes, size);
    if (size < WORTH_ASKING || !has_vectors())
        return mixed_instruction(crc, bytes, size);
    crc = mixed_vectors(crc, bytes, blocks);
    return mixed_instruction(crc, (const uint8_t *)bytes + blocks, size - blocks);
}

void crc32c_pair(uint32_t sums[2], const void *bytes, size_t size)
{
    if (has_instruction()) {
        pair_instruction(sums, bytes, size);
        return;
    }
    sums[0] = crc32c_portable(sums[0], bytes, size);
    sums[1] = crc32c_mixed_portable(sums[1], bytes, size);
}

/* The product of two polynomials modulo the CRC's; as in a CRC register, the highest bit is the
 * coefficient of x^0. */
static uint32_t multiply_polynomials(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (; a != 0; a <<= 1) {
        if (a & UINT32_C(1) << 31)
            product ^= b;
        b = ROW1(b);
    }
    return product;
}

uint32_t crc32c_zeros(uint32_t crc, uint64_t size)
{
    uint32_t power = UINT32_C(1) << 23; /* x^8: one zero byte, then two, four, eight */

    crc = ~crc;
    for (; size != 0; size >>= 1) {
        if (size & 1)
            crc = multiply_polynomials(crc, power);
        power = multiply_polynomials(power, power);
    }
    return ~crc;
}
