/*
 * The way back from the sized format to plain (store/export.c): every prefix of its writes, each
 * cut at every 512-byte sector, and power cuts that keep any subset of the unflushed writes, from
 * every state that a commit leaves, dead exports included. A reader finds the content in each state
 * (I2, I5), and the next commit works.
 */
#include "store_disk.h"

#include "store/restamp.h"

/* ---- kills ---- */

static void replay_kills(const struct bytes *base, int from)
{
    struct bytes *state = new_bytes();
    struct bytes *cut_state = new_bytes();

    copy_bytes(state, base);
    for (int i = 0; i < from; i++)
        apply(state, &record.list[i]);
    for (int i = from; i < record.count; i++) {
        const struct operation *operation = &record.list[i];

        if (operation->kind == WRITE)
            for (uint64_t cut = 0; cut < operation->size; cut += SECTOR) {
                copy_bytes(cut_state, state);
                apply_write(cut_state, operation, cut);
                judge(cut_state, one(0), "kill", i, cut);
                result.kills++;
            }
        apply(state, operation);
        judge(state, one(0), "kill after", i, 0);
        result.kills++;
    }
    free(state);
    free(cut_state);
}

/* ---- scenarios ---- */

/* Brings the work file to the scenario's state, with a last commit whose content may be plain. */
static void begin_scenario(const struct scenario *scenario, bool sync, struct bytes *base)
{
    set_up(scenario, sync, base);
    free(contents.list[--contents.count]);
    CHECK_EQUAL(commit(add_plain(scenario->next), sync), 0);
    forget_record();
    get_file(work_file, base);
    base->note = work_note;
}

static void check_is_plain(void)
{
    struct bytes *found = new_bytes();

    get_file(work_file, found);
    CHECK(same_bytes(found, contents.list[0]));
    CHECK_EQUAL(look_at_file(work_file).kind, STORE_PLAIN);
    CHECK(!look_at_file(work_file).edited);
    free(found);
}

static void export_once(const struct scenario *scenario, bool sync)
{
    struct bytes *base = new_bytes();

    begin_scenario(scenario, sync, base);
    CHECK_EQUAL(store_export(work_file, sync), 0);
    if (!result.quiet)
        check_is_plain();
    replay_kills(base, 0);
    if (sync)
        replay_power_cuts(base, 0, one(0));
    free(base);
    tear_down();
}

/* An export after one that died before its `dead_at`th flush. */
static void export_after_a_dead_one(const struct scenario *scenario, int dead_at)
{
    struct bytes *base = new_bytes();
    struct bytes *cache = new_bytes();
    int flushes = 0;
    int from = 0;

    begin_scenario(scenario, true, base);
    CHECK_EQUAL(store_export(work_file, true), 0);
    while (from < record.count &&
           ((record.list[from].kind != FLUSH && record.list[from].kind != SYNC) || ++flushes < dead_at))
        from++;
    while (record.count > from)
        free(record.list[--record.count].data);
    copy_bytes(cache, base);
    for (int i = 0; i < record.count; i++)
        apply(cache, &record.list[i]);
    put_work(cache);
    CHECK_EQUAL(store_export(work_file, true), 0);
    check_is_plain();
    replay_kills(base, from);
    replay_power_cuts(base, from, one(0));
    free(base);
    free(cache);
    tear_down();
}

/* A first commit that died before its last step: its image is the content (ADOPTED). */
static void export_after_a_dead_commit(void)
{
    struct bytes *base = new_bytes();
    struct bytes *cache = new_bytes();
    int flushes = 0;
    int from = 0;

    contents.count = 0;
    (void)add_plain(3000);
    put_work(contents.list[0]);
    get_file(work_file, base);
    base->note = work_note;
    free(contents.list[--contents.count]);
    CHECK_EQUAL(commit(add_plain(5000), true), 0);
    while (from < record.count && (record.list[from].kind != FLUSH || ++flushes < 3))
        from++;
    while (record.count > from - 1) /* the header at 0, too */
        free(record.list[--record.count].data);
    copy_bytes(cache, base);
    for (int i = 0; i < record.count; i++)
        apply(cache, &record.list[i]);
    forget_record();
    put_work(cache);
    copy_bytes(base, cache);
    CHECK(look_at_file(work_file).adopted);
    CHECK_EQUAL(store_export(work_file, true), 0);
    check_is_plain();
    replay_kills(base, 0);
    replay_power_cuts(base, 0, one(0));
    free(base);
    free(cache);
    tear_down();
}

/* A content that would be read as a sized file stays sized: it begins with a header, or ends with a
 * footer. */
