/*
 * Goes through the logs of a history (history.h) and counts events that are impossible on a file
 * that is overwritten atomically.
 *
 *   history_check image|counter LOG...
 *   history_check append FINAL LOG...      FINAL: a copy of what the file holds in the end
 *
 * image, counter: there must be an order of all operations, one after the other, in which each read
 * finds the image of the commit before it, and which keeps real time: an operation that ended
 * before another began comes first. So no read mixes two images, no reader goes back, no reader
 * gets an image that was superseded before the read began, and no commit vanishes. As no two
 * commits have the same name the question is easy (Gibbons and Korach, Testing Shared Memories,
 * 1997): all operations on one name form a cluster, which must happen in one piece. With F the
 * earliest end and S the latest start in it: if F < S, the name is the content all the time from F
 * to S (a forward zone), else all of the cluster can happen at one instant between S and F (a
 * backward zone). An order exists exactly if no two forward zones overlap, no forward zone contains
 * a backward one, and no read ends before its commit starts. counter: besides, no two increments
 * make the same number, and the last number is how many there were.
 *
 * append: every line once, whole, each writer's in order, those of one commit together; every read
 * is a prefix of the final content that ends between two commits, has all lines that were appended
 * before it began and none from after its end.
 *
 * Prints "OPERATIONS VIOLATIONS COMMITS", and on standard error the first violations. COMMITS must
 * be the file's generation.
 */
#include "history.h"

#include <stdlib.h>

enum { REPORTED = 10, WRITERS_MAX = 512 };

struct operation {
    char kind;
    int64_t start, end;
    uint64_t name;     /* append: the writer's first line; a read's length */
    uint64_t last;     /* append: the last line; of a read its hash */
    uint64_t from, to; /* append: where the lines of a commit are */
};

