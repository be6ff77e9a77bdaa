/* Reads or maps the bytes of a buffer, for their sum and their commit. */
#include "session/internal.h"

#include "store/store.h"

/*
 * Small images are copied: into a warm buffer that is cheaper than a mapping. From 512 KiB on the
 * mapping is cheaper. Images that another thread may change meanwhile are copied whatever their
 * size: their CRC must match the bytes that are written.
 */
enum { MAPPED = 1 << 19 };

int view_open(struct view *view, int buffer, uint64_t size, bool exclusive)
{
    int error;

    *view = (struct view){.size = size, .mapped = exclusive && size >= MAPPED};
    if (view->mapped) {
        view->bytes = sys_mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, buffer, 0);
        return sys_is_error(view->bytes) ? -ENOMEM : 0;
    }
    error = scratch_take(&view->scratch, size);
    if (error != 0)
        return error;
    view->bytes = view->scratch.bytes;

    ssize_t n = store_read_at(buffer, view->bytes, size, 0);
    if (n < 0) {
        scratch_give(&view->scratch);
        return (int)n;
    }
    view->size = (uint64_t)n; /* another thread has cut it meanwhile: commits the present bytes */
    return 0;
}

void view_close(struct view *view)
{
    if (view->mapped)
        (void)sys_munmap(view->bytes, view->size);
    else
        scratch_give(&view->scratch);
}
