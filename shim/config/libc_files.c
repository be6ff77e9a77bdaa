#include "config/libc_files.h"

#include "config/pattern.h"

/*
 * tests/unit/libc_files_test.c holds the table against the file names in the C libraries of the
 * machine. Some are listed by name alone, because systems often make them links to a file
 * elsewhere: resolv.conf (systemd, resolvconf, NetworkManager), nsswitch.conf (authselect).
 */
static const char libc_files[] =
    /* getpwnam(3), getgrnam(3), getspnam(3), getsgnam(3); musl's shadow(5) in tcb(5) form */
    "**/etc/passwd:**/etc/group:**/etc/shadow:**/etc/gshadow:**/etc/tcb/*/shadow:"
    /* getaddrinfo(3), gethostbyname(3), res_init(3), nsswitch.conf(5) */
    "**/etc/hosts:resolv.conf:stub-resolv.conf:nsswitch.conf:**/etc/host.conf:**/etc/gai.conf:**/etc/"
    "hesiod.conf:"
    /*
     * getservbyname(3), getprotobyname(3), getnetbyname(3), getrpcbyname(3), ether_aton(3),
     * setnetgrent(3), getaliasbyname(3)
     */
    "**/etc/services:**/etc/protocols:**/etc/networks:**/etc/rpc:**/etc/ethers:**/etc/netgroup:**/etc/"
    "aliases:"
    /* the same databases as `makedb` writes them for nss_db */
    "**/var/db/*.db:"
    /*
     * ruserok(3) and rexec(3); libwrap reads hosts_access(5) inside programs that are linked with
     * it statically
     */
    "**/etc/hosts.equiv:.rhosts:.netrc:**/etc/hosts.allow:**/etc/hosts.deny:"
    /* getusershell(3), getfsent(3), getmntent(3), getttyent(3), gethostid(3) */
    "**/etc/shells:**/etc/fstab:**/etc/mtab:**/etc/ttys:**/etc/hostid:"
    /* tzset(3) */
    "**/etc/localtime:**/etc/zoneinfo/**:**/usr/share/zoneinfo/**:/share/zoneinfo/:"
    /* setlocale(3), gettext(3), iconv(3) */
    "**/usr/lib/locale/**:**/usr/share/locale/**:**/gconv/gconv-modules*:"
    /* utmp(5): pututxline(3) and updwtmp(3) write there, too */
    "**/run/utmp:**/run/utmpx:**/var/log/wtmp:**/var/log/wtmpx:**/var/log/btmp:"
    /* ld.so(8), of glibc and of musl */
    "**/etc/ld.so.preload:**/etc/ld.so.cache:**/etc/ld.so.conf:**/etc/ld.so.conf.d/*:**/etc/ld-musl-*.path";

bool config_is_read_by_libc(const char *path)
{
    return pattern_match(libc_files, path);
}
