/*
 * session.h without interposition, from many threads: sessions that begin, are looked for, and
 * end at once, on files of their own and on one file. Raw calls, as the shim's own are:
 * scripts/sanitize has TSan watch.
 */
#include "check.h"

#include "format/crc32c.h"
#include "session/internal.h"
#include "session/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { WRITERS = 6, READERS = 3, ROUNDS = 150, SIZE = 6000 };

static char directory[] = "session_test.XXXXXX";
static const struct config config = {.lock_timeout = INT64_C(30000000000), .paths = ""};
static int finished; /* atomic: writers that are done */

static void name_of(int file, char name[64])
{
    (void)snprintf(name, 64, "%s/%d", directory, file);
}

static struct session *begin_session(int file, int flags)
{
    struct session_found found;
    char name[64];
    int inode;

    name_of(file, name);
    inode = sys_openat(AT_FDCWD, name, (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR, 0);
    if (inode < 0 || session_begin(inode, NULL, flags, SESSION_OPENED, &found) != 0)
        abort();
    return found.session;
}

/* Does what close() in interpose/close.c does. */
static void finish_session(int fd)
{
    struct session_found found;

    if (session_identify(fd, &found) != SESSION_PROGRAM)
        abort();
    if (sys_close(fd) != 0 || session_settle(found.session, found.buffer_number) != 0)
        abort();
}

static void overwrite(int file, char letter)
{
    char bytes[SIZE];
    struct session *session = begin_session(file, O_WRONLY | O_TRUNC);
    int fd = session_hand_out(session, O_WRONLY);
    int second;

    memset(bytes, letter, sizeof bytes);
    second = (int)sys_fcntl(fd, F_DUPFD, 0);
    if (sys_write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes)
        abort();
    finish_session(fd);
    finish_session(second);
}

static bool is_one_image(int file)
{
    char bytes[SIZE];
    struct session *session = begin_session(file, O_RDONLY);
    int fd = session_hand_out(session, O_RDONLY);
    ssize_t n = sys_read(fd, bytes, sizeof bytes);

    finish_session(fd);
    if (n != (ssize_t)sizeof bytes)
        return false;
    for (int i = 1; i < SIZE; i++)
        if (bytes[i] != bytes[0])
            return false;
    return true;
}

static void *write_often(void *argument)
{
    int self = *(int *)argument;

    for (int i = 0; i < ROUNDS; i++) {
        overwrite(0, (char)('a' + (self + i) % 26));
        overwrite(self, (char)('a' + i % 26));
        (void)session_settle_closed(false);
    }
    (void)__atomic_add_fetch(&finished, 1, __ATOMIC_ACQ_REL);
    return NULL;
}

static void *read_often(void *bad)
{
    while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) < WRITERS)
        if (!is_one_image(0))
            ++*(int *)bad;
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[WRITERS + READERS];
    int numbers[WRITERS];
    int bad[READERS] = {0};

    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i + 1;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, write_often, &numbers[i]), 0);
    }
    for (int i = 0; i < READERS; i++)
        CHECK_EQUAL(pthread_create(&threads[WRITERS + i], NULL, read_often, &bad[i]), 0);
    for (int i = 0; i < WRITERS + READERS; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < READERS; i++)
        CHECK_EQUAL(bad[i], 0);
    for (int i = 0; i <= WRITERS; i++)
        CHECK(is_one_image(i));
    CHECK(!session_any()); /* no slot and no descriptor is left behind */
    CHECK_EQUAL(fcntl(768, F_GETFD), -1);
}

/* One session that two threads sync while a third one closes it. */
static void *sync_often(void *context)
{
    struct session *session = context;

    for (int i = 0; i < ROUNDS; i++)
        CHECK_EQUAL(session_sync(session, SESSION_GET(session->buffer_number)), 0);
    return NULL;
}

