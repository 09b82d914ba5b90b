"""What was tried when two judges differed, in a form that can be kept in a file, judged again, and made smaller.

A case knows its difference (None while the judges agree) and cases that are a little smaller. `shrink` follows those
that still differ in the same way until none does: what is left is the reproducer. Larger kinds offer smaller kinds: a
block whose difference lies in one transaction's script becomes that spend.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

from chain.chainstate import Chainstate
from chain.consensus.block import accept_header, check_block, duplicate_invalid
from chain.consensus.deployments import block_script_flags
from chain.consensus.errors import ConsensusError
from chain.crypto.hashes import hash160, sha256
from chain.crypto.secp256k1 import xonly_tweak_add
from chain.index import HeaderIndex
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.coin import coin_script, coin_value, pack_coin
from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.serialize import read_compact_size_at
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount
from chain.script import standard
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, ScriptFlags
from chain.script.interpreter import tapleaf_hash, taptweak_hash
from chain.script.script import is_p2sh, iterate, last_push, push_data, witness_program
from tests.fuzz.parsers import TARGETS
from tests.support.blocks import commit
from tests.support.kernel import KernelJudge, kernel_block, pbk, same_verdict, submit_to_ours
from tests.support.scripts import NUMS_KEY

REGTEST = network("regtest")
SHRINK_SECONDS = 120.0


class Difference(NamedTuple):
    """`relation` says how the judges differ, in words that smaller cases share; `text` is the whole of it."""

    relation: str
    text: str


class Case(Protocol):
    """Something to judge."""

    kind: str

    def difference(self) -> Difference | None:
        """How the judges differ about it."""

    def smaller(self) -> Iterator[Case]:
        """Cases with something left out or made plainer, boldest first."""

    def fields(self) -> dict[str, Any]:
        """All of it, for JSON."""


def shrink(case: Case, *, seconds: float = SHRINK_SECONDS) -> tuple[Case, Difference]:
    """The smallest case found that differs in the same way. ValueError if this one does not differ."""
    found = case.difference()
    if found is None:
        raise ValueError("the judges agree")
    deadline = time.monotonic() + seconds
    progress = True
    while progress and time.monotonic() < deadline:
        progress = False
        for candidate in case.smaller():
            if time.monotonic() > deadline:
                break
            try:
                now = candidate.difference()
            except (DecodeError, OverflowError):  # no such case can be
                continue
            if now is not None and now.relation == found.relation:
                case, found, progress = candidate, now, True
                break
    return case, found


def save(case: Case, difference: Difference, folder: Path) -> Path:
    """Write a case to a file of its own in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {"kind": case.kind, "difference": difference.text, **case.fields()}
    path = folder / f"{case.kind}-{sha256(json.dumps(body).encode()).hex()[:12]}.json"
    path.write_text(json.dumps(body, indent=1) + "\n")
    return path


def load(path: Path) -> Case:
    """Read what `save` wrote. ValueError if it is not such a file."""
    body = json.loads(path.read_text())
    kind = body.get("kind")
    if kind not in KINDS:
        raise ValueError(f"{path} is not a case: its kind is none of {', '.join(KINDS)}")
    return KINDS[kind](body)


def _gaps(size: int) -> Iterator[tuple[int, int]]:
    """Ranges to leave out: of a short row all of them, longest first; of a long one halves, quarters and so on."""
    if size <= 24:
        for length in range(size, 0, -1):
            for start in range(size - length + 1):
                yield start, start + length
        return
    step = size
    while step:
        for start in range(0, size, step):
            yield start, start + step
        step //= 2


def pieces(data: bytes) -> Iterator[bytes]:
    """`data` with a part left out."""
    for start, end in _gaps(len(data)):
        yield data[:start] + data[end:]


def without(items: Sequence[Any]) -> Iterator[list[Any]]:
    """The items with some left out."""
    for start, end in _gaps(len(items)):
        yield [*items[:start], *items[end:]]


# spends


