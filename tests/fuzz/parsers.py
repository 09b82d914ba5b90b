"""Every parser of bytes or text that others can send, with what must hold for any input: it comes to a value or to a
documented refusal, in bounded memory; a value serializes to bytes that come to the same value again; a stream may be
cut anywhere.
"""

from __future__ import annotations

import io
import json
import random
import tomllib
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from chain.network_file import network_from_fields
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.script import base58, bech32
from chain.script.addresses import decode_address, decode_wif, encode_address, encode_wif
from chain.script.script import disassemble, is_push_only, iterate, last_push, sigop_count, witness_program
from chain.script.standard import classify
from chain.snapshot.format import SnapshotError, SnapshotMetadata, read_metadata
from chain.storage.block_files import scan_blocks
from chain.storage.compression import decompress_script, read_varint, write_varint
from chain.storage.undo import decode_undo, encode_undo
from miner.work.stratum.address import parse_pool_url
from miner.work.stratum.client import ClientOptions, StratumClient
from miner.work.stratum_v2.messages import Kind
from miner.work.stratum_v2.messages import parse as parse_stratum2
from miner.work.stratum_v2.wire import BadMessage
from miner.work.template import BadTemplate, job_from_template
from p2p.errors import PeerDropped, PeerMisbehaviour
from p2p.messages.registry import MESSAGES
from p2p.transport_v1 import TransportV1, frame
from wallet.descriptors.checksum import DescriptorError
from wallet.descriptors.parser import parse_multipath
from wallet.mnemonic import entropy_from_mnemonic, mnemonic_from_entropy
from wallet.psbt.fields import PsbtError
from wallet.psbt.psbt import Psbt

REGTEST = network("regtest")
PREFIXES = network("bitcoin").addresses
BYTES_PER_BYTE = 300  #: a block of the smallest transactions takes about half of this in Python objects
FREE_BYTES = 1 << 20


@dataclass(frozen=True)
class Target:
    """`check` raises one of `refusals`, or AssertionError if what must hold does not; anything else is a defect too."""

    check: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def difference(self, data: bytes, *, memory: bool = False) -> str:
        """What is wrong with how `data` is parsed; empty if nothing is. With `memory` its use is measured (slowly)."""
        if memory:
            tracemalloc.start()
        try:
            self.check(data)
        except self.refusals:
            pass
        except AssertionError as error:
            return f"AssertionError: {error}" if str(error) else "AssertionError"
        except RecursionError:
            return "RecursionError"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            peak = tracemalloc.get_traced_memory()[1] if memory else 0
            if memory:
                tracemalloc.stop()
        bound = BYTES_PER_BYTE * len(data) + FREE_BYTES
        return f"{peak} bytes of memory for {len(data)} of input" if peak > bound else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# transactions, headers, blocks


def _transaction(data: bytes) -> None:
    tx = Transaction.parse(data)
    assert tx.raw == data
    again = Transaction.build(tx.version, tx.inputs, tx.outputs, tx.locktime)
    assert again.raw == data, "rebuilt from its fields it differs"
    assert (again.txid, again.wtxid, again.weight) == (tx.txid, tx.wtxid, tx.weight)
    assert tx.weight == 3 * tx.base_size + tx.total_size
    assert Transaction.parse_from(b"x" + data + b"y", 1)[1] == 1 + len(data)


def _header(data: bytes) -> None:
    header = BlockHeader.parse(data)
    fields = (header.version, header.prev_hash, header.merkle_root, header.time, header.nbits, header.nonce)
    assert BlockHeader.build(*fields).raw == data


def _block(data: bytes) -> None:
    block = Block.parse(data)
    assert block.raw == data
    again = Block.build(block.header, [Transaction.parse(tx.raw) for tx in block.transactions])
    assert again.raw == data, "rebuilt from its transactions it differs"
    assert again.weight == block.weight


def _undo(data: bytes) -> None:
    block = decode_undo(data)
    assert decode_undo(encode_undo(block)) == block


def _varint(data: bytes) -> None:
    try:
        value, end = read_varint(data, 0)
    except IndexError:
        return
    assert write_varint(value) == data[:end], "not the one spelling"


def _compressed_script(data: bytes) -> None:
    try:
        _, end = decompress_script(data, 0)
    except IndexError:
        return
    assert end <= len(data)


def _block_file(data: bytes) -> None:
    with NamedTemporaryFile(prefix="pickaxe-fuzz-") as file:  # not kept for the next: workers end without cleaning up
        file.write(data)
        file.flush()
        end = 0
        for pos, block in scan_blocks(Path(file.name), REGTEST.magic):
            assert pos >= end + 8
            assert data[pos : pos + block.total_size] == block.raw
            end = pos + block.total_size


