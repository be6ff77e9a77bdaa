/* Whom a guardian watches, and what it decides. */
#include "guardian/post.h"

#include "guardian/holders.h"
#include "os/descriptor.h"

enum {
    SURE = 2, /* looks in a row that say that nobody without the shim is left: descriptors move */
    ANCESTORS_MAX = 8,
    DOUBT = 500 * 1000 * 1000, /* nanoseconds */
};

/* ---- who is watched ---- */

/* Returns false if it is gone. */
static bool watch(struct post *post, struct duty *duty, int number, bool covered)
{
    struct watched watched = {.duty = duty, .covered = covered, .holds = true};

    if (post->watched_count == GUARDIAN_WATCHED_MAX) {
        duty->stays = true;
        return true;
    }
    if (!process_open(&watched.process, number))
        return false;
    post->watched[post->watched_count++] = watched;
    return true;
}

static bool is_of(const struct watched *watched, const struct duty *duty)
{
    return watched->duty == duty;
}

static bool is_uncovered(const struct watched *watched, const struct duty *duty)
{
    return is_of(watched, duty) && !watched->covered;
}

static bool has_closed(const struct watched *watched, const struct duty *duty)
{
    return is_of(watched, duty) && watched->covered && watched->closed;
}

static bool is_dead_and_covered(const struct watched *watched, const struct duty *duty)
{
    return is_of(watched, duty) && watched->covered && watched->ended;
}

/* Of the first `count` those that are so. */
static void unwatch(struct post *post, const struct duty *duty, size_t count,
                    bool (*is_so)(const struct watched *watched, const struct duty *duty))
{
    size_t left = 0;

    for (size_t i = 0; i < post->watched_count; i++)
        if (i < count && is_so(&post->watched[i], duty))
            process_close(&post->watched[i].process);
        else
            post->watched[left++] = post->watched[i];
    post->watched_count = left;
}

static bool is_ending(const struct process *process)
{
    struct process_stat stat;

    return process_has_ended(process) || (process_stat(process->number, &stat) == 0 && stat.exiting);
}

/* A process that ends closes one descriptor after the other: who saw one closed is not to come too early for the others. */
static bool has_ended(const struct watched *watched)
{
    struct process_stat stat;

    for (int i = 0; i < GUARDIAN_ENDINGS_MAX; i++) {
        if (process_has_ended(&watched->process))
            return true;
        if (process_stat(watched->process.number, &stat) != 0 || !stat.exiting)
            return false;
        sys_sleep(GUARDIAN_ENDING_PAUSE);
    }
    return false;
}

void guardian_note_ends(struct post *post)
{
    for (size_t i = 0; i < post->watched_count; i++)
        post->watched[i].ended = has_ended(&post->watched[i]);
}

/*
 * The last descriptor is gone. It was not closed if all that had it without the shim were killed. Nor if one with the
 * shim was, as far as we know the last of all: had it lived, it would have committed, or seen that there are others.
 */
enum verdict { VERDICT_COMMIT, VERDICT_DROP, VERDICT_UNKNOWN };

static enum verdict judge(const struct post *post, const struct duty *duty)
{
    size_t uncovered = 0;
    size_t killed = 0;
    size_t unknown = 0;

    for (size_t i = 0; i < post->watched_count; i++) {
        const struct watched *watched = &post->watched[i];
        enum process_end end;

        if (watched->duty != duty)
            continue;
        end = process_how_ended(&watched->process);
        /* one that was not killed has committed what it closed as the last */
        if (watched->covered && (end == PROCESS_KILLED || (end == PROCESS_UNKNOWN && duty->covered_alone)))
            return VERDICT_DROP;
        uncovered += !watched->covered;
        killed += !watched->covered && end == PROCESS_KILLED;
        unknown += !watched->covered && end == PROCESS_UNKNOWN;
    }
    if (uncovered != 0 && killed == uncovered)
        return VERDICT_DROP;
    return unknown != 0 && killed + unknown == uncovered ? VERDICT_UNKNOWN : VERDICT_COMMIT;
}

/* Looks who of those that are watched holds it still. Returns whether one does. */
static bool look_at_watched(struct post *post, struct duty *duty)
{
    bool any = false;

    for (size_t i = 0; i < post->watched_count; i++) {
        struct watched *watched = &post->watched[i];
        enum holder holder = HOLDER_UNCOVERED;

        if (watched->duty != duty)
            continue;
        if (!watched->ended && post->sees)
            holder = holders_look(watched->process.number, duty->session, !watched->covered);
        duty->stays |= holder == HOLDER_HIDDEN && !watched->covered;
        watched->holds = !watched->ended && holder != HOLDER_NONE && holder != HOLDER_KEEPER;
        watched->closed = !watched->holds && !is_ending(&watched->process);
        any |= watched->holds;
    }
    return any;
}

/* Does one without the shim still hold it, of those that did? */
static bool is_one_left(const struct post *post, const struct duty *duty)
{
    for (size_t i = 0; i < post->watched_count; i++)
        if (is_uncovered(&post->watched[i], duty) && post->watched[i].holds)
            return true;
    return false;
}

/* ---- the decision ---- */

struct found {
    struct post *post;
    struct duty *duty;
    enum holders_scope scope;
    size_t covered;
    size_t uncovered;
    size_t hidden;
    size_t dying;
};

