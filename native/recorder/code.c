/* the code a process runs: its bytes by version, and the table of translated blocks */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "recorder.h"

enum { BUCKETS = 1 << 18, ARENA = 1 << 20, PIECE = 1 << 16 };

/* what is known of one page of code */
struct page {
    uint64_t number;
    struct page *next;
    uint32_t epoch;  /* of its newest byte */
    uint32_t mapped; /* generation of the map in which it was found */
    uint64_t known[PAGE / 64];
    uint8_t bytes[PAGE];
};

struct record {
    uint32_t epoch, length;
    uint64_t address;
};

static struct page *pages[BUCKETS];
static struct block *blocks[BUCKETS];
static struct grow file;
static uint64_t used;
static bool lost;
static uint64_t handlers[256];
static unsigned handler_count;

/* memory that is zeroed and never given back */
void *code_memory(size_t size)
{
    static uint8_t *at;
    static size_t room;
    size = (size + 15) & ~(size_t)15;
    if (size > room) {
        at = calloc(1, ARENA + LINE);
        if (!at) {
            room = 0;
            return NULL;
        }
        at += -(uintptr_t)at % LINE;
        room = ARENA;
    }
    void *piece = at;
    at += size;
    room -= size;
    return piece;
}

static size_t bucket(uint64_t number)
{
    return (number * UINT64_C(0x9e3779b97f4a7c15)) >> 46;
}

static void append(const void *bytes, size_t size)
{
    uint64_t room;
    uint8_t *to = lost ? NULL : grow_at(&file, used, size + sizeof(struct record), &room);
    if (!to) {
        if (!lost)
            note("lost", "code bytes from here on: no room in the work folder");
        lost = true;
        return;
    }
    memcpy(to, bytes, size);
    used += size;
}

static void record(uint32_t epoch, uint64_t address, const uint8_t *bytes, uint32_t size)
{
    uint8_t row[sizeof(struct record) + PAGE];
    struct record head = {epoch, size, address};
    memcpy(row, &head, sizeof head);
    memcpy(row + sizeof head, bytes, size);
    append(row, sizeof head + size);
}

bool code_begin(void)
{
    char path[OWN_ROOM];
    own_path(path, "code", process);
    used = 0;
    if (!file_append(path, "", 0) || !grow_create(&file, path, LONG_FILE))
        return false;
    append("BRNMCODE", 8);
    return !lost;
}

/* in a forked child: a file of its own with all that its parent's had */
void code_fork(void)
{
    struct grow parent = file;
    uint64_t size = used;
    grow_forget(&file);
    bool begun = code_begin();
    uint8_t *old = file_map(parent.path, false, 0, size);
    for (uint64_t at = 8; begun && old && at < size; at += PIECE)
        append(old + at, size - at < PIECE ? size - at : PIECE);
    if (old)
        munmap(old, size);
    else
        note("lost", "the code bytes of the parent process");
}

/* a child that cannot be recorded writes nothing */
void code_abandon(void)
{
    grow_forget(&file);
    lost = true;
}

static struct page *page_of(uint64_t number)
{
    struct page **head = &pages[bucket(number)], *page = *head;
    while (page && page->number != number)
        page = page->next;
    if (!page && (page = calloc(1, sizeof *page))) {
        page->number = number;
        page->next = *head;
        *head = page;
    }
    return page;
}

static bool known(const struct page *page, unsigned at)
{
    return page->known[at / 64] >> (at % 64) & 1;
}

static bool differs(const struct page *page, unsigned from, const uint8_t *bytes, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        if (known(page, from + i) && page->bytes[from + i] != bytes[i])
            return true;
    return false;
}

static void learn(struct page *page, unsigned from, const uint8_t *bytes, unsigned size, uint32_t epoch)
{
    for (unsigned i = 0; i < size;) {
        unsigned at = from + i;
        if (known(page, at) && page->bytes[at] == bytes[i]) {
            i++;
            continue;
        }
        unsigned end = i;
        while (end < size && !(known(page, from + end) && page->bytes[from + end] == bytes[end])) {
            page->bytes[from + end] = bytes[end];
            page->known[(from + end) / 64] |= UINT64_C(1) << ((from + end) % 64);
            end++;
        }
        record(epoch, page->number * PAGE + at, bytes + i, end - i);
        page->epoch = epoch;
        i = end;
    }
}

/* take note of the bytes of a block; returns the version of the code in which they are valid */
uint32_t code_bytes(uint64_t start, const uint8_t *bytes, size_t size)
{
    uint32_t epoch = atomic_load(&process_epoch), newest = 0;
    bool changed = false, strange = false;
    for (int round = 0; round < 2; round++) {
        for (size_t at = 0; at < size;) {
            unsigned from = (start + at) % PAGE;
            unsigned piece = size - at < PAGE - from ? (unsigned)(size - at) : PAGE - from;
            struct page *page = page_of((start + at) / PAGE);
            if (!page)
                return epoch;
            if (round == 0) {
                changed = changed || differs(page, from, bytes + at, piece);
                strange = strange || page->mapped != map_generation;
            } else {
                learn(page, from, bytes + at, piece, epoch);
                if (page->epoch > newest)
                    newest = page->epoch;
                page->mapped = map_generation;
            }
            at += piece;
        }
        if (round == 0 && changed)
            atomic_store(&process_epoch, ++epoch);
        if (round == 0 && strange)
            map_cover(start, start + size);
    }
    return newest;
}

static void set_key(struct block *b)
{
    b->key = b->handler || b->single || b->epoch ? NO_KEY : b->start;
}

/* once all running threads know the block's version of the code, it needs the slow path no longer */
void code_settle(struct block *b)
{
    if (b->handler || b->single)
        return;
    pthread_mutex_lock(&lock);
    unsigned top = atomic_load(&vcpu_top);
    bool settled = true;
    for (unsigned i = 0; settled && i < top; i++) {
        struct stream *s = streams[i];
        if (s)
            settled = s->epoch >= b->epoch || (*(struct block *volatile *)&s->previous)->kind >= KIND_OFF;
    }
    if (settled && !b->handler)
        b->key = b->start;
    pthread_mutex_unlock(&lock);
}

/* a signal handler starts here: blocks at this address take the slow path */
void code_mark_handler(uint64_t address)
{
    pthread_mutex_lock(&lock);
    bool have = false;
    for (unsigned i = 0; i < handler_count; i++)
        have = have || handlers[i] == address;
    if (!have && handler_count < sizeof handlers / sizeof *handlers)
        handlers[handler_count++] = address;
    for (struct block *b = blocks[bucket(address)]; b; b = b->next)
        if (b->start == address) {
            b->handler = true;
            set_key(b);
        }
    pthread_mutex_unlock(&lock);
}

bool code_is_handler(uint64_t address)
{
    for (unsigned i = 0; i < handler_count; i++)
        if (handlers[i] == address)
            return true;
    return false;
}

/* the block for these properties: translating the same code again must not cost memory again */
struct block *code_block(const struct block *like)
{
    pthread_mutex_lock(&lock);
    struct block **head = &blocks[bucket(like->start)], *b = *head;
    while (b && (b->start != like->start || b->end != like->end || b->last != like->last || b->kind != like->kind ||
                 b->target != like->target))
        b = b->next;
    if (!b && (b = code_memory(sizeof *b))) {
        *b = *like;
        b->handler = code_is_handler(b->start);
        set_key(b);
        b->next = *head;
        *head = b;
    } else if (b && like->epoch > b->epoch) {
        b->epoch = like->epoch;
        set_key(b);
    }
    pthread_mutex_unlock(&lock);
    return b;
}
