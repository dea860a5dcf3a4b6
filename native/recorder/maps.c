/* the program's memory map, looked at whenever new code has come.
   The file holds `@ EPOCH` and all lines of the map, then `+ EPOCH` and the lines that the last look lacked. */
#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder.h"

enum { CAN_READ = 1, CAN_WRITE = 2, CAN_EXECUTE = 4, COULD_WRITE = 0x10, MOST_BYTES = 32 << 20 };

struct region {
    uint64_t start, end;
    unsigned flags;
};

static struct region *regions; /* of the program, from the emulator's page table */
static size_t region_count, region_room;
static char *last_text; /* the map at the last look; NULL: nothing in the file can be built upon */
static size_t last_size;
static uint64_t written;
static bool noted;
uint32_t map_generation = 1;
static uint32_t read_generation;
static _Atomic uint32_t moved; /* times that other memory may have come to an address */
static uint32_t read_moved;
static uint64_t vdso; /* where the emulator put one of its own; 0: nowhere */
static uint8_t vdso_head[64];
static bool looked;

int (*walk_regions)(void *data, region_callback callback);

static int add_region(void *data, uint64_t start, uint64_t end, unsigned long flags)
{
    (void)data;
    if (!mode64) {
        start = (uint32_t)start;
        end = (uint32_t)end ? (uint32_t)end : UINT64_C(1) << 32;
    }
    if (region_count == region_room) {
        size_t room = region_room ? region_room * 2 : 256;
        struct region *more = realloc(regions, room * sizeof *more);
        if (!more)
            return 1;
        regions = more;
        region_room = room;
    }
    regions[region_count++] = (struct region){start, end, (unsigned)flags};
    return 0;
}

/* newer emulators give the program a vDSO: before anything has run, it is the one ELF image that comes from no file */
static bool is_vdso(const struct region *r)
{
    uint8_t head[sizeof vdso_head];
    if ((looked && (!vdso || r->start != vdso)) || !(r->flags & CAN_EXECUTE) ||
        !guest_read(r->start, head, sizeof head))
        return false;
    if (!looked && !vdso && !memcmp(head, ELFMAG, SELFMAG)) {
        vdso = r->start;
        memcpy(vdso_head, head, sizeof head);
    }
    /* the program may have put something else there since */
    return r->start == vdso && !memcmp(head, vdso_head, sizeof head);
}

/* a line of the host's map */
struct host_line {
    uint64_t start, end, offset;
    char mode[5];
    const char *device, *name;
    int device_size;
};

/* a line of the program's map */
struct line {
    uint64_t start, end, offset;
    char mode[5];
    const char *device, *name;
    int device_size, name_size;
    bool named; /* by the host */
};

static bool parse(const char *row, struct host_line *h)
{
    int device = 0, name = 0;
    if (sscanf(row, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %n%*s %*s%n", &h->start, &h->end, h->mode, &h->offset,
               &device, &name) < 4 ||
        !name)
        return false;
    h->device = row + device;
    h->device_size = name - device;
    h->name = row + name + strspn(row + name, " ");
    return true;
}

/* the part of the host's line that is in the region; false where none is, or it needs no line */
static bool cut(const struct host_line *h, const struct region *r, struct line *line)
{
    uint64_t low = r->start + guest_offset, high = r->end + guest_offset;
    bool named = *h->name == '/' || !strcmp(h->name, "[vdso]") || !strcmp(h->name, "[vsyscall]");
    if (low < h->start)
        low = h->start;
    if (high > h->end)
        high = h->end;
    if (low >= high || (!named && !(r->flags & CAN_EXECUTE)))
        return false;
    line->start = low - guest_offset;
    line->end = high - guest_offset;
    line->offset = named ? h->offset + (low - h->start) : 0;
    line->mode[0] = r->flags & CAN_READ ? 'r' : '-';
    line->mode[1] = r->flags & (CAN_WRITE | COULD_WRITE) ? 'w' : '-';
    line->mode[2] = r->flags & CAN_EXECUTE ? 'x' : '-';
    line->mode[3] = h->mode[3];
    line->mode[4] = 0;
    line->device = h->device;
    line->device_size = h->device_size;
    line->name = named ? h->name : is_vdso(r) ? "[vdso]" : "";
    line->name_size = (int)strlen(line->name);
    line->named = named;
    return true;
}

/* whether a line goes on where the one before it ends */
static bool joins(const struct line *before, const struct line *line)
{
    return before->end == line->start && !memcmp(before->mode, line->mode, 4) && before->name_size == line->name_size &&
           !memcmp(before->name, line->name, (size_t)line->name_size) &&
           (!line->named || before->offset + (before->end - before->start) == line->offset);
}

static int print_line(char *to, size_t room, const struct line *l)
{
    char anonymous[32] = "";
    if (!l->name_size)
        snprintf(anonymous, sizeof anonymous, "/anon/%" PRIx64, l->start);
    return snprintf(to, room, "%" PRIx64 "-%" PRIx64 " %s %08" PRIx64 " %.*s %.*s%s\n", l->start, l->end, l->mode,
                    l->offset, l->device_size, l->device, l->name_size, l->name, anonymous);
}