static void test_sync(void)
{
    struct session *session = begin_session(0, O_RDWR);
    int fd = session_hand_out(session, O_RDWR);
    pthread_t threads[2];
    char byte = 'A';

    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, sync_often, session), 0);
    for (int i = 0; i < ROUNDS; i++) {
        byte = (char)('A' + i % 26);
        CHECK_EQUAL(pwrite(fd, &byte, 1, i), 1);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    finish_session(fd);
    CHECK(!session_any());
}

/* I2: a thread that has decided to sync a session comes too late: another session has the slot; it
 * is half written, and must not be committed. */
static void test_reused_slot(void)
{
    struct session *session = begin_session(0, O_WRONLY | O_TRUNC);
    ino_t ended = session->buffer_number;
    char bytes[SIZE];
    int fd = session_hand_out(session, O_WRONLY);

    memset(bytes, 'r', sizeof bytes);
    CHECK_EQUAL(sys_write(fd, bytes, sizeof bytes), (ssize_t)sizeof bytes);
    finish_session(fd);
    CHECK(begin_session(0, O_WRONLY | O_TRUNC) == session);
    fd = session_hand_out(session, O_WRONLY);
    CHECK_EQUAL(sys_write(fd, bytes, 1), 1);
    CHECK_EQUAL(session_sync(session, ended), 0);
    CHECK(is_one_image(0));
    CHECK_EQUAL(session_sync(session, session->buffer_number), 0);
    CHECK(!is_one_image(0));
    finish_session(fd);
}

/* Two contents of one size and one checksum are still two contents, for a commit that finds no
 * change. */
static void test_equal_checksums(void)
{
    static const char one[] = "limit=100 tries\n";
    static const char other[] = "\x6c\x69\x6d\x69\x74\x3d\x39\x39\x0a\x63\x90\x55\x73\xb0\x97\x52";
    enum { LENGTH = sizeof one - 1 };
    static const int flags[] = {O_RDWR, O_RDWR | O_APPEND};
    char bytes[LENGTH];
    struct session *session;
    int fd;

    CHECK_EQUAL(crc32c_mixed(0, one, LENGTH), crc32c_mixed(0, other, LENGTH));
    for (int i = 0; i < 2; i++) {
        session = begin_session(0, O_RDWR | O_TRUNC);
        fd = session_hand_out(session, O_RDWR);
        CHECK_EQUAL(sys_pwrite(fd, one, LENGTH, 0), LENGTH);
        finish_session(fd);
        session = begin_session(0, flags[i]);
        fd = session_hand_out(session, O_RDWR);
        CHECK_EQUAL(sys_pwrite(fd, other, LENGTH, 0), LENGTH);
        finish_session(fd);
        session = begin_session(0, O_RDONLY);
        fd = session_hand_out(session, O_RDONLY);
        CHECK_EQUAL(sys_pread(fd, bytes, LENGTH, 0), LENGTH);
        finish_session(fd);
        CHECK(memcmp(bytes, other, LENGTH) == 0);
    }
}

