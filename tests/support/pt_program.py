"""Random little programs with a random run each: the code, its trace, and the blocks that must come out."""

import random
from dataclasses import dataclass, field

from pt_encoder import Encoder, cbr

CONDITIONAL, JUMP, INDIRECT_JUMP, CALL, INDIRECT_CALL, RETURN, FAR = 1, 2, 3, 4, 5, 6, 7
NOPS = (b"\x90", b"\x66\x90", b"\x0f\x1f\x00", b"\x0f\x1f\x40\x00", b"\x0f\x1f\x44\x00\x00")
ENDS = {
    CONDITIONAL: b"\x0f\x85", JUMP: b"\xe9", CALL: b"\xe8",
    INDIRECT_JUMP: b"\xff\xe0", INDIRECT_CALL: b"\xff\xd0", RETURN: b"\xc3", FAR: b"\x0f\x05",
}  # fmt: skip
Step = tuple[int, int, int, int, int]  # start, last instruction, instructions, kind, gap


@dataclass
class Block:
    kind: int
    sizes: list[int]
    start: int = 0
    target: int = 0

    def instruction(self, k: int) -> int:
        return self.start + sum(self.sizes[:k])

    @property
    def after(self) -> int:
        return self.start + sum(self.sizes)

    def step(self, gap: int) -> Step:
        return self.start, self.instruction(len(self.sizes) - 1), len(self.sizes), self.kind, gap

    def part(self, k: int, gap: int) -> Step:
        """The first k instructions."""
        return self.start, self.instruction(k - 1), k, 0, gap


@dataclass
class Run:
    base: int
    code: bytes = b""
    trace: bytes = b""
    steps: list[Step] = field(default_factory=list)


def make_blocks(rng: random.Random, count: int, base: int, returns: bool) -> tuple[list[Block], bytes]:
    kinds = [k for k in ENDS if returns or k != RETURN]
    blocks, code, starts = [], b"", []
    for i in range(count):
        # direct branches lead forward only, so that no loop runs without a word of the trace
        kind = INDIRECT_JUMP if i >= count - 2 else rng.choice(kinds)
        nops = [rng.choice(NOPS) for _ in range(rng.randrange(6))]
        size = len(ENDS[kind]) + (4 if kind in (CONDITIONAL, JUMP, CALL) else 0)
        blocks.append(Block(kind, [len(n) for n in nops] + [size], base + len(code)))
        code += b"".join(nops)
        starts.append(len(code))
        code += ENDS[kind] + bytes(size - len(ENDS[kind]))
    patched = bytearray(code)
    for i, block in enumerate(blocks):
        if block.kind in (CONDITIONAL, JUMP, CALL):
            block.target = rng.choice(blocks[i + 2 :] if i + 2 < count else blocks[-1:]).start
            displacement = (block.target - block.after) & 0xFFFFFFFF
            patched[block.after - base - 4 : block.after - base] = displacement.to_bytes(4, "little")
    return blocks, bytes(patched)


def make_run(seed: int, steps: int = 300, events: bool = True, defer: bool = False) -> Run:
    """A run in which nothing is lost but by the overflows it has."""
    rng = random.Random(seed)
    base = rng.choice((0x400000, 0x7F12_3456_7000, 0xFFFF_8000_0001_0000, 0x5555_5555_4FF0))
    blocks, code = make_blocks(rng, rng.randrange(8, 40), base, returns=not defer)
    by_start = {b.start: b for b in blocks}
    enc = Encoder(long_tnt=rng.random() < 0.3, defer=defer)
    run = Run(base, code)
    here, gap = rng.choice(blocks), 1
    stack: list[int] = []
    told = True  # by the trace, how the block before ended: an overflow is known to come after it
    enc.psb(here.start)
    for _ in range(steps):
        event = rng.random() if events else 1.0
        if event < 0.03:
            enc.psb(here.instruction(rng.randrange(len(here.sizes))), extra=rng.choice((b"", cbr())))
        elif event < 0.05:
            enc.raw(rng.choice((b"\0" * 7, cbr())))
        elif event < 0.08:  # an interrupt that comes back
            ip = here.instruction(rng.randrange(len(here.sizes)))
            enc.fup(ip)
            enc.pgd()
            if rng.random() < 0.3:
                enc.psb(None)
            if rng.random() < 0.3:
                enc.mode(64)
            enc.pge(ip)
        elif event < 0.12:  # one that goes elsewhere, to the kernel or not
            k = rng.randrange(len(here.sizes))
            enc.fup(here.instruction(k))
            if k:
                run.steps.append(here.part(k, gap))
                gap = 0
            gap = gap or 3
            here = rng.choice([b for b in blocks if b is not here])
            if rng.random() < 0.5:
                enc.pgd()
                enc.pge(here.start)
            else:
                enc.tip(here.start)
        elif event < 0.13 and told:
            here = rng.choice(blocks)
            gap = gap if gap == 1 else 4
            stack.clear()
            enc.ovf(here.start)
        run.steps.append(here.step(gap))
        gap = 0
        leaves = events and rng.random() < 0.03
        told = leaves or here.kind not in (JUMP, CALL)
        nearby = by_start.get(here.after)
        if here.kind == JUMP or here.kind == CALL:
            target = by_start[here.target]
            if here.kind == CALL and not leaves:
                stack.append(here.after)
        elif here.kind == CONDITIONAL:
            taken = nearby is None or rng.random() < 0.5
            target = by_start[here.target] if taken else nearby
            assert target is not None
            if not leaves:
                enc.tnt(int(taken))
        elif here.kind == FAR:
            target = nearby if nearby and rng.random() < 0.8 else rng.choice(blocks)
            if not leaves:
                enc.pgd()
                enc.pge(target.start)
        elif here.kind == RETURN and not leaves and stack and stack[-1] in by_start and rng.random() < 0.8:
            target = by_start[stack.pop()]
            enc.tnt(1)
        else:
            if here.kind == INDIRECT_CALL and not leaves:
                stack.append(here.after)
            target = rng.choice(blocks)
            if not leaves:
                enc.tip(target.start)
        if leaves:  # out of what is traced
            enc.pgd(target.start if here.kind in (JUMP, CALL) else base - 0x1230)
            here, gap = rng.choice(blocks), 2
            enc.pge(here.start)
        else:
            here = target
        stack = stack[-64:]
    # with tracing off the end is certain
    enc.fup(here.start)
    enc.pgd()
    run.trace = enc.bytes()
    return run
