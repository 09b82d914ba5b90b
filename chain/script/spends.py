"""Verification of many transactions' inputs at once, for a thread of its own.

Two ways lead to a valid input. `chain.script.native` proves the common spends valid in one compiled call that holds no
GIL. What it leaves open the interpreter judges, with the signatures set aside and verified together; where one of those
fails, the interpreter once more, all by itself. Only the interpreter ever calls an input invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from chain.crypto import many_hashes, secp256k1
from chain.crypto.batch import SignatureBatch
from chain.primitives.transaction import Transaction
from chain.script.checks import defer_input, verify_input
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.sighash import TxData

if TYPE_CHECKING:
    from chain.primitives.native.tables import BlockTables

#: (parts, counts, flags) -> the inputs that are left open; see `chain.script.native.prove`
_Prover = Callable[[Sequence[bytes], Sequence[int], int], list[tuple[int, int]]]
_prover: _Prover | None = None


class InputFailure(NamedTuple):
    """An input that is invalid, and why."""

    position: int  #: of its transaction, as `SpendBatch.add` was told
    input: int  #: its index
    error: ScriptError


class Spend(NamedTuple):
    """A transaction whose inputs are to be verified."""

    tx: Transaction
    spent: Sequence[bytes]  #: the packed coin of each input
    position: int


class SpendBatch:
    """Transactions whose inputs are to be verified together. Fill it in one thread, then verify it in any."""

    __slots__ = ("_counts", "_flags", "_parts", "_spends", "inputs")

    def __init__(self, flags: ScriptFlags | int) -> None:
        self._flags = int(flags)
        self._spends: list[Spend] = []
        self._parts: list[bytes] = []
        self._counts: list[int] = []
        self.inputs = 0  #: how many have been added

    def add(self, tx: Transaction, spent: Sequence[bytes], position: int = 0) -> None:
        """All inputs of a transaction; `spent` holds the packed coin of each. Positions must ascend."""
        count = len(spent)
        self._spends.append(Spend(tx, spent, position))
        self._parts.append(tx.raw)
        self._parts += spent
        self._counts.append(count)
        self.inputs += count

    def verify(self) -> InputFailure | None:
        """The first input, in the order of positions and indexes, that is invalid; None if all are valid."""
        if not self.inputs:
            return None  # a block of a coinbase alone need not load the compiler
        left_open = prover()(self._parts, self._counts, self._flags)
        return _judge(left_open, self._spends.__getitem__, self._flags) if left_open else None


class BlockSpends:
    """The transactions `first` to `last` (excluded) of a block, but those that `known` marks by a 1: what a
    `SpendBatch` of them does, from the tables of the block, which name the coins.
    """

    __slots__ = ("_first", "_flags", "_known", "_last", "_spend", "_tables")

    def __init__(
        self,
        tables: BlockTables,
        spend: Callable[[int], Spend],
        flags: ScriptFlags | int,
        known: bytearray,
        first: int,
        last: int,
    ) -> None:
        """`spend` tells of the transaction at a position of the block."""
        self._tables = tables
        self._spend = spend
        self._flags = int(flags)
        self._known = known
        self._first, self._last = first, last

    def verify(self) -> InputFailure | None:
        """The first input that is invalid; None if all are valid."""
        from chain.script.native.prove import open_inputs_of

        left_open = open_inputs_of(self._tables, self._first, self._last, self._known, self._flags)
        return _judge(left_open, self._spend, self._flags) if left_open else None


def _judge(left_open: list[tuple[int, int]], spend: Callable[[int], Spend], flags: int) -> InputFailure | None:
    """The interpreter's word on inputs given as (number of the transaction, index); `spend` knows the numbers."""
    batch: SignatureBatch[tuple[int, int]] = SignatureBatch()
    data: dict[int, TxData] = {}
    failure = None
    for number, index in left_open:
        tx, spent, position = spend(number)
        txdata = data.get(number)
        if txdata is None:
            txdata = data[number] = TxData(tx, spent)
        error = defer_input(tx, index, spent[index], flags, txdata, batch, (number, index))
        if error is not ScriptError.OK:
            failure = InputFailure(position, index, error)
            break
    failed = batch.verify()
    if failed is None:
        return failure
    # The signatures were set aside by inputs before `failure`. Should the interpreter find one valid that the batch
    # refused, its word counts, on all of them.
    for number, index in left_open[left_open.index(failed) :]:
        tx, spent, position = spend(number)
        error = verify_input(tx, index, spent[index], flags, TxData(tx, spent))
        if error is not ScriptError.OK:
            return InputFailure(position, index, error)
    return None


def prover() -> _Prover:
    """The compiled loop, made at first use and kept on disk by Numba; where libsecp256k1 is missing, one that proves
    nothing. Compiled hashes come with it.
    """
    global _prover
    if _prover is None:
        if secp256k1.BACKEND_NAME == "libsecp256k1":
            from chain.script.native.prove import open_inputs

            many_hashes.load()
            _prover = open_inputs
        else:
            _prover = _leave_all_open
    return _prover


def _leave_all_open(parts: Sequence[bytes], counts: Sequence[int], flags: int) -> list[tuple[int, int]]:
    return [(number, index) for number, count in enumerate(counts) for index in range(count)]
