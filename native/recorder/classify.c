/* what an x86 instruction does to control flow, from its bytes */
#include "recorder.h"

struct reader {
    const uint8_t *bytes;
    size_t size, at;
    bool short_of; /* bytes were wanted that are not there */
};

static uint8_t next(struct reader *r)
{
    if (r->at >= r->size) {
        r->short_of = true;
        r->at++;
        return 0;
    }
    return r->bytes[r->at++];
}

static int64_t displacement(struct reader *r, int size)
{
    uint32_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint32_t)next(r) << (8 * i);
    return size == 1 ? (int8_t)value : size == 2 ? (int16_t)value : (int32_t)value;
}

/* step over the memory operand that follows a ModRM byte */
static void operand(struct reader *r, uint8_t modrm, bool small)
{
    int mod = modrm >> 6, rm = modrm & 7;
    if (mod == 3)
        return;
    if (small) {
        displacement(r, mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0);
        return;
    }
    bool wide = mod == 2 || (mod == 0 && rm == 5);
    if (rm == 4 && (next(r) & 7) == 5 && mod == 0)
        wide = true;
    displacement(r, mod == 1 ? 1 : wide ? 4 : 0);
}

struct prefixes {
    bool repeat, narrow, small, rex_w;
};

/* the first byte of the opcode, behind all prefixes */
static uint8_t opcode(struct reader *r, struct prefixes *p)
{
    uint8_t op;
    for (;;) {
        op = next(r);
        if (op == 0xf2 || op == 0xf3)
            p->repeat = true;
        else if (op == 0x66)
            p->narrow = true;
        else if (op == 0x67)
            p->small = true;
        else if (op != 0x2e && op != 0x36 && op != 0x3e && op != 0x26 && op != 0x64 && op != 0x65)
            break;
        if (r->short_of || r->at > 15)
            break;
    }
    if (mode64 && (op & 0xf0) == 0x40) {
        p->rex_w = op & 8;
        op = next(r);
    }
    return op;
}

/* opcodes of two bytes, the first of which is 0x0f */
static enum kind kind_of_two(struct reader *r, int wide, int64_t *distance)
{
    uint8_t op = next(r);
    if (r->short_of)
        return KIND_FALL;
    if (op >= 0x80 && op <= 0x8f) {
        *distance = displacement(r, wide);
        return KIND_COND;
    }
    return op == 0x05 || op == 0x07 || op == 0x34 || op == 0x35 ? KIND_FAR : KIND_FALL;
}

/* of a direct branch also how far it goes */
static enum kind kind_of(struct reader *r, uint8_t op, const struct prefixes *p, int64_t *distance)
{
    /* a 16-bit operand makes displacements of near branches 16 bits wide, as the emulator reads them */
    int wide = p->narrow && !p->rex_w ? 2 : 4;
    switch (op) {
    case 0x70 ... 0x7f:
    case 0xe0 ... 0xe3:
        *distance = displacement(r, 1);
        return KIND_COND;
    case 0xeb:
        *distance = displacement(r, 1);
        return KIND_DIRECT;
    case 0xe8:
    case 0xe9:
        *distance = displacement(r, wide);
        return KIND_DIRECT;
    case 0xc2:
        displacement(r, 2);
        return KIND_INDIRECT;
    case 0xc3:
        return KIND_INDIRECT;
    case 0xca:
        displacement(r, 2);
        return KIND_FAR;
    case 0xcd:
        next(r);
        return KIND_FAR;
    case 0xcb:
    case 0xcc:
    case 0xcf:
    case 0xf1:
        return KIND_FAR;
    case 0xce:
        return mode64 ? KIND_FALL : KIND_FAR;
    case 0x9a:
    case 0xea:
        if (mode64)
            return KIND_FALL;
        displacement(r, wide);
        displacement(r, 2);
        return KIND_FAR;
    case 0xff: {
        uint8_t modrm = next(r);
        int extension = (modrm >> 3) & 7;
        if (extension < 2 || extension > 5)
            return KIND_FALL;
        operand(r, modrm, p->small && !mode64);
        return extension == 2 || extension == 4 ? KIND_INDIRECT : KIND_FAR;
    }
    case 0x6c ... 0x6f:
    case 0xa4 ... 0xa7:
    case 0xaa ... 0xaf:
        return p->repeat ? KIND_REP : KIND_FALL;
    case 0x0f:
        return kind_of_two(r, wide, distance);
    default:
        return KIND_FALL;
    }
}

/* `length` is exact for branches (it may exceed `size` when bytes are missing), `size` for all others */
enum kind classify(const uint8_t *bytes, size_t size, uint64_t address, size_t *length, uint64_t *target)
{
    struct reader r = {bytes, size, 0, false};
    struct prefixes prefixes = {0};
    int64_t distance = 0;
    uint8_t op = opcode(&r, &prefixes);
    *length = size;
    *target = NO_TARGET;
    if (r.short_of)
        return KIND_FALL;
    enum kind kind = kind_of(&r, op, &prefixes, &distance);
    if (kind == KIND_FALL || kind == KIND_REP)
        return kind;
    *length = r.at;
    if (kind == KIND_COND || kind == KIND_DIRECT) {
        *target = address + r.at + (uint64_t)distance;
        if (!mode64)
            *target = (uint32_t)*target;
    }
    return kind;
}
