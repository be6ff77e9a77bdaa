/* libc_files.h against the file names that the C libraries of this machine hold. */
#include "check.h"

#include "config/config.h"
#include "config/libc_files.h"

#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names in the libraries that are not read, or that no program overwrites. */
static const char *const excused[] = {
    "/etc/.pwd.lock",                      /* lckpwdf(3) */
    "/etc/suid-debug",                     /* its existence counts */
    "/etc/systemd/dont-synthesize-nobody", /* likewise, nss_systemd */
    "/etc/machine-id",                     /* nss_systemd; written once in the life of a machine */
    "/etc/userdb", /* a folder of nss_systemd's, which opens its files as any library does */
    "/var/tmp",    /* the loader's LD_PROFILE_OUTPUT, and its files there */
    "/var/profile",
    "/var/run/utmp", /* /var/run is a link; the canonical paths are below */
    "/var/run/utmpx",
    "/etc/tcb/%s/shadow", /* a format of musl's */
};

static const char *const read_by_libc[] = {
    "/etc/passwd",
    "/srv/root/etc/passwd",
    "/etc/tcb/joe/shadow",
    "/run/systemd/resolve/stub-resolv.conf",
    "/etc/resolv.conf",
    "/usr/share/zoneinfo/Z/T",
    "/run/utmp",
    "/etc/authselect/nsswitch.conf",
    "/home/joe/.netrc",
    "/usr/share/zoneinfo/UTC",
    "/usr/lib/locale/locale-archive",
    "/etc/hosts.deny",
    "/etc/ld.so.preload",
    "/usr/lib/gconv/gconv-modules.cache",
    "/var/db/group.db",
};

static const char *const read_by_nobody[] = {
    "/etc/passwd-",          "/etc/hosts.d/x", "/data/hosts",       "/data/passwd",
    "/etc/nginx/nginx.conf", "/hosts",         "/data/etc/hosts/x",
};

static bool is_excused(const char *name)
{
    for (size_t i = 0; i < sizeof excused / sizeof excused[0]; i++)
        if (strcmp(excused[i], name) == 0)
            return true;
    return false;
}

/*
 * Checks each string of the file that is the absolute name of a file below /etc or /var. Returns
 * their number.
 */
static int check_library(const char *library)
{
    int fd = open(library, O_RDONLY);
    struct stat status;
    const char *bytes = MAP_FAILED;
    int count = 0;

    if (fd >= 0 && fstat(fd, &status) == 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(bytes != MAP_FAILED);
    for (off_t at = 1; bytes != MAP_FAILED && at < status.st_size - 5; at++) {
        const char *name = bytes + at;
        size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./-_%");

        if (name[-1] != '\0' || name[length] != '\0' || name[length - 1] == '/' ||
            (strncmp(name, "/etc/", 5) != 0 && strncmp(name, "/var/", 5) != 0) ||
            strstr(name, "/nscd/") != NULL || strcmp(name, "/var/run/keyservsock") == 0)
            continue;
        count++;
        if (!is_excused(name) && !config_is_read_by_libc(name))
            (void)fprintf(stderr, "%s holds %s\n", library, name);
        CHECK(is_excused(name) || config_is_read_by_libc(name));
    }
    (void)close(fd);
    return count;
}

static void test_libraries(void)
{
    glob_t found = {0};

    (void)glob("/lib/*-linux-gnu/libc.so.6", 0, NULL, &found);
    (void)glob("/lib/*-linux-gnu/libnss_*.so.2", GLOB_APPEND, NULL, &found);
    (void)glob("/lib/*-linux-gnu/libresolv.so.2", GLOB_APPEND, NULL, &found);
    (void)glob("/lib*/ld-linux*.so.*", GLOB_APPEND, NULL, &found);
    (void)glob("/lib/ld-musl-*.so.1", GLOB_APPEND, NULL, &found);
    CHECK(found.gl_pathc > 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int count = check_library(found.gl_pathv[i]);

        if (strstr(found.gl_pathv[i], "/libc.so.6") != NULL || strstr(found.gl_pathv[i], "/ld-musl") != NULL)
            CHECK(count >= 6);
    }
    globfree(&found);
}

static void test_table(void)
{
    for (size_t i = 0; i < sizeof read_by_libc / sizeof read_by_libc[0]; i++)
        if (!config_is_read_by_libc(read_by_libc[i])) {
            (void)fprintf(stderr, "%s is not in the table\n", read_by_libc[i]);
            check_failures++;
        }
    for (size_t i = 0; i < sizeof read_by_nobody / sizeof read_by_nobody[0]; i++)
        if (config_is_read_by_libc(read_by_nobody[i])) {
            (void)fprintf(stderr, "%s is in the table\n", read_by_nobody[i]);
            check_failures++;
        }
}

/* The order of the answers: the C library's files, the patterns, the variable. */
static void test_format_of(void)
{
    struct config config = {.format = CONFIG_SIZED,
                            .paths = "/etc/:sized=/etc/hosts:plain=/data/p:sized=/data/s"};

    CHECK_EQUAL(config_format_of(&config, "/etc/hosts"), CONFIG_PLAIN);
    CHECK_EQUAL(config_format_of(&config, "/etc/app.cfg"), CONFIG_SIZED);
    CHECK_EQUAL(config_format_of(&config, "/data/p"), CONFIG_PLAIN);
    config.format = CONFIG_PLAIN;
    CHECK_EQUAL(config_format_of(&config, "/etc/app.cfg"), CONFIG_PLAIN);
    CHECK_EQUAL(config_format_of(&config, "/data/s"), CONFIG_SIZED);
}

int main(void)
{
    test_libraries();
    test_table();
    test_format_of();
    return check_result();
}
