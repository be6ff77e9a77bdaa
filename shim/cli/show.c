/* cat, info, verify: show the content and the state of a file. */
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/inspect.h"
#include "cli/json.h"
#include "store/filelock.h"
#include "store/restamp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { REASON_SIZE = 256, TIME_SIZE = 32 };

static const char cat_help[] =
    "usage: atomshim cat [--previous] FILE\n"
    "Prints the content of FILE, whatever its format, as a program under the shim reads it.\n"
    "  --previous   the content before the last commit; only the sized format keeps it\n"
    "Exit status: 0, 1 damaged, no content before, or output not written, 2 wrong usage or FILE cannot be "
    "read.\n"
    "example: atomshim cat /data/app.cfg | diff - app.cfg.expected\n";

static const char info_help[] =
    "usage: atomshim info [-r] [--json] FILE...\n"
    "Shows, one 'key: value' per line, the format, which place is live, generation, sizes, CRCs, last "
    "write.\n"
    "  -r, --recursive   all files below a folder\n"
    "  --json            an object per file, one a line; the fields are in the manual\n"
    "Exit status: 0, 1 damaged, 2 wrong usage or a FILE cannot be read.\n"
    "example: atomshim info /data/app.cfg | sed -n 's/^generation: //p'\n";

static const char verify_help[] =
    "usage: atomshim verify [-r] [-q] [--json] FILE...\n"
    "Checks that each FILE holds a complete image, one line each.\n"
    "  -r, --recursive   all files below a folder\n"
    "  -q, --quiet       only files that are not good\n"
    "  --json            an object per file, one a line; the fields are in the manual\n"
    "Exit status: 0 all good, 1 one is damaged, 2 wrong usage or a FILE cannot be read.\n"
    "example: atomshim verify -r -q /data\n";

/* Writes the `size` bytes of the memfd `from` to stdout. Returns 0 or a positive errno. */
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

