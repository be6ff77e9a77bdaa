/*
 * A disk that fails, a writer that is killed and a power cut, together: a commit of which calls
 * fail (above all its flush, after which the kernel calls pages clean that are not on disk), then
 * one that may be killed at any of its calls, then one of which a call may fail again; and the
 * power is cut after any call. A reader finds the image that was last reported as committed, or a
 * later one; and no image of a commit that failed, unless the disk failed again on the way back
 * (I4, I5). Every commit without a failing call succeeds.
 */
#include "store_disk.h"

/* The faults of the three commits. */
struct fate {
    int fail_at; /* the first one's call, from 1 */
    enum after after;
    int drop;    /* 0: the clean pages stay in the cache after that */
    int kill_at; /* the second one's call, from 0; -1: it is not killed, and there is no third */
};

/* The test takes one out of so many fates with a kill, by chance; with an argument, all. */
static int thinning = 12;
static long commits;

/* Makes one commit. `allowed` are the contents that may be read before it. Returns the contents
 * that may be read after it, and reports them. */
static unsigned commit_and_report(int content, unsigned allowed)
{
    int outcome;

    (void)add_operation(REPORT, allowed | one(content), 0);
    outcome = commit(content, true);
    commits++;
    if (outcome == 0)
        allowed = one(content);
    else if (record.failures > 1)
        allowed |= one(content);
    if (outcome != 0 && record.failures == 0)
        violation("a commit failed for no reason", "", record.count, 0);
    (void)add_operation(REPORT, allowed, 0);
    return allowed;
}

/* Brings the work file to the state of the page cache after the first `count` operations. */
static void die_at(int count, const struct bytes *base)
{
    while (record.count > count)
        free(record.list[--record.count].data);
    power_start(base);
    for (int i = 0; i < record.count; i++)
        power_apply(&record.list[i]);
    put_work(&power.cache);
}

static void drop_pages(int seed, const struct bytes *base)
{
    if (seed == 0)
        return;
    (void)add_operation(DROP, (uint64_t)seed - 1, 0);
    die_at(record.count, base);
}

/* False if there is no such call to fail, or to be killed at. */
static bool explore(const struct scenario *scenario, struct fate fate)
{
    static struct bytes base;
    unsigned allowed;
    int from = 0;
    bool there;

    set_up(scenario, true, &base);
    prepare_fault(fate.fail_at, fate.after);
    allowed = commit_and_report(add_content(40, scenario->next), one(0));
    there = record.failures != 0;
    if (there) {
        prepare_fault(0, NO_MORE);
        drop_pages(fate.drop, &base);
        if (fate.kill_at >= 0)
            from = record.count + 1 + fate.kill_at;
        (void)commit_and_report(add_content(60, scenario->next + 300), allowed);
        there = from < record.count - 1;
    }
    if (there && fate.kill_at >= 0) {
        allowed |= one(2); /* the second died: its content may be there or not */
        die_at(from, &base);
        prepare_fault(rand() % 12, (enum after)(rand() % 3));
        allowed = commit_and_report(add_content(70, scenario->next / 2 + 200), allowed);
        prepare_fault(0, NO_MORE);
        drop_pages(rand() % 4, &base);
        (void)commit_and_report(add_content(80, 2 * scenario->next + 10), allowed);
    }
    if (there)
        replay_power_cuts(&base, from, since(0));
    tear_down();
    return there;
}

/* Every call of the first commit fails, alone and with all that follow; every call of the second
 * is its last. */
static void explore_all(const struct scenario *scenario)
{
    struct fate fate = {.fail_at = 1};

    forget_seen();
    for (bool there = true; there; fate.fail_at++)
        for (int mode = 0; mode < 3 * 3; mode++) {
            fate.after = (enum after)(mode % 3);
            fate.drop = mode / 3;
            fate.kill_at = -1;
            there = explore(scenario, fate);
            for (fate.kill_at = rand() % thinning; there && explore(scenario, fate);
                 fate.kill_at += 1 + rand() % thinning)
                continue;
        }
}

static void control(const char *name, bool *what)
{
    start(true);
    *what = true;
    for (size_t i = 0; i < SCENARIOS && result.violations == 0; i++)
        explore_all(&scenarios[i]);
    *what = false;
    report(name);
    CHECK(result.violations > 0);
}

/* The plain format, by the same disk. */
static long plain_format(void)
{
    long judged = 0;

    contents.format = PLAIN;
    contents.filling = LETTERS;
    for (size_t i = 0; i < PLAIN_SCENARIOS; i++) {
        if (plain_scenarios[i].next > 3000 || plain_scenarios[i].plain > 3000)
            continue; /* too large for a record of the way back */
        start(false);
        explore_all(&plain_scenarios[i]);
        report(plain_scenarios[i].name);
        judged += result.judged;
    }
    contents.format = SIZED;
    return judged;
}

int main(int argc, char **argv)
{
    long judged = 0;

    (void)argv;
    if (argc > 1)
        thinning = 1;
    start_recording();
    judged += plain_format();
    for (size_t i = 0; i < SCENARIOS; i++) {
        start(false);
        contents.filling = (enum filling)(i % FILLINGS);
        explore_all(&scenarios[i]);
        report(scenarios[i].name);
        judged += result.judged;
    }
    (void)printf("%ld commits, %ld different states\n", commits, judged);
    CHECK(judged > 10000);
    contents.filling = LETTERS;
    control("control: a flush that fails says that it did not", &record.lie);
    control("control: what a failed flush left is not written again", &record.skip_rewrites);
    control("control: no flush on the way back", &record.skip_way_back);
    return check_result();
}
