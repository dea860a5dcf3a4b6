"""The filter of system calls in a sandbox.

It refuses what readers of documents never need and attacks on a kernel do, and calls that make memory which
belongs to no process and so would escape the limit.

It is a program of the kernel's classic BPF (linux/filter.h) on ``struct seccomp_data``: number of the call at
offset 0, architecture at 4, low halves of the first and second argument at 16 and 24.
"""

from __future__ import annotations

import errno
import struct

# numbers of x86-64 (asm/unistd_64.h)
ABSENT = {
    "shmget": 29, "msgget": 68, "memfd_create": 319, "memfd_secret": 447,
    "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
}  # fmt: skip
FORBIDDEN = {
    "ptrace": 101, "syslog": 103, "pivot_root": 155, "adjtimex": 159, "chroot": 161, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
    "delete_module": 176, "quotactl": 179, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
    "request_key": 249, "keyctl": 250, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442,
    "quotactl_fd": 443,
}  # fmt: skip
_UNSHARE, _IOCTL = 272, 16
# the recorder needs this one: a thread with a table of descriptors of its own
_CLONE_FILES = 0x400
# input put into a terminal, as if its user had typed it
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_X86_64 = 0xC000003E
# calls of another interface for programs (x32)
_OTHER_NUMBERS = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24


def call_filter() -> bytes:
    """The filter, as bubblewrap's ``--seccomp`` reads it: ``struct sock_filter[n]``."""
    absent, forbidden = _ERROR | errno.ENOSYS, _ERROR | errno.EPERM
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, absent),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _OTHER_NUMBERS),
        (_RETURN, 0, 0, absent),
    ]
    for numbers, answer in ((ABSENT, absent), (FORBIDDEN, forbidden)):
        for number in numbers.values():
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    program += [
        (_EQUAL, 0, 4, _UNSHARE),
        (_LOAD, 0, 0, _FIRST_AT),
        (_EQUAL, 0, 1, _CLONE_FILES),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, forbidden),
        (_EQUAL, 0, 4, _IOCTL),
        (_LOAD, 0, 0, _SECOND_AT),
        (_EQUAL, 1, 0, _TIOCSTI),
        (_EQUAL, 0, 1, _TIOCLINUX),
        (_RETURN, 0, 0, forbidden),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *step) for step in program)
