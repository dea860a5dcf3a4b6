/* the texts of a call, from the memory and the descriptors of the program */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "effects.h"
#include "recorder.h"

enum { COUNTED_WORDS = 1 << 16 }; /* up to which the words of a program are counted */
enum { CUT = 1, UNREADABLE = 2 }; /* flags of a part: it was longer, its memory could not be read */

struct part_head {
    uint16_t part, flags;
    uint32_t size; /* of the bytes that follow; the next part begins at a multiple of 8 */
};

static void add(struct draft *draft, enum part part, unsigned flags, const void *data, size_t size)
{
    struct part_head head = {(uint16_t)part, (uint16_t)flags, (uint32_t)size};
    size_t whole = (sizeof head + size + 7) & ~(size_t)7;
    if (draft->used + whole > sizeof draft->parts)
        return;
    uint8_t *to = draft->parts + draft->used;
    memset(to + whole - 8, 0, 8);
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, data, size);
    draft->used += whole;
}

/* as much of a string as can be read and as `most` bytes hold; returns the part's flags */
static unsigned read_text(uint64_t address, char *to, size_t most, size_t *size)
{
    *size = 0;
    while (*size < most) {
        size_t piece = PAGE - ((address + *size) & (PAGE - 1));
        if (piece > most - *size)
            piece = most - *size;
        if (!guest_read(address + *size, to + *size, piece))
            return UNREADABLE;
        char *end = memchr(to + *size, 0, piece);
        if (end) {
            *size = (size_t)(end - to);
            return 0;
        }
        *size += piece;
    }
    char next;
    return guest_read(address + *size, &next, 1) && !next ? 0 : CUT;
}

/* what a descriptor stands for; AT_FDCWD: the current folder */
static void add_descriptor(struct draft *draft, enum part part, int fd)
{
    char link[64] = "/proc/self/cwd", path[TEXT_BYTES];
    if (fd != AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    if (size >= 0)
        add(draft, part, size == sizeof path ? CUT : 0, path, (size_t)size);
}

/* a path, and the folder that it starts from; an empty one stands for the descriptor itself */
static void add_path(struct draft *draft, enum part part, int folder, uint64_t address)
{
    char text[TEXT_BYTES];
    size_t size = 0;
    if (!address && folder == AT_FDCWD)
        return;
    unsigned flags = address ? read_text(address, text, sizeof text, &size) : 0;
    if (!size && !flags && folder != AT_FDCWD) {
        add_descriptor(draft, part, folder);
        return;
    }
    add(draft, part, flags, text, size);
    if (size && text[0] != '/')
        add_descriptor(draft, part + 1, folder);
}

static void add_text(struct draft *draft, enum part part, uint64_t address)
{
    char text[TEXT_BYTES];
    size_t size;
    unsigned flags = read_text(address, text, sizeof text, &size);
    add(draft, part, flags, text, size);
}

static void add_words(struct draft *draft, uint64_t array)
{
    char text[WORDS_BYTES];
    size_t left = sizeof text;
    uint32_t left_out = 0;
    uint64_t address;
    for (int i = 0; array && i < COUNTED_WORDS && guest_word(array, &address) && address; i++) {
        array += mode64 ? 8 : 4;
        if (i >= MOST_WORDS || !left) {
            left_out++;
            continue;
        }
        size_t size;
        unsigned flags = read_text(address, text, left, &size);
        add(draft, PART_WORD, flags, text, size);
        left -= size;
    }
    if (left_out)
        add(draft, PART_LEFT_OUT, 0, &left_out, sizeof left_out);
}

void effect_add_address(struct draft *draft, const void *address, size_t size)
{
    add(draft, PART_ADDRESS, 0, address, size);
}

static void add_address(struct draft *draft, uint64_t address, uint64_t size)
{
    uint8_t bytes[ADDRESS_BYTES];
    if (!address)
        return;
    if (size > sizeof bytes)
        size = sizeof bytes;
    bool readable = guest_read(address, bytes, size);
    add(draft, PART_ADDRESS, readable ? 0 : UNREADABLE, bytes, readable ? size : 0);
}

/* what a message header says of where it goes; 0: nowhere else than its socket */
bool message_address(uint64_t message, uint64_t *address, uint64_t *size)
{
    uint32_t length = 0;
    if (!guest_word(message, address) || !guest_read(message + (mode64 ? 8 : 4), &length, sizeof length))
        return false;
    *size = length;
    return *address;
}

/* `shape` is that of the call in the table */
void effect_add_texts(struct draft *draft, const char *shape, const uint64_t *a)
{
    int folder = AT_FDCWD;
    for (size_t i = 0; shape[i] && i < 6; i++)
        switch (shape[i]) {
        case 'd':
            folder = (int)a[i];
            break;
        case 'p':
        case 'q':
            add_path(draft, shape[i] == 'p' ? PART_PATH : PART_TARGET, folder, a[i]);
            folder = AT_FDCWD;
            break;
        case 'f':
            if ((int)a[i] >= 0)
                add_descriptor(draft, PART_PATH, (int)a[i]);
            break;
        case 'n':
        case 't':
            add_text(draft, shape[i] == 'n' ? PART_PATH : PART_TARGET, a[i]);
            break;
        case 'v':
            add_words(draft, a[i]);
            break;
        case 'k':
            add_address(draft, a[i], (uint32_t)a[i + 1]);
            break;
        case 'm': {
            uint64_t address, size;
            if (message_address(a[i], &address, &size))
                add_address(draft, address, size);
            break;
        }
        default:
            break;
        }
}
