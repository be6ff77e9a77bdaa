/* The calls that surface.txt names native need no help on a managed descriptor or name. */
#include "expect.h"

#include <aio.h>
#include <dirent.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/xattr.h>

extern ssize_t other_read(int fd, void *bytes, size_t size) __asm__("__read");
extern ssize_t other_write(int fd, const void *bytes, size_t size) __asm__("__write");
extern ssize_t other_pread(int fd, void *bytes, size_t size, off_t offset) __asm__("__pread64");
extern ssize_t other_pwrite(int fd, const void *bytes, size_t size, off_t offset) __asm__("__pwrite64");
extern off_t other_lseek(int fd, off_t offset, int whence) __asm__("__lseek");
extern int other_fflush(FILE *stream) __asm__("_IO_fflush");
extern ssize_t checked_read(int fd, void *bytes, size_t size, size_t room) __asm__("__read_chk");
extern ssize_t checked_pread(int fd, void *bytes, size_t size, off_t offset,
                             size_t room) __asm__("__pread_chk");
extern ssize_t checked_pread64(int fd, void *bytes, size_t size, off_t offset,
                               size_t room) __asm__("__pread64_chk");
extern int checked_dprintf(int fd, int flag, const char *format, ...) __asm__("__dprintf_chk");
extern int checked_vdprintf(int fd, int flag, const char *format,
                            va_list arguments) __asm__("__vdprintf_chk");

