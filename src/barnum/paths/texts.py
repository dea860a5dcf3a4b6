"""Text of instructions in the Intel syntax that XED prints, as the original's rows hold it."""

from __future__ import annotations

from typing import Any

from barnum.paths.code import CodeReader
from barnum.paths.rowwriter import split_text

# iced-x86's words, XED's words
_SPELLINGS = (("fword ptr", "ptr"), ("loopnz", "loopne"), ("loopz", "loope"), ("data64 ", ""))
_PREFIXES = ("rep", "repe", "repne", "bnd", "notrack")
_BRANCHES = ("ret", "call", "jmp")


class Texts:
    """Texts of instructions in 32- or 64-bit code."""

    def __init__(self, mode: int) -> None:
        import iced_x86

        self._mode = mode
        self._decoder = iced_x86.Decoder
        formatter: Any = iced_x86.Formatter(iced_x86.FormatterSyntax.INTEL)
        formatter.hex_prefix, formatter.hex_suffix = "0x", ""
        formatter.uppercase_hex = False
        formatter.small_hex_numbers_in_decimal = False
        formatter.add_leading_zero_to_hex_numbers = False
        formatter.branch_leading_zeros = False
        formatter.show_branch_size = False
        formatter.space_after_operand_separator = True
        formatter.always_show_scale = True
        formatter.rip_relative_addresses = True
        formatter.show_useless_prefixes = False
        formatter.memory_size_options = iced_x86.MemorySizeOptions.ALWAYS
        # a condition code has several names; XED uses these
        formatter.cc_b, formatter.cc_ae = iced_x86.CC_b.B, iced_x86.CC_ae.NB
        formatter.cc_e, formatter.cc_ne = iced_x86.CC_e.Z, iced_x86.CC_ne.NZ
        formatter.cc_be, formatter.cc_a = iced_x86.CC_be.BE, iced_x86.CC_a.NBE
        formatter.cc_p, formatter.cc_np = iced_x86.CC_p.P, iced_x86.CC_np.NP
        formatter.cc_l, formatter.cc_ge = iced_x86.CC_l.L, iced_x86.CC_ge.NL
        formatter.cc_le, formatter.cc_g = iced_x86.CC_le.LE, iced_x86.CC_g.NLE
        self._formatter = formatter

    def text(self, data: bytes, address: int) -> str:
        """Text of the instruction at the beginning of ``data``, with a newline at its end.

        It is ``(bad)``, a space and a newline where the bytes are no instruction.
        """
        instruction = next(iter(self._decoder(self._mode, data, ip=address)), None)
        if instruction is None or instruction.is_invalid:
            return "(bad) \n"
        text: str = self._formatter.format(instruction)
        for ours, xed in _SPELLINGS:
            text = text.replace(ours, xed)
        words = text.split(" ")
        if words[0] in _PREFIXES and words[1] in _BRANCHES:
            # rows are chosen by their first word, which must be the branch
            text = " ".join(words[1:])
        # a mnemonic without operands keeps its space; nop is the one exception
        return f"{text}\n" if " " in text or text == "nop" else f"{text} \n"

    def row(self, reader: CodeReader, address: int, size: int) -> tuple[str, str, int]:
        """Text, mnemonic and number of words of the instruction of ``size`` bytes at ``address``.

        Texts are cut to 255 characters, and words counted up to 255, as a row can hold no more.
        """
        text = self.text(reader.read(address, size), address)[:255]
        mnemonic, words = split_text(text)
        return text, mnemonic[:255], min(words, 255)
