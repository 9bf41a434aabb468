"""Classic BPF as libpcap compiles it, translated to eBPF for an XDP program.

The translation says of every packet what libpcap's interpreter says (bpf_filter.c): a load
beyond the packet's end rejects, with 32-bit offsets that never wrap around, and so does a
division by zero; a shift by 32 or more leaves 0. It is one function of the recording program:
it takes the context in r1 and returns 0 when the packet does not match.

Every load takes `data` and `data_end` from the context anew instead of keeping them in
registers. So no pointer into the packet lives from one classic instruction to the next, the
verifier finds the same state on every path that leads to an instruction, and looks at each but
once (kernel/bpf/verifier.c, states_equal()): its work grows with the length of a filter, not
with the number of its paths. The two loads cost less than a nanosecond.

Bytes beyond the first buffer are read by bpf_xdp_load_bytes() (kernel 5.18), in the builds for
packets of several buffers. It reaches offset 65535, as does the verifier's own arithmetic
on packet pointers (MAX_PACKET_OFF); what lies behind is beyond the end for a filter.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpcap.packets.filter import assembler as ebpf
from xdpcap.packets.filter.assembler import Assembler, Label

# Registers: what a call leaves alone holds the machine's state.
CTX, A, X, ROUNDS, FRAME = 6, 7, 8, 9, 10
# Offsets in struct xdp_md.
DATA, DATA_END = 0, 4
# The frame: where bpf_xdp_load_bytes() writes, and below it the scratch memory M[].
LOADED, MEMORY = -8, -12
MEMORY_WORDS = 16
# enum bpf_func_id.
GET_BUFF_LEN, LOAD_BYTES = 188, 189
# The offset behind which no load ends.
REACH = 0xFFFF
# Backward jumps of libpcap's make a loop for `protochain`, which follows headers; the verifier
# wants an end to it. 255 headers of 8 bytes are more than a packet of 2048 bytes holds. libpcap
# 1.11 stops after 64 (bpf_filter.c, MAX_BACKWARD_JUMPS).
MOST_ROUNDS = 255

Insn = tuple[int, int, int, int]

# Classic opcodes: what is loaded, and from where.
ABSOLUTE = {0x20: 4, 0x28: 2, 0x30: 1}
INDIRECT = {0x40: 4, 0x48: 2, 0x50: 1}
LOAD_LEN, LOADX_LEN, LOADX_HEADER = 0x80, 0x81, 0xB1
LOAD_IMM, LOADX_IMM, LOAD_MEM, LOADX_MEM, STORE, STOREX = 0x00, 0x01, 0x60, 0x61, 0x02, 0x03
RETURN, RETURN_A, TAX, TXA, NEGATE, JUMP = 0x06, 0x16, 0x07, 0x87, 0x84, 0x05
# Of arithmetic and jumps the upper four bits are the operation, as in eBPF.
ARITHMETIC, CONDITION, WITH_X = 0x04, 0x05, 0x08
OPERATIONS = {
    *(ebpf.ADD, ebpf.SUB, ebpf.MUL, ebpf.DIV, ebpf.OR, ebpf.AND),
    *(ebpf.LSH, ebpf.RSH, ebpf.MOD, ebpf.XOR),
}
DIVISIONS, SHIFTS = {ebpf.DIV, ebpf.MOD}, {ebpf.LSH, ebpf.RSH}
# Conditions with their opposites; JSET has none.
OPPOSITE = {ebpf.JEQ: ebpf.JNE, ebpf.JGT: ebpf.JLE, ebpf.JGE: ebpf.JLT, ebpf.JSET: None}


def translate(instructions: Sequence[Insn], *, several_buffers: bool) -> bytes:
    """The eBPF function, as bytes of `struct bpf_insn`.

    `instructions` are classic ones (code, jt, jf, k) that libpcap's bpf_validate() takes;
    `several_buffers`: for a build with xdp.frags and the helpers of kernel 5.18. Raises
    TooFarError for a program that is too long, ValueError for what is no classic BPF.
    """
    return _Translation(instructions, several_buffers).finish()


class _Translation:
    """One translation; only what can be reached is translated, as the verifier wants it."""

    def __init__(self, instructions: Sequence[Insn], several_buffers: bool) -> None:
        self._classic = instructions
        self._several = several_buffers
        self._asm = Assembler()
        self._labels = [Label() for _ in instructions]
        self._reject = Label()
        # Loads from beyond the first buffer, out of the way: (label, back, offset, size, dst).
        self._far: list[tuple[Label, Label, int | None, int, int]] = []

    def finish(self) -> bytes:
        asm, reachable = self._asm, self._reachable()
        asm.alu64(ebpf.MOV, CTX, src=1)
        asm.alu(ebpf.MOV, A)
        asm.alu(ebpf.MOV, X)
        for word in sorted({self._classic[at][3] for at in reachable if self._reads_memory(at)}):
            # Of what it has not written libpcap 1.11 reads 0 and 1.10 anything (`geneve or ip`).
            asm.store_zero(4, FRAME, _slot(word))
        if any(target <= at for at in reachable for target in self._next(at)):
            asm.alu(ebpf.MOV, ROUNDS, imm=MOST_ROUNDS)
        for at in reachable:
            asm.bind(self._labels[at])
            self._instruction(at)
        for far in self._far:
            self._load_far(*far)
        if self._reject.used:
            asm.bind(self._reject)
            asm.alu(ebpf.MOV, 0)
            asm.exit()
        return asm.finish()

    # -- the way through the classic program ------------------------------------------------

    def _reachable(self) -> list[int]:
        """The instructions that can be reached, in order."""
        found, todo = {0}, [0]
        while todo:
            at = todo.pop()
            if at not in range(len(self._classic)):
                raise ValueError(f"classic BPF that goes on at {at}, beyond its ends")
            new = set(self._next(at)) - found
            found |= new
            todo += new
        return sorted(found)

    def _next(self, at: int) -> tuple[int, ...]:
        """Where the program may go on after an instruction."""
        code, jt, jf, k = self._classic[at]
        if code in (RETURN, RETURN_A) or _is_beyond_reach(code, k):
            return ()
        if code == JUMP:
            return (at + 1 + (k if k < 1 << 31 else k - (1 << 32)),)
        if code & 7 == CONDITION:
            return at + 1 + jt, at + 1 + jf
        return (at + 1,)

    def _reads_memory(self, at: int) -> bool:
        return self._classic[at][0] in (LOAD_MEM, LOADX_MEM)

    # -- one instruction --------------------------------------------------------------------

    def _instruction(self, at: int) -> None:
        code, _, _, k = self._classic[at]
        if code in (RETURN, RETURN_A):
            self._return(code, k)
        elif code == JUMP:
            self._jump(at, self._next(at)[0])
        elif code & 7 == CONDITION and code & 0xF0 in OPPOSITE:
            self._condition(at, code)
        elif code == NEGATE:
            self._asm.alu(ebpf.NEG, A)
        elif code & 7 == ARITHMETIC and code & 0xF0 in OPERATIONS:
            self._arithmetic(code & 0xF0, bool(code & WITH_X), k)
        else:
            self._move(code, k)

    def _move(self, code: int, k: int) -> None:
        """Everything that puts something into A, X or M[]."""
        asm = self._asm
        if _is_beyond_reach(code, k):
            asm.jump(self._reject)
        elif code in ABSOLUTE:
            self._load_absolute(ABSOLUTE[code], k, A)
        elif code in INDIRECT:
            self._load_indirect(INDIRECT[code], k)
        elif code == LOADX_HEADER:
            self._load_absolute(1, k, X)
            asm.alu(ebpf.AND, X, imm=0xF)
            asm.alu(ebpf.LSH, X, imm=2)
        elif code in (LOAD_LEN, LOADX_LEN):
            self._length(A if code == LOAD_LEN else X)
        elif code in (LOAD_IMM, LOADX_IMM):
            asm.alu(ebpf.MOV, A if code == LOAD_IMM else X, imm=k)
        elif code in (LOAD_MEM, LOADX_MEM):
            asm.load(4, A if code == LOAD_MEM else X, FRAME, _slot(k))
        elif code in (STORE, STOREX):
            asm.store(4, FRAME, _slot(k), A if code == STORE else X)
        elif code in (TAX, TXA):
            to, source = (X, A) if code == TAX else (A, X)
            asm.alu(ebpf.MOV, to, src=source)
        else:
            raise ValueError(f"classic BPF with the instruction 0x{code:02x}")

    def _return(self, code: int, k: int) -> None:
        if code == RETURN_A:
            self._asm.alu(ebpf.MOV, 0, src=A)
        else:
            self._asm.alu(ebpf.MOV, 0, imm=1 if k else 0)
        self._asm.exit()

    def _jump(self, at: int, target: int) -> None:
        if target <= at:
            self._another_round()
        if target != at + 1:
            self._asm.jump(self._labels[target])

    def _another_round(self) -> None:
        """Count a backward jump, and have the verifier forget what it knows of the numbers.

        Otherwise each way through the loop leaves other bounds, and it would follow every
        sequence of ways. What is written in halves and read as a whole is unknown to it.
        """
        asm = self._asm
        asm.alu(ebpf.SUB, ROUNDS, imm=1)
        asm.jump_if(ebpf.JEQ, ROUNDS, self._reject)
        for register in (A, X):
            asm.store(2, FRAME, LOADED, register)
            asm.alu(ebpf.RSH, register, imm=16)
            asm.store(2, FRAME, LOADED + 2, register)
            asm.load(4, register, FRAME, LOADED)

    def _condition(self, at: int, code: int) -> None:
        asm, k = self._asm, self._classic[at][3]
        operation, opposite = code & 0xF0, OPPOSITE[code & 0xF0]
        src = X if code & WITH_X else None
        then, other = self._next(at)
        if then == other:
            self._jump(at, then)
        elif then == at + 1 and opposite is not None:
            asm.jump_if(opposite, A, self._labels[other], src=src, imm=k if src is None else 0)
        else:
            asm.jump_if(operation, A, self._labels[then], src=src, imm=k if src is None else 0)
            self._jump(at, other)

    def _arithmetic(self, operation: int, with_x: bool, k: int) -> None:
        asm = self._asm
        if not with_x:
            if operation in DIVISIONS and k == 0:
                raise ValueError("classic BPF that divides by zero")
            if operation in SHIFTS and k >= 32:
                asm.alu(ebpf.MOV, A)
            else:
                asm.alu(operation, A, imm=k)
            return
        if operation in DIVISIONS:
            # eBPF's own division by zero gives 0.
            asm.jump_if(ebpf.JEQ, X, self._reject)
        if operation in SHIFTS:
            # eBPF's own shift takes X modulo 32.
            fits = Label()
            asm.jump_if(ebpf.JLT, X, fits, imm=32)
            asm.alu(ebpf.MOV, A)
            asm.bind(fits)
        asm.alu(operation, A, src=X)

    # -- the packet ---------------------------------------------------------------------------

    def _length(self, dst: int) -> None:
        """The whole length of the packet, all buffers together."""
        asm = self._asm
        if self._several:
            asm.alu64(ebpf.MOV, 1, src=CTX)
            asm.call(GET_BUFF_LEN)
            asm.alu(ebpf.MOV, dst, src=0)
        else:
            asm.load(4, 2, CTX, DATA)
            asm.load(4, 3, CTX, DATA_END)
            asm.alu64(ebpf.SUB, 3, src=2)
            asm.alu(ebpf.MOV, dst, src=3)

    def _load_absolute(self, size: int, k: int, dst: int) -> None:
        self._asm.load(4, 2, CTX, DATA)
        self._load(size, k, dst)

    def _load_indirect(self, size: int, k: int) -> None:
        """A load at X + k; the sum has more than 32 bits, and then is beyond the end."""
        asm = self._asm
        asm.alu(ebpf.MOV, 4, src=X)
        if k:
            asm.alu(ebpf.MOV, 2, imm=k)
            asm.alu64(ebpf.ADD, 4, src=2)
        asm.jump_if64(ebpf.JGT, 4, self._reject, imm=REACH - size)
        asm.load(4, 2, CTX, DATA)
        asm.alu64(ebpf.ADD, 2, src=4)
        self._load(size, None, A)

    def _load(self, size: int, k: int | None, dst: int) -> None:
        """Load from r2 + k, or from r2 if that is where r4 points to in the packet."""
        asm, far, back = self._asm, Label(), Label()
        asm.load(4, 3, CTX, DATA_END)
        asm.alu64(ebpf.MOV, 1, src=2)
        asm.alu64(ebpf.ADD, 1, imm=(k or 0) + size)
        asm.jump_if64(ebpf.JGT, 1, far if self._several else self._reject, src=3)
        if (k or 0) > ebpf.FARTHEST:
            # Beyond what the offset of a load reaches: from the end that was checked.
            asm.load(size, dst, 1, -size)
        else:
            asm.load(size, dst, 2, k or 0)
        asm.bind(back)
        if size > 1:
            asm.to_big_endian(dst, size)
        if self._several:
            self._far.append((far, back, k, size, dst))

    def _load_far(self, far: Label, back: Label, k: int | None, size: int, dst: int) -> None:
        """The same load, of bytes that are not all in the first buffer."""
        asm = self._asm
        asm.bind(far)
        if k is None:
            asm.alu(ebpf.MOV, 2, src=4)
        else:
            asm.alu(ebpf.MOV, 2, imm=k)
        asm.alu64(ebpf.MOV, 1, src=CTX)
        asm.alu64(ebpf.MOV, 3, src=FRAME)
        asm.alu64(ebpf.ADD, 3, imm=LOADED)
        asm.alu(ebpf.MOV, 4, imm=size)
        asm.call(LOAD_BYTES)
        asm.jump_if64(ebpf.JNE, 0, self._reject)
        asm.load(size, dst, FRAME, LOADED)
        asm.jump(back)


def _is_beyond_reach(code: int, k: int) -> bool:
    """Whether an instruction loads from where no packet has a byte, and so rejects."""
    size = 1 if code == LOADX_HEADER else ABSOLUTE.get(code)
    return size is not None and k + size > REACH


def _slot(word: int) -> int:
    """Where a word of scratch memory lies in the frame."""
    if word not in range(MEMORY_WORDS):
        raise ValueError(f"classic BPF with scratch memory M[{word}]")
    return MEMORY - 4 * word