@dataclass(frozen=True)
class SpendCase:
    """Inputs of one transaction against the coins they spend, under some flags."""

    tx: Transaction
    coins: tuple[bytes, ...]
    flags: ScriptFlags
    kind: str = "spend"

    def difference(self) -> Difference | None:
        from tests.property.test_script_checks import judge, kernel

        coins = list(self.coins)
        try:
            errors = judge(self.tx, coins, self.flags)
        except AssertionError as error:
            return Difference("batched checks", f"the batched checks do not follow the interpreter: {error}")
        except Exception as error:
            return Difference(f"raised {type(error).__name__}", f"ours raised {type(error).__name__}: {error}")
        if not self.for_kernel(self.flags):
            return None
        verdicts = list(map(bool, kernel(self.tx, coins, self.flags)))
        for number, (error, valid) in enumerate(zip(errors, verdicts, strict=True)):
            if (error is ScriptError.OK) is not valid:
                words = ("valid", "invalid") if valid else ("invalid", "valid")
                text = f"input {number}: libbitcoinkernel says {words[0]}, we say {words[1]} ({error.name})"
                return Difference(f"kernel {words[0]}", text)
        return None

    @staticmethod
    def for_kernel(flags: ScriptFlags) -> bool:
        """Whether libbitcoinkernel takes these flags."""
        return not flags & ~MANDATORY_FLAGS and not (flags & ScriptFlags.TAPROOT and not flags & ScriptFlags.WITNESS)

    def smaller(self) -> Iterator[Case]:
        tx = self.tx
        inputs, outputs = list(tx.inputs), list(tx.outputs)
        for kept in without(range(len(inputs))):
            if kept:
                coins = tuple(self.coins[n] for n in kept)
                yield self._with([inputs[n] for n in kept], outputs, coins)
        for fewer in without(outputs):
            yield self._with(inputs, fewer, self.coins)
        for number, (txin, coin) in enumerate(zip(inputs, self.coins, strict=True)):
            script = coin_script(coin)
            for new_in, new_script in _smaller_spend(txin, script):
                changed = [*inputs[:number], new_in, *inputs[number + 1 :]]
                packed = pack_coin(coin_value(coin), new_script, 0, False)
                yield self._with(changed, outputs, (*self.coins[:number], packed, *self.coins[number + 1 :]))
        for bit in ScriptFlags:
            flags = self.flags & ~bit
            if flags != self.flags and not (bit is ScriptFlags.P2SH and flags & ScriptFlags.WITNESS):
                yield replace(self, flags=flags)
        plain = [txin._replace(sequence=0) for txin in inputs]
        zero = tuple(pack_coin(0, coin_script(coin), 0, False) for coin in self.coins)
        for version, ins, outs, locktime, coins in (
            (tx.version, inputs, outputs, 0, self.coins),
            (1, inputs, outputs, tx.locktime, self.coins),
            (tx.version, plain, outputs, tx.locktime, self.coins),
            (tx.version, inputs, [TxOut(Amount(0), b"") for _ in outputs], tx.locktime, self.coins),
            (tx.version, inputs, outputs, tx.locktime, zero),
        ):
            made = Transaction.build(version, ins, outs, locktime)
            if made.raw != tx.raw or coins != self.coins:
                yield replace(self, tx=made, coins=coins)

    def _with(self, inputs: list[TxIn], outputs: list[TxOut], coins: tuple[bytes, ...]) -> SpendCase:
        return replace(self, tx=Transaction.build(self.tx.version, inputs, outputs, self.tx.locktime), coins=coins)

    def fields(self) -> dict[str, Any]:
        from chain.script.script import disassemble

        return {
            "scripts": [disassemble(coin_script(coin)) for coin in self.coins],
            "tx": self.tx.raw.hex(),
            "coins": [coin.hex() for coin in self.coins],
            "flags": int(self.flags),
        }

    @classmethod
    def from_fields(cls, body: dict[str, Any]) -> SpendCase:
        coins = tuple(map(bytes.fromhex, body["coins"]))
        return cls(Transaction.parse(bytes.fromhex(body["tx"])), coins, ScriptFlags(body["flags"]))