/* Opens the file, and makes its content "0123456789". */
static int open_digits(const char *file)
{
    int fd = open(file, O_RDWR | O_TRUNC);

    EXPECT(fd >= 0);
    write_text(fd, "0123456789");
    EXPECT(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void finish(int fd, const char *file, const char *content)
{
    EXPECT(close(fd) == 0);
    expect_content(file, content);
}

static void test_read(const char *file)
{
    char bytes[16] = "";
    struct iovec piece = {bytes, 2};
    int fd = open_digits(file);

    EXPECT(read(fd, bytes, 1) == 1 && bytes[0] == '0');
    EXPECT(other_read(fd, bytes, 1) == 1 && bytes[0] == '1');
    EXPECT(checked_read(fd, bytes, 1, 1) == 1 && bytes[0] == '2');
    EXPECT(readv(fd, &piece, 1) == 2 && memcmp(bytes, "34", 2) == 0);
    EXPECT(pread(fd, bytes, 1, 5) == 1 && bytes[0] == '5');
    EXPECT(pread64(fd, bytes, 1, 6) == 1 && bytes[0] == '6');
    EXPECT(other_pread(fd, bytes, 1, 7) == 1 && bytes[0] == '7');
    EXPECT(checked_pread(fd, bytes, 1, 8, 1) == 1 && bytes[0] == '8');
    EXPECT(checked_pread64(fd, bytes, 1, 9, 1) == 1 && bytes[0] == '9');
    EXPECT(preadv(fd, &piece, 1, 0) == 2 && memcmp(bytes, "01", 2) == 0);
    EXPECT(preadv64(fd, &piece, 1, 2) == 2 && memcmp(bytes, "23", 2) == 0);
    EXPECT(preadv2(fd, &piece, 1, 4, 0) == 2 && memcmp(bytes, "45", 2) == 0);
    EXPECT(preadv64v2(fd, &piece, 1, 6, 0) == 2 && memcmp(bytes, "67", 2) == 0);
    finish(fd, file, "0123456789");
}

static int by_vdprintf(int fd, bool checked, const char *format, ...)
{
    va_list arguments;
    int result;

    va_start(arguments, format);
    result = checked ? checked_vdprintf(fd, 1, format, arguments) : vdprintf(fd, format, arguments);
    va_end(arguments);
    return result;
}

static void test_write(const char *file)
{
    struct iovec piece = {"xy", 2};
    int fd = open_digits(file);

    EXPECT(write(fd, "a", 1) == 1 && other_write(fd, "b", 1) == 1 && writev(fd, &piece, 1) == 2);
    EXPECT(pwrite(fd, "e", 1, 4) == 1 && pwrite64(fd, "f", 1, 5) == 1 && other_pwrite(fd, "g", 1, 6) == 1);
    EXPECT(pwritev(fd, &piece, 1, 7) == 2 && pwritev64(fd, &piece, 1, 9) == 2);
    EXPECT(pwritev2(fd, &piece, 1, 11, RWF_DSYNC) == 2 && pwritev64v2(fd, &piece, 1, 0, RWF_APPEND) == 2);
    EXPECT(lseek(fd, 0, SEEK_END) == 15);
    EXPECT(dprintf(fd, "%d", 1) == 1 && checked_dprintf(fd, 1, "%d", 2) == 1);
    EXPECT(by_vdprintf(fd, false, "%d", 3) == 1 && by_vdprintf(fd, true, "%d", 4) == 1);
    finish(fd, file, "abxyefgxyxyxyxy1234");
}

static void test_seek(const char *file)
{
    int fd = open_digits(file);
    FILE *stream;

    EXPECT(lseek(fd, 3, SEEK_SET) == 3 && lseek64(fd, 1, SEEK_CUR) == 4);
    EXPECT(other_lseek(fd, 0, SEEK_END) == 10);
    EXPECT_ERROR(lseek(fd, -1, SEEK_SET), EINVAL);
    stream = fdopen(fd, "r+");
    EXPECT(fileno(stream) == fd && fileno_unlocked(stream) == fd);
    EXPECT(fseek(stream, 1, SEEK_SET) == 0 && getc(stream) == '1');
    EXPECT(fseeko(stream, -1, SEEK_END) == 0 && getc(stream) == '9');
    EXPECT(fseeko64(stream, 5, SEEK_SET) == 0 && putc('x', stream) == 'x' && fflush(stream) == 0);
    EXPECT(putc('y', stream) == 'y' && fflush_unlocked(stream) == 0);
    EXPECT(putc('z', stream) == 'z' && other_fflush(stream) == 0);
    expect_content(file, is_wrapped() ? "old" : "01234xyz89");
    EXPECT(fclose(stream) == 0);
    expect_content(file, "01234xyz89");
}

static void test_size(const char *file)
{
    int fd = open_digits(file);
    struct stat status;

    EXPECT(ftruncate(fd, 4) == 0 && fstat(fd, &status) == 0 && status.st_size == 4);
    EXPECT(ftruncate64(fd, 5) == 0 && fstat(fd, &status) == 0 && status.st_size == 5);
    EXPECT(posix_fallocate(fd, 0, 8) == 0 && fstat(fd, &status) == 0 && status.st_size == 8);
    EXPECT(posix_fallocate64(fd, 0, 9) == 0 && fstat(fd, &status) == 0 && status.st_size == 9);
    EXPECT(pwrite(fd, "45678", 5, 4) == 5);
    finish(fd, file, "012345678");
}

/* Promises of sync_file_range() hold for no file system's metadata; and hints are hints. */
static void test_advice(const char *file)
{
    int fd = open_digits(file);

    EXPECT(readahead(fd, 0, 10) == 0);
    EXPECT(posix_fadvise(fd, 0, 10, POSIX_FADV_WILLNEED) == 0);
    EXPECT(posix_fadvise64(fd, 0, 10, POSIX_FADV_DONTNEED) == 0);
    EXPECT(sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE) == 0);
    finish(fd, file, "0123456789");
}

static void test_map(const char *file)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = open_digits(file);
    char *one = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *two = mmap64(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0);

    EXPECT(one != MAP_FAILED && two != MAP_FAILED);
    one[0] = 'a';
    EXPECT(two[0] == 'a' && madvise(two, page, MADV_WILLNEED) == 0);
    EXPECT(posix_madvise(two, page, POSIX_MADV_NORMAL) == 0);
    one = mremap(one, page, 2 * page, MREMAP_MAYMOVE);
    EXPECT(one != MAP_FAILED);
    one[1] = 'b';
    EXPECT(munmap(one, 2 * page) == 0 && munmap(two, page) == 0);
    finish(fd, file, "ab23456789");
}