static bool is_watched(const struct post *post, const struct duty *duty, int number, bool covered_only)
{
    for (size_t i = 0; i < post->watched_count; i++)
        if (is_of(&post->watched[i], duty) && post->watched[i].process.number == number &&
            (post->watched[i].covered || !covered_only))
            return true;
    return false;
}

/* Processes of other users come and go, and are none of ours but by descent. */
static bool is_relative(const struct post *post, const struct duty *duty, int number)
{
    struct process_stat stat;

    for (int i = 0; i < ANCESTORS_MAX && number > 1; i++) {
        if (is_watched(post, duty, number, false))
            return true;
        number = process_stat(number, &stat) == 0 ? stat.parent : 0;
    }
    return false;
}

static void note_holder(int process, enum holder holder, void *context)
{
    struct found *found = context;
    struct process_stat stat;

    if (holder == HOLDER_HIDDEN)
        found->hidden += is_relative(found->post, found->duty, process);
    found->dying += holder == HOLDER_DYING;
    if (holder != HOLDER_COVERED && holder != HOLDER_UNCOVERED)
        return;
    /* what is about to end was known before, and is to be asked how; a child of one with the shim has its own guardian */
    if (process_stat(process, &stat) != 0 || stat.exiting ||
        (holder == HOLDER_UNCOVERED && found->post->knows_all &&
         is_watched(found->post, found->duty, stat.parent, true)))
        return;
    if (holder == HOLDER_COVERED && found->scope == HOLDERS_NEW &&
        is_watched(found->post, found->duty, process, true)) {
        found->covered++;
        return;
    }
    if (!watch(found->post, found->duty, process, holder == HOLDER_COVERED))
        return;
    if (holder == HOLDER_COVERED)
        found->covered++;
    else
        found->uncovered++;
}

/* Those that are found are watched from now on, in place of those that were; but all that are covered are only known if all
 * processes were looked at. */
static struct found find_holders(struct post *post, struct duty *duty, enum holders_scope scope)
{
    struct found found = {.post = post, .duty = duty, .scope = scope};
    size_t before = post->watched_count;

    holders_for_each(post->proc, duty->session, scope, note_holder, &found);
    if (found.covered + found.uncovered != 0)
        unwatch(post, duty, before, scope == HOLDERS_ALL ? is_of : is_uncovered);
    return found;
}

/* The kernel gives no lease to a user who is not the buffer's, who went over to another after the open: then nobody is left
 * if nobody can be seen. */
static bool is_last_gone(struct post *post, struct duty *duty)
{
    int answer = descriptor_is_last(duty->session->buffer);
    struct found found;

    if (answer >= 0 || !post->sees)
        return answer != 0;
    if (look_at_watched(post, duty))
        return false;
    found = find_holders(post, duty, HOLDERS_ALL);
    return found.covered + found.uncovered + found.hidden == 0;
}

static void end_duty(struct post *post, struct duty *duty)
{
    enum verdict verdict = judge(post, duty);

    if (verdict == VERDICT_UNKNOWN) {
        if (duty->doubt_until == 0)
            duty->doubt_until = sys_now() + DOUBT;
        if (sys_now() < duty->doubt_until) {
            post->pending++;
            return;
        }
    }
    if (verdict == VERDICT_DROP)
        session_drop(duty->session);
    else
        (void)session_settle(duty->session, duty->session->buffer_number);
}

bool guardian_look_after(struct post *post, struct duty *duty, bool expected)
{
    struct found found = {.post = post};
    bool any;

    if (is_last_gone(post, duty)) {
        end_duty(post, duty);
        return false;
    }
    duty->doubt_until = 0;
    any = look_at_watched(post, duty);
    if (any) /* whoever is dead was not the last */
        unwatch(post, duty, post->watched_count, is_dead_and_covered);
    duty->covered_alone = post->sees && any && !is_one_left(post, duty);
    unwatch(post, duty, post->watched_count, has_closed);
    if (expected || duty->stays)
        return false;
    if (!is_one_left(post, duty) && duty->kept)
        found = find_holders(post, duty, HOLDERS_NEW);
    if (found.uncovered != 0 || is_one_left(post, duty)) {
        duty->clear = 0;
        return false;
    }
    if (found.dying != 0)
        return true;
    if (++duty->clear < SURE) {
        post->pending++;
        return false;
    }
    duty->clear = 0;
    if (duty->kept) {
        found = find_holders(post, duty, HOLDERS_ALL);
        /* nobody at all: it is on its way in a message */
        if (found.uncovered + found.hidden != 0 || found.covered == 0)
            return false;
    }
    session_drop(duty->session);
    return false;
}

/* ---- the beginning ---- */

void guardian_watch_first(struct post *post, struct duty *duty)
{
    int process = post->order.starter;
    struct process_stat stat;

    if (post->order.process != 0)
        (void)watch(post, duty, post->order.process, false);
    if (!post->sees) { /* whether they hold it cannot be seen either */
        if (process != post->order.process)
            (void)watch(post, duty, process, true);
        (void)watch(post, duty, post->order.parent, true);
        return;
    }
    for (int i = 0; i < ANCESTORS_MAX && process > 1; i++) {
        if (process != post->order.process && holders_look(process, duty->session, false) == HOLDER_COVERED)
            (void)watch(post, duty, process, true);
        process = process_stat(process, &stat) == 0 ? stat.parent : 0;
    }
}
