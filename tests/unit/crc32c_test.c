/* crc32c.h: the values of RFC 3720 (appendix B.4), and the CPU's instruction against the portable
 * code. */
#include "check.h"

#include "format/crc32c.h"

#include <stdlib.h>

/* An iSCSI SCSI Read (10) command, as in RFC 3720. */
static const unsigned char read_command[48] = {
    0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
    0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

static void check_value(const void *bytes, size_t size, uint32_t expected)
{
    CHECK_EQUAL(crc32c(0, bytes, size), expected);
    CHECK_EQUAL(crc32c_portable(0, bytes, size), expected);
}

static void test_published(void)
{
    unsigned char bytes[32];

    check_value("123456789", 9, 0xe3069283);
    check_value("", 0, 0);
    memset(bytes, 0, sizeof bytes);
    check_value(bytes, sizeof bytes, 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    check_value(bytes, sizeof bytes, 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    check_value(bytes, sizeof bytes, 0x46dd794e);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    check_value(bytes, sizeof bytes, 0x113fdb5c);
    check_value(read_command, sizeof read_command, 0xd9963a56);
}

static void test_against_each_other(void)
{
    enum { LARGE = 100000 };
    unsigned char *bytes = malloc(LARGE);

    srand(3);
    for (int i = 0; i < LARGE; i++)
        bytes[i] = (unsigned char)rand();
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t size = 0; size < 600; size++)
            CHECK_EQUAL(crc32c(0, bytes + offset, size), crc32c_portable(0, bytes + offset, size));
    for (size_t size = LARGE - 20; size <= LARGE; size++)
        CHECK_EQUAL(crc32c(0, bytes, size), crc32c_portable(0, bytes, size));
    for (size_t cut = 0; cut <= LARGE; cut += 7919) {
        uint32_t whole = crc32c(0, bytes, LARGE);

        CHECK_EQUAL(crc32c(crc32c(0, bytes, cut), bytes + cut, LARGE - cut), whole);
        CHECK_EQUAL(crc32c_portable(crc32c_portable(0, bytes, cut), bytes + cut, LARGE - cut), whole);
    }
    free(bytes);
}

/* Records of one size that end in their own CRC-32C all have the same CRC-32C; their checksums
 * differ. */
static void test_mixed(void)
{
    enum { LARGE = 80000, RECORD = 100 };
    unsigned char *bytes = malloc(LARGE);
    uint32_t sums[2];
    uint32_t crcs[2];

    check_value("", 0, crc32c_mixed(0, "", 0));
    for (int i = 0; i < LARGE; i++)
        bytes[i] = (unsigned char)rand();
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t size = 0; size < LARGE - 9; size += size < 600 ? 1 : 1999)
            CHECK_EQUAL(crc32c_mixed(0, bytes + offset, size),
                        crc32c_mixed_portable(0, bytes + offset, size));
    for (size_t cut = 0; cut <= LARGE; cut += 1000)
        CHECK_EQUAL(crc32c_mixed(crc32c_mixed(0, bytes, cut), bytes + cut, LARGE - cut),
                    crc32c_mixed_portable(0, bytes, LARGE));
    CHECK_EQUAL(crc32c_mixed(5, "\1", 1), crc32c(5, "\x15\x7c\x4a\x7f\xb9\x79\x37\x9e", 8));

    for (int i = 0; i < 2; i++) {
        uint32_t own;

        bytes[7] = (unsigned char)i;
        own = crc32c(0, bytes, RECORD);
        memcpy(bytes + RECORD, &own, sizeof own);
        crcs[i] = crc32c(0, bytes, RECORD + sizeof own);
        sums[i] = crc32c_mixed(0, bytes, RECORD + sizeof own);
    }
    CHECK_EQUAL(crcs[0], crcs[1]);
    CHECK(sums[0] != sums[1]);
    free(bytes);
}

static void test_pair(void)
{
    enum { LARGE = 5000 };
    unsigned char bytes[LARGE];

    for (int i = 0; i < LARGE; i++)
        bytes[i] = (unsigned char)rand();
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t size = 0; size < LARGE - 9; size += size < 600 ? 1 : 397) {
            uint32_t sums[2] = {(uint32_t)rand(), (uint32_t)rand()};
            uint32_t crc = crc32c_portable(sums[0], bytes + offset, size);
            uint32_t mixed = crc32c_mixed_portable(sums[1], bytes + offset, size);

            crc32c_pair(sums, bytes + offset, size);
            CHECK_EQUAL(sums[0], crc);
            CHECK_EQUAL(sums[1], mixed);
        }
}

static void test_zeros(void)
{
    enum { LARGE = 5000 };
    static const unsigned char zeros[LARGE];
    uint32_t before = crc32c(0, "123456789", 9);

    for (size_t size = 0; size < LARGE; size++) {
        CHECK_EQUAL(crc32c_zeros(before, size), crc32c_portable(before, zeros, size));
        if (size % 8 == 0)
            CHECK_EQUAL(crc32c_zeros(before, size), crc32c_mixed_portable(before, zeros, size));
    }
    CHECK_EQUAL(crc32c_zeros(crc32c_zeros(before, UINT64_MAX / 3), UINT64_MAX / 3 * 2),
                crc32c_zeros(before, UINT64_MAX));
}

int main(void)
{
    test_published();
    test_mixed();
    test_pair();
    test_zeros();
    test_against_each_other();
    return check_result();
}