/* Another process's commit with an equal checksum is merged with the appended bytes. */
static void test_equal_checksums_of_another(void)
{
    static const char one[] = "limit=100 tries\n";
    static const char other[] = "\x6c\x69\x6d\x69\x74\x3d\x39\x39\x0a\x63\x90\x55\x73\xb0\x97\x52";
    enum { LENGTH = sizeof one - 1 };
    char bytes[LENGTH + 1];
    struct session *session = begin_session(0, O_RDWR | O_TRUNC);
    int fd = session_hand_out(session, O_RDWR);
    int appender;

    CHECK_EQUAL(sys_pwrite(fd, one, LENGTH, 0), LENGTH);
    finish_session(fd);
    session = begin_session(0, O_RDWR | O_APPEND);
    appender = session_hand_out(session, O_RDWR | O_APPEND);
    CHECK_EQUAL(sys_write(appender, "!", 1), 1);
    session = begin_session(0, O_RDWR | O_TRUNC);
    fd = session_hand_out(session, O_RDWR);
    CHECK_EQUAL(sys_pwrite(fd, other, LENGTH, 0), LENGTH);
    finish_session(fd);
    finish_session(appender);
    session = begin_session(0, O_RDONLY);
    fd = session_hand_out(session, O_RDONLY);
    CHECK_EQUAL(sys_pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    finish_session(fd);
    CHECK(memcmp(bytes, other, LENGTH) == 0 && bytes[LENGTH] == '!');
}

static struct session *enter(ino_t buffer_number)
{
    struct session *session = session_take_slot();

    session_reset(session);
    session->flags = 0;
    session->buffer = session->inode = -1;
    session_set_inode(session, 1, 1);
    session_set_buffer(session, 1, buffer_number);
    session_publish(session);
    return session;
}

/* I7: the index remembers one session for each of its buckets. A session is found, though a later
 * one has a buffer whose number is in the same bucket. */
static void test_one_bucket(void)
{
    enum { FIRST = 1 };
    struct stat status = {.st_dev = 1, .st_ino = FIRST};
    struct session_found found;
    struct session *first = enter(FIRST);
    struct session *second;
    unsigned slot;
    ino_t number = FIRST;

    while (!session_index_find(SESSION_BY_BUFFER, ++number, &slot))
        continue;
    second = enter(number);
    CHECK(session_of(&status, &found) == first);
    status.st_ino = number;
    CHECK(session_of(&status, &found) == second);
    session_drop(second);
    session_drop(first);
    CHECK(session_of(&status, &found) == NULL && !session_any());
}

/* No session can begin where SESSIONS_MAX are. The slots stay taken: this is the last test. */
static void test_full_table(int inode)
{
    struct session_found found;
    int taken = 0;

    while (session_take_slot() != NULL)
        taken++;
    CHECK_EQUAL(taken, SESSIONS_MAX);
    CHECK_EQUAL(session_begin(inode, NULL, O_RDWR, SESSION_OPENED, &found), -ENFILE);
}

/* Runs in the program behind the exec: no slot is left for what it has inherited. Returns an exit
 * status. */
static int adopt_into_full_table(const char *log)
{
    session_configure(&config);
    log_configure(LOG_ERROR, log);
    while (session_take_slot() != NULL)
        continue;
    session_adopt();
    return session_any() ? 0 : 1; /* the slots stay taken */
}

/* I7: a program that inherits more sessions than its table has room for says so, once. */
static void test_inherited_into_full_table(const char *self)
{
    struct session *session = begin_session(1, O_WRONLY);
    int fd = session_hand_out(session, O_WRONLY);
    char log[64];
    char text[256] = "";
    int status = -1;
    pid_t child;
    int file;

    (void)snprintf(log, sizeof log, "%s/log", directory);
    child = fork();
    if (child == 0) {
        CHECK(session_hand_over((struct session_heir){.adopts = true}).beacon >= 0);
        (void)execl(self, self, log, (char *)NULL);
        _exit(127);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    file = open(log, O_RDONLY);
    CHECK(read(file, text, sizeof text - 1) > 0);
    CHECK(strstr(text, "inherited more than 8192 managed files; it does not commit the rest\n") != NULL);
    CHECK(strchr(text, '\n')[1] == '\0');
    CHECK_EQUAL(close(file), 0);
    (void)unlink(log);
    finish_session(fd);
}

int main(int argc, char *argv[])
{
    char name[64];

    if (argc > 1)
        return adopt_into_full_table(argv[1]);
    session_configure(&config);
    if (mkdtemp(directory) == NULL)
        abort();
    for (int i = 0; i <= WRITERS; i++) {
        name_of(i, name);
        (void)close(open(name, O_RDWR | O_CREAT, 0600));
        overwrite(i, 'x');
    }
    test_threads();
    test_sync();
    test_inherited_into_full_table(argv[0]);
    test_reused_slot();
    test_equal_checksums();
    test_equal_checksums_of_another();
    test_one_bucket();
    name_of(0, name);
    test_full_table(sys_openat(AT_FDCWD, name, O_RDWR, 0));
    for (int i = 0; i <= WRITERS; i++) {
        name_of(i, name);
        CHECK_EQUAL(unlink(name), 0);
    }
    CHECK_EQUAL(rmdir(directory), 0);
    return check_result();
}
