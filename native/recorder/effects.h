/* the table of system calls that are effects */
// clang-format Language: C
#ifndef BARNUM_EFFECTS_H
#define BARNUM_EFFECTS_H

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
   with an address, r what is filled in when the call returns */
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

#pragma GCC visibility pop

#endif
