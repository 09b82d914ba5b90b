"""Networks that users make: a TOML file says everything about one, and everyone who joins it uses the same file.

`create_network` mines the genesis block and writes the file, `load_network` reads it. Such a network has all of
Bitcoin's soft forks from height 1, and BIP54 unless the file says otherwise.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chain.crypto.hashes import sha256d
from chain.genesis import MAX_MESSAGE_SIZE, build_genesis, mine_genesis
from chain.params import NETWORKS, PICKAXE, AssumeUtxo, ChainTxData, NetworkParams, Retargeting
from chain.primitives.amount import format_amount, parse_amount
from chain.primitives.block import Block
from chain.primitives.errors import UserError
from chain.primitives.target import target_from_nbits
from chain.primitives.types import Amount, BlockHash, hash_to_hex
from chain.script.addresses import AddressPrefixes

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_BECH32_PREFIX = re.compile(r"[a-z][a-z0-9]{0,19}")
_MAX_U32 = 0xFFFFFFFF
_EASIEST = 0x207FFFFF

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "network": ("name", "magic", "port", "rpc_port", "dns_seeds"),
    "genesis": ("message", "time", "nbits", "nonce", "hash"),
    "proof_of_work": (
        "limit",
        "retargeting",
        "block_interval_s",
        "half_life_s",
        "timespan_s",
        "allow_min_difficulty",
        "max_future_drift_s",
    ),
    "subsidy": ("initial", "halving_interval"),
    "addresses": ("bech32_prefix", "p2pkh", "p2sh", "wif", "bip32_public", "bip32_private"),
    "rules": ("bip54",),
}
#: each [[assumeutxo]]: what dumptxoutset said of a UTXO snapshot that nodes of the network may load
_SNAPSHOT_FIELDS = ("base_height", "base_hash", "txoutset_hash", "nchaintx")
_OPTIONAL = {
    ("network", "dns_seeds"): [],
    ("proof_of_work", "half_life_s"): 34_560,
    ("proof_of_work", "timespan_s"): 14 * 24 * 60 * 60,
    ("proof_of_work", "allow_min_difficulty"): False,
    ("proof_of_work", "max_future_drift_s"): 600,
    ("rules", "bip54"): True,
}


class _Fields:
    """Reads fields and says which one is wrong, and how it should look."""

    def __init__(self, source: str, data: Mapping[str, Any]) -> None:
        self.source = source
        self.data = data
        for section, value in data.items():
            if section == "assumeutxo":
                continue
            if section not in _SECTIONS:
                raise self.error(f"there is no section [{section}]; the sections are {', '.join(_SECTIONS)}")
            if not isinstance(value, dict):
                raise self.error(f"{section} must be a section, [{section}]")
            for key in value:
                if key not in _SECTIONS[section]:
                    raise self.error(f"there is no {section}.{key}; [{section}] has {', '.join(_SECTIONS[section])}")

    @classmethod
    def of_table(cls, source: str, name: str, values: Mapping[str, Any], known: tuple[str, ...]) -> _Fields:
        """The fields of one table that may be there several times."""
        fields = cls(source, {})
        fields.data = {name: values}
        for key in values:
            if key not in known:
                raise fields.error(f"there is no {name}.{key}; [[assumeutxo]] has {', '.join(known)}")
        return fields

    def error(self, what: str) -> UserError:
        return UserError(f"Network file {self.source}: {what}.")

    def wrong(self, section: str, key: str, wanted: str, value: object) -> UserError:
        shown = f"'{value}'" if isinstance(value, str) else f"{value}"
        return self.error(f"{section}.{key} must be {wanted}, not {shown[:80]}")

    def get(self, section: str, key: str) -> Any:
        value = self.data.get(section, {}).get(key)
        if value is None:
            if (section, key) not in _OPTIONAL:
                raise self.error(f"{section}.{key} is missing")
            return _OPTIONAL[section, key]
        return value

    def integer(self, section: str, key: str, low: int, high: int) -> int:
        value = self.get(section, key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(section, key, f"a whole number from {low} to {high}", value)
        return value

    def boolean(self, section: str, key: str) -> bool:
        value = self.get(section, key)
        if not isinstance(value, bool):
            raise self.wrong(section, key, "true or false", value)
        return value

    def text(self, section: str, key: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = self.get(section, key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(section, key, wanted, value)
        return value

    def hexadecimal(self, section: str, key: str, size: int) -> bytes:
        wanted = f'{2 * size} hexadecimal digits in quotes, like "{"00" * size}"'
        return bytes.fromhex(self.text(section, key, re.compile(f"[0-9a-fA-F]{{{2 * size}}}"), wanted))

    def nbits(self, section: str, key: str) -> tuple[int, int]:
        """(nbits, target) of a compact target that is no easier than the easiest there is."""
        nbits = int.from_bytes(self.hexadecimal(section, key, 4), "big")
        target = target_from_nbits(nbits)
        if target is None or target > (target_from_nbits(_EASIEST) or 0):
            raise self.wrong(section, key, 'a compact target up to "207fffff"', f"{nbits:08x}")
        return nbits, target


def load_network(path: Path) -> NetworkParams:
    """The network that the file describes; UserError names the first field that is missing or wrong."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no network file {path}. Create a network with 'pickaxe network create'.") from None
    except OSError as error:
        raise UserError(f"The network file {path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"The network file {path} is not TOML: {error}.") from None
    return network_from_fields(data, str(path))


def network_from_fields(data: Mapping[str, Any], source: str) -> NetworkParams:
    """The network that parsed TOML describes; `source` names the file in errors."""
    fields = _Fields(source, data)
    name = fields.text("network", "name", _NAME, "a lower-case word of letters, digits and '-'")
    if name in NETWORKS:
        raise fields.error(f"the name '{name}' belongs to another network; choose a different network.name")
    magic = fields.hexadecimal("network", "magic", 4)
    for other in NETWORKS.values():
        if other.magic == magic:
            raise fields.error(f"network.magic is that of '{other.name}'; choose four other bytes")
    port = fields.integer("network", "port", 1, 65535)
    rpc_port = fields.integer("network", "rpc_port", 1, 65535)
    if port == rpc_port:
        raise fields.error(f"network.port and network.rpc_port are both {port}; they must differ")
    seeds = fields.get("network", "dns_seeds")
    if not isinstance(seeds, list) or not all(isinstance(seed, str) for seed in seeds):
        raise fields.wrong("network", "dns_seeds", 'a list of host names in quotes, like ["seed.example.org"]', seeds)

    _, limit = fields.nbits("proof_of_work", "limit")
    kinds = {kind.value: kind for kind in Retargeting}
    kind = fields.get("proof_of_work", "retargeting")
    if not isinstance(kind, str) or kind not in kinds:
        raise fields.wrong("proof_of_work", "retargeting", f"one of {', '.join(kinds)}", kind)
    retargeting = kinds[kind]
    interval = fields.integer("proof_of_work", "block_interval_s", 1, 24 * 60 * 60)
    half_life = fields.integer("proof_of_work", "half_life_s", 1, 10 * 365 * 24 * 60 * 60)
    timespan = fields.integer("proof_of_work", "timespan_s", 1, 365 * 24 * 60 * 60)
    if timespan < 2 * interval:
        raise fields.wrong("proof_of_work", "timespan_s", f"at least two block intervals, {2 * interval}", timespan)
    drift = fields.integer("proof_of_work", "max_future_drift_s", 1, 24 * 60 * 60)

    initial = fields.get("subsidy", "initial")
    try:
        subsidy = parse_amount(initial) if isinstance(initial, str) else Amount(-1)
    except ValueError:
        subsidy = Amount(-1)
    if subsidy < 0:
        raise fields.wrong("subsidy", "initial", 'an amount of coins in quotes, like "10.0"', initial)
    params = replace(
        PICKAXE,
        name=name,
        chain_name=name,
        data_folder=name,
        magic=magic,
        default_port=port,
        rpc_port=rpc_port,
        genesis=_read_genesis(fields, limit),
        addresses=_read_addresses(fields),
        pow_limit=limit,
        retargeting=retargeting,
        block_interval_s=interval,
        retarget_timespan_s=timespan,
        asert_half_life_s=half_life,
        allow_min_difficulty=fields.boolean("proof_of_work", "allow_min_difficulty"),
        max_future_drift_s=drift,
        initial_subsidy=subsidy,
        subsidy_halving_interval=fields.integer("subsidy", "halving_interval", 1, _MAX_U32),
        bip54_height=1 if fields.boolean("rules", "bip54") else None,
        dns_seeds=tuple(seeds),
        is_test_chain=True,
        is_mockable=retargeting is Retargeting.NONE,
        assumeutxo=_read_snapshots(data.get("assumeutxo", []), str(source)),
    )
    return replace(params, chain_tx_data=ChainTxData(params.genesis.header.time, 1, 1 / interval))


def _read_genesis(fields: _Fields, limit: int) -> Block:
    message = fields.get("genesis", "message")
    if not isinstance(message, str) or not 1 <= len(message.encode()) <= MAX_MESSAGE_SIZE:
        raise fields.wrong("genesis", "message", f"a text of 1 to {MAX_MESSAGE_SIZE} bytes", message)
    time = fields.integer("genesis", "time", 1, _MAX_U32)
    nbits, target = fields.nbits("genesis", "nbits")
    if target > limit:
        raise fields.error("genesis.nbits is an easier target than proof_of_work.limit")
    block = build_genesis(message.encode(), time, nbits, fields.integer("genesis", "nonce", 0, _MAX_U32))
    wanted = fields.hexadecimal("genesis", "hash", 32)
    if block.hash != wanted[::-1]:
        raise fields.error(f"the genesis fields give a block with hash {hash_to_hex(block.hash)}, not genesis.hash")
    if int.from_bytes(block.hash, "little") > target:
        raise fields.error("genesis.nonce is no proof of work for genesis.nbits; mine it with 'pickaxe network create'")
    return block


def _read_snapshots(value: object, source: str) -> tuple[AssumeUtxo, ...]:
    """The table of UTXO snapshots, by height."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UserError(f"Network file {source}: each UTXO snapshot is a section [[assumeutxo]] of its own.")
    lines: dict[int, AssumeUtxo] = {}
    for number, item in enumerate(value, 1):
        # Errors then read "assumeutxo.base_hash must be ..."; the second or later one is named by its number.
        name = "assumeutxo" if number == 1 else f"assumeutxo[{number}]"
        fields = _Fields.of_table(source, name, item, _SNAPSHOT_FIELDS)
        height = fields.integer(name, "base_height", 1, _MAX_U32)
        if height in lines:
            raise fields.error(f"two snapshots have base_height {height}")
        lines[height] = AssumeUtxo(
            height,
            BlockHash(fields.hexadecimal(name, "base_hash", 32)[::-1]),
            fields.hexadecimal(name, "txoutset_hash", 32)[::-1],
            fields.integer(name, "nchaintx", height + 1, (1 << 63) - 1),
        )
    return tuple(lines[height] for height in sorted(lines))


def _read_addresses(fields: _Fields) -> AddressPrefixes:
    hrp = fields.text("addresses", "bech32_prefix", _BECH32_PREFIX, "a lower-case word of letters and digits")
    versions = {key: fields.integer("addresses", key, 0, 255) for key in ("p2pkh", "p2sh", "wif")}
    if len(set(versions.values())) != 3:
        raise fields.error("addresses.p2pkh, p2sh and wif must be three different numbers")
    public = fields.hexadecimal("addresses", "bip32_public", 4)
    private = fields.hexadecimal("addresses", "bip32_private", 4)
    if public == private:
        raise fields.error("addresses.bip32_public and bip32_private must differ")
    return AddressPrefixes(versions["p2pkh"], versions["p2sh"], versions["wif"], public, private, hrp)


def create_network(
    path: Path,
    name: str,
    *,
    message: str,
    time: int,
    limit_nbits: int = 0x1F00FFFF,
    retargeting: Retargeting = Retargeting.ASERT,
    block_interval_s: int = 120,
    half_life_s: int = 34_560,
    max_future_drift_s: int = 600,
    initial_subsidy: int = PICKAXE.initial_subsidy,
    halving_interval: int = PICKAXE.subsidy_halving_interval,
    port: int | None = None,
    rpc_port: int | None = None,
    bech32_prefix: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> NetworkParams:
    """Mine a genesis block with `limit_nbits` as its target, write the network's file to `path`, and return the
    network.

    Magic and, unless given, ports and address prefix are drawn from the name and the message, so that two networks
    hardly ever share them. All fields are checked before mining starts; UserError where one is wrong or the file
    exists. `progress` is called with the number of hashes done.
    """
    seed = sha256d(b"pickaxe network " + name.encode() + b"\0" + message.encode())
    port = port or 20_000 + int.from_bytes(seed[4:6], "little") % 20_000 * 2
    wanted: dict[str, dict[str, Any]] = {
        "network": {
            "name": name,
            "magic": bytes([seed[0] | 0x80, seed[1] & 0x7F, seed[2] | 0x80, seed[3]]).hex(),
            "port": port,
            "rpc_port": rpc_port or port - 1,
            "dns_seeds": [],
        },
        "proof_of_work": {
            "limit": f"{limit_nbits:08x}",
            "retargeting": retargeting.value,
            "block_interval_s": block_interval_s,
            "half_life_s": half_life_s,
            "timespan_s": max(14 * 24 * 60 * 60 // 600 * block_interval_s, 2 * block_interval_s),
            "allow_min_difficulty": False,
            "max_future_drift_s": max_future_drift_s,
        },
        "subsidy": {"initial": format_amount(initial_subsidy), "halving_interval": halving_interval},
        "addresses": {
            "bech32_prefix": bech32_prefix or re.sub(r"[^a-z]", "", name)[:6] or "coin",
            "p2pkh": PICKAXE.addresses.p2pkh,
            "p2sh": PICKAXE.addresses.p2sh,
            "wif": PICKAXE.addresses.wif,
            "bip32_public": PICKAXE.addresses.bip32_public.hex(),
            "bip32_private": PICKAXE.addresses.bip32_private.hex(),
        },
        "rules": {"bip54": True},
    }
    if path.exists():
        raise UserError(f"{path} exists already. Choose another file, or delete it.")
    # Check every field before the mining, with an easy stand-in for the genesis block.
    stand_in = mine_genesis((message or " ").encode()[:MAX_MESSAGE_SIZE], min(max(time, 1), _MAX_U32), _EASIEST)
    trial = {section: dict(values) for section, values in wanted.items()}
    trial["genesis"] = _genesis_fields(stand_in, message, _EASIEST)
    trial["proof_of_work"] = {**trial["proof_of_work"], "limit": f"{_EASIEST:08x}", "retargeting": "none"}
    network_from_fields(trial, str(path))
    _Fields(str(path), wanted).nbits("proof_of_work", "limit")
    block = mine_genesis(message.encode(), time, limit_nbits, progress=progress)
    wanted["genesis"] = _genesis_fields(block, message, limit_nbits)
    params = network_from_fields(wanted, str(path))
    text = _HEADING + "".join(
        f"\n[{section}]\n" + "".join(f"{key} = {_toml(wanted[section][key])}\n" for key in _SECTIONS[section])
        for section in _SECTIONS
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"The network file {path} cannot be written: {error.strerror}.") from None
    return params


_HEADING = """# A Pickaxe network. All its nodes, miners and wallets need this same file: --network FILE.toml
# Targets are compact (as nBits); amounts are in coins; times are in seconds.
# A UTXO snapshot that nodes may load is a section [[assumeutxo]] at the end, with what dumptxoutset said of it:
# base_height, base_hash, txoutset_hash and nchaintx.
"""


def _genesis_fields(block: Block, message: str, nbits: int) -> dict[str, Any]:
    return {
        "message": message,
        "time": block.header.time,
        "nbits": f"{nbits:08x}",
        "nonce": block.header.nonce,
        "hash": hash_to_hex(block.hash),
    }


def _toml(value: object) -> str:
    """A value as TOML writes it: basic strings with everything unusual escaped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(char):04X}" if ord(char) < 0x20 or ord(char) == 0x7F else f"\\{char}" if char in '"\\' else char
            for char in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)
