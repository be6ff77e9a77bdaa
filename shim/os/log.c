#include "os/log.h"

#include "os/scratch.h"
#include "os/signals.h"
#include "os/sys.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>

enum {
    LINE_SIZE = 3 * PATH_MAX, /* two paths and a sentence */
    SMALL_SIZE = 256,         /* the longest line if LINE_SIZE bytes cannot be mapped */
};

enum log_level log_configured_level = LOG_ERROR;
static const char *configured_file;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* A buffer that text is put into: `length` counts what fitted, `cut` tells that not all did. */
struct output {
    char *bytes;
    size_t size;
    size_t length;
    bool cut;
};

static void put_char(struct output *output, char c)
{
    if (output->length + 1 < output->size)
        output->bytes[output->length++] = c;
    else
        output->cut = true;
}

static void put_string(struct output *output, const char *text)
{
    if (text == NULL)
        text = "(null)";
    while (*text != '\0')
        put_char(output, *text++);
}

static void put_number(struct output *output, unsigned long number, unsigned base)
{
    char digits[3 * sizeof number];
    size_t n = 0;

    do {
        digits[n++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    while (n > 0)
        put_char(output, digits[--n]);
}

static void put_signed(struct output *output, long number)
{
    if (number < 0)
        put_char(output, '-');
    put_number(output, number < 0 ? 0UL - (unsigned long)number : (unsigned long)number, 10);
}

__attribute__((format(printf, 2, 0))) static void put_format(struct output *output, const char *format,
                                                             va_list arguments)
{
    for (; *format != '\0'; format++) {
        bool is_long = false;

        if (*format != '%') {
            put_char(output, *format);
            continue;
        }
        if (*++format == 'l') {
            is_long = true;
            format++;
        }
        switch (*format) {
        case 's':
            put_string(output, va_arg(arguments, const char *));
            break;
        case 'd':
            put_signed(output, is_long ? va_arg(arguments, long) : va_arg(arguments, int));
            break;
        case 'u':
            put_number(output, is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), 10);
            break;
        case 'x':
            put_number(output, is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), 16);
            break;
        case '\0':
            return;
        default:
            put_char(output, *format);
        }
    }
}

size_t log_format(char *buffer, size_t size, const char *format, ...)
{
    struct output output = {.bytes = buffer, .size = size};
    va_list arguments;

    if (size == 0)
        return 0;
    va_start(arguments, format);
    put_format(&output, format, arguments);
    va_end(arguments);
    buffer[output.length] = '\0';
    return output.length;
}

/* A file name may hold newlines; a line must not. */
static void make_printable(struct output *output)
{
    for (size_t i = 0; i < output->length; i++)
        if ((unsigned char)output->bytes[i] < ' ' || output->bytes[i] == 0x7f)
            output->bytes[i] = '?';
}

static void finish_line(struct output *output)
{
    make_printable(output);
    if (output->cut)
        for (size_t i = 1; i <= 3; i++)
            output->bytes[output->length - i] = '.';
    output->bytes[output->length] = '\n'; /* put_char() keeps one byte free */
}

/* ---- where lines go ---- */

/*
 * The file that a process has declared to be its stderr. A child of vfork(2) shares this memory
 * with its parent, and points its own descriptor 2 elsewhere: so there are two entries, and a
 * process never overwrites its parent's.
 */
static struct stderr_file {
    int process; /* 0: not in use */
    dev_t device;
    ino_t number; /* 0: descriptor 2 was not open */
} stderr_files[2];

void log_remember_stderr(void)
{
    int process = sys_getpid();
    struct stderr_file *entry = &stderr_files[0];
    struct stat status;

    if (entry->process != 0 && entry->process != process &&
        (stderr_files[1].process == process ||
         entry->process == (int)SYS_CALL(SYS_getppid, 0, 0, 0, 0, 0, 0)))
        entry = &stderr_files[1];
    *entry = (struct stderr_file){.process = process};
    if (sys_fstat(STDERR_FILENO, &status) != 0)
        return;
    entry->device = status.st_dev;
    entry->number = status.st_ino;
}

static int quiet_process; /* this process, after log_go_quiet(); 0 before */
static bool quiet_stderr; /* descriptor 2 was stderr then */

/* The command declares nothing: its descriptor 2 is stderr. */
static bool is_stderr_open(void)
{
    struct stat status;
    bool declared = false;

    if (quiet_process != 0)
        return quiet_stderr;
    if (sys_fstat(STDERR_FILENO, &status) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        if (stderr_files[i].process != 0 && stderr_files[i].device == status.st_dev &&
            stderr_files[i].number == status.st_ino)
            return true;
        declared = declared || stderr_files[i].process != 0;
    }
    return !declared;
}

/*
 * Opens the log file for one line. Another user who may write to its folder could have put a link
 * to another file there, or a FIFO that nobody reads. Returns a descriptor, or -1 and in *fault the
 * reason.
 */
