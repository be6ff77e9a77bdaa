/* cat, info, verify: what a file holds. */
#include "cli/cli.h"
#include "cli/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REASON_SIZE = 256 };

static const char cat_help[] =
    "usage: atomshim cat FILE\n"
    "Prints the content of FILE, whatever its format, as a program under the shim reads it.\n"
    "Exit status: 0, 1 damaged or output not written, 2 wrong usage or FILE cannot be read.\n"
    "example: atomshim cat /data/app.cfg | diff - app.cfg.expected\n";

static const char info_help[] =
    "usage: atomshim info FILE...\n"
    "Shows, one 'key: value' per line, the format, which place is live, generation, sizes and CRCs.\n"
    "Exit status: 0, 1 damaged, 2 wrong usage or a FILE cannot be read.\n"
    "example: atomshim info /data/app.cfg | sed -n 's/^generation: //p'\n";

static const char verify_help[] =
    "usage: atomshim verify FILE...\n"
    "Checks that each FILE holds a complete image, one line each.\n"
    "Exit status: 0 all good, 1 one is damaged, 2 wrong usage or a FILE cannot be read.\n"
    "example: atomshim verify /data/*.cfg\n";

/*
 * These commands know no option but --help. Returns the index of the first file, or -1 with *status
 * set when there is nothing more to do.
 */
static int first_file(int argc, char *argv[], const char *help, int *status)
{
    int first = 1;

    *status = CLI_USAGE;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        *status = cli_help(help);
        return -1;
    }
    if (argc > 1 && strcmp(argv[1], "--") == 0)
        first = 2;
    else if (argc > 1 && argv[1][0] == '-') {
        cli_complain("%s: unknown option '%s': accepted are FILE names and --help", argv[0], argv[1]);
        return -1;
    }
    if (first < argc)
        return first;
    cli_complain("%s: no FILE given", argv[0]);
    return -1;
}

/* The graver of two exit statuses. */
static int graver(int a, int b)
{
    return a > b ? a : b;
}

/* Writes the `size` bytes of the memory file `from` to stdout. Returns 0 or a positive errno. */
static int put_payload(int from, uint64_t size)
{
    const char *bytes;
    uint64_t done = 0;
    int error = 0;

    if (size == 0)
        return 0;
    bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, from, 0);
    if (bytes == MAP_FAILED)
        return errno;
    while (error == 0 && done < size) {
        ssize_t n = write(STDOUT_FILENO, bytes + done, size - done);

        if (n >= 0)
            done += (uint64_t)n;
        else if (errno != EINTR)
            error = errno;
    }
    (void)munmap((void *)bytes, size);
    return error;
}

/* The file was not loaded: says why, as the other commands do. */
static int explain(const char *name, int error)
{
    struct inspect_file file;
    char reason[REASON_SIZE];
    int status = CLI_USAGE;

    if (error != -EIO) {
        cli_complain("%s: %s", name, error == -ETIMEDOUT ? "writers keep it locked" : strerror(-error));
        return CLI_USAGE;
    }
    if (!inspect_begin(&file, name))
        return CLI_USAGE;
    if (file.damaged) {
        inspect_reason(&file, reason, sizeof reason);
        cli_complain("%s: damaged: %s", name, reason);
        status = CLI_BAD;
    } else
        cli_complain("%s: %s", name, strerror(EIO));
    inspect_end(&file);
    return status;
}

/* The whole payload goes into memory first, so that nothing of a torn attempt is ever printed. */
static int cat_open(const char *name, int fd, int memory)
{
    struct store_image image;
    int error = store_load(fd, memory, inspect_wait(), &image);

    if (error != 0)
        return explain(name, error);
    error = put_payload(memory, image.size);
    if (image.edited)
        cli_complain("%s: the latest content is damaged; this is the one before it", name);
    if (error == 0 && close(STDOUT_FILENO) != 0)
        error = errno;
    if (error == 0)
        return image.edited ? CLI_BAD : CLI_GOOD;
    cli_complain("cannot write to standard output: %s", strerror(error));
    return CLI_BAD;
}

int cli_cat(int argc, char *argv[])
{
    int status;
    int first = first_file(argc, argv, cat_help, &status);
    int fd;
    int memory;

    if (first < 0)
        return status;
    if (first + 1 < argc) {
        cli_complain("cat: one FILE at a time, not '%s' too", argv[first + 1]);
        return CLI_USAGE;
    }
    fd = inspect_open(argv[first]);
    if (fd < 0)
        return CLI_USAGE;
    memory = memfd_create("atomshim-cat", MFD_CLOEXEC);
    if (memory < 0) {
        cli_complain("no memory file: %s", strerror(errno));
        status = CLI_USAGE;
    } else {
        status = cat_open(argv[first], fd, memory);
        (void)close(memory);
    }
    (void)close(fd);
    return status;
}

static const char *good_or_bad(bool good)
{
    return good ? "good" : "bad";
}