def _snapshot_metadata(data: bytes) -> None:
    metadata: SnapshotMetadata = read_metadata(io.BytesIO(data), REGTEST)
    encoded = metadata.encode(REGTEST.magic)
    assert data[: len(encoded)] == encoded


# scripts and addresses

SPACE = " \f\n\r\t\v"  #: what base58 decoding ignores around a text, as Core does


def _script(data: bytes) -> None:
    disassemble(data)
    disassemble(data, decode_sighash=True)
    classify(data)
    sigop_count(data, True)
    assert sigop_count(data, True) <= sigop_count(data, False)
    is_push_only(data)
    last_push(data)
    witness_program(data)
    rest = len(data)
    for _, pushed in iterate(data):
        rest -= 1 + (len(pushed) if pushed else 0)
    assert rest >= 0


def _script_address(data: bytes) -> None:
    address = encode_address(data, PREFIXES)
    if address is not None:
        assert decode_address(address, PREFIXES) == data


def _address(data: bytes) -> None:
    text = _text(data).strip(SPACE)
    script = decode_address(_text(data), PREFIXES)
    address = encode_address(script, PREFIXES)
    assert address is not None
    assert address in (text, text.lower()), "another spelling of the same address"


def _wif(data: bytes) -> None:
    secret, compressed = decode_wif(_text(data), PREFIXES)
    assert encode_wif(secret, PREFIXES, compressed=compressed) == _text(data).strip(SPACE)


def _base58(data: bytes) -> None:
    assert base58.decode_check(base58.encode_check(data[:500])) == data[:500]
    payload = base58.decode(_text(data))
    assert base58.encode(payload) == _text(data).strip(SPACE)


def _bech32(data: bytes) -> None:
    encoding, hrp, words = bech32.decode(_text(data))
    assert bech32.encode(encoding, hrp, words) == _text(data).lower()


def _mnemonic(data: bytes) -> None:
    if len(data) in (16, 20, 24, 28, 32):
        assert entropy_from_mnemonic(mnemonic_from_entropy(data)) == data
    entropy_from_mnemonic(_text(data))


# wallet and configuration


def _psbt(data: bytes) -> None:
    psbt = Psbt.parse(data)
    raw = psbt.to_bytes()
    assert Psbt.parse(raw).to_bytes() == raw
    for index in range(len(psbt.inputs)):
        psbt.spent_output(index)
    psbt.extract()


def _descriptor(data: bytes) -> None:
    for descriptor in parse_multipath(_text(data), PREFIXES):
        text = str(descriptor)
        assert [str(again) for again in parse_multipath(text, PREFIXES)] == [text]


def _network_file(data: bytes) -> None:
    try:
        fields = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return
    network_from_fields(fields, "fuzz")


# peers


def _message(command: str) -> Callable[[bytes], None]:
    message = MESSAGES[command]

    def check(data: bytes) -> None:
        if len(data) > message.max_size:
            return
        value = message.decode(data)
        encoded = value.encode()
        again = message.decode(encoded)
        assert again == value or again.encode() == encoded
        assert again.encode() == encoded

    return check


def _transport(data: bytes) -> None:
    """The first bytes say where the rest is cut."""
    magic = REGTEST.magic
    cuts, stream = data[:8], data[8:]
    whole = TransportV1(magic).receive_data(stream)
    parts = []
    transport = TransportV1(magic)
    pos = 0
    for step in (*cuts, len(stream)):
        parts += transport.receive_data(stream[pos : pos + step])
        assert transport.buffered <= len(stream) + 64
        pos += step
    parts += transport.receive_data(stream[pos:])
    assert parts == whole, f"cut at {list(cuts)}: {parts} instead of {whole}"


# pools and nodes as a miner hears them


def _stratum(data: bytes) -> None:
    """A pool's lines after the login; the first bytes say where they are cut."""
    cuts, stream = data[:4], data[4:]
    clients = [StratumClient(ClientOptions(user="u", password="p"), lambda: 0.0) for _ in range(2)]
    for client in clients:
        client.start()
        client.receive_data(_STRATUM_LOGIN)
    whole = clients[0].receive_data(stream)
    parts, pos = [], 0
    for step in (*cuts, len(stream)):
        parts += clients[1].receive_data(stream[pos : pos + step])
        pos += step
    assert parts == whole, f"cut at {list(cuts)}"
    assert clients[0].data_to_send() == clients[1].data_to_send()


def _stratum2(data: bytes) -> None:
    """A message of Stratum V2, its kind first."""
    parse_stratum2(data[0] if data else 0, data[1:])


def _pool_url(data: bytes) -> None:
    address = parse_pool_url(_text(data), "user", None)
    again = parse_pool_url(address.url, address.user, address.password)
    assert again == address, "written out it is another pool"


def _template(data: bytes) -> None:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return
    job = job_from_template(answer, b"\x51")
    assert len(job.header(0, job.time)) == 80


