/* rename onto a managed file: its inode stays and gets the content. Without the shim the name
 * gets the other inode. */
#include "expect.h"

#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/xattr.h>

static char *make_sibling(const char *file, const char *suffix, const char *text)
{
    char *name = sibling(file, suffix);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    EXPECT(fd >= 0);
    write_text(fd, text);
    EXPECT(close(fd) == 0);
    return name;
}

static void expect_gone(const char *name)
{
    struct stat status;

    EXPECT_ERROR(lstat(name, &status), ENOENT);
}

/* Checks that both names of the file are still one inode, with this number. */
static void expect_inode(const char *file, const struct stat *before)
{
    if (!is_wrapped())
        return;
    EXPECT(status_of(file).st_ino == before->st_ino);
    EXPECT(status_of(file).st_nlink == 2);
    expect_content(sibling(file, ".link2"), content_of(file));
}

/* Without the shim, too, each case must end with one file with two names: restores it. */
static void join_links(const char *file, const struct stat *before)
{
    char *other = sibling(file, ".link2");

    if (status_of(file).st_ino == before->st_ino)
        return;
    EXPECT(unlink(file) == 0 && link(other, file) == 0);
}

/* The end of most cases. */
static void finish(const char *file, const char *content, const struct stat *before)
{
    expect_content(file, content);
    expect_inode(file, before);
    join_links(file, before);
}

enum way { BY_RENAME, BY_RENAMEAT, BY_RENAMEAT2 };

static int rename_by(enum way way, const char *from, const char *to)
{
    const char *name;
    int directory;
    int result;

    if (way == BY_RENAME)
        return rename(from, to);
    directory = split(to, &name);
    result = way == BY_RENAMEAT ? renameat(AT_FDCWD, from, directory, name)
                                : renameat2(AT_FDCWD, from, directory, name, 0);
    if (directory >= 0) {
        int error = errno;

        EXPECT(close(directory) == 0);
        errno = error;
    }
    return result;
}

static void test_one(const char *file, enum way way)
{
    struct stat before = status_of(file);
    char *from = make_sibling(file, ".new", "new content");
    const struct timespec times[2] = {{1000000000, 0}, {1100000000, 5}};

    EXPECT(utimensat(AT_FDCWD, from, times, 0) == 0);
    errno = 77;
    EXPECT(rename_by(way, from, file) == 0);
    EXPECT(errno == 77);
    expect_gone(from);
    EXPECT(status_of(file).st_mtim.tv_sec == 1100000000 && status_of(file).st_mtim.tv_nsec == 5);
    expect_content(file, "new content");
    expect_inode(file, &before);

    /* once more, now that it is in our format, and of a source that is, too */
    from = make_sibling(file, ".newer", "newer");
    EXPECT(rename_by(way, from, file) == 0);
    expect_gone(from);
    expect_content(file, "newer");
    from = make_sibling(file, ".empty", "");
    EXPECT(rename_by(way, from, file) == 0);
    EXPECT(status_of(file).st_size == 0);
    finish(file, "", &before);
}

static void test_rename(const char *file)
{
    test_one(file, BY_RENAME);
}

static void test_renameat(const char *file)
{
    test_one(file, BY_RENAMEAT);
}

static void test_renameat2(const char *file)
{
    test_one(file, BY_RENAMEAT2);
}

/* The kernel alone renames if one of the two is no regular file. */
static void test_others(const char *file)
{
    char *other = sibling(file, ".link2");
    char *from = make_sibling(file, ".new", "new");
    char *folder = sibling(file, ".folder");
    char *symbolic = sibling(file, ".symbolic");
    char *missing = sibling(file, ".missing");

    for (int way = BY_RENAME; way <= BY_RENAMEAT2; way++) {
        EXPECT(rename_by(way, file, other) == 0); /* two names of one inode: nothing to do */
        expect_content(other, "old");
        expect_content(file, "old");
        EXPECT_ERROR(rename_by(way, missing, file), ENOENT);
        EXPECT_ERROR(rename_by(way, sibling(from, "/"), file), ENOTDIR);
        EXPECT_ERROR(rename_by(BY_RENAME, from, sibling(file, "/x")), ENOTDIR);
        EXPECT(mkdir(folder, 0700) == 0);
        EXPECT_ERROR(rename_by(way, folder, file), ENOTDIR);
        EXPECT_ERROR(rename_by(way, from, folder), EISDIR);
        EXPECT(rmdir(folder) == 0);
        EXPECT_ERROR(rename_by(way, (const char *)1, file), EFAULT);
        EXPECT_ERROR(rename_by(way, from, (const char *)1), EFAULT);
        EXPECT_ERROR(rename_by(way, "", file), ENOENT);

        EXPECT(symlink(file, symbolic) == 0); /* the link is replaced, not its target */
        EXPECT(rename_by(way, from, symbolic) == 0);
        expect_content(file, "old");
        expect_content(symbolic, "new");
        EXPECT(rename_by(way, symbolic, from) == 0);

        EXPECT(symlink(from, symbolic) == 0); /* and a link may take a file's place */
        EXPECT(rename_by(way, symbolic, missing) == 0);
        EXPECT(rename_by(way, missing, from) == 0);
        EXPECT(readlink(from, (char[8]){0}, 8) == 8);
        EXPECT(unlink(from) == 0);
        from = make_sibling(file, ".new", "new");
    }
    EXPECT(unlink(from) == 0);
}