struct history {
    struct operation *operations;
    size_t count, room;
    unsigned long commits, violations;
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void violation(struct history *history, const char *what, const struct operation *operation)
{
    if (history->violations++ < REPORTED)
        fprintf(stderr, "  %s: %c %" PRId64 " %" PRId64 " %" PRIx64 "\n", what, operation->kind,
                operation->start, operation->end, operation->name);
}

static struct operation *add_operation(struct history *history)
{
    if (history->count == history->room) {
        history->room = history->room * 2 + 1024;
        history->operations = realloc(history->operations, history->room * sizeof *history->operations);
        if (history->operations == NULL)
            fail("memory");
    }
    return &history->operations[history->count++];
}

static void parse_line(struct history *history, const char *line, bool append)
{
    struct operation *operation = add_operation(history);
    char text[128] = "";
    unsigned writer;
    bool good = sscanf(line, "%c %" SCNd64 " %" SCNd64 " %127[^\n]", &operation->kind, &operation->start,
                       &operation->end, text) == 4;

    operation->name = operation->last = operation->from = operation->to = 0;
    if (good && operation->kind == 'x') {
        fprintf(stderr, "  failed: %s", line);
        good = false;
    } else if (good && append && operation->kind == 'w') {
        good = sscanf(text, "%u %" SCNu64 " %" SCNu64, &writer, &operation->name, &operation->last) == 3;
        operation->name = name_of(writer, operation->name);
    } else if (good && append)
        good = sscanf(text, "%" SCNu64 " %" SCNu64, &operation->name, &operation->last) == 2;
    else if (good)
        good = sscanf(text, "%" SCNu64, &operation->name) == 1;
    if (!good) {
        violation(history, "failed or torn", operation);
        history->count--;
    } else if (operation->kind == 'w' && operation->end != 0)
        history->commits++;
}

static void read_log(struct history *history, const char *path, bool append)
{
    FILE *log = fopen(path, "re");
    char line[256];

    if (log == NULL)
        fail(path);
    while (fgets(line, sizeof line, log) != NULL)
        parse_line(history, line, append);
    (void)fclose(log);
}

/* ---- image, counter ---- */

struct zone {
    int64_t low, high;
    bool forward;
    const struct operation *commit;
};

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* By name, the commit first. */
static int by_name(const void *a, const void *b)
{
    const struct operation *x = a;
    const struct operation *y = b;

    return x->name != y->name ? compare(x->name, y->name) : (x->kind == 'r') - (y->kind == 'r');
}

static int by_low(const void *a, const void *b)
{
    const struct zone *x = a;
    const struct zone *y = b;

    return compare((uint64_t)x->low, (uint64_t)y->low);
}

/* The zone of the cluster that begins at `first`; returns its number of operations. */
static size_t find_zone(struct history *history, size_t first, struct zone *zone)
{
    const struct operation *commit = &history->operations[first];
    int64_t earliest_end = commit->end;
    int64_t latest_start = commit->start;
    size_t i = first;

    if (commit->kind != 'w')
        violation(history, "nobody wrote that", commit);
    for (; i < history->count && history->operations[i].name == commit->name; i++) {
        const struct operation *operation = &history->operations[i];

        if (operation->kind == 'w' && i != first)
            violation(history, "lost update", operation);
        if (operation->end < commit->start)
            violation(history, "read before it was written", operation);
        if (operation->end < earliest_end)
            earliest_end = operation->end;
        if (operation->start > latest_start)
            latest_start = operation->start;
    }
    *zone = (struct zone){.forward = earliest_end < latest_start, .commit = commit};
    zone->low = zone->forward ? earliest_end : latest_start;
    zone->high = zone->forward ? latest_start : earliest_end;
    return i - first;
}

static void check_order(struct history *history)
{
    struct zone *zones = calloc(history->count + 1, sizeof *zones);
    int64_t covered = -1; /* up to here a forward zone reaches that began before */
    size_t count = 0;

    if (zones == NULL)
        fail("memory");
    qsort(history->operations, history->count, sizeof *history->operations, by_name);
    for (size_t i = 0; i < history->count;)
        i += find_zone(history, i, &zones[count++]);
    qsort(zones, count, sizeof *zones, by_low);
    for (size_t i = 0; i < count; i++) {
        if (zones[i].forward && zones[i].low < covered)
            violation(history, "read again after another image was read", zones[i].commit);
        if (!zones[i].forward && zones[i].high < covered)
            violation(history, "vanished, or read too late", zones[i].commit);
        if (zones[i].forward && zones[i].high > covered)
            covered = zones[i].high;
    }
    free(zones);
}

static void check_count(struct history *history)
{
    const struct operation *last = &history->operations[history->count - 1];

    if (history->count != 0 && last->name != history->commits)
        violation(history, "the counter is not the number of increments", last);
}

/* ---- append ---- */

struct content {
    char *bytes;
    uint64_t size;
};

static struct content read_final(const char *path)
{
    FILE *file = fopen(path, "re");
    struct content content = {0};
    long size;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
        fail(path);
    content.size = (uint64_t)size;
    content.bytes = calloc(1, content.size + 1);
    rewind(file);
    if (content.bytes == NULL || fread(content.bytes, 1, content.size, file) != content.size)
        fail(path);
    (void)fclose(file);
    return content;
}

/* The lines of the final content, by name, with their places. */
struct line {
    uint64_t name, from, to;
};

static int by_line_name(const void *a, const void *b)
{
    return compare(((const struct line *)a)->name, ((const struct line *)b)->name);
}

static struct line *find_lines(struct history *history, const struct content *content, size_t *count)
{
    static uint64_t expected[WRITERS_MAX];
    /* untouched pages cost nothing */
    struct line *lines = calloc(content->size + 1, sizeof *lines);
    const struct operation nowhere = {.kind = '?'};
    char line[LINE_MAX_SIZE];
    char number[64]; /* sscanf() goes to the end of the string that it is given, each time */
    size_t length;

