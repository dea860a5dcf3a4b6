/* what is mapped where in the program's address space: a snapshot whenever new code has come */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder.h"

enum { CAN_READ = 1, CAN_EXECUTE = 4, CAN_WRITE = 2, COULD_WRITE = 0x10 };

struct region {
    uint64_t start, end;
    unsigned flags;
};

static struct region *regions; /* of the program, from the emulator's page table */
static size_t region_count, region_room;
static char *last_text;
static size_t last_size;
uint32_t map_generation = 1;
static uint32_t read_generation;

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

struct line {
    uint64_t start, end, offset;
    char mode[5];
    const char *device, *name;
    int device_size, name_size;
};

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
    struct line pending = {0};
    *size = 0;
    for (char *row = host; text && *row;) {
        char *end = strchr(row, '\n');
        if (end)
            *end = 0;
        uint64_t start, stop, offset;
        char mode[5];
        int at = 0, at_name = 0;
        if (sscanf(row, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %n%*s %*s%n", &start, &stop, mode, &offset, &at,
                   &at_name) >= 4 && at_name) {
            const char *name = row + at_name + strspn(row + at_name, " ");
            bool named = *name == '/' || !strcmp(name, "[vdso]") || !strcmp(name, "[vsyscall]");
            for (size_t i = 0; i < region_count; i++) {
                const struct region *r = &regions[i];
                uint64_t low = r->start + guest_offset, high = r->end + guest_offset;
                if (low < start)
                    low = start;
                if (high > stop)
                    high = stop;
                if (low >= high || (!named && !(r->flags & CAN_EXECUTE)))
                    continue;
                struct line line = {low - guest_offset, high - guest_offset, named ? offset + (low - start) : 0,
                                    {r->flags & CAN_READ ? 'r' : '-', r->flags & (CAN_WRITE | COULD_WRITE) ? 'w' : '-',
                                     r->flags & CAN_EXECUTE ? 'x' : '-', mode[3], 0},
                                    row + at, name, at_name - at, named ? (int)strlen(name) : 0};
                bool joins = pending.end == line.start && !memcmp(pending.mode, line.mode, 4) &&
                             pending.name_size == line.name_size &&
                             !memcmp(pending.name, line.name, (size_t)line.name_size) &&
                             (!named || pending.offset + (pending.end - pending.start) == line.offset);
                if (joins) {
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
        if (!end)
            break;
        row = end + 1;
    }
    if (text && pending.end)
        *size += (size_t)print_line(text + *size, room - *size, &pending);
    return text;
}

static void append(uint32_t epoch, const char *text, size_t size)
{
    char path[OWN_ROOM], head[32];
    own_path(path, "maps", process);
    int n = snprintf(head, sizeof head, "@ %u\n", epoch);
    if (!file_append(path, head, (size_t)n) || !file_append(path, text, size))
        note("lost", "a change of the memory map: no room in the work folder");
}

/* code is being translated that was in no map seen so far, or mappings have changed since */
void map_cover(uint64_t start, uint64_t end)
{
    if (read_generation == map_generation) {
        for (size_t i = 0; i < region_count; i++)
            if (regions[i].start <= start && end <= regions[i].end && regions[i].flags & CAN_EXECUTE)
                return;
    }
    read_generation = map_generation;
    region_count = 0;
    walk_regions(NULL, add_region);
    char *host = file_read("/proc/self/maps");
    size_t size;
    char *text = host ? describe(host, &size) : NULL;
    free(host);
    if (!text)
        return;
    if (last_text && size == last_size && !memcmp(text, last_text, size)) {
        free(text);
        return;
    }
    free(last_text);
    last_text = text;
    last_size = size;
    append(atomic_load(&process_epoch), text, size);
}

void map_changed(void)
{
    map_generation++;
}

/* in a forked child: all that the parent had seen */
void map_fork(int parent)
{
    char path[OWN_ROOM];
    own_path(path, "maps", parent);
    char *text = file_read(path);
    own_path(path, "maps", process);
    if (text && !file_append(path, text, strlen(text)))
        note("lost", "the memory map of the parent process: no room in the work folder");
    free(text);
}