static void test_flags(const char *file)
{
    char *from = make_sibling(file, ".new", "new");

    EXPECT_ERROR(renameat2(AT_FDCWD, from, AT_FDCWD, file, RENAME_NOREPLACE), EEXIST);
    EXPECT_ERROR(renameat2(AT_FDCWD, from, AT_FDCWD, file, RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
    /* the names change hands */
    EXPECT(renameat2(AT_FDCWD, from, AT_FDCWD, file, RENAME_EXCHANGE) == 0);
    expect_content(file, "new");
    expect_content(from, "old");
    EXPECT(renameat2(AT_FDCWD, from, AT_FDCWD, file, RENAME_EXCHANGE) == 0);
    expect_content(file, "old");
    EXPECT(unlink(from) == 0);
}

/* A free name is taken, and the file moves with its content. */
static void test_missing(const char *file)
{
    char *there = sibling(file, ".there");
    int fd = open(file, O_WRONLY);

    EXPECT(rename(file, there) == 0);
    write_text(fd, "new");
    EXPECT(close(fd) == 0);
    expect_content(there, "new");
    EXPECT(rename(there, file) == 0);
    expect_content(sibling(file, ".link2"), "new");
}

/* The program goes on to write to the file that has the name now. */
static void test_open_source(const char *file)
{
    struct stat before = status_of(file);
    char *from = make_sibling(file, ".new", "");
    int fd = open(from, O_RDWR);
    int copy = dup(fd);
    FILE *stream = fdopen(dup(fd), "w");
    char byte;

    write_text(fd, "before ");
    EXPECT(rename(from, file) == 0);
    expect_gone(from);
    expect_content(file, "before ");
    write_text(copy, "after ");
    EXPECT(fputs("stream", stream) >= 0 && fclose(stream) == 0);
    EXPECT(lseek(fd, 0, SEEK_SET) == 0 && read(copy, &byte, 1) == 1 && byte == 'b');
    EXPECT(close(fd) == 0 && close(copy) == 0);
    finish(file, "before after stream", &before);
}

/* Opens with the flags of temporary files, which the open of the target must not have; several
 * opens; a reader. */
static void test_open_twice(const char *file)
{
    struct stat before = status_of(file);
    char *from = sibling(file, ".new");
    int first;
    int second;
    int reader;
    char text[16] = "";

    if (access("/proc/self", F_OK) != 0) /* all have one description then, from the rename on */
        return;
    first = open(from, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    write_text(first, "one ");
    EXPECT(fsync(first) == 0);
    second = open(from, O_WRONLY | O_APPEND);
    reader = open(from, O_RDONLY);
    EXPECT(rename(from, file) == 0);
    EXPECT(fcntl(first, F_GETFD) == FD_CLOEXEC && (fcntl(second, F_GETFL) & O_APPEND));
    write_text(second, "two ");
    EXPECT(lseek(first, 0, SEEK_END) == 8);
    write_text(first, "three");
    EXPECT(close(first) == 0);
    EXPECT(read(reader, text, 3) == 3 && strcmp(text, "one") == 0);
    EXPECT(close(second) == 0 && close(reader) == 0);
    finish(file, "one two three", &before);
}

/* rename(2) needs no number of a descriptor. */
static void test_full_table(const char *file)
{
    struct stat before = status_of(file);
    char *from = make_sibling(file, ".new", "new");
    struct rlimit limit = {64, 1024};
    int fds[64];
    int count = 0;

    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (count < 64 && (fds[count] = open("/", O_PATH)) >= 0)
        count++;
    EXPECT(rename(from, file) == 0);
    while (count > 0)
        EXPECT(close(fds[--count]) == 0);
    finish(file, "new", &before);
}

/* A watcher of the inode hears of its new content; without the shim, of its end. */
static void test_watched(const char *file)
{
    struct stat before = status_of(file);
    char *from = make_sibling(file, ".new", "new");
    _Alignas(struct inotify_event) char events[4096];
    uint32_t seen = 0;
    int watch = inotify_init1(IN_NONBLOCK);
    ssize_t n;

    EXPECT(watch >= 0 && inotify_add_watch(watch, file, IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB) >= 0);
    EXPECT(rename(from, file) == 0);
    n = read(watch, events, sizeof events);
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(events + at);

        seen |= event->mask;
        at += (ssize_t)(sizeof *event + event->len);
    }
    EXPECT((seen & IN_CLOSE_WRITE) == (is_wrapped() ? IN_CLOSE_WRITE : 0));
    EXPECT(seen & IN_ATTRIB);
    EXPECT(close(watch) == 0);
    join_links(file, &before);
}

/* Two processes rename one file: one of them succeeds. */
static void test_same_source(const char *file)
{
    struct stat before = status_of(file);

    for (int round = 0; round < 20; round++) {
        char *from = make_sibling(file, ".new", "new");
        pid_t child = fork();
        int result;
        int status;

        if (child == 0)
            _exit(rename(from, file) == 0 ? 0 : errno);
        result = rename(from, file) == 0 ? 0 : errno;
        EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
        EXPECT((result == 0) != (WEXITSTATUS(status) == 0));
        EXPECT(result + WEXITSTATUS(status) == ENOENT);
        expect_content(file, "new");
    }
    finish(file, "new", &before);
}

/* The target is open: its reader keeps the content that it opened. */
static void test_open_target(const char *file)
{
    struct stat before = status_of(file);
    char *from = make_sibling(file, ".new", "new");
    int fd = open(file, O_RDONLY);
    char text[8] = "";

    EXPECT(rename(from, file) == 0);
    EXPECT(read(fd, text, sizeof text - 1) == 3 && strcmp(text, "old") == 0);
    EXPECT(close(fd) == 0);
    finish(file, "new", &before);
}

/* Returns the mode of the file after one with this mode was renamed onto it. */
static mode_t mode_behind(const char *file, mode_t mode)
{
    struct stat before = status_of(file);
    char *from = make_sibling(file, ".new", "new");
    mode_t result;

    EXPECT(chmod(from, mode) == 0 && rename(from, file) == 0);
    result = status_of(file).st_mode & 07777;
    join_links(file, &before);
    return result;
}

/* Mode and owner of the target stay, unless the program must have meant the new mode. */
static void test_metadata(const char *file)
{
    char note[8];

    EXPECT(chmod(file, 0640) == 0);
    (void)setxattr(file, "user.note", "kept", 4, 0);
    (void)umask(022);
    /* as from mkstemp(): no program chose it */
    EXPECT(mode_behind(file, 0600) == (is_wrapped() ? 0640 : 0600));
    EXPECT(!is_wrapped() || getxattr(file, "user.note", note, sizeof note) == 4 || errno == ENOTSUP);
    /* the default under this umask */
    EXPECT(mode_behind(file, 0644) == (is_wrapped() ? 0640 : 0644));
    EXPECT(mode_behind(file, 0755) == 0755);
}

static void expect_refused(const char *from, const char *file, int error)
{
    pid_t child = fork();

    if (child == 0) {
        if (setgid(OTHER_USER) == 0 && setuid(OTHER_USER) == 0) {
            EXPECT_ERROR(rename(from, file), error);
            expect_content(file, "old");
        }
        _exit(0);
    }
    expect_exit(child, 0);
}

/* The shim refuses these as the kernel would: nothing changes. */
static void test_refused(const char *file)
{
    char *folder = sibling(file, ".folder");
    char *from = sibling(file, ".folder/new");

    EXPECT(chmod(file, 0666) == 0 && mkdir(folder, 0755) == 0);
    EXPECT(close(creat(from, 0666)) == 0);
    expect_refused(from, file, EACCES);
    EXPECT(chmod(folder, 01777) == 0);
    expect_refused(from, file, EPERM);
    EXPECT(unlink(from) == 0 && rmdir(folder) == 0);
}

/* Link and unlink make a new file; so does unlink and create: as without the shim. */
static void test_dances(const char *file)
{
    char *from = make_sibling(file, ".new", "new");
    struct stat before = status_of(file);

    EXPECT_ERROR(link(from, file), EEXIST);
    EXPECT(unlink(file) == 0 && link(from, file) == 0 && unlink(from) == 0);
    expect_content(file, "new");
    expect_content(sibling(file, ".link2"), "old");
    join_links(file, &before);
}

/*
 * A further name that this program has given the file keeps the old content: a name that it made
 * when the new file was ready, as perl -i.bak does, or before, as hg does, and in whatever way it
 * writes the folder's path. An older name, or one that an earlier backup left, goes with the file.
 */
static void test_backup(const char *file)
{
    char *from = make_sibling(file, ".new", "new");
    const char *backup = sibling(file, ".bak");
    struct stat before = status_of(file);
    char again[PATH_MAX];
    const char *name;
    int directory;

    EXPECT(link(file, backup) == 0 && rename(from, file) == 0);
    expect_content(file, "new");
    expect_content(backup, "old");
    EXPECT(unlink(file) == 0 && linkat(AT_FDCWD, backup, AT_FDCWD, file, 0) == 0 && unlink(backup) == 0);
    make_sibling(file, ".new", "new");
    EXPECT(linkat(AT_FDCWD, file, AT_FDCWD, backup, 0) == 0 && renameat(AT_FDCWD, from, AT_FDCWD, file) == 0);
    expect_content(backup, "old");
    EXPECT(unlink(file) == 0 && link(backup, file) == 0 && unlink(backup) == 0);

    EXPECT(link(file, backup) == 0);
    make_sibling(file, ".other", "written between");
    make_sibling(file, ".new", "newer");
    EXPECT(rename(from, file) == 0 && unlink(sibling(file, ".other")) == 0);
    expect_content(file, "newer");
    expect_content(backup, "old");
    EXPECT(unlink(file) == 0 && link(backup, file) == 0 && unlink(backup) == 0);

    make_sibling(file, ".new", "newer");
    directory = split(file, &name);
    (void)snprintf(again, sizeof again, "%.*s/./%s", (int)(name - file), file, name);
    EXPECT(linkat(directory, name, AT_FDCWD, backup, 0) == 0 && rename(from, again) == 0);
    EXPECT(close(directory) == 0);
    expect_content(file, "newer");
    expect_content(backup, "old");
    EXPECT(unlink(file) == 0 && link(backup, file) == 0 && unlink(backup) == 0);

    EXPECT(link(file, backup) == 0 && unlink(backup) == 0);
    make_sibling(file, ".new", "newer");
    EXPECT(rename(from, file) == 0);
    finish(file, "newer", &before);
}

/* A program that makes a hard link by another name and renames it wants a hard link: ln -f, cp
 * -a. */
static void test_linked(const char *file)
{
    char *from = make_sibling(file, ".new", "new");
    const char *made = sibling(file, ".made");
    struct stat before = status_of(file);

    EXPECT(link(from, made) == 0 && rename(made, file) == 0);
    EXPECT(status_of(file).st_ino == status_of(from).st_ino && status_of(file).st_nlink == 2);
    expect_content(file, "new");
    expect_content(sibling(file, ".link2"), "old");
    EXPECT(unlink(from) == 0);
    join_links(file, &before);
}

/* A program that goes on writing to a file that it renamed, and to another one beside it. */
static void test_written_beside(const char *file)
{
    char *from = make_sibling(file, ".new", "");
    char *other = make_sibling(file, ".other", "");
    struct stat before = status_of(file);
    int fd = open(from, O_WRONLY);
    int beside = open(other, O_WRONLY);

    write_text(fd, "new");
    write_text(beside, "beside");
    EXPECT(rename(from, file) == 0);
    write_text(fd, " content");
    write_text(beside, " it");
    EXPECT(close(fd) == 0 && close(beside) == 0);
    expect_content(other, "beside it");
    EXPECT(unlink(other) == 0);
    finish(file, "new content", &before);
}

static const struct test_case cases[] = {
    {"rename", test_rename},
    {"renameat", test_renameat},
    {"renameat2", test_renameat2},
    {"others", test_others},
    {"flags", test_flags},
    {"missing", test_missing},
    {"open-source", test_open_source},
    {"open-twice", test_open_twice},
    {"full-table", test_full_table},
    {"watched", test_watched},
    {"same-source", test_same_source},
    {"open-target", test_open_target},
    {"metadata", test_metadata},
    {"refused", test_refused},
    {"dances", test_dances},
    {"backup", test_backup},
    {"linked", test_linked},
    {"written-beside", test_written_beside},
    {NULL, NULL},
};

int main(int argc, char *argv[])
{
    return run_case(cases, argc, argv);
}