/* Says why the file could not be loaded, as the other commands do. */
static int explain_failure(const char *name, int error)
{
    struct inspect_file file;
    char reason[REASON_SIZE];
    int status = CLI_USAGE;

    if (error != -EIO) {
        cli_complain("%s: %s", name, inspect_error(error));
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

/* Loads the image before the live one, and keeps writers out while it looks. */
static int load_previous(int fd, int buffer, struct store_image *image)
{
    struct filelock lock;
    int error = filelock_acquire(&lock, fd, F_RDLCK, inspect_wait().timeout);

    if (error != 0)
        return error;
    error = store_load_previous(fd, buffer, image);
    filelock_release(&lock);
    image->edited = false;
    return error;
}

/* Loads the whole payload before it prints: no part of a torn attempt is ever printed. */
static int cat_open(const char *name, int fd, int buffer)
{
    struct store_image image = {0};
    int error = files_options.previous ? load_previous(fd, buffer, &image)
                                       : store_load(fd, buffer, inspect_wait(), &image);

    if (error == -ENODATA) {
        cli_complain("%s: holds no content before the present one", name);
        return CLI_BAD;
    }
    if (error != 0)
        return explain_failure(name, error);
    error = put_payload(buffer, image.size);
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
    int first = files_first(argc, argv, cat_help, "--previous", &status);
    int fd;
    int buffer;

    if (first < 0)
        return status;
    if (first + 1 < argc) {
        cli_complain("cat: one FILE at a time, not '%s' too", argv[first + 1]);
        return CLI_USAGE;
    }
    fd = inspect_open(argv[first], O_RDONLY);
    if (fd < 0)
        return CLI_USAGE;
    buffer = memfd_create("atomshim-cat", MFD_CLOEXEC);
    if (buffer < 0) {
        cli_complain("memfd_create: %s", strerror(errno));
        status = CLI_USAGE;
    } else {
        status = cat_open(argv[first], fd, buffer);
        (void)close(buffer);
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

static bool is_plain(const struct inspect_file *file)
{
    return !file->damaged && file->image.kind == STORE_PLAIN && !file->begun;
}

static const char *format_name(const struct inspect_file *file)
{
    return file->begun ? "first commit begun" : file->image.kind == STORE_SIZED ? "sized" : "plain";
}

/* Writes the time of the inode's last write: the last commit, unless others write or set the
 * time. */
static void last_write(const struct inspect_file *file, char text[TIME_SIZE])
{
    struct tm tm;

    text[0] = '\0';
    if (gmtime_r(&file->written, &tm) != NULL)
        (void)strftime(text, TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void json_place(const char *which, const struct inspect_place *place)
{
    char name[32];
    char crc[16];

    if (place->kind != IMAGE_VALID || place->header.generation == 0)
        return;
    (void)snprintf(name, sizeof name, "%s_generation", which);
    json_number(name, place->header.generation);
    (void)snprintf(name, sizeof name, "%s_size", which);
    json_number(name, place->header.size);
    (void)snprintf(name, sizeof name, "%s_crc", which);
    (void)snprintf(crc, sizeof crc, "%08" PRIx32, place->header.payload_crc);
    json_text(name, crc);
    (void)snprintf(name, sizeof name, "%s_good", which);
    json_bool(name, place->fault == NULL);
}

static void info_json(const struct inspect_file *file)
{
    const char *live = live_place(file);
    char reason[REASON_SIZE];
    char time[TIME_SIZE];

    inspect_reason(file, reason, sizeof reason);
    last_write(file, time);
    json_begin();
    json_text("file", file->name);
    json_text("format", format_name(file));
    json_text("live", *live == '-' ? NULL : live);
    json_number("generation", file->image.generation);
    json_number("size", file->image.size);
    json_number("file_size", file->size);
    json_number("twin_offset", file->twin_offset);
    json_text("last_write", time);
    json_text("damaged", file->damaged ? reason : NULL);
    if (is_plain(file))
        json_text("bytes", plain_bytes[file->image.bytes]);
    json_place("head", &file->head);
    json_place("twin", &file->twin);
    json_end();
}

static void info_lines(const struct inspect_file *file)
{
    char reason[REASON_SIZE];
    char time[TIME_SIZE];

    last_write(file, time);
    cli_print("file: %s", file->name);
    cli_print("format: %s", format_name(file));
    cli_print("live place: %s", live_place(file));
    cli_print("generation: %" PRIu64, file->image.generation);
    if (file->damaged)
        cli_print("payload size: -");
    else
        cli_print("payload size: %" PRIu64, file->image.size);
    cli_print("file size: %" PRIu64, file->size);
    if (file->twin_offset == 0)
        cli_print("twin offset: -");
    else
        cli_print("twin offset: %" PRIu64, file->twin_offset);
    cli_print("last write: %s", time);
    if (file->damaged) {
        inspect_reason(file, reason, sizeof reason);
        cli_print("damaged: %s", reason);
    }
    if (is_plain(file)) {
        cli_print("crc: %08" PRIx32, file->image.payload_crc);
        cli_print("bytes: %s", plain_bytes[file->image.bytes]);
    }
    print_place("head", &file->head);
    print_place("twin", &file->twin);
}

static int info_file(const char *name)
{
    struct inspect_file file;

    if (!inspect_begin(&file, name))
        return CLI_USAGE;
    if (file.damaged) /* then no image is known to be live */
        file.image = (struct store_image){.kind = STORE_SIZED};
    if (files_options.json)
        info_json(&file);
    else
        info_lines(&file);
    inspect_end(&file);
    return file.damaged ? CLI_BAD : CLI_GOOD;
}

/* Returns true and the reason in `text` if the file is damaged, or false. */
static bool find_fault(const struct inspect_file *file, char text[REASON_SIZE])
{
    if (file->damaged)
        inspect_reason(file, text, REASON_SIZE);
    else if (file->image.bytes == STORE_CUT_SHORT || file->image.bytes == STORE_TORN)
        (void)snprintf(text, REASON_SIZE, "%s", plain_bytes[file->image.bytes]);
    else if (file->image.edited)
        (void)snprintf(text, REASON_SIZE,
                       "the content is generation %" PRIu64 ", the later one was edited (head: %s, twin: %s)",
                       file->image.generation, file->head.fault != NULL ? file->head.fault : "complete",
                       file->twin.fault != NULL ? file->twin.fault : "complete");
    else if (file->image.scratched)
        (void)snprintf(text, REASON_SIZE,
                       "the mark of generation %" PRIu64 " was edited; its content is complete",
                       file->image.generation);
    else
        return false;
    return true;
}

/* True if the content is good, but the image before it, which its writer completed, is not. */
static bool has_bad_previous(const struct inspect_file *file)
{
    const struct inspect_place *other = file->image.place == 0 ? &file->twin : &file->head;

    return file->image.kind == STORE_SIZED && !file->begun && other->fault != NULL &&
           other->kind == IMAGE_VALID && other->header.generation != 0 && other->header.complete;
}

static void verify_json(const struct inspect_file *file, const char *fault)
{
    json_begin();
    json_text("file", file->name);
    json_bool("good", fault == NULL);
    json_text("format", format_name(file));
    json_number("generation", file->damaged ? 0 : file->image.generation);
    json_number("size", file->damaged ? 0 : file->image.size);
    json_text("reason", fault);
    json_bool("previous_damaged", has_bad_previous(file));
    json_end();
}

static void print_good(const struct inspect_file *file, const char *more)
{
    const struct store_image *image = &file->image;

    if (image->kind == STORE_SIZED)
        cli_print("%s: good, sized, generation %" PRIu64 ", %" PRIu64 " bytes%s", file->name,
                  image->generation, image->size, more);
    else if (image->bytes == STORE_UNRECORDED)
        cli_print("%s: good, plain, %" PRIu64 " bytes", file->name, image->size);
    else
        cli_print("%s: good, plain, generation %" PRIu64 ", %" PRIu64 " bytes%s", file->name,
                  image->generation, image->size,
                  image->bytes == STORE_EDITED ? ", edited by another program since" : "");
}

static int verify_file(const char *name)
{
    struct inspect_file file;
    char fault[REASON_SIZE];
    const char *more;
    bool bad;

    if (!inspect_begin(&file, name))
        return CLI_USAGE;
    bad = find_fault(&file, fault);
    more = has_bad_previous(&file) ? "; the content before it is damaged" : "";
    if (files_options.quiet && !bad && *more == '\0')
        ;
    else if (files_options.json)
        verify_json(&file, bad ? fault : NULL);
    else if (bad)
        cli_print("%s: %s: %s", name, is_plain(&file) ? "torn" : "damaged", fault);
    else
        print_good(&file, more);
    inspect_end(&file);
    return bad ? CLI_BAD : CLI_GOOD;
}

int cli_info(int argc, char *argv[])
{
    int status;
    int first = files_first(argc, argv, info_help, "-r --json", &status);

    return first < 0 ? status : files_each(argc, argv, first, info_file);
}

int cli_verify(int argc, char *argv[])
{
    int status;
    int first = files_first(argc, argv, verify_help, "-r -q --json", &status);

    return first < 0 ? status : files_each(argc, argv, first, verify_file);
}
