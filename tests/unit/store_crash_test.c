/*
 * Replays every prefix of a commit's writes, each cut at every 512-byte sector, as a kill leaves
 * them in the page cache, and subsets of the unflushed writes, as a power cut leaves them on the
 * disk; with payloads that look like files of ours, too. While recording, I1 is checked on each
 * write. At the end the same machinery must find violations where there are some.
 */
#include "store_disk.h"

/* ---- kills: prefixes of the page cache ---- */

/* `from`: the first operation of the commit that may be killed; the ones before have happened.
 * `old`: the contents that may be read until the commit is reported. */
static void replay_kills(const struct bytes *base, int from, unsigned old)
{
    struct bytes *state = new_bytes();
    struct bytes *cut_state = new_bytes();

    copy_bytes(state, base);
    for (int i = 0; i < record.count; i++) {
        const struct operation *operation = &record.list[i];
        bool dead = i < from;

        if (!dead && operation->kind == WRITE)
            for (uint64_t cut = 0; cut < operation->size; cut += SECTOR) {
                copy_bytes(cut_state, state);
                apply_write(cut_state, operation, cut);
                judge(cut_state, old, "kill", i, cut);
                result.kills++;
            }
        apply(state, operation);
        if (operation->kind == REPORT)
            old = (unsigned)operation->offset;
        if (!dead) {
            judge(state, old, "kill after", i, 0);
            result.kills++;
        }
    }
    free(state);
    free(cut_state);
}

/* ---- I1 on each write ---- */

/* `before` is the file when the commit began. A commit may write an image over itself if it is not
 * known to be on disk. */
static bool writes_the_same(const struct operation *operation, const struct bytes *before)
{
    return operation->offset + operation->size <= before->size &&
           memcmp(before->data + operation->offset, operation->data, operation->size) == 0;
}

static void check_i1(const struct store_image *live, const struct bytes *before, int from, bool sync)
{
    uint64_t start = live->place;
    uint64_t end = live->kind == STORE_PLAIN ? live->size : start + image_length(live->size);
    int flushes = 0;

    for (int i = from; i < record.count; i++) {
        const struct operation *operation = &record.list[i];
        bool mark = operation->kind == WRITE && operation->size == 1;

        if (operation->kind == FLUSH)
            flushes++;
        if (operation->kind == TRUNCATE && operation->offset < end)
            CHECK(flushes >= 1 || !sync); /* the new image is on disk */
        if (operation->kind != WRITE || mark || writes_the_same(operation, before))
            continue;
        if (operation->offset < end && operation->offset + operation->size > start)
            /* footer and new image are on disk */
            CHECK(live->kind == STORE_PLAIN && (flushes >= 2 || !sync));
        if (live->kind == STORE_SIZED && sync && !live->flushed && operation->size != IMAGE_HEADER_SIZE)
            CHECK(flushes >= 1);
    }
}

/* ---- scenarios ---- */

/* Commits a new content, and reports it. */
static void commit_and_report(unsigned seed, uint64_t size, bool sync)
{
    int content = add_content(seed, size);

    CHECK_EQUAL(commit(content, sync), 0);
    (void)add_operation(REPORT, one(content), 0);
}

/* Tests one commit to a file that is on disk. */
static void one_commit(const struct scenario *scenario, bool sync)
{
    struct bytes *base = new_bytes();
    struct store_image live;

    set_up(scenario, sync, base);
    live = look_at_file(work_file);
    commit_and_report(50, scenario->next, sync);
    if (contents.format == SIZED)
        CHECK_EQUAL(look_at_file(work_file).flushed, sync);
    if (!result.quiet && contents.format == SIZED)
        check_i1(&live, base, 0, sync);
    replay_kills(base, 0, since(0));
    if (sync)
        replay_power_cuts(base, 0, since(0));
    free(base);
    tear_down();
}

/* Cuts the record off at operation `from`, of which `cut` bytes stay, and brings the work file to
 * that state. */
static void die_at(int from, uint64_t cut, const struct bytes *base, struct bytes *cache)
{
    while (record.count > from + (cut != 0))
        free(record.list[--record.count].data);
    if (cut != 0)
        record.list[from].size = cut;
    copy_bytes(cache, base);
    for (int i = 0; i < record.count; i++)
        apply(cache, &record.list[i]);
    put_work(cache);
}