static void test_moving(const char *file)
{
    const char *copy = sibling(file, ".copy");
    int fd = open_digits(file);
    int other = open(copy, O_RDWR | O_CREAT, 0600);
    off_t from = 0;
    off64_t at = 4;
    int ends[2];
    int more[2];
    struct iovec piece = {"yz", 2};

    EXPECT(pipe(ends) == 0 && pipe(more) == 0);
    EXPECT(sendfile(other, fd, &from, 2) == 2 && sendfile64(other, fd, &from, 2) == 2);
    EXPECT(splice(fd, &at, ends[1], NULL, 2, 0) == 2);
    EXPECT(tee(ends[0], more[1], 2, 0) == 2);
    EXPECT(splice(ends[0], NULL, other, NULL, 2, 0) == 2 && splice(more[0], NULL, other, NULL, 2, 0) == 2);
    EXPECT(vmsplice(ends[1], &piece, 1, 0) == 2 && splice(ends[0], NULL, other, NULL, 2, 0) == 2);
    EXPECT(close(ends[0]) == 0 && close(ends[1]) == 0 && close(more[0]) == 0 && close(more[1]) == 0);
    finish(fd, file, "0123456789");
    finish(other, copy, "01234545yz");
    EXPECT(unlink(copy) == 0);
}

static void read_all(const char *file, const char *content)
{
    char bytes[16] = "";
    int fd = open(file, O_RDONLY);

    EXPECT(fd >= 0 && read(fd, bytes, sizeof bytes) == (ssize_t)strlen(content));
    EXPECT(strcmp(bytes, content) == 0 && close(fd) == 0);
}

static void replace_all(const char *file, const char *content)
{
    int fd = open(file, O_WRONLY | O_TRUNC);

    EXPECT(fd >= 0);
    write_text(fd, content);
    EXPECT(close(fd) == 0);
}

