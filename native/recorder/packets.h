/* Intel PT packets (Intel SDM, volume 3, chapter on Intel PT) put into a stream that has room for them */
// clang-format Language: C
#ifndef BARNUM_PACKETS_H
#define BARNUM_PACKETS_H

#include <string.h>

#include "recorder.h"

enum {
    PSB_STEP = 16 << 10, /* bytes between two places at which decoding can begin */
    TNT_FULL = 47,
    OP_TIP = 0x0d,
    OP_PGE = 0x11,
    OP_PGD = 0x01,
    OP_FUP = 0x1d,
    TRACING = 1,
};

/* packets are written first and counted last: a kill in between loses them, but leaves no half of one */

static inline uint8_t *put_tnt(uint8_t *to, uint64_t tnt)
{
    if (tnt == 1)
        return to;
    int count = 63 - __builtin_clzll(tnt);
    if (count <= 6) {
        *to = (uint8_t)(tnt << 1);
        return to + 1;
    }
    if (count <= 12) {
        int rest = count - 6;
        to[0] = (uint8_t)((tnt >> rest) << 1);
        to[1] = (uint8_t)(2u << rest | (tnt & ((1u << rest) - 1)) << 1);
        return to + 2;
    }
    uint64_t packet = 0xa302 | tnt << 16;
    memcpy(to, &packet, 8);
    return to + 8;
}

static inline uint8_t *put_ip(uint8_t *to, uint8_t op, uint64_t ip, uint64_t last)
{
    uint64_t change = ip ^ last, packet = ip << 8;
    if (change >> 16 == 0) {
        packet |= op | 1 << 5;
        memcpy(to, &packet, 8);
        return to + 3;
    }
    if (change >> 32 == 0) {
        packet |= op | 2 << 5;
        memcpy(to, &packet, 8);
        return to + 5;
    }
    if ((uint64_t)((int64_t)(ip << 16) >> 16) == ip) {
        packet |= op | 3 << 5;
        memcpy(to, &packet, 8);
        return to + 7;
    }
    *to = op | 6 << 5;
    memcpy(to + 1, &ip, 8);
    return to + 9;
}

static inline void packet_ip(struct stream *s, uint8_t op, uint64_t ip)
{
    uint8_t *from = s->base + s->bytes;
    uint8_t *to = put_ip(put_tnt(from, s->tnt), op, ip, s->last_ip);
    s->last_ip = ip;
    s->tnt = 1;
    s->bytes += (uint64_t)(to - from);
}

/* tracing ends without an address: the branch at the end of the block went to code that is not traced */
static inline void packet_off(struct stream *s)
{
    uint8_t *from = s->base + s->bytes;
    uint8_t *to = put_tnt(from, s->tnt);
    *to++ = OP_PGD;
    s->tnt = 1;
    s->flags &= ~(uint32_t)TRACING;
    s->bytes += (uint64_t)(to - from);
}

static inline void packet_on(struct stream *s, uint64_t ip)
{
    packet_ip(s, OP_PGE, ip);
    s->flags |= TRACING;
}

static inline void packet_psb(struct stream *s, uint64_t ip)
{
    uint8_t *from = s->base + s->bytes;
    uint8_t *to = put_tnt(from, s->tnt);
    for (int i = 0; i < 8; i++) {
        *to++ = 0x02;
        *to++ = 0x82;
    }
    *to++ = 0x99;
    *to++ = mode64 ? 1 : 2;
    s->last_ip = 0;
    if (s->flags & TRACING) {
        to = put_ip(to, OP_FUP, ip, 0);
        s->last_ip = ip;
    }
    if (s->epoch) {
        uint64_t epoch = s->epoch;
        *to++ = 0x02;
        *to++ = 0xc3;
        *to++ = 0x88;
        memcpy(to, &epoch, 8);
        to += 8;
    }
    *to++ = 0x02;
    *to++ = 0x23;
    s->tnt = 1;
    s->bytes += (uint64_t)(to - from);
    s->psb_next = s->bytes + PSB_STEP;
}

static inline void packet_leave(struct stream *s, uint64_t ip)
{
    packet_ip(s, OP_FUP, ip);
    packet_off(s);
}

static inline void push(struct stream *s, unsigned bit)
{
    uint64_t tnt = s->tnt << 1 | bit;
    if (tnt >> TNT_FULL) {
        uint8_t *from = s->base + s->bytes;
        uint8_t *to = put_tnt(from, tnt);
        s->tnt = 1;
        s->bytes += (uint64_t)(to - from);
    } else {
        s->tnt = tnt;
    }
}

#endif
