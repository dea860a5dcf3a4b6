/* the system calls that are effects, by their numbers in 64-bit and in 32-bit programs */
#include "effects.h"

#include "recorder.h"

/* clang-format off */
const struct effect_call effect_calls[] = {
    /* processes and programs */
    {"fork", 57, 2, RULE_ALWAYS, ""},
    {"vfork", 58, 190, RULE_ALWAYS, ""},
    {"clone", 56, 120, RULE_CLONE, ""},
    {"clone3", 435, 435, RULE_CLONE_3, ""},
    {"execve", 59, 11, RULE_ALWAYS, "pv"},
    {"execveat", 322, 358, RULE_ALWAYS, "dpv"},
    {"kill", 62, 37, RULE_KILL, ""},
    {"tkill", 200, 238, RULE_KILL_THREAD, ""},
    {"tgkill", 234, 270, RULE_KILL_IN, ""},
    {"rt_sigqueueinfo", 129, 178, RULE_KILL, ""},
    {"rt_tgsigqueueinfo", 297, 335, RULE_KILL_IN, ""},
    {"pidfd_send_signal", 424, 424, RULE_SIGNAL, ""},
    {"ptrace", 101, 26, RULE_ALWAYS, ""},
    {"process_vm_writev", 311, 348, RULE_ALWAYS, ""},
    /* files */
    {"open", 2, 5, RULE_OPEN, "p"},
    {"creat", 85, 8, RULE_ALWAYS, "p"},
    {"openat", 257, 295, RULE_OPEN_AT, "dp"},
    {"openat2", 437, 437, RULE_OPEN_HOW, "dp"},
    {"memfd_create", 319, 356, RULE_ALWAYS, "n"},
    {"unlink", 87, 10, RULE_ALWAYS, "p"},
    {"unlinkat", 263, 301, RULE_ALWAYS, "dp"},
    {"rename", 82, 38, RULE_ALWAYS, "pq"},
    {"renameat", 264, 302, RULE_ALWAYS, "dpdq"},
    {"renameat2", 316, 353, RULE_ALWAYS, "dpdq"},
    {"link", 86, 9, RULE_ALWAYS, "pq"},
    {"linkat", 265, 303, RULE_ALWAYS, "dpdq"},
    {"symlink", 88, 83, RULE_ALWAYS, "tp"},
    {"symlinkat", 266, 304, RULE_ALWAYS, "tdp"},
    {"mkdir", 83, 39, RULE_ALWAYS, "p"},
    {"mkdirat", 258, 296, RULE_ALWAYS, "dp"},
    {"rmdir", 84, 40, RULE_ALWAYS, "p"},
    {"mknod", 133, 14, RULE_ALWAYS, "p"},
    {"mknodat", 259, 297, RULE_ALWAYS, "dp"},
    {"chmod", 90, 15, RULE_ALWAYS, "p"},
    {"fchmod", 91, 94, RULE_ALWAYS, "f"},
    {"fchmodat", 268, 306, RULE_ALWAYS, "dp"},
    {"fchmodat2", 452, 452, RULE_ALWAYS, "dp"},
    {"chown", 92, 182, RULE_ALWAYS, "p"},
    {"fchown", 93, 95, RULE_ALWAYS, "f"},
    {"lchown", 94, 16, RULE_ALWAYS, "p"},
    {"chown32", -1, 212, RULE_ALWAYS, "p"},
    {"fchown32", -1, 207, RULE_ALWAYS, "f"},
    {"lchown32", -1, 198, RULE_ALWAYS, "p"},
    {"fchownat", 260, 298, RULE_ALWAYS, "dp"},
    {"truncate", 76, 92, RULE_ALWAYS, "p"},
    {"ftruncate", 77, 93, RULE_ALWAYS, "f"},
    {"truncate64", -1, 193, RULE_ALWAYS, "p"},
    {"ftruncate64", -1, 194, RULE_ALWAYS, "f"},
    {"utime", 132, 30, RULE_ALWAYS, "p"},
    {"utimes", 235, 271, RULE_ALWAYS, "p"},
    {"futimesat", 261, 299, RULE_ALWAYS, "dp"},
    {"utimensat", 280, 320, RULE_ALWAYS, "dp"},
    {"utimensat_time64", -1, 412, RULE_ALWAYS, "dp"},
    {"setxattr", 188, 226, RULE_ALWAYS, "pt"},
    {"lsetxattr", 189, 227, RULE_ALWAYS, "pt"},
    {"fsetxattr", 190, 228, RULE_ALWAYS, "ft"},
    {"removexattr", 197, 235, RULE_ALWAYS, "pt"},
    {"lremovexattr", 198, 236, RULE_ALWAYS, "pt"},
    {"fremovexattr", 199, 237, RULE_ALWAYS, "ft"},
    /* network */
    {"connect", 42, 362, RULE_ALWAYS, ".k"},
    {"bind", 49, 361, RULE_ALWAYS, ".k"},
    {"listen", 50, 363, RULE_ALWAYS, ""},
    {"accept", 43, ACCEPT_32, RULE_ALWAYS, "r"},
    {"accept4", 288, 364, RULE_ALWAYS, "r"},
    {"sendto", 44, 369, RULE_SEND_TO, "....k"},
    {"sendmsg", 46, 370, RULE_MESSAGE, ".m"},
    {"sendmmsg", 307, 345, RULE_MESSAGE, ".m"},
    /* memory that is to hold code */
    {"mmap", 9, 90, RULE_MAP, "....f"},
    {"mmap2", -1, 192, RULE_MAP, "....f"},
    {"mprotect", 10, 125, RULE_PROTECT, ""},
    {"pkey_mprotect", 329, 380, RULE_PROTECT, ""},
    /* rights */
    {"setuid", 105, 23, RULE_ALWAYS, "!"},
    {"setgid", 106, 46, RULE_ALWAYS, "!"},
    {"setreuid", 113, 70, RULE_ALWAYS, "!"},
    {"setregid", 114, 71, RULE_ALWAYS, "!"},
    {"setresuid", 117, 164, RULE_ALWAYS, "!"},
    {"setresgid", 119, 170, RULE_ALWAYS, "!"},
    {"setfsuid", 122, 138, RULE_ALWAYS, "!"},
    {"setfsgid", 123, 139, RULE_ALWAYS, "!"},
    {"setgroups", 116, 81, RULE_ALWAYS, "!"},
    {"setuid32", -1, 213, RULE_ALWAYS, "!"},
    {"setgid32", -1, 214, RULE_ALWAYS, "!"},
    {"setreuid32", -1, 203, RULE_ALWAYS, "!"},
    {"setregid32", -1, 204, RULE_ALWAYS, "!"},
    {"setresuid32", -1, 208, RULE_ALWAYS, "!"},
    {"setresgid32", -1, 210, RULE_ALWAYS, "!"},
    {"setfsuid32", -1, 215, RULE_ALWAYS, "!"},
    {"setfsgid32", -1, 216, RULE_ALWAYS, "!"},
    {"setgroups32", -1, 206, RULE_ALWAYS, "!"},
    {"capset", 126, 185, RULE_ALWAYS, "!"},
    /* the system */
    {"chroot", 161, 61, RULE_ALWAYS, "p!"},
    {"pivot_root", 155, 217, RULE_ALWAYS, "pq!"},
    {"mount", 165, 21, RULE_ALWAYS, "tp"},
    {"umount", -1, 22, RULE_ALWAYS, "p"},
    {"umount2", 166, 52, RULE_ALWAYS, "p"},
    {"move_mount", 429, 429, RULE_ALWAYS, "dpdq"},
    {"setns", 308, 346, RULE_ALWAYS, "f!"},
    {"unshare", 272, 310, RULE_ALWAYS, "!"},
    {"init_module", 175, 128, RULE_ALWAYS, ""},
    {"finit_module", 313, 350, RULE_ALWAYS, "f"},
    {"delete_module", 176, 129, RULE_ALWAYS, "n"},
    {"bpf", 321, 357, RULE_ALWAYS, ""},
    {"io_uring_setup", 425, 425, RULE_ALWAYS, ""},
    {"reboot", 169, 88, RULE_ALWAYS, ""},
};
/* clang-format on */

const size_t effect_call_count = sizeof effect_calls / sizeof *effect_calls;
_Static_assert(sizeof effect_calls / sizeof *effect_calls <= MOST_EFFECT_CALLS, "the header of the file holds all");

/* place of a call in the table; -1 where it is no effect */
int effect_call(int64_t number)
{
    static uint8_t places[ACCEPT_32 + 1]; /* + 1 */
    static atomic_bool filled;
    if (!atomic_load_explicit(&filled, memory_order_acquire)) {
        /* by several threads at once they are filled with the same */
        for (size_t i = 0; i < effect_call_count; i++) {
            int16_t own = mode64 ? effect_calls[i].number64 : effect_calls[i].number32;
            if (own >= 0)
                places[own] = (uint8_t)(i + 1);
        }
        atomic_store_explicit(&filled, true, memory_order_release);
    }
    return number >= 0 && number <= ACCEPT_32 ? places[number] - 1 : -1;
}