# seeds


_STRATUM_LOGIN = (
    b'{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}\n'
    b'{"id":2,"result":[[],"00000001",4],"error":null}\n{"id":3,"result":true,"error":null}\n'
)


def _stratum_lines() -> list[bytes]:
    half = (b"01000000" + b"01" + b"00" * 32 + b"ffffffff" + b"0a" + b"51" + b"51", b"ffffffff" + b"01" + b"00" * 8)
    notify = (
        b'{"id":null,"method":"mining.notify","params":["j","%s","%s","%s01510000000000",["%s"],"%s","%s","%s",%s]}\n'
    )
    job = notify % (b"11" * 32, *half, b"22" * 32, b"20000000", b"1d00ffff", b"65000000", b"true")
    return [
        b"\5\1\100\7" + job + b'{"id":null,"method":"mining.set_difficulty","params":[0.5]}\n',
        bytes(4) + b'{"id":7,"method":"mining.ping","params":[]}\n{"id":4,"result":null,"error":[21,"x",null]}\n' + job,
        bytes(4) + b'{"id":null,"method":"client.reconnect","params":["h",1,0]}\n{"method":"mining.set_extranonce"}\n',
    ]


def _stratum2_messages() -> list[bytes]:
    channel = b"\5\0\0\0"
    return [
        bytes([Kind.NEW_EXTENDED_MINING_JOB]) + channel * 2 + b"\0" + channel + b"\1\1" + bytes(32) + b"\1\0a\1\0b",
        bytes([Kind.OPEN_EXTENDED_MINING_CHANNEL_SUCCESS]) + channel * 2 + bytes(32) + b"\4\0\3abc" + channel,
        bytes([Kind.SET_GROUP_CHANNEL]) + channel + b"\2\0" + channel * 2,
        *(bytes([kind]) + channel * 2 + bytes(40) for kind in Kind),
    ]


def _templates() -> list[bytes]:
    answer = {
        **{"version": 1, "previousblockhash": "11" * 32, "bits": "1d00ffff", "curtime": 9, "height": 7},
        **{"coinbasevalue": 5, "transactions": [], "rules": ["segwit"], "coinbaseaux": {"flags": "aa"}},
    }
    return [json.dumps(answer).encode()]


def _transactions() -> list[bytes]:
    rng = random.Random(1)
    made = []
    for count in (1, 2, 3):
        witness = (b"", rng.randbytes(71), rng.randbytes(33)) if count != 2 else ()
        inputs = [TxIn(OutPoint(rng.randbytes(36)), rng.randbytes(5), 0xFFFFFFFE, witness)] * count
        outputs = [TxOut(Amount(5000), b"\0\x14" + bytes(20)), TxOut(Amount(0), b"\x6a\x02hi")]
        made.append(Transaction.build(2, inputs, outputs, 500_000).raw)
    return made


def _blocks() -> list[bytes]:
    transactions = [Transaction.parse(raw) for raw in _transactions()]
    header = BlockHeader.build(4, bytes(32), bytes(32), 1_600_000_000, 0x207FFFFF, 7)
    return [Block.build(header, transactions).raw, REGTEST.genesis.raw]


def _scripts() -> list[bytes]:
    key = b"\x02" + bytes(range(32))
    return [
        b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
        b"\x51\x21" + key + b"\x51\xae",
        b"\x51\x20" + key[1:],
        b"\x63\x4c\x03abc\x67\x4d\x01\0x\x68\xba\xff",
    ]


def _undo_data() -> list[bytes]:
    return [encode_undo([[pack_coin(5_000_000_000, script, 7, True) for script in _scripts()], []])]


def _streams() -> list[bytes]:
    magic = REGTEST.magic
    messages = frame(magic, "ping", bytes(8)) + frame(magic, "verack", b"") + frame(magic, "unknown", bytes(40))
    return [bytes((1, 24, 3, 200, 0, 9, 2, 7)) + messages, bytes(8) + frame(magic, "inv", b"\1" + bytes(36))]


def _message_seeds(command: str) -> list[bytes]:
    block, tx = _blocks()[0], _transactions()[0]
    known = {
        "tx": [tx],
        "block": [block],
        "headers": [b"\1" + block[:80] + b"\0"],
        "cmpctblock": [block[:80] + bytes(8) + b"\2" + bytes(12) + b"\1\0" + tx],
        "blocktxn": [bytes(32) + b"\1" + tx],
        "getblocktxn": [bytes(32) + b"\3\0\1\xfd\0\1"],
        "inv": [b"\2" + (b"\1\0\0\0" + bytes(32)) * 2],
        "addr": [b"\1" + bytes(30), b"\1" + bytes(12) + bytes.fromhex("fd87d87eeb43") + bytes(12)],  # Tor v2
        "addrv2": [b"\2" + b"\1\2\3\4\x09\1\4abcd\x20\x8d" + b"\1\2\3\4\x09\4\x20" + bytes(32) + b"\x20\x8d"],
        "getheaders": [b"\x80\x11\1\0" + b"\2" + bytes(96)],
        "version": [b"\x80\x11\1\0" + bytes(8) + bytes(8) + bytes(26) + bytes(26) + bytes(8) + b"\5/abc/" + bytes(5)],
    }
    return known.get(command, [bytes(8), bytes(40)])