/*
 * A commit whose writer died before its `dead_at`th flush, then one by the next writer. `mark`: a
 * control, the dead writer marks its image as flushed.
 */
static void commit_after_a_dead_one(const struct scenario *scenario, int dead_at, bool mark)
{
    struct bytes *base = new_bytes();
    struct bytes *cache = new_bytes();
    struct store_image live;
    int flushes = 0;
    int from = 0;
    unsigned old;

    set_up(scenario, true, base);
    CHECK_EQUAL(commit(add_content(40, scenario->next), true), 0);
    while (from < record.count &&
           ((record.list[from].kind != FLUSH && record.list[from].kind != SYNC) || ++flushes < dead_at))
        from++;
    die_at(from, 0, base, cache);
    old = read_state();
    CHECK(old != 0);
    live = look_at_file(work_file);
    if (mark && live.kind == STORE_SIZED) {
        char plus = IMAGE_MARK_FLUSHED;

        CHECK_EQUAL(recording_pwrite(work_file, &plus, 1, live.place + IMAGE_MARK_OFFSET), 1);
        live.flushed = true;
        from++;
    }
    commit_and_report(60, scenario->next + 300, true);
    if (!mark && contents.format == SIZED)
        check_i1(&live, cache, from, true);
    replay_kills(base, from, old | one(2));
    replay_power_cuts(base, from, since(0));
    free(base);
    free(cache);
    tear_down();
}

/* A large first commit that died in the middle of its image, then a smaller one, which may overlap
 * the place of the first: no reader ever gets the remains or parts of a payload. */
static void commit_after_a_torn_one(const struct scenario *scenario, uint64_t next)
{
    struct bytes *base = new_bytes();
    struct bytes *cache = new_bytes();
    const uint64_t size = 20000;

    for (uint64_t cut = SECTOR; cut < size; cut += size / 8 / SECTOR * SECTOR) {
        int from = 0;

        set_up(scenario, true, base);
        CHECK_EQUAL(commit(add_content(40, size), true), 0);
        while (from < record.count && (record.list[from].kind != WRITE || record.list[from].size < size))
            from++;
        CHECK(from < record.count);
        die_at(from, cut, base, cache);
        CHECK_EQUAL(look_at_file(work_file).kind, STORE_PLAIN);
        CHECK(look_at_file(work_file).twin != 0);
        commit_and_report(60, next, true);
        replay_kills(base, from + 1, one(0) | one(2));
        replay_power_cuts(base, from + 1, one(0) | one(2));
        tear_down();
    }
    free(base);
    free(cache);
}

/* A power cut left the note of a first commit and the size for its footer; then comes the next
 * commit. */
static void commit_after_a_cut(const struct scenario *scenario)
{
    struct bytes *base = new_bytes();
    int at = 0;

    set_up(scenario, true, base);
    CHECK_EQUAL(commit(add_content(40, scenario->next + 5000), true), 0);
    while (at < record.count && record.list[at].kind != WRITE)
        apply(base, &record.list[at++]);
    CHECK(at < record.count);
    resize(base, record.list[at].offset + record.list[at].size);
    forget_record();
    put_work(base);
    CHECK(look_at_file(work_file).blank);
    commit_and_report(60, scenario->next, true);
    replay_kills(base, 0, one(0) | one(2));
    replay_power_cuts(base, 0, one(0) | one(2));
    free(base);
    tear_down();
}

static void naive_overwrite(void)
{
    struct bytes *base = make_content(LETTERS, 1, 6000);

    contents.count = 0;
    (void)add_content(1, 6000);
    (void)add_content(2, 6000);
    put_work(base);
    CHECK_EQUAL(recording_pwrite(work_file, contents.list[1]->data, 6000, 0), 6000);
    replay_kills(base, 0, since(0));
    free(base);
    tear_down();
}

static void controls(void)
{
    start(true);
    naive_overwrite();
    report("control: overwritten in place");
    CHECK(result.violations > 0);

    start(true);
    record.forget_flushes = true;
    for (size_t i = 0; i < SCENARIOS; i++) {
        forget_seen();
        one_commit(&scenarios[i], true);
    }
    record.forget_flushes = false;
    report("control: no flush");
    CHECK(result.violations > 0);

    start(true);
    record.forget_notes = true;
    for (size_t i = 0; i < SCENARIOS; i++) {
        forget_seen();
        one_commit(&scenarios[i], true);
    }
    record.forget_notes = false;
    report("control: sizes before their data, and no notes");
    CHECK(result.violations > 0);

    start(true);
    for (size_t i = 7; i < SCENARIOS; i++) {
        forget_seen();
        commit_after_a_dead_one(&scenarios[i], 1, true);
    }
    report("control: marked, but not flushed");
    CHECK(result.violations > 0);
}

