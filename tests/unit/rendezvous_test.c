/* store/rendezvous.h: guardians and the openers that wait for them, of several users. */
#include "check.h"

#include "store/filelock.h"
#include "store/rendezvous.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum {
    OTHER_USER = 65534,
    ALL_PLACES = 64,   /* rendezvous.c */
    LAST_LOOK = 65533, /* after one more look the count begins anew */
    LONG = 60,         /* seconds: a wait that an answer ends */
};

static char folder[] = "/tmp/atomshim-rendezvous.XXXXXX";
static int file = -1;
static struct stat identity;

/* What a guardian of a test is like. */
struct guardian_kind {
    uid_t user;
    unsigned looks; /* it has looked so often already */
    bool is_deaf;
};

static struct guardian_kind own;
static struct guardian_kind own_deaf = {.is_deaf = true};
static const struct guardian_kind other = {.user = OTHER_USER};
static const struct guardian_kind other_deaf = {.user = OTHER_USER, .is_deaf = true};

/* A guardian's report, of its place and of each look. */
struct report {
    int64_t start;
    uint32_t woken; /* 0: it has its place; RENDEZVOUS_SIGNAL, or the event of inotify(7) */
};

static int reports[2];
static int control[2]; /* guardians end when its last writer, the process of the test, does */

static void report(const struct rendezvous *place, uint32_t woken)
{
    const struct report line = {.start = place->start, .woken = woken};

    if (write(reports[1], &line, sizeof line) != sizeof line)
        _exit(2);
}

/* Returns what woke the guardian. */
static uint32_t take_event(struct pollfd *signals, int file_events)
{
    union {
        struct inotify_event event;
        char bytes[4096];
    } buffer;

    if (signals->revents == 0)
        return read(file_events, &buffer, sizeof buffer) > 0 ? buffer.event.mask : 0;
    return read(signals->fd, &buffer, sizeof buffer) > 0 ? RENDEZVOUS_SIGNAL : 0;
}

/* Looks, and says so, whenever a guardian would: guardian/post.c. */
static _Noreturn void guard(const struct guardian_kind *kind)
{
    struct pollfd events[] = {{.fd = control[0]}, {.events = POLLIN}, {.events = POLLIN}};
    struct rendezvous place;
    sigset_t signals;
    int proc = rendezvous_open();

    (void)close(control[1]);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, RENDEZVOUS_SIGNAL);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    events[1].fd = signalfd(-1, &signals, SFD_CLOEXEC);
    events[2].fd = inotify_init1(IN_CLOEXEC);
    if (events[1].fd < 0 || inotify_add_watch(events[2].fd, "file", IN_ACCESS | IN_OPEN) < 0 ||
        setresuid(kind->user, kind->user, kind->user) != 0)
        _exit(2);
    rendezvous_begin(&place, proc, identity.st_dev, identity.st_ino);
    place.looks += kind->looks;
    report(&place, 0);
    while (poll(events, kind->is_deaf ? 1 : 3, -1) > 0 && events[0].revents == 0) {
        uint32_t woken = take_event(&events[1], events[2].fd);

        rendezvous_looked(&place, proc);
        report(&place, woken);
    }
    _exit(0);
}

/* Starts a guardian, and returns its place. */
static int64_t start(struct guardian_kind kind)
{
    struct report line = {.woken = 1};
    pid_t child = fork();

    if (child == 0)
        guard(&kind);
    do /* another guardian may have looked */
        CHECK_EQUAL(read(reports[0], &line, sizeof line), sizeof line);
    while (line.woken != 0);
    return line.start;
}

/* Ends the guardians. Returns how often they were woken by this. */
static size_t end_guardians(uint32_t by)
{
    struct report line;
    size_t count = 0;

    (void)close(control[1]);
    (void)close(reports[1]);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    while (read(reports[0], &line, sizeof line) == sizeof line)
        count += line.woken == by;
    return count;
}

static bool wait_for(int64_t nanoseconds)
{
    return rendezvous_wait(file, identity.st_dev, identity.st_ino, nanoseconds);
}

static bool wait_long(void)
{
    return wait_for((int64_t)LONG * 1000 * 1000 * 1000);
}

static void be_other_user(void)
{
    CHECK_EQUAL(setresuid(OTHER_USER, OTHER_USER, OTHER_USER), 0);
}

/* ---- each runs in a process of its own, with the file "file" of five bytes ---- */

static void test_no_guardian(void)
{
    CHECK(!wait_long());
}

static void test_two_guardians(void)
{
    CHECK(start(own) != start(own));
    CHECK(wait_long());
    CHECK(end_guardians(RENDEZVOUS_SIGNAL) >= 4); /* each has looked twice */
}

static void test_count_begins_anew(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    struct guardian_kind kind = own;

    kind.looks = LAST_LOOK;
    lock.l_start = start(kind);
    CHECK(wait_long());
    CHECK(wait_long());
    CHECK_EQUAL(fcntl(rendezvous_open(), F_GETLK, &lock), 0);
    CHECK(lock.l_len < LAST_LOOK);
    CHECK(end_guardians(RENDEZVOUS_SIGNAL) >= 4);
}

/* Lets a process have the next number. */
static void skip_number(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
}