def _psbts() -> list[bytes]:
    tx = Transaction.build(2, [TxIn(OutPoint(bytes(36)), b"", 1)], [TxOut(Amount(1), b"\x51")], 0)
    psbt = Psbt.create(tx)
    psbt.inputs[0].set_witness_utxo(TxOut(Amount(9), b"\0\x14" + bytes(20)))
    return [psbt.to_bytes()]


_KEY = b"0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
_XPUB = (
    b"xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8"
)


def _descriptors() -> list[bytes]:
    return [
        b"wpkh(" + _KEY + b")",
        b"sh(wsh(multi(1," + _KEY + b"," + _KEY + b")))",
        b"tr([d34db33f/86h/0'/0']" + _XPUB + b"/<0;1>/*)",
        b"raw(51)",
        b"addr(bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4)",
    ]


def _addresses() -> list[bytes]:
    made = [
        encode_address(script, PREFIXES) for script in (_scripts()[0], b"\0\x14" + bytes(20), b"\x51\x20" + bytes(32))
    ]
    return [address.encode() for address in made if address is not None]


def _networks() -> list[bytes]:
    return [
        b'[network]\nname = "mine"\nmagic = "0a0b0c0d"\nport = 1\n[[assumeutxo]]\nheight = 1\n',
        b'[genesis]\nnbits = "1e00ffff"\ntime = 1\n[proof_of_work]\nlimit = "1e00ffff"\n',
    ]


_DECODE = (DecodeError,)
TARGETS: dict[str, Target] = {
    "transaction": Target(_transaction, _DECODE, _transactions),
    "header": Target(_header, _DECODE, lambda: [raw[:80] for raw in _blocks()]),
    "block": Target(_block, _DECODE, _blocks),
    "undo": Target(_undo, _DECODE, _undo_data),
    "varint": Target(_varint, _DECODE, lambda: [b"\x80\x00", b"\x8e\xfe\xfe\xff\x00"]),
    "compressed script": Target(
        _compressed_script, _DECODE, lambda: [b"\0" + bytes(20), b"\x02" + bytes(32), b"\x09abc"]
    ),
    "block file": Target(
        _block_file,
        _DECODE,
        lambda: [b"".join(REGTEST.magic + len(raw).to_bytes(4, "little") + raw for raw in _blocks())],
    ),
    "snapshot metadata": Target(
        _snapshot_metadata, (DecodeError, SnapshotError), lambda: [b"utxo\xff\x02\0" + REGTEST.magic + bytes(40)]
    ),
    "script": Target(_script, _DECODE, _scripts),
    "script address": Target(_script_address, _DECODE, _scripts),
    "address": Target(_address, (DecodeError, UserError), _addresses),
    "wif": Target(_wif, _DECODE, lambda: [encode_wif(b"\1" * 32, PREFIXES).encode()]),
    "base58": Target(_base58, (DecodeError,), lambda: [b"1BitcoinEaterAddressDontSendf59kuE"]),
    "bech32": Target(_bech32, (DecodeError,), lambda: [b"a12uel5l", b"A1LQFN3A"]),
    "mnemonic": Target(
        _mnemonic, (DecodeError, UserError, ValueError), lambda: [bytes(16), b"abandon " * 11 + b"about"]
    ),
    "psbt": Target(_psbt, (PsbtError, DecodeError, UserError), _psbts),
    "descriptor": Target(_descriptor, (DescriptorError, UserError, DecodeError), _descriptors),
    "network file": Target(_network_file, (UserError,), _networks),
    "transport": Target(_transport, (), _streams),
    "stratum": Target(_stratum, (), _stratum_lines),
    "stratum 2": Target(_stratum2, (BadMessage,), _stratum2_messages),
    "pool address": Target(
        _pool_url,
        (UserError,),
        lambda: [
            b"stratum+ssl://u:p@h.example:3333",
            b"stratum2+tcp://h:1/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh",
            b"[::1]:7",
        ],
    ),
    "template": Target(_template, (BadTemplate,), _templates),
}
for _command in MESSAGES:
    TARGETS[f"message {_command}"] = Target(
        _message(_command),
        (DecodeError, PeerMisbehaviour, PeerDropped),
        lambda command=_command: _message_seeds(command),
    )
