#include "cli/inspect.h"

#include "cli/cli.h"
#include "config/config.h"
#include "format/crc32c.h"
#include "os/scratch.h"
#include "store/rendezvous.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOOKS_MAX = 16 }; /* attempts to see a file that is being written at one moment */

static const char *describe_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a folder";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    default:
        return "a device";
    }
}

/* True for a file as those in /proc: it has no size, and yet bytes. */
static bool is_of_kernel(int fd, const struct stat *status)
{
    char byte;

    return status->st_size == 0 && pread(fd, &byte, 1, 0) == 1;
}

int inspect_open(const char *name, int access)
{
    struct stat status;
    int fd = -1;

    /* a look before the open: opening a FIFO or a device has effects of its own */
    if (stat(name, &status) == 0) {
        if (!S_ISREG(status.st_mode)) {
            cli_complain("%s: is %s, not a regular file%s", name, describe_type(status.st_mode),
                         S_ISDIR(status.st_mode) ? " (some commands take -r)" : "");
            return -1;
        }
        fd = open(name, access | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    }
    if (fd < 0 || fstat(fd, &status) != 0)
        cli_complain("%s: %s", *name != '\0' ? name : "''", strerror(errno));
    else if (is_of_kernel(fd, &status))
        cli_complain("%s: is made by the kernel as it is read, not a file on a disk", name);
    else {
        (void)rendezvous_wait(fd, status.st_dev, status.st_ino, inspect_wait().timeout);
        return fd;
    }
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

const char *inspect_error(int error)
{
    return error == -ETIMEDOUT ? "another process keeps it locked" : strerror(-error);
}

struct store_wait inspect_wait(void)
{
    struct config config;

    (void)config_parse(&config, environ, cli_ignore_fault, NULL);
    return (struct store_wait){.timeout = config.lock_timeout};
}

static int check_payload(const struct inspect_file *file, struct inspect_place *place, uint64_t offset)
{
    struct scratch scratch;
    uint64_t done = 0;
    uint32_t crc = 0;
    int error = scratch_take(&scratch, SCRATCH_CHUNK);

    while (error == 0 && done < place->header.size) {
        uint64_t rest = place->header.size - done;
        size_t chunk = rest < SCRATCH_CHUNK ? (size_t)rest : SCRATCH_CHUNK;
        ssize_t n = store_read_at(file->fd, scratch.bytes, chunk, offset + IMAGE_HEADER_SIZE + done);

        if (n > 0)
            crc = crc32c_mixed(crc, scratch.bytes, (size_t)n);
        if (n < (ssize_t)chunk) {
            error = n < 0 ? (int)n : 0;
            break;
        }
        done += chunk;
    }
    scratch_give(&scratch);
    place->payload_good = done >= place->header.size && crc == place->header.payload_crc;
    if (!place->payload_good)
        place->fault = "payload CRC wrong";
    return error;
}

/* Looks at the place at `offset`. Returns 0 or a negative errno. */
static int look_at_place(const struct inspect_file *file, struct inspect_place *place, uint64_t offset)
{
    char bytes[IMAGE_HEADER_SIZE];
    uint64_t length;
    ssize_t n = store_read_at(file->fd, bytes, sizeof bytes, offset);

    *place = (struct inspect_place){.kind = IMAGE_ABSENT, .fault = "no header"};
    if (n < 0)
        return (int)n;
    place->kind = image_decode_header(bytes, (size_t)n, &place->header);
    if (place->kind == IMAGE_TORN)
        place->fault = "header damaged";
    if (place->kind != IMAGE_VALID)
        return 0;
    length = image_length(place->header.size);
    place->fault = NULL;
    if (place->header.generation == 0)
        place->fault = "no image";
    else if (offset + length > file->size)
        place->fault = "image cut off by the end of the file";
    else if (offset == 0 ? length > place->header.twin : place->header.twin != 0)
        place->fault = "header of another place";
    return place->fault == NULL ? check_payload(file, place, offset) : 0;
}

static int look_for_footer(struct inspect_file *file)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_footer footer;
    ssize_t n;

    if (!image_size_possible(file->size))
        return 0;
    n = store_read_at(file->fd, bytes, sizeof bytes, file->size - sizeof bytes);
    if (n < 0)
        return (int)n;
    if (image_decode_footer(bytes, (size_t)n, &footer) == IMAGE_VALID && footer.plain_size <= footer.twin &&
        footer.twin < file->size) {
        file->begun = true;
        file->twin_offset = footer.twin;
    }
    return 0;
}

static int look_at_places(struct inspect_file *file)
{
    struct stat status;
    int error = 0;

    if (fstat(file->fd, &status) != 0)
        return -errno;
    file->size = (uint64_t)status.st_size;
    file->written = status.st_mtime;
    file->begun = false;
    file->twin_offset = 0;
    file->twin = (struct inspect_place){.kind = IMAGE_ABSENT, .fault = "no header"};
    error = look_at_place(file, &file->head, 0);
    if (error == 0 && file->head.kind == IMAGE_VALID)
        file->twin_offset = file->head.header.twin;
    else if (error == 0 && file->head.kind == IMAGE_ABSENT)
        error = look_for_footer(file);
    if (error == 0 && file->twin_offset != 0)
        error = look_at_place(file, &file->twin, file->twin_offset);
    return error;
}

/* Tells whether look_at_places() saw the file in the state in which store_load() found it. */
static bool same_moment(const struct inspect_file *file)
{
    const struct store_image *image = &file->image;
    const struct inspect_place *live = image->place == 0 ? &file->head : &file->twin;

    if (image->kind == STORE_PLAIN)
        return file->head.kind == IMAGE_ABSENT && file->begun == (image->twin != 0);
    return file->twin_offset == image->twin && live->fault == NULL &&
           live->header.generation == image->generation;
}

/* Tells whether the looks agree: on one image, or twice on none that is complete. A read error that
 * passes is no damage. `before`: the error of the look before. */
static bool is_settled(const struct inspect_file *file, int before)
{
    if (file->error == -EIO)
        return before == -EIO;
    return file->error != 0 || same_moment(file);
}

bool inspect_begin(struct inspect_file *file, const char *name)
{
    struct store_wait wait = inspect_wait();
    int error = 0;

    *file = (struct inspect_file){.name = name, .fd = inspect_open(name, O_RDONLY)};
    if (file->fd < 0)
        return false;
    for (int i = 0; i < LOOKS_MAX; i++) {
        int before = file->error;

        file->error = store_load(file->fd, -1, wait, &file->image);
        error = look_at_places(file);
        if (error != 0 || is_settled(file, before))
            break;
    }
    file->damaged = error == 0 && file->error == -EIO && (file->head.kind != IMAGE_ABSENT || file->begun);
    if (error == 0 && !file->damaged)
        error = file->error;
    if (error != 0) {
        cli_complain("%s: %s", name, inspect_error(error));
        inspect_end(file);
    }
    return error == 0;
}

void inspect_end(struct inspect_file *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

void inspect_reason(const struct inspect_file *file, char *text, size_t size)
{
    const char *head = file->head.fault != NULL ? file->head.fault : "complete";
    const char *twin = file->twin.fault != NULL ? file->twin.fault : "complete";

    if (file->head.kind == IMAGE_VALID)
        (void)snprintf(text, size, "no complete image (head: %s, twin: %s)", head, twin);
    else
        (void)snprintf(text, size, "the header at the start of the file is damaged");
}
