#include "store/calls.h"

struct store_calls store_calls = {
    .pread = sys_pread,
    .pwrite = sys_pwrite,
    .pwritev = sys_pwritev,
    .fdatasync = sys_fdatasync,
    .ftruncate = sys_ftruncate,
    .fallocate = sys_fallocate,
    .fstat = sys_fstat,
    .lseek = sys_lseek,
    .prlimit = sys_prlimit,
    .fcntl = sys_fcntl,
    .fgetxattr = sys_fgetxattr,
    .fsetxattr = sys_fsetxattr,
    .fremovexattr = sys_fremovexattr,
};
