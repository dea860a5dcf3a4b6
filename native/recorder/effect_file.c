/* the file effects_<P> of a process: a page of counts, then records, through a mapping that survives a kill.
   barnum.recording.effects reads it */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "effects.h"
#include "recorder.h"

enum {
    MOST_EFFECTS = 1 << 16, /* of a process, kept one by one; further ones are counted */
    FILE_BITS = 26,         /* and so many bytes of them, which one mapping holds */
    RESULTS_ROOM = 1 << 20, /* that calls leave to results */
    RESULT_BYTES = 512,
    ROOM_AHEAD = 4 << 20, /* bytes of the file that are taken before a call after which none may be had */
};

/* first page of the file; a record counts once `used` is above its end */
struct header {
    char magic[8];
    _Atomic uint64_t used;
    uint64_t effects; /* records of calls */
    struct {
        char name[NAME_ROOM];
        uint64_t more; /* how many were counted only */
    } calls[MOST_EFFECT_CALLS];
};
_Static_assert(sizeof(struct header) <= PAGE, "the header must fit its page");

static pthread_mutex_t effects_lock = PTHREAD_MUTEX_INITIALIZER;
static struct grow file;
static struct header *header;
static uint64_t used, effects; /* what the header says, which the program may have changed */
static bool refused;           /* the file could not be made */
static atomic_bool full;       /* nothing more is kept one by one */

static bool make_file(void)
{
    char path[OWN_ROOM];
    uint64_t room;
    if (header || refused)
        return header;
    own_path(path, "effects", process);
    if (file_append(path, "", 0) && grow_create(&file, path, FILE_BITS))
        header = (struct header *)grow_at(&file, 0, 2 * PAGE, &room);
    if (!header) {
        refused = true;
        note("lost", "the effects of this process: no room for their file");
        return false;
    }
    for (size_t i = 0; i < effect_call_count; i++)
        memcpy(header->calls[i].name, effect_calls[i].name, strlen(effect_calls[i].name));
    memcpy(header->magic, "BRNMEFF1", 8);
    used = PAGE;
    effects = 0;
    atomic_store(&header->used, used);
    return true;
}

/* put a record and its parts behind the others; false where it has no room, with `more` bytes behind it */
static bool append(struct draft *draft, uint64_t more)
{
    uint64_t room;
    draft->head.size = (uint32_t)(sizeof draft->head + draft->used);
    if (used + draft->head.size > UINT64_C(1) << FILE_BITS)
        return false;
    uint8_t *to = grow_at(&file, used, draft->head.size + more, &room);
    if (!to)
        return false;
    memcpy(to, &draft->head, sizeof draft->head);
    memcpy(to + sizeof draft->head, draft->parts, draft->used);
    used += draft->head.size;
    atomic_store_explicit(&header->used, used, memory_order_release);
    return true;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* put a call into the file, or count it; returns its number + 1, 0 where it is counted only */
uint64_t effect_keep(struct draft *draft, size_t call)
{
    uint64_t room, kept = 0;
    pthread_mutex_lock(&effects_lock);
    if (make_file()) {
        if (strchr(effect_calls[call].shape, '!') && used + ROOM_AHEAD <= UINT64_C(1) << FILE_BITS)
            grow_at(&file, used, ROOM_AHEAD, &room);
        draft->head.time = now();
        draft->head.number = effects;
        bool fits = used + sizeof *draft + RESULTS_ROOM <= UINT64_C(1) << FILE_BITS;
        if (fits && append(draft, RESULT_BYTES)) {
            kept = header->effects = ++effects;
            full = effects == MOST_EFFECTS;
        } else {
            header->calls[call].more++;
            full = true;
        }
    }
    pthread_mutex_unlock(&effects_lock);
    return kept;
}

void effect_keep_result(struct draft *draft)
{
    pthread_mutex_lock(&effects_lock);
    if (header) {
        draft->head.time = now();
        append(draft, 0);
    }
    pthread_mutex_unlock(&effects_lock);
}

bool effects_full(void)
{
    return atomic_load_explicit(&full, memory_order_relaxed);
}

/* a call of which nothing more is kept: see effects_full() */
void effect_count(size_t call)
{
    pthread_mutex_lock(&effects_lock);
    header->calls[call].more++;
    pthread_mutex_unlock(&effects_lock);
}

void effects_lock_for_fork(void)
{
    pthread_mutex_lock(&effects_lock);
}

void effects_unlock_after_fork(void)
{
    pthread_mutex_unlock(&effects_lock);
}

/* in a forked child: what its parent notes is no more its business */
void effects_fork_file(void)
{
    grow_forget(&file);
    memset(&file, 0, sizeof file);
    header = NULL;
    refused = full = false;
}