/* I2: a pipe that has pages of a read keeps their content, whatever is written and read later. */
static void test_splice_kept(const char *file)
{
    char bytes[16] = "";
    int ends[2];
    int fd;

    replace_all(file, "01234");
    read_all(file, "01234");
    EXPECT(pipe(ends) == 0 && (fd = open(file, O_RDONLY)) >= 0);
    EXPECT(splice(fd, NULL, ends[1], NULL, 5, 0) == 5 && close(fd) == 0);
    for (int i = 0; i < 4; i++) {
        replace_all(file, i % 2 == 0 ? "abcde" : "fghij");
        read_all(file, i % 2 == 0 ? "abcde" : "fghij");
    }
    EXPECT(read(ends[0], bytes, sizeof bytes) == 5 && strcmp(bytes, "01234") == 0);
    EXPECT(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void wait_for(const struct aiocb *block)
{
    while (aio_error(block) == EINPROGRESS)
        EXPECT(aio_suspend(&block, 1, NULL) == 0 || errno == EINTR || errno == EAGAIN);
}

/* The libc's threads write to the memory; the close commits. */
static void test_aio(const char *file)
{
    char bytes[4] = "";
    int fd = open_digits(file);
    struct aiocb block = {.aio_fildes = fd, .aio_buf = "ab", .aio_nbytes = 2, .aio_lio_opcode = LIO_WRITE};
    struct aiocb64 wide = {.aio_fildes = fd, .aio_buf = "cd", .aio_nbytes = 2, .aio_offset = 2};
    struct aiocb64 *widest[] = {&wide};
    struct aiocb *list[] = {&block};

    EXPECT(aio_write(&block) == 0);
    wait_for(&block);
    EXPECT(aio_return(&block) == 2);
    EXPECT(aio_write64(&wide) == 0);
    while (aio_error64(&wide) == EINPROGRESS)
        (void)aio_suspend64((const struct aiocb64 *const *)widest, 1, NULL);
    EXPECT(aio_return64(&wide) == 2);
    block.aio_buf = "ef";
    block.aio_offset = 4;
    EXPECT(lio_listio(LIO_WAIT, list, 1, NULL) == 0 && aio_return(&block) == 2);
    wide.aio_buf = "gh";
    wide.aio_offset = 6;
    wide.aio_lio_opcode = LIO_WRITE;
    EXPECT(lio_listio64(LIO_WAIT, widest, 1, NULL) == 0 && aio_return64(&wide) == 2);
    block.aio_buf = bytes;
    EXPECT(aio_read(&block) == 0);
    wait_for(&block);
    EXPECT(aio_return(&block) == 2 && memcmp(bytes, "ef", 2) == 0);
    wide.aio_buf = bytes;
    EXPECT(aio_read64(&wide) == 0);
    while (aio_error64(&wide) == EINPROGRESS)
        (void)aio_suspend64((const struct aiocb64 *const *)widest, 1, NULL);
    EXPECT(aio_return64(&wide) == 2 && memcmp(bytes, "gh", 2) == 0);
    finish(fd, file, "abcdefgh89");
}

/* Copies of a descriptor, and files that have no name. */
static void test_own(const char *file)
{
    int fd = open_digits(file);
    int copy = dup(fd);
    int memory = memfd_create("own", 0);
    FILE *one = tmpfile();
    FILE *two = tmpfile64();

    EXPECT(close(fd) == 0);
    expect_content(file, is_wrapped() ? "old" : "0123456789");
    write_text(memory, "x");
    EXPECT(lseek(memory, 0, SEEK_END) == 1 && close(memory) == 0);
    EXPECT(one != NULL && two != NULL && fputs("x", one) >= 0 && fclose(one) == 0 && fclose(two) == 0);
    finish(copy, file, "0123456789");
}

/* The kernel alone changes a name or a symbolic link, and the file stays the inode it is. */
static void test_names(const char *file)
{
    const char *one = sibling(file, ".one");
    const char *two = sibling(file, ".two");
    struct timeval times[2] = {{1000000000, 0}, {1000000000, 0}};
    char bytes[16];
    ino_t number;
    int fd = open_digits(file);

    number = status_of(file).st_ino;
    EXPECT(link(file, one) == 0 && status_of(one).st_ino == number);
    EXPECT(rename(one, two) == 0 && renameat(AT_FDCWD, two, AT_FDCWD, one) == 0);
    EXPECT(renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_NOREPLACE) == 0 || errno == EINVAL);
    EXPECT(remove(access(one, F_OK) == 0 ? one : two) == 0);
    EXPECT(link(file, one) == 0 && unlink(one) == 0);
    EXPECT(link(file, one) == 0 && unlinkat(AT_FDCWD, one, 0) == 0);
    EXPECT(symlink(file, one) == 0 && symlinkat(file, AT_FDCWD, two) == 0);
    EXPECT(lchown(one, geteuid(), getegid()) == 0 && lutimes(one, times) == 0);
    EXPECT(status_of(one).st_mtime == 1000000000 && status_of(file).st_mtime != 1000000000);
    EXPECT(lgetxattr(one, "user.none", bytes, sizeof bytes) == -1 && llistxattr(one, bytes, 0) >= 0);
    EXPECT(lsetxattr(one, "user.none", "x", 1, 0) == -1 && lremovexattr(one, "user.none") == -1);
    EXPECT(lchmod(one, 0607) == -1 || (status_of(file).st_mode & 07777) != 0607);
    EXPECT(unlink(one) == 0 && unlink(two) == 0);
    finish(fd, file, "0123456789");
}

/* A file that is deleted while it is open lives until the close, as always, and then under its
 * other names. */
static void test_unlink(const char *file)
{
    const char *other = sibling(file, ".link2");
    const char *kept = sibling(file, ".kept");
    int fd = open_digits(file);

    EXPECT(link(other, kept) == 0 && unlink(file) == 0 && remove(other) == 0);
    EXPECT(write(fd, "ab", 2) == 2 && close(fd) == 0);
    expect_content(kept, "ab23456789");
    EXPECT(link(kept, file) == 0 && rename(kept, other) == 0);
}

static const struct test_case cases[] = {
    {"read", test_read},
    {"__read", test_read},
    {"__read_chk", test_read},
    {"readv", test_read},
    {"pread", test_read},
    {"pread64", test_read},
    {"__pread64", test_read},
    {"__pread_chk", test_read},
    {"__pread64_chk", test_read},
    {"preadv", test_read},
    {"preadv64", test_read},
    {"preadv2", test_read},
    {"preadv64v2", test_read},
    {"write", test_write},
    {"__write", test_write},
    {"writev", test_write},
    {"pwrite", test_write},
    {"pwrite64", test_write},
    {"__pwrite64", test_write},
    {"pwritev", test_write},
    {"pwritev64", test_write},
    {"pwritev2", test_write},
    {"pwritev64v2", test_write},
    {"dprintf", test_write},
    {"vdprintf", test_write},
    {"__dprintf_chk", test_write},
    {"__vdprintf_chk", test_write},
    {"lseek", test_seek},
    {"lseek64", test_seek},
    {"__lseek", test_seek},
    {"fileno", test_seek},
    {"fileno_unlocked", test_seek},
    {"fseek", test_seek},
    {"fseeko", test_seek},
    {"fseeko64", test_seek},
    {"fflush", test_seek},
    {"fflush_unlocked", test_seek},
    {"_IO_fflush", test_seek},
    {"ftruncate", test_size},
    {"ftruncate64", test_size},
    {"posix_fallocate", test_size},
    {"posix_fallocate64", test_size},
    {"readahead", test_advice},
    {"posix_fadvise", test_advice},
    {"posix_fadvise64", test_advice},
    {"sync_file_range", test_advice},
    {"mmap", test_map},
    {"mmap64", test_map},
    {"mremap", test_map},
    {"madvise", test_map},
    {"posix_madvise", test_map},
    {"sendfile", test_moving},
    {"sendfile64", test_moving},
    {"splice", test_moving},
    {"splice_kept", test_splice_kept},
    {"tee", test_moving},
    {"vmsplice", test_moving},
    {"aio_read", test_aio},
    {"aio_read64", test_aio},
    {"aio_write", test_aio},
    {"aio_write64", test_aio},
    {"aio_error", test_aio},
    {"aio_error64", test_aio},
    {"aio_return", test_aio},
    {"aio_return64", test_aio},
    {"aio_suspend", test_aio},
    {"aio_suspend64", test_aio},
    {"lio_listio", test_aio},
    {"lio_listio64", test_aio},
    {"dup", test_own},
    {"memfd_create", test_own},
    {"tmpfile", test_own},
    {"tmpfile64", test_own},
    {"link", test_names},
    {"rename", test_names},
    {"renameat", test_names},
    {"renameat2", test_names},
    {"symlink", test_names},
    {"symlinkat", test_names},
    {"lchown", test_names},
    {"lchmod", test_names},
    {"lutimes", test_names},
    {"lgetxattr", test_names},
    {"llistxattr", test_names},
    {"lsetxattr", test_names},
    {"lremovexattr", test_names},
    {"unlink", test_unlink},
    {"unlinkat", test_names},
    {"remove", test_unlink},
    {NULL, NULL},
};

int main(int argc, char *argv[])
{
    return run_case(cases, argc, argv);
}