    if (lines == NULL)
        fail("memory");
    *count = 0;
    for (uint64_t at = 0; at < content->size; at += length) {
        const char *start = content->bytes + at;
        const char *newline = memchr(start, '\n', content->size - at);
        unsigned writer = WRITERS_MAX;
        uint64_t sequence = 0;

        length = newline != NULL ? (size_t)(newline - start) + 1 : (size_t)(content->size - at);
        (void)snprintf(number, sizeof number, "%.*s", length < sizeof number ? (int)length : 63, start);
        if (sscanf(number, "%u %" SCNu64 " ", &writer, &sequence) != 2 || writer >= WRITERS_MAX ||
            make_line(line, writer, sequence) != length || memcmp(line, start, length) != 0) {
            violation(history, "a line that nobody wrote", &nowhere);
            continue;
        }
        if (sequence != expected[writer])
            violation(history, "lines lost, doubled or out of order", &nowhere);
        expected[writer] = sequence + 1;
        lines[(*count)++] = (struct line){name_of(writer, sequence), at, at + length};
    }
    qsort(lines, *count, sizeof *lines, by_line_name);
    return lines;
}

/* Finds the lines of each commit, which must be complete and together. */
static void place_commits(struct history *history, const struct line *lines, size_t count)
{
    for (size_t i = 0; i < history->count; i++) {
        struct operation *operation = &history->operations[i];
        uint64_t lines_left = operation->last - (operation->name & ((UINT64_C(1) << 40) - 1)) + 1;
        const struct line key = {.name = operation->name};
        const struct line *line;

        if (operation->kind != 'w')
            continue;
        line = bsearch(&key, lines, count, sizeof *lines, by_line_name);
        if (line == NULL || lines_left > (size_t)(lines + count - line)) {
            violation(history, "lines lost", operation);
            continue;
        }
        operation->from = operation->to = line->from;
        for (; lines_left != 0 && line->from == operation->to; line++, lines_left--)
            operation->to = line->to;
        if (lines_left != 0)
            violation(history, "lines of one commit are not together", operation);
    }
}

static int by_length(const void *a, const void *b)
{
    const struct operation *x = *(const struct operation *const *)a;
    const struct operation *y = *(const struct operation *const *)b;

    return compare(x->name, y->name);
}

static void check_read(struct history *history, const struct operation *read)
{
    for (size_t i = 0; i < history->count; i++) {
        const struct operation *commit = &history->operations[i];

        if (commit->kind != 'w')
            continue;
        if (commit->from < read->name && commit->to > read->name)
            violation(history, "half a commit was read", read);
        if (commit->end < read->start && commit->to > read->name)
            violation(history, "a commit was missed", read);
        if (commit->start > read->end && commit->from < read->name)
            violation(history, "a commit was read before it began", read);
    }
}

static void check_reads(struct history *history, const struct content *content)
{
    const struct operation **reads = calloc(history->count + 1, sizeof(struct operation *));
    uint64_t hash = HASH_START;
    uint64_t hashed = 0;
    size_t count = 0;

    if (reads == NULL)
        fail("memory");
    for (size_t i = 0; i < history->count; i++)
        if (history->operations[i].kind == 'r')
            reads[count++] = &history->operations[i];
    qsort(reads, count, sizeof(struct operation *), by_length);
    for (size_t i = 0; i < count; i++) {
        if (reads[i]->name > content->size) {
            violation(history, "longer than the final content", reads[i]);
            continue;
        }
        hash = hash_bytes(hash, content->bytes + hashed, reads[i]->name - hashed);
        hashed = reads[i]->name;
        if (hash != reads[i]->last)
            violation(history, "not a prefix of the final content", reads[i]);
        check_read(history, reads[i]);
    }
    free(reads);
}

static void check_appends(struct history *history, const char *final)
{
    struct content content = read_final(final);
    size_t count;
    struct line *lines = find_lines(history, &content, &count);

    place_commits(history, lines, count);
    check_reads(history, &content);
    free(lines);
    free(content.bytes);
}

int main(int argc, char *argv[])
{
    struct history history = {0};
    bool append = argc > 1 && strcmp(argv[1], "append") == 0;

    if (argc < (append ? 4 : 3)) {
        fprintf(stderr, "usage: history_check image|counter LOG...\n"
                        "       history_check append FINAL LOG...\n");
        return 2;
    }
    for (int i = append ? 3 : 2; i < argc; i++)
        read_log(&history, argv[i], append);
    if (history.operations == NULL) {
        fprintf(stderr, "history_check: nothing in these logs\n");
        return 2;
    }
    if (append)
        check_appends(&history, argv[2]);
    else
        check_order(&history);
    if (strcmp(argv[1], "counter") == 0)
        check_count(&history);
    printf("%zu %lu %lu\n", history.count, history.violations, history.commits);
    free(history.operations);
    return history.violations != 0;
}
