"""eBPF instructions put one after another, with jumps to places that come later.

Knows how `struct bpf_insn` (linux/bpf.h) is encoded in little endian, and nothing of filters.
"""

from __future__ import annotations

import struct

# Classes.
LDX, ST, STX, ALU, JMP, JMP32, ALU64 = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
# Sizes of loads and stores by their number of bytes, their mode, and where an operand is.
SIZES = {1: 0x10, 2: 0x08, 4: 0x00}
MEM = 0x60
IMM, REG = 0x00, 0x08
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR, MOV = range(0x00, 0xC0, 0x10)
END = 0xD0
JA, JEQ, JGT, JGE, JSET, JNE = range(0x00, 0x60, 0x10)
CALL, EXIT, JLT, JLE = range(0x80, 0xC0, 0x10)

INSN_BYTES = 8
# What the 16 bits of a jump reach.
FARTHEST = (1 << 15) - 1

_INSN = struct.Struct("<BBhi")


class TooFarError(Exception):
    """A jump does not reach its target: the program is too long."""


class Label:
    """A place in the program: before the instruction that follows `Assembler.bind`.

    `used` tells whether anything jumps there.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self.used = False


class Assembler:
    """Collects instructions; `finish` encodes them.

    Registers are numbers from 0 to 10, immediates and offsets are taken modulo their width.
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int]] = []
        self._jumps: dict[int, Label] = {}

    def bind(self, label: Label) -> None:
        """The next instruction is where `label` points."""
        label.at = len(self._code)

    def _put(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        self._code.append((code, dst, src, off, imm))

    def _put_jump(
        self, code: int, target: Label, dst: int = 0, src: int | None = None, imm: int = 0
    ) -> None:
        self._jumps[len(self._code)] = target
        target.used = True
        self._put(code | (IMM if src is None else REG), dst, src or 0, 0, imm)

    def alu(self, operation: int, dst: int, *, src: int | None = None, imm: int = 0) -> None:
        """Arithmetic on 32 bits, which clears the upper half; with register `src` or `imm`."""
        self._put(ALU | operation | (IMM if src is None else REG), dst, src or 0, 0, imm)

    def alu64(self, operation: int, dst: int, *, src: int | None = None, imm: int = 0) -> None:
        """Arithmetic on 64 bits; an immediate is sign-extended."""
        self._put(ALU64 | operation | (IMM if src is None else REG), dst, src or 0, 0, imm)

    def to_big_endian(self, dst: int, size: int) -> None:
        """Big-endian bytes as they were loaded become a number (or the other way round)."""
        self._put(ALU | END | REG, dst, imm=8 * size)

    def load(self, size: int, dst: int, src: int, off: int) -> None:
        """dst = the `size` bytes at src + off."""
        self._put(LDX | SIZES[size] | MEM, dst, src, off)

    def store(self, size: int, dst: int, off: int, src: int) -> None:
        """The `size` bytes at dst + off = src."""
        self._put(STX | SIZES[size] | MEM, dst, src, off)

    def store_zero(self, size: int, dst: int, off: int) -> None:
        """The `size` bytes at dst + off = 0."""
        self._put(ST | SIZES[size] | MEM, dst, 0, off)

    def jump(self, target: Label) -> None:
        """Go on at `target`."""
        self._put_jump(JMP | JA, target)

    def jump_if(
        self, operation: int, dst: int, target: Label, *, src: int | None = None, imm: int = 0
    ) -> None:
        """Compare 32 bits, unsigned; go on at `target` where it holds."""
        self._put_jump(JMP32 | operation, target, dst, src, imm)

    def jump_if64(
        self, operation: int, dst: int, target: Label, *, src: int | None = None, imm: int = 0
    ) -> None:
        """Compare 64 bits (as pointers have), unsigned; go on at `target` where it holds."""
        self._put_jump(JMP | operation, target, dst, src, imm)

    def call(self, helper: int) -> None:
        """Call a helper of the kernel (enum bpf_func_id)."""
        self._put(JMP | CALL, imm=helper)

    def exit(self) -> None:
        """Return register 0."""
        self._put(JMP | EXIT)

    def finish(self) -> bytes:
        """The program, encoded.  Raises TooFarError."""
        out = bytearray()
        for index, (code, dst, src, off, imm) in enumerate(self._code):
            reach = self._distance(index) if index in self._jumps else off
            out += _INSN.pack(code, src << 4 | dst, reach, _signed(imm))
        return bytes(out)

    def _distance(self, index: int) -> int:
        """How many instructions a jump leaves out."""
        target = self._jumps[index].at
        assert target is not None, "a jump to nowhere"
        distance = target - index - 1
        if not -FARTHEST <= distance <= FARTHEST:
            raise TooFarError
        return distance


def _signed(imm: int) -> int:
    """32 bits as the signed number that stands for them in an instruction."""
    imm &= 0xFFFFFFFF
    return imm - (1 << 32) if imm >> 31 else imm
