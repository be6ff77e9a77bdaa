/* os/proc.h, and the parsers of the lines that mapping.h and process.h read. */
#include "check.h"

#include "os/mapping.h"
#include "os/proc.h"
#include "os/process.h"

#include <errno.h>
#include <stdlib.h>

static void test_numbers(void)
{
    uint64_t value;

    CHECK_STRING(proc_parse_number("7f00 rest", 16, &value), " rest");
    CHECK_EQUAL(value, 0x7f00);
    CHECK_STRING(proc_parse_number("0189", 8, &value), "89");
    CHECK_EQUAL(value, 1);
    CHECK_STRING(proc_parse_number("18446744073709551615", 10, &value), "");
    CHECK(value == UINT64_MAX);
    CHECK_STRING(proc_parse_number("abc", 10, &value), "abc");
    CHECK_EQUAL(value, 0);
    CHECK_STRING(proc_parse_number("", 16, &value), "");
}

static void test_fields(void)
{
    static const char text[] = "Name:\tSeccomp:\t9\nUmask:\t0027\nSeccomp:\t2\nSeccomp_filters:\t13\n";
    uint64_t value = 5;

    CHECK(proc_find_field(text, "Umask", 8, &value));
    CHECK_EQUAL(value, 027);
    CHECK(proc_find_field(text, "Seccomp", 10, &value)); /* not the one in the name */
    CHECK_EQUAL(value, 2);
    CHECK(proc_find_field(text, "Seccomp_filters", 10, &value));
    CHECK_EQUAL(value, 13);
    CHECK(!proc_find_field(text, "filters", 10, &value));
    CHECK(!proc_find_field(text, "Seccomp_", 10, &value));
    CHECK(!proc_find_field("", "Name", 10, &value));
    CHECK_EQUAL(value, 13);
}

static void test_mappings(void)
{
    struct mapping mapping;

    CHECK(mapping_parse(
        "7f1c2000-7f1c4000 rw-s 00001000 00:05 1234                 /memfd:atomshim:1:2:3:4 (deleted)",
        &mapping));
    CHECK(mapping.start == 0x7f1c2000 && mapping.end == 0x7f1c4000 && mapping.offset == 0x1000);
    CHECK_EQUAL(mapping.protection, PROT_READ | PROT_WRITE);
    CHECK(mapping.shared && mapping.is_buffer && !mapping.is_shim);
    CHECK_EQUAL(mapping.number, 1234);
    CHECK(mapping_parse("00400000-00452000 r-xp 00000000 08:02 173521 /a b/libatomshim.so (deleted)",
                        &mapping));
    CHECK(!mapping.shared && !mapping.is_buffer && mapping.is_shim);
    CHECK(mapping_parse("00400000-00452000 ---p 00000000 00:00 0", &mapping));
    CHECK_EQUAL(mapping.protection, 0);
    CHECK(!mapping.is_shim);
    CHECK(mapping_parse("00400000-00452000 r-xp 00000000 08:02 1 /libatomshim.so.bak", &mapping));
    CHECK(!mapping.is_shim);
    CHECK(!mapping_parse("", &mapping));
    CHECK(!mapping_parse("00400000", &mapping));
    CHECK(!mapping_parse("00400000-00452000", &mapping));
    CHECK(!mapping_parse("00400000-00452000 r-xp", &mapping));
    CHECK(!mapping_parse("00400000-00452000 r-xp 0000", &mapping));
    CHECK(!mapping_parse("00400000-00452000 r-xp 0000 08:02", &mapping));
}

/* Makes a line of /proc/PID/stat: each of its fields 3 to 52 has its own number as its value,
 * except these three. */
static const char *stat_line(const char *name, char state, unsigned flags, const char *start)
{
    static char line[512];
    int length = snprintf(line, sizeof line, "12 (%s) %c", name, state);

    for (int i = 4; i <= 52; i++)
        length += i == 9    ? snprintf(line + length, sizeof line - (size_t)length, " %u", flags)
                  : i == 22 ? snprintf(line + length, sizeof line - (size_t)length, " %s", start)
                            : snprintf(line + length, sizeof line - (size_t)length, " %d", 1000 + i);
    return strcat(line, "\n");
}

