#include "store/calls.h"

static int statx_descriptor(int fd, struct statx *status)
{
    return (int)SYS_CALL(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, status, 0);
}

struct store_calls store_calls = {
    .pread = sys_pread,
    .pwrite = sys_pwrite,
    .pwritev = sys_pwritev,
    .fdatasync = sys_fdatasync,
    .fsync = sys_fsync,
    .write_out = sys_write_out,
    .ftruncate = sys_ftruncate,
    .fallocate = sys_fallocate,
    .fstat = sys_fstat,
    .statx = statx_descriptor,
    .lseek = sys_lseek,
    .prlimit = sys_prlimit,
    .openat = sys_openat,
    .unlinkat = sys_unlinkat,
    .fcntl = sys_fcntl,
    .fgetxattr = sys_fgetxattr,
    .fsetxattr = sys_fsetxattr,
    .fremovexattr = sys_fremovexattr,
};