static void test_more_guardians_than_places(void)
{
    int64_t places[ALL_PLACES + 1];

    for (size_t i = 0; i <= ALL_PLACES; i++) {
        for (int skipped = 0; i == ALL_PLACES / 2 && skipped < ALL_PLACES / 4; skipped++)
            skip_number(); /* or else 64 guardians in a row would prefer different places */
        places[i] = start(own);
        for (size_t k = 0; k < i && i < ALL_PLACES; k++)
            CHECK(places[i] != places[k]);
    }
    CHECK(wait_long());
    CHECK(end_guardians(RENDEZVOUS_SIGNAL) >= (size_t)2 * ALL_PLACES);
}

/* A guardian waits for no other. */
static void test_guardian(void)
{
    struct rendezvous place;

    (void)start(own_deaf);
    rendezvous_begin(&place, rendezvous_open(), identity.st_dev, identity.st_ino);
    CHECK(!wait_long());
}

/* An opener that has waited in vain waits no more. */
static void test_no_answer(void)
{
    (void)start(own_deaf);
    CHECK(wait_for(1));
    CHECK(!wait_long());
}

/* The holder of a lock may wait for the opener, and the guardian for the lock. */
static void test_lock_of_a_program(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int holder;

    (void)start(own_deaf);
    holder = open("file", O_RDWR | O_CLOEXEC);
    CHECK_EQUAL(fcntl(holder, F_OFD_SETLK, &lock), 0);
    CHECK(wait_long());
    CHECK(wait_long());
}

/* ---- of several users: root alone can test these ---- */

static void test_guardian_of_another_user(void)
{
    (void)start(other_deaf);
    CHECK(!wait_long());
}

/* A user may not send root's guardian a signal. */
static void test_root_woken_by_a_read(void)
{
    (void)start(own);
    be_other_user();
    CHECK(wait_long());
    CHECK_EQUAL(lseek(file, 0, SEEK_CUR), 0);
    CHECK(end_guardians(IN_ACCESS) >= 2);
}

static void test_root_woken_by_an_open(void)
{
    CHECK_EQUAL(truncate("file", 0), 0);
    (void)start(own);
    be_other_user();
    CHECK(wait_long());
    CHECK(end_guardians(IN_OPEN) >= 2);
}

/* It wakes no guardian by an open then: the close would drop the lock. */
static void test_lock_of_this_process(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int status = 0;
    pid_t child;

    CHECK_EQUAL(truncate("file", 0), 0);
    (void)start(own);
    be_other_user();
    CHECK_EQUAL(fcntl(file, F_SETLK, &lock), 0);
    CHECK(wait_for((int64_t)50 * 1000 * 1000)); /* long enough to wake it */
    child = fork();
    if (child == 0)
        _exit(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 0 : 1);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

/* Without /proc root cannot tell which user a guardian belongs to, and waits for each. */
static void test_root_without_proc(void)
{
    CHECK_EQUAL(chroot("."), 0);
    (void)start(other);
    CHECK(wait_long());
    CHECK(end_guardians(RENDEZVOUS_SIGNAL) >= 2);
}

/* It does not wait for long. */
static void test_root_without_proc_no_answer(void)
{
    CHECK_EQUAL(chroot("."), 0);
    (void)start(other_deaf);
    CHECK(wait_long());
    CHECK(!wait_long());
}

static void test_own_guardian_without_proc(void)
{
    CHECK_EQUAL(chroot("."), 0);
    (void)start(other);
    be_other_user();
    CHECK(wait_long());
    CHECK(end_guardians(RENDEZVOUS_SIGNAL) >= 2);
}

static void test_root_without_proc_for_others(void)
{
    CHECK_EQUAL(chroot("."), 0);
    (void)start(own_deaf);
    be_other_user();
    CHECK(!wait_long());
}

/* Runs a test in a process of its own, since a process remembers that it has waited in vain. */
static void run(void (*test)(void), const char *name)
{
    int status = 0;
    pid_t child;

    file = open("file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (pipe2(reports, O_CLOEXEC) != 0 || pipe2(control, O_CLOEXEC) != 0 || write(file, "bytes", 5) != 5 ||
        lseek(file, 0, SEEK_SET) != 0 || fchmod(file, 0666) != 0 || fstat(file, &identity) != 0)
        abort();
    child = fork();
    if (child == 0) {
        check_failures = 0;
        test();
        _exit(check_result());
    }
    (void)close(control[0]);
    (void)close(control[1]);
    (void)close(reports[0]);
    (void)close(reports[1]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    if (status != 0)
        (void)fprintf(stderr, "in %s\n", name);
    (void)close(file);
    (void)unlink("file"); /* a guardian may still be about to end */
}

#define RUN(test) run(test, #test)

int main(void)
{
    own.user = own_deaf.user = getuid();
    if (mkdtemp(folder) == NULL || chmod(folder, 0755) != 0 || chdir(folder) != 0)
        abort();
    RUN(test_no_guardian);
    RUN(test_two_guardians);
    RUN(test_count_begins_anew);
    RUN(test_more_guardians_than_places);
    RUN(test_guardian);
    RUN(test_no_answer);
    RUN(test_lock_of_a_program);
    if (getuid() == 0) {
        RUN(test_guardian_of_another_user);
        RUN(test_root_woken_by_a_read);
        RUN(test_root_woken_by_an_open);
        RUN(test_lock_of_this_process);
        RUN(test_root_without_proc);
        RUN(test_root_without_proc_no_answer);
        RUN(test_own_guardian_without_proc);
        RUN(test_root_without_proc_for_others);
    }
    (void)rmdir(folder);
    return check_result();
}