static int open_log_file(const char **fault)
{
    struct stat status;
    int fd = sys_openat(AT_FDCWD, configured_file,
                        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0644);

    if (quiet_process != 0)
        return fd < 0 ? -1 : fd;
    if (fd >= 0 && sys_fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISCHR(status.st_mode)))
        return fd;
    *fault = fd == -ELOOP              ? "it is a symbolic link"
             : fd >= 0 || fd == -ENXIO ? "it is neither a regular file nor a terminal"
                                       : log_errno(fd);
    if (fd >= 0)
        (void)sys_close(fd);
    return -1;
}

/* If the log file cannot take the line, on a full disk or at RLIMIT_FSIZE, stderr gets it. The
 * program gets no signal for this write. */
static void write_line(int fd, const char *line, size_t length)
{
    const bool holds = quiet_process == 0;
    struct signals_held pipe;
    struct signals_held limit;

    if (holds) {
        pipe = signals_hold(SIGPIPE);
        limit = signals_hold(SIGXFSZ);
    }
    if (sys_write(fd, line, length) < 0 && fd != STDERR_FILENO && is_stderr_open())
        (void)sys_write(STDERR_FILENO, line, length);
    if (holds) {
        signals_release(&limit);
        signals_release(&pipe);
    }
}

__attribute__((format(printf, 3, 0))) static void emit_line(int fd, enum log_level level, const char *format,
                                                            va_list arguments)
{
    char small[SMALL_SIZE];
    struct scratch scratch;
    struct output output = {.bytes = small, .size = sizeof small};
    const int process = quiet_process != 0 ? quiet_process : sys_getpid();

    if (scratch_take(&scratch, LINE_SIZE) == 0) {
        output.bytes = scratch.bytes;
        output.size = LINE_SIZE;
    }
    put_string(&output, "atomshim");
    if (process > 0) { /* a seccomp filter may refuse to tell */
        put_string(&output, "[");
        put_signed(&output, process);
        put_string(&output, "]");
    }
    put_string(&output, ": ");
    put_string(&output, level_names[level]);
    put_string(&output, ": ");
    put_format(&output, format, arguments);
    finish_line(&output);
    write_line(fd, output.bytes, output.length + 1);
    scratch_give(&scratch);
}

__attribute__((format(printf, 1, 2))) static void emit_to_stderr(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    emit_line(STDERR_FILENO, LOG_ERROR, format, arguments);
    va_end(arguments);
}

void log_go_quiet(void)
{
    quiet_stderr = is_stderr_open();
    quiet_process = sys_getpid();
}

void log_be_loud(void)
{
    quiet_process = 0;
}

void log_configure(enum log_level level, const char *file)
{
    log_configured_level = level;
    configured_file = file;
}

void log_line(enum log_level level, const char *format, ...)
{
    static bool told;
    const char *fault = NULL;
    va_list arguments;
    int fd = -1;

    if (level > log_configured_level)
        return;
    if (configured_file != NULL)
        fd = open_log_file(&fault);
    if (fd < 0 && !is_stderr_open())
        return;
    if (fault != NULL && !__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
        emit_to_stderr("ATOMSHIM_LOG_FILE=%s: cannot be used: %s; lines go to stderr", configured_file,
                       fault);
    va_start(arguments, format);
    emit_line(fd >= 0 ? fd : STDERR_FILENO, level, format, arguments);
    va_end(arguments);
    if (fd >= 0)
        (void)sys_close(fd);
}

const char *log_errno(int error)
{
    static const struct {
        int error;
        const char *text;
    } texts[] = {
        {EACCES, "permission denied (EACCES)"},
        {EAGAIN, "resource temporarily unavailable (EAGAIN)"},
        {EBADF, "bad descriptor (EBADF)"},
        {EBUSY, "device or resource busy (EBUSY)"},
        {EDQUOT, "disk quota exceeded (EDQUOT)"},
        {EFBIG, "file too large (EFBIG)"},
        {EINTR, "interrupted (EINTR)"},
        {EINVAL, "invalid argument (EINVAL)"},
        {EIO, "input/output error (EIO)"},
        {ELOOP, "too many symbolic links (ELOOP)"},
        {EMFILE, "too many open files (EMFILE)"},
        {ENAMETOOLONG, "file name too long (ENAMETOOLONG)"},
        {ENFILE, "too many open files in the system (ENFILE)"},
        {ENODEV, "no such device (ENODEV)"},
        {ENOENT, "no such file or directory (ENOENT)"},
        {ENOLCK, "no locks available (ENOLCK)"},
        {ENOMEM, "out of memory (ENOMEM)"},
        {ENOSPC, "no space left on device (ENOSPC)"},
        {ENOSYS, "not implemented by the kernel (ENOSYS)"},
        {ENOTDIR, "not a directory (ENOTDIR)"},
        {EOPNOTSUPP, "not supported by the file system (EOPNOTSUPP)"},
        {EPERM, "operation not permitted (EPERM)"},
        {EROFS, "read-only file system (EROFS)"},
        {ESTALE, "stale file handle (ESTALE)"},
        {ETIMEDOUT, "timed out, another process holds the lock (ETIMEDOUT)"},
        {ETXTBSY, "the file is being executed (ETXTBSY)"},
    };

    if (error < 0)
        error = -error;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].error == error)
            return texts[i].text;
    return "unknown error";
}
