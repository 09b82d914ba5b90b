"""Runs one thread of a PTX kernel in Python, so that code for NVIDIA cards can be checked where there is none.

Knows the instructions that the compiler uses for sha256d.cl and refuses others. Meaning of each: NVIDIA's PTX ISA.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1
_LINE = re.compile(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*);")
_ADDRESS = re.compile(r"\[(%\w+)(?:\+(-?\d+))?\]")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}


class PtxKernel:
    """The only kernel of a PTX text."""

    def __init__(self, text: str) -> None:
        body = text[text.index(".entry") :]
        self._code: list[tuple[str, str, list[str], list[str]]] = []
        self._labels: dict[str, int] = {}
        for raw in body[body.index("{\n") + 2 :].splitlines():
            line = raw.split("//")[0].strip()
            if not line or line[0] in ".{}":
                continue
            if label := re.fullmatch(r"(\$[\w$]+):", line):
                self._labels[label.group(1)] = len(self._code)
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"not understood: {line}")
            negated, predicate, name, operands = match.groups()
            arguments = re.findall(r"\[[^\]]*\]|[^,\s]+", operands)
            self._code.append((negated or "", predicate or "", name.split("."), arguments))

    def run(self, parameters: Sequence[int], memory: dict[int, int], special: dict[str, int]) -> None:
        """One thread. `memory`: 32-bit words by address, changed in place; `special`: registers such as %tid.x."""
        registers: dict[str, int] = dict(special)
        at = 0

        def value(operand: str) -> int:
            return registers[operand] if operand.startswith("%") else int(operand, 0) & _MASK64

        def address(operand: str) -> int:
            match = _ADDRESS.fullmatch(operand)
            if match is None:
                raise ValueError(f"not an address: {operand}")
            return registers[match.group(1)] + int(match.group(2) or 0)

        while at < len(self._code):
            negated, predicate, name, arguments = self._code[at]
            at += 1
            if predicate and bool(registers[predicate]) == (negated == "!"):
                continue
            kind = name[0]
            if kind == "ret":
                return
            if kind == "bra":
                at = self._labels[arguments[0]]
            elif kind == "st":
                memory[address(arguments[0])] = value(arguments[1])
            elif kind == "atom":
                place = address(arguments[1])
                registers[arguments[0]] = memory[place]
                memory[place] = memory[place] + value(arguments[2]) & _MASK32
            elif kind == "ld" and name[1] == "param":
                registers[arguments[0]] = parameters[int(arguments[1].rstrip("]").rsplit("_", 1)[1])]
            elif kind == "ld":
                registers[arguments[0]] = memory[address(arguments[1])]
            else:
                registers[arguments[0]] = _computed(name, [value(argument) for argument in arguments[1:]])


def _computed(name: list[str], x: list[int]) -> int:
    kind = name[0]
    mask = _MASK64 if name[-1][1:] == "64" else _MASK32
    if kind in ("mov", "cvt", "cvta"):
        return x[0]
    if kind == "add":
        return x[0] + x[1] & mask
    if kind in ("mul", "mad"):
        product = (x[0] & _MASK32) * (x[1] & _MASK32)
        if name[1] == "wide":
            return product
        return (product >> (32 if name[1] == "hi" else 0)) + (x[2] if kind == "mad" else 0) & _MASK32
    if kind == "shl":
        return x[0] << x[1] & mask
    if kind == "shr":
        return (x[0] & _MASK32) >> x[1]
    if kind in ("and", "or", "xor"):
        return {"and": x[0] & x[1], "or": x[0] | x[1], "xor": x[0] ^ x[1]}[kind] & mask
    if kind == "not":
        return ~x[0] & mask
    if kind == "shf":
        joined, count = (x[1] & _MASK32) << 32 | x[0] & _MASK32, x[2] & 31
        return joined >> count & _MASK32 if name[1] == "r" else joined << count >> 32 & _MASK32
    if kind == "prmt":
        source = ((x[1] & _MASK32) << 32 | x[0] & _MASK32).to_bytes(8, "little")
        return int.from_bytes(bytes(source[x[2] >> 4 * place & 7] for place in range(4)), "little")
    if kind == "lop3":
        result = 0
        for case in range(8):
            if x[3] >> case & 1:
                a, b, c = (word if case >> bit & 1 else ~word for word, bit in zip(x[:3], (2, 1, 0), strict=True))
                result |= a & b & c
        return result & _MASK32
    if kind == "setp":
        if name[2].startswith("s"):
            x = [(word & _MASK32 ^ 1 << 31) - (1 << 31) for word in x]
        return int(_COMPARE[name[1]](x[0], x[1]))
    if kind == "selp":
        return x[0] if x[2] else x[1]
    raise ValueError(f"unknown instruction {'.'.join(name)}")