static void refuse_what_looks_sized(void)
{
    static const enum filling fillings[] = {TWIN_HEADERS, HEAD_HEADERS, FOOTERS};

    for (size_t i = 0; i < sizeof fillings / sizeof fillings[0]; i++) {
        struct bytes *empty = make_content(LETTERS, 1, 0);

        contents.count = 0;
        contents.filling = fillings[i];
        put_work(empty);
        CHECK_EQUAL(commit(add_content(7, IMAGE_PAGE + IMAGE_HEADER_SIZE), true), 0);
        forget_record();
        CHECK_EQUAL(store_export(work_file, true), -EINVAL);
        CHECK_EQUAL(read_state(), one(0));
        CHECK_EQUAL(record.count, 0);
        free(empty);
        tear_down();
    }
    contents.filling = LETTERS;
}

/* The record of an earlier plain file does not count for the one that an export leaves. */
static void replace_the_record(void)
{
    struct bytes *plain = make_content(LETTERS, 1, 300);

    contents.count = 0;
    put_work(plain);
    CHECK_EQUAL(commit_plain_bytes(work_file, "first", 5, true), 0);
    CHECK_EQUAL(commit(add_plain(700), false), 0);
    CHECK_EQUAL(store_export(work_file, true), 0);
    check_is_plain();
    free(plain);
    tear_down();
}

/* ---- undo: the image before becomes the content again, atomically, too ---- */

static long undone;

static void undo_kills(const struct bytes *base)
{
    struct bytes *state = new_bytes();
    unsigned allowed = one(0) | one(1);

    copy_bytes(state, base);
    for (int i = 0; i < record.count; i++) {
        apply(state, &record.list[i]);
        if (record.list[i].kind == REPORT)
            allowed = one(0);
        judge(state, allowed, "kill after", i, 0);
        result.kills++;
    }
    free(state);
}

static void undo_once(const struct scenario *scenario, bool sync)
{
    struct bytes *base = new_bytes();
    struct store_image image;
    int error;

    set_up(scenario, sync, base);
    CHECK_EQUAL(commit(add_content(60, scenario->next), sync), 0);
    forget_record();
    get_file(work_file, base);
    base->note = work_note;
    error = store_undo(work_file, sync, &image);
    CHECK(error == 0 || error == -ENODATA); /* a first commit, or one that moved the twin place */
    if (error == 0) {
        undone++;
        CHECK(read_state() & one(0));
        (void)add_operation(REPORT, one(0), 0);
        undo_kills(base);
        if (sync)
            replay_power_cuts(base, 0, one(0) | one(1));
        put_work(base);
        CHECK_EQUAL(store_undo(work_file, sync, &image), 0);
        CHECK_EQUAL(store_undo(work_file, sync, &image), 0);
        CHECK(read_state() & one(1)); /* the second leads back */
    }
    free(base);
    tear_down();
}

static void explore_undo(void)
{
    start(false);
    for (size_t i = 0; i < SCENARIOS; i++) {
        forget_seen();
        undo_once(&scenarios[i], true);
        undo_once(&scenarios[i], false);
    }
    report("undo");
    CHECK(undone > 10);
}

static void control(bool *what, const char *name)
{
    start(true);
    *what = true;
    for (size_t i = 0; i < SCENARIOS; i++) {
        forget_seen();
        export_once(&scenarios[i], true);
    }
    *what = false;
    report(name);
    CHECK(result.violations > 0);
}

int main(void)
{
    static const enum filling fillings[] = {LETTERS, TWIN_HEADERS, WHOLE_FILE};

    start_recording();
    explore_undo();
    refuse_what_looks_sized();
    replace_the_record();
    for (size_t f = 0; f < sizeof fillings / sizeof fillings[0]; f++) {
        contents.filling = fillings[f];
        (void)printf("payloads of %s\n", filling_names[contents.filling]);
        start(false);
        for (size_t i = 0; i < SCENARIOS; i++) {
            forget_seen();
            export_once(&scenarios[i], true);
            export_once(&scenarios[i], false);
        }
        report("export");
        for (int flush = 1; flush <= 3; flush++) {
            start(false);
            for (size_t i = 0; i < SCENARIOS; i += 2) {
                forget_seen();
                export_after_a_dead_one(&scenarios[i], flush);
            }
            report("export after one that died before a flush");
        }
        start(false);
        export_after_a_dead_commit();
        report("export after a first commit that died");
    }
    contents.filling = LETTERS;
    control(&record.forget_flushes, "control: no flush");
    return check_result();
}
