/* files that are written through a shared mapping: what was stored survives a kill */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "recorder.h"

enum { WINDOW = 64 << 20, FIRST_STEP = 64 << 10, LARGEST_STEP = 8 << 20, LEAST_BITS = 20 };

/* `path` exists; it is extended to 2^`bits` bytes at once, sparsely: a limit on the size of files, which the program
   may set later, does not apply within that length */
bool grow_create(struct grow *grow, const char *path, int bits)
{
    memset(grow, 0, sizeof *grow);
    if ((size_t)snprintf(grow->path, sizeof grow->path, "%s", path) >= sizeof grow->path)
        return false;
    while (bits >= LEAST_BITS && !file_truncate(path, UINT64_C(1) << bits))
        bits -= 4;
    return true;
}

static int allocate(struct grow *grow, uint64_t size)
{
    int error = file_allocate(grow->path, grow->allocated, size - grow->allocated);
    if (!error)
        grow->allocated = size;
    return error;
}

/* pointer to the byte at `offset`, with at least `want` bytes of file behind it (*room of them);
   NULL when there is no room: grow->error says why */
uint8_t *grow_at(struct grow *grow, uint64_t offset, uint64_t want, uint64_t *room)
{
    if (offset + want > grow->allocated) {
        uint64_t step = grow->allocated < FIRST_STEP ? FIRST_STEP : grow->allocated;
        if (step > LARGEST_STEP)
            step = LARGEST_STEP;
        uint64_t least = (offset + want + PAGE - 1) & ~(uint64_t)(PAGE - 1);
        uint64_t size = grow->allocated + step < least ? least : grow->allocated + step;
        if (allocate(grow, size) && (grow->error = allocate(grow, least)))
            return NULL;
    }
    if (!grow->window || offset + want > grow->window_at + grow->window_size) {
        grow_forget(grow);
        uint64_t from = offset & ~(uint64_t)(PAGE - 1);
        grow->window = file_map(grow->path, true, from, WINDOW);
        if (!grow->window) {
            grow->error = ENOMEM;
            return NULL;
        }
        grow->window_at = from;
        grow->window_size = WINDOW;
    }
    uint64_t end = grow->window_at + grow->window_size;
    if (end > grow->allocated)
        end = grow->allocated;
    *room = end - offset;
    return grow->window + (offset - grow->window_at);
}

/* unmap without touching the file: a forked child must leave its parent's alone */
void grow_forget(struct grow *grow)
{
    if (grow->window)
        munmap(grow->window, grow->window_size);
    grow->window = NULL;
}

/* cut the file to the bytes in use */
void grow_close(struct grow *grow, uint64_t size)
{
    if (!grow->path[0])
        return;
    grow_forget(grow);
    file_truncate(grow->path, size);
    grow->path[0] = 0;
}
