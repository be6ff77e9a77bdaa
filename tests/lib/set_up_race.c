/*
 * A library that is preloaded behind the shim, whose constructor is therefore the first: one thread
 * opens $file, and so sets the shim up. In the middle of that this library's getauxval() starts a
 * second thread, which opens $file, too, and lets the first one go on only once the second waits,
 * as the kernel tells (seccomp_unotify(2)). Before that it reads $file itself. Prints the beginning
 * of what it has read, and what both have. Exits with 77 if the kernel tells nothing.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char inside_read[64];
static char first_read[64];
static char second_read[64];
static pthread_t second_thread;
static sem_t listening;
static int listener;

/* Finds the libc's function, not the shim's. */
static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static void read_file(char text[64])
{
    const char *name = getenv("file");
    int fd = name == NULL ? -1 : open(name, O_RDONLY);

    if (fd < 0 || read(fd, text, 63) < 0 || close(fd) != 0)
        perror("set_up_race");
}

static void *second(void *unused)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_nanosleep, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof code[0], code};
    long (*call)(long, ...) = (long (*)(long, ...))next("syscall");

    (void)call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    listener = (int)call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    (void)sem_post(&listening);
    if (listener >= 0)
        read_file(second_read);
    return unused;
}

/* Returns once the second thread sleeps, or has ended. */
static void wait_for_second(void)
{
    struct seccomp_notif told = {0};
    struct seccomp_notif_resp answer = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    struct pollfd ready = {.events = POLLIN};
    long (*call)(long, ...) = (long (*)(long, ...))next("syscall");

    if (pthread_create(&second_thread, NULL, second, NULL) != 0 || sem_wait(&listening) != 0 || listener < 0)
        _exit(77);
    ready.fd = listener;
    if (poll(&ready, 1, -1) == 1 && (ready.revents & POLLIN) &&
        ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &told) == 0) {
        answer.id = told.id;
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    (void)call(SYS_close, listener); /* from now on that call fails there */
}

unsigned long getauxval(unsigned long type)
{
    static int calls;

    if (type == AT_SECURE && __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) == 0) {
        read_file(inside_read);
        wait_for_second();
    }
    return ((unsigned long (*)(unsigned long))next("getauxval"))(type);
}

static void *first(void *unused)
{
    read_file(first_read);
    return unused;
}

__attribute__((constructor)) static void race(void)
{
    pthread_t thread;

    (void)sem_init(&listening, 0, 0);
    if (pthread_create(&thread, NULL, first, NULL) != 0 || pthread_join(thread, NULL) != 0 ||
        pthread_join(second_thread, NULL) != 0)
        _exit(77);
    (void)printf("%.9s, %s, %s", inside_read, first_read, second_read);
    (void)fflush(stdout);
}
