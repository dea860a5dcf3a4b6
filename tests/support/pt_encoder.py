"""Writes Intel PT packets, so that tests can make traces of their own."""

PSB = bytes((0x02, 0x82)) * 8
PSBEND = b"\x02\x23"
OVF = b"\x02\xf3"
TIP, PGE, PGD, FUP = 0x0D, 0x11, 0x01, 0x1D
TRACE_MASK = (1 << 64) - 1


class Encoder:
    """Collects packets; branch bits wait until they fill a TNT packet or another packet needs them out.

    `long_tnt` uses TNT packets of 47 bits; `defer` keeps targets back until a TNT packet is full, as
    processors may do.
    """

    def __init__(self, long_tnt: bool = False, defer: bool = False) -> None:
        self.data = bytearray()
        self._room = 47 if long_tnt else 6
        self._defer = defer
        self._bits: list[int] = []
        self._targets: list[int] = []
        self._last_ip = 0

    def tnt(self, *bits: int) -> None:
        for bit in bits:
            self._bits.append(bit)
            if len(self._bits) == self._room:
                self.flush()

    def flush(self) -> None:
        if self._bits:
            value = 1
            for bit in self._bits:
                value = value << 1 | bit
            if self._room == 6:
                self.data.append(value << 1)
            else:
                self.data += b"\x02\xa3" + value.to_bytes(6, "little")
        self._bits.clear()
        targets, self._targets = self._targets, []
        for ip in targets:
            self._ip_packet(TIP, ip)

    def tip(self, ip: int) -> None:
        if self._defer and self._bits:
            self._targets.append(ip)
            return
        self.flush()
        self._ip_packet(TIP, ip)

    def pge(self, ip: int) -> None:
        self.flush()
        self._ip_packet(PGE, ip)

    def pgd(self, ip: int | None = None) -> None:
        self.flush()
        self._ip_packet(PGD, ip)

    def fup(self, ip: int) -> None:
        self.flush()
        self._ip_packet(FUP, ip)

    def psb(self, ip: int | None, mode: int | None = 64, extra: bytes = b"") -> None:
        """PSB+: `ip` None says that tracing is off; `extra` are further packets inside of it."""
        self.flush()
        self.data += PSB
        self._last_ip = 0
        if ip is not None:
            if mode is not None:
                self.mode(mode)
            self._ip_packet(FUP, ip)
        self.data += extra + PSBEND

    def mode(self, mode: int) -> None:
        self.flush()
        self.data += bytes((0x99, {64: 1, 32: 2, 16: 0}[mode]))

    def ovf(self, ip: int | None) -> None:
        """Overflow: goes on at `ip`; None: while tracing is off."""
        self.flush()
        self.data += OVF
        self._last_ip = 0
        if ip is not None:
            self._ip_packet(FUP, ip)

    def raw(self, data: bytes) -> None:
        self.flush()
        self.data += data

    def bytes(self) -> bytes:
        self.flush()
        return bytes(self.data)

    def _ip_packet(self, opcode: int, ip: int | None) -> None:
        if ip is None:
            self.data.append(opcode)
            return
        ip &= TRACE_MASK
        if ip >> 16 == self._last_ip >> 16:
            size, compression = 2, 1
        elif ip >> 32 == self._last_ip >> 32:
            size, compression = 4, 2
        elif ((ip << 16 & TRACE_MASK) >> 16 | (-(ip >> 47 & 1) << 48) & TRACE_MASK) == ip:
            size, compression = 6, 3
        else:
            size, compression = 8, 6
        self._last_ip = ip
        self.data.append(opcode | compression << 5)
        self.data += (ip & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def mnt(payload: int) -> bytes:
    return b"\x02\xc3\x88" + payload.to_bytes(8, "little")


def cbr(ratio: int = 20) -> bytes:
    return bytes((0x02, 0x03, ratio, 0))
