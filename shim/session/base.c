/* The base of a session and its identity in short, in the file offsets of its descriptions. */
#include "session/internal.h"

#include <errno.h>

/*
 * The offset of the buffer's private description: bits 0 to 31 are the CRC, 32 `force`, 33 to 36
 * the flags, and all above a short form of the inode's identity. Not every file system has offsets
 * of 63 bits; then the short form has fewer.
 */
enum { FORCE_BIT = 32, FLAGS_BIT = 33, IDENTITY_BIT = 37 };
static const unsigned recorded_flags = SESSION_WRITABLE | SESSION_APPEND | SESSION_CREATED | SESSION_LOCKED;

static uint64_t get_cell(int buffer)
{
    return (uint64_t)sys_lseek(buffer, 0, SEEK_CUR);
}

struct session_base session_get_base(const struct session *session)
{
    uint64_t cell = get_cell(session->buffer);
    bool force = (cell >> FORCE_BIT & 1) != 0;

    return (struct session_base){
        .size = force ? 0 : (uint64_t)sys_lseek(session->inode, 0, SEEK_CUR),
        .crc = (uint32_t)cell,
        .force = force,
        .append = ((cell >> FLAGS_BIT | session->flags) & SESSION_APPEND) != 0,
    };
}

/* `append`: SESSION_APPEND or 0, besides the flags of the session. */
static void set_cells(const struct session *session, struct session_base base, unsigned append)
{
    const uint64_t little = ((uint64_t)1 << (IDENTITY_BIT + RECORD_LITTLE)) - 1;
    unsigned flags = (session->flags & recorded_flags) | append;
    uint64_t cell = (uint64_t)session_identity_sum(session->device, session->number) << IDENTITY_BIT |
                    (uint64_t)flags << FLAGS_BIT | (uint64_t)base.force << FORCE_BIT | base.crc;

    if (!base.force || base.size != 0) /* at an open that truncates it is 0 */
        (void)sys_lseek(session->inode, (int64_t)base.size, SEEK_SET);
    if (sys_lseek(session->buffer, (int64_t)cell, SEEK_SET) == -EINVAL)
        (void)sys_lseek(session->buffer, (int64_t)(cell & little), SEEK_SET);
}

void session_begin_base(const struct session *session, struct session_base base)
{
    set_cells(session, base, 0);
}

void session_set_base(const struct session *session, struct session_base base)
{
    set_cells(session, base,
              session_may_be_shared(session) ? get_cell(session->buffer) >> FLAGS_BIT & SESSION_APPEND : 0);
}

struct session_record session_get_record(int buffer)
{
    uint64_t cell = get_cell(buffer);

    return (struct session_record){.flags = (unsigned)(cell >> FLAGS_BIT) & recorded_flags,
                                   .identity = (uint32_t)(cell >> IDENTITY_BIT)};
}

/* The sum has 26 bits: there is no room for more. */
uint32_t session_identity_sum(dev_t device, ino_t number)
{
    return (uint32_t)(((uint64_t)number * 31 + device) * UINT64_C(0x9e3779b97f4a7c15) >> 38);
}
