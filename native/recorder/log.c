/* for tests: a log of what was executed, from a callback at each instruction, independent of packets */
#include <string.h>

#include "recorder.h"

struct row {
    uint64_t start, last;
    uint32_t count;
} __attribute__((packed));

static void emit(struct stream *s, uint64_t last, uint32_t count)
{
    struct log *log = &s->log;
    struct row row = {log->start, last, count};
    uint64_t room;
    log->open = false;
    if (!count || !log->file.path[0])
        return;
    uint8_t *to = grow_at(&log->file, log->used, sizeof row, &room);
    if (!to)
        return;
    memcpy(to, &row, sizeof row);
    log->used += sizeof row;
}

void log_begin(struct stream *s)
{
    char path[OWN_ROOM];
    memset(&s->log, 0, sizeof s->log);
    own_path(path, "log", s->number);
    if (file_append(path, "", 0))
        grow_create(&s->log.file, path, LOG_FILE);
}

void log_instruction(unsigned vcpu, void *data)
{
    struct stream *s = streams[vcpu];
    struct insn *i = data;
    struct log *log = &s->log;
    if (s->previous->kind >= KIND_OFF)
        return;
    if (log->open) {
        /* seen again without a branch: another iteration, or run anew after it could not be completed */
        if (i->address == log->last && !log->branch)
            return;
        if (log->branch || i->address != log->last + log->size)
            emit(s, log->last, log->count);
    }
    if (!log->open) {
        log->open = true;
        log->start = i->address;
        log->count = 0;
    }
    log->before_last = log->last;
    log->last = i->address;
    log->size = i->size;
    log->branch = i->branch;
    log->count++;
}

/* a signal came: an instruction that is to run again was not executed */
void log_interrupt(struct stream *s, uint64_t ip, bool fault)
{
    struct log *log = &s->log;
    if (!log->open)
        return;
    if (log->last == ip && (fault || !log->branch))
        emit(s, log->before_last, log->count - 1);
    else
        emit(s, log->last, log->count);
}

void log_syscall(struct stream *s)
{
    if (s->log.open && s->log.branch)
        emit(s, s->log.last, s->log.count);
}

void log_close(struct stream *s)
{
    grow_close(&s->log.file, s->log.used);
}