/* Commits to the plain format, on the same disk, leave the old or the new content, never a
 * mixture. */
static void plain_format(void)
{
    contents.format = PLAIN;
    for (int i = 0; i < 2; i++) {
        contents.filling = i == 0 ? LETTERS : RECORDS;
        for (size_t k = 0; k < PLAIN_SCENARIOS; k++) {
            start(false);
            one_commit(&plain_scenarios[k], true);
            one_commit(&plain_scenarios[k], false);
            report(plain_scenarios[k].name);
        }
        for (int flush = 1; flush <= 2; flush++) {
            start(false);
            for (size_t k = 0; k < PLAIN_SCENARIOS; k++) {
                forget_seen();
                commit_after_a_dead_one(&plain_scenarios[k], flush, false);
            }
            report(flush == 1 ? "plain, after a writer died before its sync"
                              : "plain, after a writer died before its flush");
        }
    }
    contents.filling = LETTERS;
}

/* The first commit in the sized format to a file that has seen plain commits, and has their
 * record. */
static void sized_after_plain(const struct scenario *scenario)
{
    struct bytes *base = new_bytes();

    contents.format = PLAIN;
    set_up(scenario, true, base);
    contents.format = SIZED;
    commit_and_report(50, scenario->next, true);
    CHECK_EQUAL(look_at_file(work_file).generation, 1);
    CHECK_EQUAL(work_note.size, 0);
    replay_kills(base, 0, since(0));
    replay_power_cuts(base, 0, since(0));
    free(base);
    tear_down();
}

/* A control: violations must be found with a step left out. */
static void plain_control(bool *what, const char *name)
{
    start(true);
    *what = true;
    for (size_t k = 0; k < PLAIN_SCENARIOS; k++) {
        forget_seen();
        one_commit(&plain_scenarios[k], true);
    }
    *what = false;
    report(name);
    CHECK(result.violations > 0);
}

static void plain_controls(void)
{
    plain_control(&record.forget_flushes, "control: plain, no flush");
    plain_control(&record.forget_syncs, "control: plain, no sync of the record");
    plain_control(&record.forget_notes, "control: plain, no record");
    contents.format = SIZED;
}

/* All scenarios of the sized format, with one filling of the payloads. */
static void sized_format(void)
{
    static const char *const dead[] = {"after a writer died before flush 1",
                                       "after a writer died before flush 2",
                                       "after a writer died before flush 3"};

    for (size_t i = 0; i < SCENARIOS; i++) {
        start(false);
        one_commit(&scenarios[i], true);
        one_commit(&scenarios[i], false);
        report(scenarios[i].name);
    }
    for (int flush = 1; flush <= 3; flush++) {
        start(false);
        for (size_t i = 0; i < SCENARIOS; i++) {
            forget_seen();
            commit_after_a_dead_one(&scenarios[i], flush, false);
        }
        report(dead[flush - 1]);
    }
    start(false);
    for (size_t i = 0; i < SCENARIOS && scenarios[i].commits == 0; i++) {
        forget_seen();
        commit_after_a_torn_one(&scenarios[i], scenarios[i].next);
        forget_seen();
        commit_after_a_torn_one(&scenarios[i], 16000);
    }
    report("after a writer died within a large first image");
    start(false);
    for (size_t i = 0; i < SCENARIOS && scenarios[i].commits == 0; i++) {
        forget_seen();
        commit_after_a_cut(&scenarios[i]);
    }
    report("after a power cut that left the size alone");
}

int main(void)
{
    start_recording();
    plain_format();
    plain_controls();
    start(false);
    for (size_t i = 0; i < PLAIN_SCENARIOS; i++) {
        forget_seen();
        sized_after_plain(&plain_scenarios[i]);
    }
    report("sized, after commits to the plain format");
    for (enum filling filling = 0; filling < FILLINGS; filling++) {
        contents.filling = filling;
        (void)printf("payloads of %s\n", filling_names[filling]);
        sized_format();
    }
    contents.filling = LETTERS;
    controls();
    return check_result();
}
