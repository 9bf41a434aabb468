"""A machine for the eBPF that xdpcap/packets/filter/translate.py emits, in plain Python.

It shares nothing with the translator and knows `struct bpf_insn` from linux/bpf.h. Pointers are
numbers in disjoint ranges; a load that the verifier would have refused is an error.
"""

from __future__ import annotations

import struct

CTX, PACKET, STACK = 1 << 40, 1 << 41, 1 << 42
STACK_BYTES = 512
GET_BUFF_LEN, LOAD_BYTES = 188, 189
MOST_STEPS = 1_000_000
U32, U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}


class Machine:
    """One run of a program on a packet whose first buffer holds `linear` bytes."""

    def __init__(self, code: bytes, packet: bytes, linear: int | None = None) -> None:
        self.code = [struct.unpack_from("<BBhi", code, at) for at in range(0, len(code), 8)]
        self.packet = packet
        self.linear = len(packet) if linear is None else min(linear, len(packet))
        self.stack = bytearray(STACK_BYTES)
        self.registers = [0] * 11
        self.registers[1], self.registers[10] = CTX, STACK + STACK_BYTES

    def run(self) -> int:
        """What the program returns, 32 bits."""
        at = 0
        for _ in range(MOST_STEPS):
            code, operands, off, imm = self.code[at]
            at += 1
            if code == 0x95:
                return self.registers[0] & U32
            if code == 0x85:
                self._call(imm)
            elif code & 7 in (5, 6):
                at += off if self._holds(code, operands, imm) else 0
            else:
                self._do(code, operands, off, imm)
        raise AssertionError("a program without an end")

    def _do(self, code: int, operands: int, off: int, imm: int) -> None:
        dst, src = operands & 15, operands >> 4
        if code & 7 == 1:
            self.registers[dst] = self._read(self.registers[src] + off, SIZES[code & 0x18])
        elif code & 7 in (2, 3):
            value = self.registers[src] if code & 7 == 3 else imm
            size = SIZES[code & 0x18]
            begin = self.registers[dst] + off - STACK
            assert begin % size == 0
            self.stack[begin : begin + size] = (value & (1 << 8 * size) - 1).to_bytes(
                size, "little"
            )
        elif code == 0xDC:
            value = self.registers[dst] & (1 << imm) - 1
            self.registers[dst] = int.from_bytes(value.to_bytes(imm // 8, "little"), "big")
        else:
            self._compute(code, dst, self.registers[src] if code & 8 else imm)

    def _compute(self, code: int, dst: int, value: int) -> None:
        mask = U64 if code & 7 == 7 else U32
        left, right, bits = self.registers[dst] & mask, value & mask, 64 if mask == U64 else 32
        operation = code & 0xF0
        if operation in (0x60, 0x70):
            assert code & 8 or right < bits, "a shift beyond the register"
            right %= bits
        assert operation not in (0x30, 0x90) or right, "a division by zero"
        results = {
            0x00: lambda: left + right,
            0x10: lambda: left - right,
            0x20: lambda: left * right,
            0x30: lambda: left // right,
            0x40: lambda: left | right,
            0x50: lambda: left & right,
            0x60: lambda: left << right,
            0x70: lambda: left >> right,
            0x80: lambda: -left,
            0x90: lambda: left % right,
            0xA0: lambda: left ^ right,
            0xB0: lambda: right,
        }
        self.registers[dst] = results[operation]() & mask

    def _holds(self, code: int, operands: int, imm: int) -> bool:
        mask = U64 if code & 7 == 5 else U32
        value = self.registers[operands >> 4] if code & 8 else imm
        left, right = self.registers[operands & 15] & mask, value & mask
        comparisons = {
            0x00: True,
            0x10: left == right,
            0x20: left > right,
            0x30: left >= right,
            0x40: bool(left & right),
            0x50: left != right,
            0xA0: left < right,
            0xB0: left <= right,
        }
        return comparisons[code & 0xF0]

    def _read(self, address: int, size: int) -> int:
        if address in (CTX, CTX + 4):
            return PACKET + (self.linear if address == CTX + 4 else 0)
        memory, begin = (
            (self.stack, address - STACK) if address >= STACK else (self.packet, address - PACKET)
        )
        end = STACK_BYTES if address >= STACK else self.linear
        assert begin >= 0 and begin + size <= end, "a load that was not checked"
        return int.from_bytes(memory[begin : begin + size], "little")

    def _call(self, helper: int) -> None:
        _, context, offset, buffer, size, *_ = self.registers
        assert context == CTX
        if helper == GET_BUFF_LEN:
            result = len(self.packet)
        else:
            assert helper == LOAD_BYTES
            offset, begin = offset & U32, buffer - STACK
            result = 0 if offset <= 0xFFFF and offset + size <= len(self.packet) else -22 & U64
            if result == 0:
                self.stack[begin : begin + size] = self.packet[offset : offset + size]
        # A call leaves nothing in the registers that it may use.
        self.registers[:6] = [result, *(0xDEAD0000 + number for number in range(5))]
