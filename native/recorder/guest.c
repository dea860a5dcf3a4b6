/* reading the program's memory by addresses it chose: they may be wrong, and another thread may unmap them meanwhile */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "recorder.h"

uint64_t guest_offset;

/* where the program's addresses begin: known once it is loaded */
void guest_find(void)
{
    uint64_t *base = dlsym(RTLD_DEFAULT, "guest_base");
    guest_offset = base ? *base : 0;
    note("guest_base", "%" PRIx64, guest_offset);
}

/* the kernel copies and refuses what is not mapped; containers that forbid the first way allow the second */
bool copy_in(const void *from, void *to, size_t size)
{
    struct iovec local = {to, size}, remote = {(void *)from, size};
    ssize_t done = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (done == (ssize_t)size)
        return true;
    if (done >= 0 || errno == EFAULT)
        return false;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    bool good = true;
    for (size_t at = 0; good && at < size;) {
        size_t piece = size - at < PAGE ? size - at : PAGE;
        good = write(ends[1], (const uint8_t *)from + at, piece) == (ssize_t)piece &&
               read(ends[0], (uint8_t *)to + at, piece) == (ssize_t)piece;
        at += piece;
    }
    close(ends[0]);
    close(ends[1]);
    return good;
}

bool guest_read(uint64_t address, void *to, size_t size)
{
    if (!mode64)
        address = (uint32_t)address;
    if (address + size < address)
        return false;
    return copy_in((const void *)(uintptr_t)(address + guest_offset), to, size);
}

/* a pointer-sized number */
bool guest_word(uint64_t address, uint64_t *value)
{
    *value = 0;
    return guest_read(address, value, mode64 ? 8 : 4);
}

/* a string with its end; returns its length, -1 when it is unreadable or does not fit */
long guest_string(uint64_t address, char *to, size_t room)
{
    size_t at = 0;
    while (at < room) {
        size_t piece = PAGE - ((address + at) & (PAGE - 1));
        if (piece > room - at)
            piece = room - at;
        if (!guest_read(address + at, to + at, piece))
            return -1;
        char *end = memchr(to + at, 0, piece);
        if (end)
            return end - to;
        at += piece;
    }
    return -1;
}