static void print_place(const char *which, const struct inspect_place *place)
{
    const struct image_header *header = &place->header;

    if (place->kind == IMAGE_ABSENT)
        return;
    cli_print("header %s: %s", which, good_or_bad(place->kind == IMAGE_VALID));
    if (place->kind != IMAGE_VALID)
        return;
    cli_print("generation %s: %" PRIu64, which, header->generation);
    if (header->generation == 0) /* a header that only names the twin place */
        return;
    cli_print("size %s: %" PRIu64, which, header->size);
    cli_print("crc %s: %08" PRIx32 " %s", which, header->payload_crc, good_or_bad(place->payload_good));
    cli_print("flushed %s: %s", which, header->flushed ? "yes" : "no");
}

static const char *live_place(const struct inspect_file *file)
{
    if (file->damaged || file->image.kind == STORE_PLAIN)
        return "-";
    return file->image.place == 0 ? "head" : "twin";
}

static const char *const plain_bytes[] = {
    [STORE_UNRECORDED] = "no commit to this file is on record",
    [STORE_CONTENT] = "as the last commit left them",
    [STORE_EDITED] = "edited by another program since the last commit",
    [STORE_CUT_SHORT] =
        "a mixture: a commit was cut short; the content is whole, and 'atomshim recover' mends the file",
    [STORE_TORN] =
        "perhaps a mixture: a commit that nothing protected was cut short, or another program wrote",
};

static int info(const char *name)
{
    struct inspect_file file;
    char reason[REASON_SIZE];

    if (!inspect_begin(&file, name))
        return CLI_USAGE;
    if (file.damaged) /* then nothing of it is live, and nothing of it is known */
        file.image = (struct store_image){.kind = STORE_SIZED};
    cli_print("file: %s", name);
    cli_print("format: %s", file.begun                       ? "first commit begun"
                            : file.image.kind == STORE_SIZED ? "sized"
                                                             : "plain");
    cli_print("live place: %s", live_place(&file));
    cli_print("generation: %" PRIu64, file.image.generation);
    if (file.damaged)
        cli_print("payload size: -");
    else
        cli_print("payload size: %" PRIu64, file.image.size);
    cli_print("file size: %" PRIu64, file.size);
    if (file.twin_offset == 0)
        cli_print("twin offset: -");
    else
        cli_print("twin offset: %" PRIu64, file.twin_offset);
    if (file.damaged) {
        inspect_reason(&file, reason, sizeof reason);
        cli_print("damaged: %s", reason);
    }
    if (!file.damaged && file.image.kind == STORE_PLAIN && !file.begun) {
        cli_print("crc: %08" PRIx32, file.image.payload_crc);
        cli_print("bytes: %s", plain_bytes[file.image.bytes]);
    }
    print_place("head", &file.head);
    print_place("twin", &file.twin);
    inspect_end(&file);
    return file.damaged ? CLI_BAD : CLI_GOOD;
}

/* Returns the exit status of verify for a plain file, after its line. */
static int verify_plain(const char *name, const struct store_image *image)
{
    bool bad = image->bytes == STORE_CUT_SHORT || image->bytes == STORE_TORN;

    if (bad)
        cli_print("%s: torn: %s", name, plain_bytes[image->bytes]);
    else if (image->bytes == STORE_UNRECORDED)
        cli_print("%s: good, plain, %" PRIu64 " bytes", name, image->size);
    else
        cli_print("%s: good, plain, generation %" PRIu64 ", %" PRIu64 " bytes%s", name, image->generation,
                  image->size, image->bytes == STORE_EDITED ? ", edited by another program since" : "");
    return bad ? CLI_BAD : CLI_GOOD;
}

static int verify(const char *name)
{
    struct inspect_file file;
    char reason[REASON_SIZE];
    int status = CLI_GOOD;

    if (!inspect_begin(&file, name))
        return CLI_USAGE;
    if (file.damaged) {
        inspect_reason(&file, reason, sizeof reason);
        cli_print("%s: damaged: %s", name, reason);
    } else if (file.image.edited) {
        cli_print("%s: damaged: the content is generation %" PRIu64
                  ", the later one was edited (head: %s, twin: %s)",
                  name, file.image.generation, file.head.fault != NULL ? file.head.fault : "complete",
                  file.twin.fault != NULL ? file.twin.fault : "complete");
    } else if (file.image.scratched) {
        cli_print("%s: damaged: the mark of generation %" PRIu64 " was edited; its content is complete", name,
                  file.image.generation);
    } else if (file.image.kind == STORE_SIZED)
        cli_print("%s: good, sized, generation %" PRIu64 ", %" PRIu64 " bytes", name, file.image.generation,
                  file.image.size);
    else
        status = verify_plain(name, &file.image);
    inspect_end(&file);
    return status != CLI_GOOD || file.damaged || file.image.edited || file.image.scratched ? CLI_BAD
                                                                                           : CLI_GOOD;
}

static int for_each_file(int argc, char *argv[], const char *help, int (*show)(const char *name))
{
    int status;
    int first = first_file(argc, argv, help, &status);

    if (first < 0)
        return status;
    status = CLI_GOOD;
    for (int i = first; i < argc; i++)
        status = graver(status, show(argv[i]));
    return cli_finish(status);
}

int cli_info(int argc, char *argv[])
{
    return for_each_file(argc, argv, info_help, info);
}

int cli_verify(int argc, char *argv[])
{
    return for_each_file(argc, argv, verify_help, verify);
}
