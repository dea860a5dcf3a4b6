"""What the arguments of system calls mean that are effects: numbers by name, flags, addresses, errors."""

from __future__ import annotations

import errno
import ipaddress
import re
import struct
from collections.abc import Sequence

from barnum.texts import escaped

# names of flags by value; values of several bits stand before their parts
_Flags = tuple[tuple[int, str], ...]
_OPEN: _Flags = (
    (0o20200000, "O_TMPFILE"),
    (0o4010000, "O_SYNC"),
    (0o1, "O_WRONLY"),
    (0o2, "O_RDWR"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o10000, "O_DSYNC"),
    (0o20000, "O_ASYNC"),
    (0o40000, "O_DIRECT"),
    (0o100000, "O_LARGEFILE"),
    (0o200000, "O_DIRECTORY"),
    (0o400000, "O_NOFOLLOW"),
    (0o1000000, "O_NOATIME"),
    (0o2000000, "O_CLOEXEC"),
    (0o10000000, "O_PATH"),
)
_CLONE: _Flags = (
    (0x100, "CLONE_VM"),
    (0x200, "CLONE_FS"),
    (0x400, "CLONE_FILES"),
    (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (0x4000, "CLONE_VFORK"),
    (0x8000, "CLONE_PARENT"),
    (0x20000, "CLONE_NEWNS"),
    (0x40000, "CLONE_SYSVSEM"),
    (0x80000, "CLONE_SETTLS"),
    (0x100000, "CLONE_PARENT_SETTID"),
    (0x200000, "CLONE_CHILD_CLEARTID"),
    (0x800000, "CLONE_UNTRACED"),
    (0x1000000, "CLONE_CHILD_SETTID"),
    (0x2000000, "CLONE_NEWCGROUP"),
    (0x4000000, "CLONE_NEWUTS"),
    (0x8000000, "CLONE_NEWIPC"),
    (0x10000000, "CLONE_NEWUSER"),
    (0x20000000, "CLONE_NEWPID"),
    (0x40000000, "CLONE_NEWNET"),
    (0x80000000, "CLONE_IO"),
)
_PROTECTION: _Flags = ((1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"))
_AT: _Flags = (
    (0x100, "AT_SYMLINK_NOFOLLOW"),
    (0x200, "AT_REMOVEDIR"),
    (0x400, "AT_SYMLINK_FOLLOW"),
    (0x1000, "AT_EMPTY_PATH"),
)
_RENAME: _Flags = ((1, "RENAME_NOREPLACE"), (2, "RENAME_EXCHANGE"), (4, "RENAME_WHITEOUT"))
_MEMFD: _Flags = ((1, "MFD_CLOEXEC"), (2, "MFD_ALLOW_SEALING"), (4, "MFD_HUGETLB"))

# by call: names of flags, the argument that holds them (counted from 0), and other numbers as NAME@ARGUMENT;
# with i: a signed 32-bit number
_OPEN_AT = (_OPEN, 2, "mode@3")
_MAP = (_PROTECTION, 2, "length@1 descriptor:i@4")
_CALLS: dict[str, tuple[_Flags, int, str]] = {
    "clone": (_CLONE, 0, ""),
    "clone3": (_CLONE, 0, ""),
    "unshare": (_CLONE, 0, ""),
    "setns": (_CLONE, 1, "descriptor:i@0"),
    "execveat": (_AT, 4, ""),
    "open": (_OPEN, 1, "mode@2"),
    "openat": _OPEN_AT,
    "openat2": (_OPEN, 2, ""),
    "memfd_create": (_MEMFD, 1, ""),
    "unlinkat": (_AT, 2, ""),
    "linkat": (_AT, 4, ""),
    "renameat2": (_RENAME, 4, ""),
    "fchownat": (_AT, 4, "uid:i@2 gid:i@3"),
    "fchmodat2": (_AT, 3, "mode@2"),
    "utimensat": (_AT, 3, ""),
    "mmap": _MAP,
    "mmap2": _MAP,
    "mprotect": (_PROTECTION, 2, "address@0 length@1"),
    "pkey_mprotect": (_PROTECTION, 2, "address@0 length@1"),
}
_VALUES = {
    "kill": "pid:i@0 signal:i@1",
    "tkill": "thread:i@0 signal:i@1",
    "tgkill": "pid:i@0 thread:i@1 signal:i@2",
    "rt_sigqueueinfo": "pid:i@0 signal:i@1",
    "rt_tgsigqueueinfo": "pid:i@0 thread:i@1 signal:i@2",
    "pidfd_send_signal": "descriptor:i@0 signal:i@1",
    "ptrace": "request:i@0 pid:i@1",
    "process_vm_writev": "pid:i@0",
    "creat": "mode@1",
    "mkdir": "mode@1",
    "mkdirat": "mode@2",
    "mknod": "mode@1 device@2",
    "mknodat": "mode@2 device@3",
    "chmod": "mode@1",
    "fchmod": "mode@1",
    "fchmodat": "mode@2",
    "truncate": "length@1",
    "ftruncate": "length@1",
    "connect": "descriptor:i@0",
    "bind": "descriptor:i@0",
    "listen": "descriptor:i@0 backlog:i@1",
    "accept": "descriptor:i@0",
    "accept4": "descriptor:i@0",
    "sendto": "descriptor:i@0 length@2",
    "sendmsg": "descriptor:i@0",
    "sendmmsg": "descriptor:i@0 messages@2",
    "umount2": "flags@1",
    "mount": "flags@3",
    "bpf": "command:i@0",
    "reboot": "command@2",
}
_IDS = {
    "chown": "uid:i@1 gid:i@2",
    "fchown": "uid:i@1 gid:i@2",
    "lchown": "uid:i@1 gid:i@2",
    "setuid": "uid:i@0",
    "setgid": "gid:i@0",
    "setreuid": "real:i@0 effective:i@1",
    "setregid": "real:i@0 effective:i@1",
    "setresuid": "real:i@0 effective:i@1 saved:i@2",
    "setresgid": "real:i@0 effective:i@1 saved:i@2",
    "setfsuid": "uid:i@0",
    "setfsgid": "gid:i@0",
    "setgroups": "count@0",
}
# calls of 32-bit programs that do the same with wider numbers
_WIDE = {f"{name}32": text for name, text in _IDS.items()}
_SHAPES: dict[str, tuple[_Flags, int, str]] = {
    **{name: ((), 0, text) for name, text in {**_VALUES, **_IDS, **_WIDE}.items()},
    **_CALLS,
}
_VALUE = re.compile(r"(\w+)(:i)?@(\d)")
_MOST_ERRORS = 4095
# not errors that a program sees: the call is made again, or the thread goes on where a signal came
_INNER_ERRORS = {512: "ERESTARTSYS", 513: "ESIGRETURN"}


def numbers_of(call: str, arguments: Sequence[int]) -> tuple[str | None, dict[str, int]]:
    """Flags of a call as text, and its other numbers by name.

    Args:
        call: its name.
        arguments: the six arguments, u64.
    """
    flags, at, text = _SHAPES.get(call, ((), 0, ""))
    values = {
        name: _signed(arguments[int(place)]) if signed else arguments[int(place)]
        for name, signed, place in _VALUE.findall(text)
    }
    if flags is _OPEN and "mode" in values and not arguments[at] & 0o20000100:
        del values["mode"]  # it says nothing where nothing is created
    return (_flag_names(flags, arguments[at] & 0xFFFFFFFF) if flags else None), values


def result_of(value: int, bits: int) -> tuple[int | None, str | None]:
    """What a call returned (i64), and the name of its error: one of the two is None."""
    if -_MOST_ERRORS <= value < 0:
        return None, _INNER_ERRORS.get(-value) or errno.errorcode.get(-value, f"E{-value}")
    return (value & 0xFFFFFFFF if bits == 32 else value), None


def address_of(data: bytes) -> str:
    """A socket's address (struct sockaddr) as text; see :class:`barnum.samples.Effect`."""
    if len(data) < 2:
        return ""
    (family,) = struct.unpack_from("<H", data)
    if family == 0:
        return "unspecified"
    if family == 1:
        path = data[2:]
        if path[:1] == b"\0":
            return f"unix:@{escaped(path[1:])}"
        text = escaped(path.split(b"\0")[0])
        # so that no path looks like an abstract name
        return f"unix:\\x40{text[1:]}" if text.startswith("@") else f"unix:{text}"
    if family == 2 and len(data) >= 8:
        return f"{ipaddress.IPv4Address(data[4:8])}:{int.from_bytes(data[2:4], 'big')}"
    if family == 10 and len(data) >= 24:
        scope = int.from_bytes(data[24:28], "little")
        host = f"{ipaddress.IPv6Address(data[8:24])}" + (f"%{scope}" if scope else "")
        return f"[{host}]:{int.from_bytes(data[2:4], 'big')}"
    if family == 16 and len(data) >= 8:
        return f"netlink:{int.from_bytes(data[4:8], 'little')}"
    return f"family {family}:{data[2:].hex()}"


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _flag_names(flags: _Flags, value: int) -> str | None:
    names = []
    if flags is _OPEN and not value & 3:
        names.append("O_RDONLY")
    for bits, name in flags:
        if value & bits == bits:
            names.append(name)
            value &= ~bits
    if value:
        names.append(f"{value:#x}")
    return "|".join(names) or None
