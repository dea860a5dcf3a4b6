/* system calls that change the world or leave the program: the calls with their texts as they are made, what they
   return behind them */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "effects.h"
#include "recorder.h"

#define UNKNOWN (~UINT64_C(0))

/* number + 1 of the effect of the call under way, and whether it accepts a connection */
static _Thread_local uint64_t pending __attribute__((tls_model("initial-exec")));
static _Thread_local bool accepts __attribute__((tls_model("initial-exec")));

static bool opens_to_write(uint64_t flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
}

static bool own_thread(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}

/* whether this call, with these arguments, is an effect; arguments that lie in memory take their places */
static bool applies(enum effect_rule rule, uint64_t *a)
{
    uint64_t flags, address, size;
    switch (rule) {
    case RULE_ALWAYS:
        return true;
    case RULE_OPEN:
        return opens_to_write(a[1]);
    case RULE_OPEN_AT:
        return opens_to_write(a[2]);
    case RULE_OPEN_HOW:
        if (!guest_read(a[2], &flags, sizeof flags) || !opens_to_write(flags))
            return false;
        a[2] = flags;
        return true;
    case RULE_CLONE:
        return !(a[0] & CLONE_THREAD_FLAG);
    case RULE_CLONE_3:
        if (!guest_read(a[0], &flags, sizeof flags) || flags & CLONE_THREAD_FLAG)
            return false;
        a[0] = flags;
        return true;
    case RULE_MAP:
        return a[2] & PROT_EXEC && (a[2] & PROT_WRITE || a[3] & (MAP_ANONYMOUS | MAP_SHARED));
    case RULE_PROTECT:
        return a[2] & PROT_EXEC;
    case RULE_KILL:
        return a[1] && (pid_t)a[0] != getpid();
    case RULE_KILL_THREAD:
        return a[1] && !own_thread((pid_t)a[0]);
    case RULE_KILL_IN:
        return a[2] && (pid_t)a[0] != getpid();
    case RULE_SIGNAL:
        return a[1];
    case RULE_SEND_TO:
        return a[4];
    case RULE_MESSAGE:
        return message_address(a[1], &address, &size);
    }
    return false;
}

/* the older ways of 32-bit programs: one number for all calls of sockets, and arguments in memory */
static int64_t unfold(int64_t number, uint64_t *a)
{
    static const int16_t by_socket_call[21] = {
        [2] = 361, [3] = 362, [4] = 363, [5] = ACCEPT_32, [11] = 369, [16] = 370, [18] = 364, [20] = 345,
    };
    enum { SOCKET_CALL = 102, OLD_MAP = 90 };
    if (number == ACCEPT_32) /* ours alone */
        return -1;
    if (mode64 || (number != SOCKET_CALL && number != OLD_MAP))
        return number;
    uint32_t in_memory[6] = {0};
    uint64_t from = number == OLD_MAP ? a[0] : a[1];
    int64_t real = number == OLD_MAP ? OLD_MAP : a[0] < 21 ? by_socket_call[a[0]] : 0;
    /* shorter lists may end where the memory does */
    for (size_t i = 0; i < 6 && guest_read(from + 4 * i, &in_memory[i], 4); i++)
        ;
    for (size_t i = 0; i < 6; i++)
        a[i] = in_memory[i];
    return real;
}

/* the thread of `s` makes a system call, up to which its stream is complete */
void effect_begins(const struct stream *s, int64_t number, const uint64_t arguments[6])
{
    uint64_t a[6];
    pending = 0;
    if (s->previous == &state_off || process < 0)
        return;
    for (size_t i = 0; i < 6; i++)
        a[i] = mode64 ? arguments[i] : (uint32_t)arguments[i];
    int call = effect_call(unfold(number, a));
    if (call < 0 || !applies(effect_calls[call].rule, a))
        return;
    if (effects_full()) {
        effect_count((size_t)call);
        return;
    }
    struct draft draft;
    draft.used = 0;
    bool known = s->number >= 0 && !s->lost;
    draft.head = (struct record){
        .kind = RECORD_CALL,
        .thread = (uint32_t)syscall(SYS_gettid),
        .stream = s->number,
        .offset = known ? s->bytes : UNKNOWN,
        .entry = known ? s->entries - 1 : UNKNOWN,
    };
    memcpy(draft.head.arguments, a, sizeof a);
    memcpy(draft.head.name, effect_calls[call].name, strlen(effect_calls[call].name));
    effect_add_texts(&draft, effect_calls[call].shape, a);
    accepts = strchr(effect_calls[call].shape, 'r');
    pending = effect_keep(&draft, (size_t)call);
}

/* the call has returned */
void effect_ends(int64_t result)
{
    if (!pending)
        return;
    struct draft draft;
    draft.used = 0;
    draft.head = (struct record){.kind = RECORD_RESULT, .number = pending - 1, .result = result};
    pending = 0;
    if (accepts && result >= 0) {
        uint8_t peer[ADDRESS_BYTES] = {0};
        socklen_t size = sizeof peer;
        if (getpeername((int)result, (struct sockaddr *)peer, &size) == 0)
            effect_add_address(&draft, peer, size < sizeof peer ? size : sizeof peer);
    }
    effect_keep_result(&draft);
}

/* in a forked child: the call under way is its parent's */
void effects_fork(void)
{
    pending = 0;
    effects_fork_file();
}