def _script_pieces(script: bytes) -> Iterator[bytes]:
    """The script with operations left out, and with pushes made shorter."""
    try:
        ops = [(op, data) for op, data in iterate(script)]
    except DecodeError:
        yield from pieces(script)
        return
    raw = [push_data(data) if data is not None and op <= 0x4E else bytes((op,)) for op, data in ops]
    for kept in without(raw):
        yield b"".join(kept)
    for number, (_, data) in enumerate(ops):
        if data:
            yield b"".join([*raw[:number], b"\x51", *raw[number + 1 :]])
            yield b"".join([*raw[:number], push_data(data[: len(data) // 2]), *raw[number + 1 :]])


def _smaller_spend(txin: TxIn, script: bytes) -> Iterator[tuple[TxIn, bytes]]:
    """(input, scriptPubKey) with less in them. Scripts behind a hash are shortened with it, and tried without it."""
    witness = txin.witness
    program = witness_program(script)
    if is_p2sh(script) and (inner := last_push(txin.script_sig)) is not None:
        arguments = txin.script_sig[: -len(push_data(inner))]
        yield txin._replace(script_sig=arguments), inner
        for shorter in _script_pieces(inner):
            yield txin._replace(script_sig=arguments + push_data(shorter)), standard.p2sh(hash160(shorter))
    if program is not None and program[0] == 0 and len(program[1]) == 32 and witness:
        yield TxIn(txin.prevout, b"".join(map(push_data, witness[:-1])), txin.sequence, ()), witness[-1]
        for shorter in _script_pieces(witness[-1]):
            yield txin._replace(witness=(*witness[:-1], shorter)), standard.p2wsh(sha256(shorter))
    if program is not None and program[0] == 1 and len(witness) >= 2 and len(witness[-1]) >= 33:
        leaf = witness[-2]
        yield TxIn(txin.prevout, b"".join(map(push_data, witness[:-2])), txin.sequence, ()), leaf
        for shorter in (leaf, *_script_pieces(leaf)):
            output, parity = xonly_tweak_add(NUMS_KEY, taptweak_hash(NUMS_KEY, tapleaf_hash(shorter)))
            control = bytes((0xC0 | parity,)) + NUMS_KEY
            if (shorter, control) != (leaf, witness[-1]):
                yield txin._replace(witness=(*witness[:-2], shorter, control)), standard.p2tr(output)
    for shorter in _script_pieces(script):
        yield txin, shorter
    for shorter in _script_pieces(txin.script_sig):
        yield txin._replace(script_sig=shorter), script
    for fewer in without(witness):
        yield txin._replace(witness=tuple(fewer)), script
    for number, item in enumerate(witness):
        for shorter in (item[: len(item) // 2], item[:-1]) if item else ():
            yield txin._replace(witness=(*witness[:number], shorter, *witness[number + 1 :])), script


# blocks without context, headers


@dataclass(frozen=True)
class BodyCase:
    """A block against the rules that need no context."""

    raw: bytes
    network_name: str
    check_pow: bool
    check_merkle: bool
    kind: str = "body"

    def difference(self) -> Difference | None:
        chain_type = pbk.ChainType.MAINNET if self.network_name == "bitcoin" else pbk.ChainType.REGTEST
        flags = pbk.BlockCheckFlags.BASE
        flags |= pbk.BlockCheckFlags.POW if self.check_pow else flags
        flags |= pbk.BlockCheckFlags.MERKLE if self.check_merkle else flags
        try:
            state = kernel_block(self.raw).check(pbk.ChainParameters(chain_type).consensus_params, flags)
            theirs = state.block_validation_result.name
        except RuntimeError:
            theirs = "undecodable"
        reason = ""
        try:
            block = decode_prefix(self.raw)
            check_block(block, network(self.network_name), check_pow=self.check_pow, check_merkle=self.check_merkle)
            ours = "UNSET"
        except ConsensusError as error:
            ours, reason = error.result.name, f" ({error})"
        except DecodeError as error:
            ours, reason = "undecodable", f" ({error})"
        except Exception as error:
            return Difference(f"raised {type(error).__name__}", f"ours raised {type(error).__name__}: {error}")
        if ours == theirs:
            return None
        return Difference(f"{theirs}, {ours}", f"libbitcoinkernel says {theirs}, we say {ours}{reason}")

    def smaller(self) -> Iterator[Case]:
        for changed in (replace(self, check_pow=False), replace(self, check_merkle=False)):
            if changed != self:
                yield changed
        try:
            block = Block.parse(self.raw)
        except DecodeError:
            for data in pieces(self.raw):
                yield replace(self, raw=data)
            return
        for transactions in _fewer_transactions(block.transactions, keep_first=False):
            for fixed in (_with_root(block.header, transactions), Block.build(block.header, transactions)):
                yield replace(self, raw=fixed.raw)

    def fields(self) -> dict[str, Any]:
        names = {"network": self.network_name, "check_pow": self.check_pow, "check_merkle": self.check_merkle}
        return {**names, "block": self.raw.hex()}

    @classmethod
    def from_fields(cls, body: dict[str, Any]) -> BodyCase:
        return cls(bytes.fromhex(body["block"]), body["network"], body["check_pow"], body["check_merkle"])


def decode_prefix(raw: bytes) -> Block:
    """Like Core, which reads a block and does not look at what comes after it."""
    count, end = read_compact_size_at(raw, 80)
    for _ in range(count):
        _, end = Transaction.parse_from(raw, end)
    return Block.parse(raw[:end])


def _fewer_transactions(transactions: Sequence[Transaction], *, keep_first: bool) -> Iterator[list[Transaction]]:
    first = list(transactions[:1]) if keep_first else []
    rest = transactions[len(first) :]
    for kept in without(rest):
        yield first + kept
    for number, tx in enumerate(rest, len(first)):
        for ins, outs in [
            *((list(tx.inputs), outs) for outs in without(tx.outputs)),
            *((ins, list(tx.outputs)) for ins in without(tx.inputs)),
            *(([*tx.inputs[:n], i._replace(script_sig=b"", witness=()), *tx.inputs[n + 1 :]], list(tx.outputs))
              for n, i in enumerate(tx.inputs) if i.script_sig or i.witness),
        ]:  # fmt: skip
            made = Transaction.build(tx.version, ins, outs, tx.locktime)
            yield [*transactions[:number], made, *transactions[number + 1 :]]


def _with_root(header: BlockHeader, transactions: Sequence[Transaction]) -> Block:
    """A block whose header commits to the transactions, with the work of an easy target done."""
    root = merkle_root([tx.txid for tx in transactions])[0] if transactions else bytes(32)
    for nonce in range(1000):
        made = BlockHeader.build(header.version, header.prev_hash, root, header.time, header.nbits, nonce)
        if made.hash[31] < 0x7F:
            break
    return Block.build(made, transactions)


@dataclass(frozen=True)
class HeaderCase:
    """The last of some regtest headers, each of which builds on one before it."""

    headers: tuple[bytes, ...]
    now: float
    kind: str = "header"

    def difference(self) -> Difference | None:
        from tests.property.test_kernel_rules import HeaderJudge

        index = HeaderIndex(REGTEST)
        with TemporaryDirectory() as folder:
            judge = HeaderJudge(Path(folder))
            try:
                for raw in self.headers:
                    theirs, ours = judge.judge(raw), our_header_verdict(index, BlockHeader(raw), self.now)
                    if ours[0] == "UNSET" and BlockHeader(raw).hash not in index.entries:
                        index.add(BlockHeader(raw))
            finally:
                judge.close()
        if ours == theirs:
            return None
        return Difference(f"{theirs}, {ours}", f"libbitcoinkernel says {theirs}, we say {ours}")

    def smaller(self) -> Iterator[Case]:
        *before, last = self.headers
        for kept in without(before):
            yield replace(self, headers=(*kept, last))

    def fields(self) -> dict[str, Any]:
        return {"headers": [raw.hex() for raw in self.headers], "now": self.now}

    @classmethod
    def from_fields(cls, body: dict[str, Any]) -> HeaderCase:
        return cls(tuple(map(bytes.fromhex, body["headers"])), body["now"])


def our_header_verdict(index: HeaderIndex, header: BlockHeader, now: float) -> tuple[str, str]:
    """(result, reason and debug) in the form of HeaderJudge's."""
    try:
        known = index.get(header.hash)
        if known is None:
            accept_header(header, index.entries, REGTEST, now)
        elif known.failed:
            raise duplicate_invalid(header.hash)
    except ConsensusError as error:
        text = str(error)
        return error.result.name, "" if text in ("prev-blk-not-found", "bad-prevblk") else text
    return "UNSET", ""


# blocks on chains


@dataclass(frozen=True)
class ChainCase:
    """A block on a regtest chain that both judges took."""

    chain: tuple[bytes, ...]
    block: bytes
    kind: str = "block"

    def difference(self) -> Difference | None:
        with TemporaryDirectory() as folder:
            kernel = KernelJudge(Path(folder) / "kernel")
            try:
                with Chainstate(REGTEST, Path(folder) / "ours", script_threads=0) as ours:
                    for raw in self.chain:
                        kernel.submit(raw)
                        submit_to_ours(ours, raw)
                    tips = (ours.tip.hash[::-1].hex(), kernel.tip_hex)
                    theirs = kernel.submit(self.block)
                    try:
                        mine = submit_to_ours(ours, self.block)
                    except Exception as error:
                        name = type(error).__name__
                        return Difference(f"raised {name}", f"ours raised {name}: {error}")
            finally:
                kernel.close()
        if tips[0] != tips[1] or same_verdict(mine, theirs):
            return None
        relation = f"{theirs.text.split(',')[0] or 'valid'}, {mine.text.split(',')[0] or 'valid'}"
        return Difference(relation, f"libbitcoinkernel says {theirs}, we say {mine}")

    def smaller(self) -> Iterator[Case]:
        blocks = [Block.parse(raw) for raw in self.chain]
        by_hash = {block.hash: block for block in blocks}
        needed = set()
        at = self.block[4:36]
        while at in by_hash:
            needed.add(at)
            at = by_hash[at].header.prev_hash
        if len(needed) < len(blocks):
            yield replace(self, chain=tuple(block.raw for block in blocks if block.hash in needed))
        yield BodyCase(self.block, "regtest", True, True)
        try:
            block = Block.parse(self.block)
        except DecodeError:
            for data in pieces(self.block[80:]):
                yield replace(self, block=self.block[:80] + data)
            return
        yield from self._spends(blocks, block, len(needed) + 1)
        for transactions in _fewer_transactions(block.transactions, keep_first=True):
            if transactions:
                for fixed in (_committed(transactions), transactions):
                    yield replace(self, block=_with_root(block.header, fixed).raw)

    def _spends(self, blocks: Sequence[Block], block: Block, height: int) -> Iterator[Case]:
        outputs = {
            tx.outpoint(n): out for b in (*blocks, block) for tx in b.transactions for n, out in enumerate(tx.outputs)
        }
        flags = block_script_flags(block.hash, height, REGTEST)
        for tx in block.transactions[1:]:
            if all(outpoint in outputs for outpoint in tx.prevouts):
                spent = [outputs[outpoint] for outpoint in tx.prevouts]
                yield SpendCase(tx, tuple(pack_coin(out.value, out.script_pubkey, 0, False) for out in spent), flags)

    def fields(self) -> dict[str, Any]:
        return {"block": self.block.hex(), "chain": [raw.hex() for raw in self.chain]}

    @classmethod
    def from_fields(cls, body: dict[str, Any]) -> ChainCase:
        return cls(tuple(map(bytes.fromhex, body["chain"])), bytes.fromhex(body["block"]))


def _committed(transactions: Sequence[Transaction]) -> list[Transaction]:
    """With the coinbase's witness commitment made right for what is left."""
    coinbase, *rest = transactions
    mark = bytes.fromhex("6a24aa21a9ed")
    outputs = [commit(transactions) if out.script_pubkey[:6] == mark else out for out in coinbase.outputs]
    return [Transaction.build(coinbase.version, coinbase.inputs, outputs, coinbase.locktime), *rest]


# parsers


@dataclass(frozen=True)
class ParserCase:
    """Input of one parser, against what must hold for any input."""

    target: str
    data: bytes
    kind: str = "parser"

    def difference(self) -> Difference | None:
        text = TARGETS[self.target].difference(self.data) or TARGETS[self.target].difference(self.data, memory=True)
        relation = "memory" if " bytes of memory for " in text else text.split(":")[0]
        return Difference(relation, f"{self.target}: {text}") if text else None

    def smaller(self) -> Iterator[Case]:
        for data in pieces(self.data):
            yield replace(self, data=data)
        for at, byte in enumerate(self.data):
            if byte:
                yield replace(self, data=self.data[:at] + b"\0" + self.data[at + 1 :])

    def fields(self) -> dict[str, Any]:
        return {"target": self.target, "data": self.data.hex()}

    @classmethod
    def from_fields(cls, body: dict[str, Any]) -> ParserCase:
        return cls(body["target"], bytes.fromhex(body["data"]))


KINDS: dict[str, Callable[[dict[str, Any]], Case]] = {
    "spend": SpendCase.from_fields,
    "body": BodyCase.from_fields,
    "header": HeaderCase.from_fields,
    "block": ChainCase.from_fields,
    "parser": ParserCase.from_fields,
}
