"""Kinds of blocks (by the instruction that ends them) and causes of gaps, names and codes."""

from __future__ import annotations

import re
from enum import IntEnum


class Kind(IntEnum):
    """What ends a block. Codes are those of the decoder and of parsed traces.

    UNKNOWN is no block of code: a place that a transfer led to, of which no code is known.
    """

    NONE = 0
    CONDITIONAL = 1
    JUMP = 2
    INDIRECT_JUMP = 3
    CALL = 4
    INDIRECT_CALL = 5
    RETURN = 6
    FAR = 7
    INDIRECT_FAR = 8
    UNKNOWN = 9


class Gap(IntEnum):
    """Why there is no transfer from the step before. Codes are those of the decoder and of parsed traces."""

    NONE = 0
    START = 1
    TRACING_OFF = 2
    ASYNCHRONOUS = 3
    OVERFLOW = 4
    LOST = 5
    UNMAPPED = 6
    CODE_CHANGED = 7


# names for people, by code
KINDS: tuple[str, ...] = (
    "none",
    "conditional",
    "jump",
    "indirect jump",
    "call",
    "indirect call",
    "return",
    "far",
    "indirect far",
    "unknown",
)
GAPS: tuple[str, ...] = (
    "none",
    "start of stream",
    "tracing off",
    "asynchronous event",
    "overflow",
    "lost",
    "unmapped code",
    "code changed",
)

# words that stand before the mnemonic
_PREFIXES = frozenset(
    (
        *("rep", "repe", "repz", "repne", "repnz", "bnd", "notrack", "lock", "xacquire", "xrelease"),
        *("data16", "data32", "addr16", "addr32", "hint-taken", "hint-not-taken"),
    )
)
_FAR = frozenset(
    (
        *("syscall", "syscall_amd", "syscall_32", "sysenter", "sysexit", "sysexitq"),
        *("sysret", "sysretq", "sysret_amd", "sysret64", "int", "int1", "int3", "into", "icebp"),
        *("iret", "iretd", "iretq", "uiret", "retf", "retfq", "ret_far", "lret", "rsm"),
        *("vmlaunch", "vmresume", "vmcall"),
    )
)
_RETURNS = frozenset(("ret", "retn", "retq", "ret_near"))
_LOOPS = frozenset(("loop", "loope", "loopz", "loopne", "loopnz"))
_REGISTER = re.compile(r"[re]?(?:ax|bx|cx|dx|si|di|bp|sp)|r(?:[89]|1[0-9]|2[0-9]|3[01])[wd]?")


def kind_of_text(text: str) -> Kind:
    """The kind of an instruction, from its text in Intel syntax as XED prints it; NONE if it is no branch.

    A branch through a register is indirect, just as one through memory.
    """
    words = text.lower().replace(",", " ").split()
    first = 0
    while first < len(words) and words[first] in _PREFIXES:
        first += 1
    if first == len(words):
        return Kind.NONE
    mnemonic, operands = words[first], words[first + 1 :]
    if mnemonic in _RETURNS:
        return Kind.FAR if operands[:1] == ["far"] else Kind.RETURN
    if mnemonic in ("call", "jmp", "call_near", "call_far", "jmp_far"):
        return _kind_of_branch(mnemonic, operands)
    if mnemonic in _FAR:
        return Kind.FAR
    # every mnemonic with j that is not jmp or a form of it (jmpabs) is a conditional jump
    if mnemonic in _LOOPS or (mnemonic.startswith("j") and not mnemonic.startswith("jmp")):
        return Kind.CONDITIONAL
    return Kind.NONE


def _kind_of_branch(mnemonic: str, operands: list[str]) -> Kind:
    indirect = any(word == "ptr" or "[" in word or _REGISTER.fullmatch(word) is not None for word in operands)
    if "far" in operands or mnemonic.endswith("_far"):
        return Kind.INDIRECT_FAR if indirect else Kind.FAR
    if mnemonic.startswith("call"):
        return Kind.INDIRECT_CALL if indirect else Kind.CALL
    return Kind.INDIRECT_JUMP if indirect else Kind.JUMP
