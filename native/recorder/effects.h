/* system calls that are effects: their table, and how they are noted */
// clang-format Language: C
#ifndef BARNUM_EFFECTS_H
#define BARNUM_EFFECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* when a call is an effect */
enum effect_rule {
    RULE_ALWAYS,
    RULE_OPEN,        /* opens to write or to create; flags in the 2nd argument */
    RULE_OPEN_AT,     /* in the 3rd */
    RULE_OPEN_HOW,    /* in memory, at the 3rd */
    RULE_CLONE,       /* starts a process, no thread */
    RULE_CLONE_3,     /* flags in memory */
    RULE_MAP,         /* executable, and not just a file's own code: anonymous, writable or shared */
    RULE_PROTECT,     /* executable */
    RULE_KILL,        /* a signal to another process: process, signal */
    RULE_KILL_THREAD, /* thread, signal */
    RULE_KILL_IN,     /* process, thread, signal */
    RULE_SIGNAL,      /* descriptor, signal */
    RULE_SEND_TO,     /* with an address */
    RULE_MESSAGE,
};

/* `shape` has a letter for each argument whose text is noted: p a path and q a second one (d before: the descriptor of
   the folder it starts from), f a descriptor, n a name, t a text, v words, k an address (its size follows), m a message
   with an address, r what is filled in when the call returns; ! says that the file may not be reached after it */
struct effect_call {
    const char *name;
    int16_t number64, number32; /* -1: has none */
    enum effect_rule rule;
    const char *shape;
};

enum { MOST_EFFECT_CALLS = 127, ACCEPT_32 = 1023, CLONE_THREAD_FLAG = 0x10000 };

extern const struct effect_call effect_calls[];
extern const size_t effect_call_count;

int effect_call(int64_t number);

enum { TEXT_BYTES = 4096, ADDRESS_BYTES = 128, WORDS_BYTES = 4096, MOST_WORDS = 64, NAME_ROOM = 24 };
enum { RECORD_CALL = 1, RECORD_RESULT = 2 };
enum part { PART_PATH = 1, PART_FOLDER, PART_TARGET, PART_TARGET_FOLDER, PART_ADDRESS, PART_WORD, PART_LEFT_OUT };
enum { PARTS_ROOM = 5 * (TEXT_BYTES + 16) + MOST_WORDS * 16 };

struct record {
    uint32_t size; /* with its parts; a multiple of 8 */
    uint32_t kind;
    uint64_t number; /* of the effect in this file, also of the one whose result this is */
    uint64_t time;   /* nanoseconds; the same clock for all processes */
    int64_t result;
    char name[NAME_ROOM];
    uint32_t thread;
    int32_t stream;
    uint64_t offset;
    uint64_t entry;
    uint64_t arguments[6];
};
_Static_assert(sizeof(struct record) == 128, "layout");

struct draft {
    struct record head;
    uint8_t parts[PARTS_ROOM];
    size_t used;
};

/* effect_file.c */
uint64_t effect_keep(struct draft *draft, size_t call);
void effect_keep_result(struct draft *draft);
bool effects_full(void);
void effect_count(size_t call);
void effects_fork_file(void);

/* effect_texts.c */
void effect_add_address(struct draft *draft, const void *address, size_t size);
void effect_add_texts(struct draft *draft, const char *shape, const uint64_t *arguments);
bool message_address(uint64_t message, uint64_t *address, uint64_t *size);

#pragma GCC visibility pop

#endif
