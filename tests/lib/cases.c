/*
 * Runs each case of the test programs twice, without the shim and with it. Each time the case gets
 * a file with two names that holds "old" and must exit with 0; afterwards the file must be the same
 * inode with the same links (I3), and the folder must hold nothing else. Prints each failure and
 * goes on; the last line counts the cases.
 *
 *     cases [--except REGEX] [--runner "WORD..."] LIBRARY ATOMSHIM FOLDER PROGRAM...
 *
 * REGEX matches "program case" of the cases to leave out. The words of --runner, an emulator with
 * its options, come before each program; they set LD_PRELOAD with the option -E, as qemu-user does,
 * so that the emulator itself does not load the shim.
 */
#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORDS = 32, MAX_NAMES = 1 << 16, CASE_SECONDS = 300 };

static struct {
    const char *library, *atomshim, *folder;
    char *runner[MAX_WORDS]; /* NULL after the last */
    int runner_words;
    regex_t except;
    bool has_except;
} options;

static int cases, failures;

/* ---- processes ---- */

/* Replaces this process by a program, under the runner if there is one. */
static _Noreturn void become(char *const *words, bool shimmed)
{
    char *argv[2 * MAX_WORDS];
    int n = 0;
    char *preload = format("LD_PRELOAD=%s", options.library, NULL);
    char *paths = format("ATOMSHIM_PATHS=%s/", options.folder, NULL);

    for (int i = 0; i < options.runner_words; i++)
        argv[n++] = options.runner[i];
    if (shimmed && options.runner_words != 0) {
        argv[n++] = "-E";
        argv[n++] = preload;
        argv[n++] = "-E";
        argv[n++] = paths;
    } else if (shimmed) {
        (void)putenv(preload);
        (void)putenv(paths);
    }
    while (*words != NULL && n < 2 * MAX_WORDS - 1)
        argv[n++] = *words++;
    argv[n] = NULL;
    if (n != 0)
        (void)execvp(argv[0], argv);
    perror("execvp");
    _exit(126);
}

/* Returns the exit status of a child, or 128 + its signal. Kills a child that takes too long, with
 * its process group. */
static int wait_for(pid_t child)
{
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
    int status;

    if (end.fd >= 0) {
        if (poll(&end, 1, CASE_SECONDS * 1000) == 0) {
            (void)fprintf(stderr, "no end after %d seconds\n", CASE_SECONDS);
            (void)kill(-child, SIGKILL);
        }
        (void)close(end.fd);
    }
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(char *const *words, bool shimmed)
{
    pid_t child = fork();

    if (child < 0)
        die("fork");
    if (child == 0) {
        (void)setpgid(0, 0);
        become(words, shimmed);
    }
    (void)setpgid(child, child);
    return wait_for(child);
}

/* Stores the output of a command, which must succeed; the output must fit. */
static void output_of(char *const *words, bool emulated, char *text, size_t size)
{
    int ends[2];
    size_t length = 0;
    ssize_t n;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) != 0 || (child = fork()) < 0)
        die("pipe");
    if (child == 0) {
        if (!emulated)
            options.runner_words = 0;
        (void)dup2(ends[1], 1);
        become(words, false);
    }
    (void)close(ends[1]);
    while ((n = read(ends[0], text + length, size - 1 - length)) > 0)
        length += (size_t)n;
    (void)close(ends[0]);
    text[length] = '\0';
    if (wait_for(child) != 0 || length == size - 1) {
        (void)fprintf(stderr, "%s: cannot be asked\n", words[0]);
        exit(2);
    }
}

/* ---- one case ---- */

static bool make_file(const char *file, const char *link_name, struct stat *status)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool done = fd >= 0 && write(fd, "old", 3) == 3 && link(file, link_name) == 0 && fstat(fd, status) == 0;

    if (!done)
        die(file);
    (void)close(fd);
    return done;
}