static void test_stat(void)
{
    struct process_stat stat;

    CHECK(process_parse_stat(stat_line("a) b) Z (x", 'S', 4194560, "777"), &stat));
    CHECK(!stat.ended && !stat.exiting);
    CHECK_EQUAL(stat.start, 777);
    CHECK_EQUAL(stat.exit_code, 1052);
    CHECK(process_parse_stat(stat_line("a", 'Z', 4194564, "18446744073709551615"), &stat));
    CHECK(stat.ended && stat.exiting && stat.start == UINT64_MAX);
    CHECK(process_parse_stat("12 (a) S 1", &stat));
    CHECK_EQUAL(stat.exit_code, 0);
    CHECK(!process_parse_stat("", &stat));
    CHECK(!process_parse_stat("12 (a", &stat));
    CHECK(!process_parse_stat("12 (a)", &stat));
}

static int collect(char *line, void *context)
{
    char *all = context;

    (void)strcat(strcat(all, line), "|");
    return strcmp(line, "stop") == 0 ? 42 : 0;
}

/* Lines come in pieces: the buffer has room for no more than 7 bytes of text. */
static void test_lines(void)
{
    char buffer[8];
    char all[64] = "";
    int ends[2];

    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], "ab\ncdef\n\nghijkl\nno end", 22) == 22 && close(ends[1]) == 0);
    CHECK_EQUAL(proc_for_each_line(ends[0], buffer, sizeof buffer, collect, all), 0);
    CHECK_STRING(all, "ab|cdef||ghijkl|");
    CHECK(close(ends[0]) == 0);

    all[0] = '\0';
    CHECK(pipe(ends) == 0 && write(ends[1], "ab\nstop\ncd\n", 11) == 11 && close(ends[1]) == 0);
    CHECK_EQUAL(proc_for_each_line(ends[0], buffer, sizeof buffer, collect, all), 42);
    CHECK_STRING(all, "ab|stop|");
    CHECK(close(ends[0]) == 0);

    all[0] = '\0';
    CHECK(pipe(ends) == 0 && write(ends[1], "1234567\n", 8) == 8 && close(ends[1]) == 0);
    CHECK_EQUAL(proc_for_each_line(ends[0], buffer, sizeof buffer, collect, all), -EOVERFLOW);
    CHECK(close(ends[0]) == 0);
    CHECK_EQUAL(proc_for_each_line(ends[0], buffer, sizeof buffer, collect, all), -EBADF);
}

static void test_reading(void)
{
    char text[4096];
    char own[32];
    uint64_t value = 0;

    for (int i = 0; i < 3; i++) {
        const int processes[] = {PROC_SELF, PROC_THREAD, getpid()};

        CHECK(proc_read(processes[i], "status", text, sizeof text) > 0);
        CHECK(proc_find_field(text, "Pid", 10, &value));
        CHECK_EQUAL(value, getpid());
    }
    CHECK_EQUAL(proc_read(PROC_SELF, "stat", text, 4), 3);
    (void)snprintf(own, sizeof own, "%d ", getpid());
    CHECK(strncmp(text, own, strlen(text) < strlen(own) ? strlen(text) : strlen(own)) == 0);
    CHECK_EQUAL(proc_read(PROC_SELF, "nothing", text, sizeof text), -ENOENT);
    CHECK_STRING(text, "");
    CHECK_EQUAL(proc_open(PROC_SELF, "a-name-that-is-far-too-long-for-it", O_RDONLY), -ENAMETOOLONG);
}

int main(void)
{
    test_numbers();
    test_fields();
    test_mappings();
    test_stat();
    test_lines();
    test_reading();
    return check_result();
}