/* the host's lines cut to the program's regions: files and executable memory only */
static char *describe(char *host, size_t *size)
{
    size_t room = strlen(host) * 3 + region_count * 512 + 4096;
    char *text = malloc(room);
    struct host_line h;
    struct line line, pending = {.name = ""};
    size_t first = 0; /* both lists are in order of addresses */
    *size = 0;
    for (char *row = host, *next; text && *row; row = next) {
        next = row + strcspn(row, "\n");
        if (*next)
            *next++ = 0;
        if (!parse(row, &h))
            continue;
        while (first < region_count && regions[first].end + guest_offset <= h.start)
            first++;
        for (size_t i = first; i < region_count && regions[i].start + guest_offset < h.end; i++) {
            if (!cut(&h, &regions[i], &line))
                continue;
            if (joins(&pending, &line)) {
                pending.end = line.end;
                continue;
            }
            if (pending.end)
                *size += (size_t)print_line(text + *size, room - *size, &pending);
            pending = line;
            if (room - *size < PATH_ROOM * 2) {
                char *more = realloc(text, room += room / 2 + PATH_ROOM * 4);
                if (!more)
                    return text;
                text = more;
            }
        }
    }
    if (text && pending.end)
        *size += (size_t)print_line(text + *size, room - *size, &pending);
    looked = true;
    return text;
}

/* write the lines that `old` lacks to `to`; both texts are in order of addresses; returns the size */
static size_t new_lines(char *to, const char *text, const char *old)
{
    size_t size = 0;
    while (*text) {
        size_t length = strcspn(text, "\n") + 1, old_length = strcspn(old, "\n") + 1;
        if (*old && length == old_length && !memcmp(text, old, length)) {
            text += length;
            old += old_length;
        } else if (*old && strtoull(old, NULL, 16) < strtoull(text, NULL, 16)) {
            old += old_length;
        } else {
            memcpy(to + size, text, length);
            size += length;
            text += length;
        }
    }
    return size;
}

/* false when the file is not what it should be */
static bool append(uint32_t epoch, const char *text, size_t size)
{
    char path[OWN_ROOM], *block = malloc(size + 32);
    if (!block)
        return false;
    int head = snprintf(block, 32, "%c %u\n", last_text ? '+' : '@', epoch);
    size_t length = (size_t)head + (last_text ? new_lines(block + head, text, last_text) : size);
    if (!last_text)
        memcpy(block + head, text, size);
    const char *why = NULL;
    own_path(path, "maps", process);
    if (length == (size_t)head)
        ; /* some are gone, but none is new */
    else if (written + length > MOST_BYTES)
        why = "there were too many";
    else if (!file_append(path, block, length))
        why = "no room in the work folder";
    else
        written += length;
    free(block);
    if (why && !noted)
        note("lost", "changes of the memory map: %s", why);
    noted = noted || why;
    return !why;
}

/* whether nothing has changed since the last look: no address has got other memory, and all regions are as before */
static bool looks_the_same(void)
{
    static struct region *before;
    static size_t before_room;
    size_t count = region_count;
    if (!last_text || !count || read_moved != atomic_load(&moved))
        return false;
    if (!before || before_room < region_room) {
        struct region *more = realloc(before, region_room * sizeof *more);
        if (!more)
            return false;
        before = more;
        before_room = region_room;
    }
    memcpy(before, regions, count * sizeof *regions);
    region_count = 0;
    walk_regions(NULL, add_region);
    if (count != region_count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (before[i].start != regions[i].start || before[i].end != regions[i].end ||
            before[i].flags != regions[i].flags)
            return false;
    return true;
}

/* code is being translated that was in no map seen so far, or mappings have changed since */
void map_cover(uint64_t start, uint64_t end)
{
    if (process < 0)
        return;
    if (read_generation == map_generation) {
        for (size_t i = 0; i < region_count; i++)
            if (regions[i].start <= start && end <= regions[i].end && regions[i].flags & CAN_EXECUTE)
                return;
    }
    read_generation = map_generation;
    if (looks_the_same())
        return;
    read_moved = atomic_load(&moved);
    region_count = 0;
    walk_regions(NULL, add_region);
    char *host = file_read("/proc/self/maps");
    size_t size;
    char *text = host ? describe(host, &size) : NULL;
    free(host);
    if (!text)
        return;
    text[size] = 0;
    if (last_text && size == last_size && !memcmp(text, last_text, size)) {
        free(text);
        return;
    }
    bool good = append(atomic_load(&process_epoch), text, size);
    free(last_text);
    last_text = good ? text : NULL;
    last_size = size;
    if (!good)
        free(text);
}

/* memory that may hold code has come or changed */
void map_changed(void)
{
    map_generation++;
}

/* a system call that may put other memory to an address is done */
void map_moved(void)
{
    atomic_fetch_add(&moved, 1);
}

/* in a forked child: all that the parent had seen */
void map_fork(int parent)
{
    char path[OWN_ROOM];
    own_path(path, "maps", parent);
    char *text = file_read(path);
    own_path(path, "maps", process);
    written = text ? strlen(text) : 0;
    noted = false;
    if (!text || !file_append(path, text, written)) {
        /* one that has not run any code yet has no file */
        if (last_text)
            note("lost", "the memory map of the parent process: no room in the work folder");
        free(last_text);
        last_text = NULL;
    }
    free(text);
}