/* Returns a name that a case left in the folder, or NULL. */
static const char *left_behind(void)
{
    static char name[NAME_MAX + 1];
    DIR *folder = opendir(options.folder);
    const struct dirent *entry;

    if (folder == NULL)
        die(options.folder);
    name[0] = '\0';
    while ((entry = readdir(folder)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)snprintf(name, sizeof name, "%s", entry->d_name);
    (void)closedir(folder);
    return name[0] != '\0' ? name : NULL;
}

static bool holds_returned(const char *file)
{
    char text[64];
    char *words[] = {(char *)options.atomshim, "cat", (char *)file, NULL};

    output_of(words, false, text, sizeof text);
    return strcmp(text, "returned") == 0;
}

/* True if the case passed; prints the reason if not. */
static bool passes(const char *program, const char *name, bool shimmed)
{
    char *file = format("%s/%s", options.folder, name);
    char *link_name = format("%s%s", file, ".link2");
    char *words[] = {(char *)program, (char *)name, file, NULL};
    const char *way = shimmed ? "with the shim" : "without the shim";
    struct stat before, after;
    int status;
    const char *wrong = NULL;

    (void)make_file(file, link_name, &before);
    status = run(words, shimmed);
    if (status != 0)
        wrong = "exit status";
    else if (shimmed && strcmp(name, "return") == 0 && !holds_returned(file))
        wrong = "the content that a return from main() leaves";
    else if (stat(file, &after) != 0 || after.st_ino != before.st_ino || after.st_nlink != before.st_nlink)
        wrong = "I3: inode and links";
    (void)unlink(file);
    (void)unlink(link_name);
    if (wrong == NULL && left_behind() != NULL)
        wrong = format("left behind: %s%s", left_behind(), "");
    if (wrong != NULL)
        (void)fprintf(stderr, "%s %s %s: %s (exit status %d)\n", program, name, way, wrong, status);
    free(file);
    free(link_name);
    return wrong == NULL;
}

/* Removes the files that a failed case left, so that the next one stands alone. */
static void clear_folder(void)
{
    char *words[] = {"find", (char *)options.folder, "-mindepth", "1", "-delete", NULL};
    int words_before = options.runner_words;

    options.runner_words = 0;
    if (left_behind() != NULL && run(words, false) != 0)
        exit(2);
    options.runner_words = words_before;
}

static bool is_excepted(const char *program, const char *name)
{
    const char *slash = strrchr(program, '/');
    char *both = format("%s %s", slash != NULL ? slash + 1 : program, name);
    bool excepted = options.has_except && regexec(&options.except, both, 0, NULL, 0) == 0;

    free(both);
    return excepted;
}

static void run_program(const char *program)
{
    static char names[MAX_NAMES];
    char *words[] = {(char *)program, NULL};
    char *rest = names;

    output_of(words, true, names, sizeof names);
    if (names[0] == '\0') {
        (void)fprintf(stderr, "%s has no case\n", program);
        failures++;
    }
    for (char *name = strtok_r(rest, "\n", &rest); name != NULL; name = strtok_r(NULL, "\n", &rest)) {
        if (is_excepted(program, name))
            continue;
        cases++;
        if (!passes(program, name, false) || !passes(program, name, true))
            failures++;
        clear_folder();
    }
}

static void set_runner(char *words)
{
    char *rest = words;

    for (char *word = strtok_r(rest, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (options.runner_words == MAX_WORDS - 1)
            exit(2);
        options.runner[options.runner_words++] = word;
    }
}

int main(int argc, char *argv[])
{
    int at = 1;

    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--except") == 0) {
            options.has_except = regcomp(&options.except, argv[at + 1], REG_EXTENDED | REG_NOSUB) == 0;
            if (!options.has_except)
                exit(2);
        } else if (strcmp(argv[at], "--runner") == 0)
            set_runner(argv[at + 1]);
        else
            break;
    }
    if (argc - at < 4) {
        (void)fputs("usage: cases [--except REGEX] [--runner WORDS] LIBRARY ATOMSHIM FOLDER PROGRAM...\n",
                    stderr);
        return 2;
    }
    options.library = argv[at];
    options.atomshim = argv[at + 1];
    options.folder = argv[at + 2];
    for (at += 3; at < argc; at++)
        run_program(argv[at]);
    (void)printf("%d cases, each without the shim and with it, %d failed\n", cases, failures);
    return failures == 0 ? 0 : 1;
}
