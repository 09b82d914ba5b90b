"""Bitcoin Core's command line and bitcoin.conf, turned into a NodeConfig: single-dash options, `-no` negation, network
sections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chain.primitives.errors import UserError
from node.config import BY_CORE, Kind, NodeConfig, Option, build, check_range

#: Core's chain switch -> our network; the second is the name of its section and of `-chain=`.
CHAINS: Final = {
    "main": "bitcoin",
    "test": "testnet3",
    "testnet4": "testnet4",
    "signet": "signet",
    "regtest": "regtest",
    "pickaxe": "pickaxe",
    "pickaxe-test": "pickaxe-test",
    "dev": "dev",
}
SECTION_OF: Final = {network: name for name, network in CHAINS.items()}
_SWITCHES: Final = {"testnet": "test", "testnet4": "testnet4", "signet": "signet", "regtest": "regtest"}

#: Core's options that have no meaning here: accepted, so that a Core command line or file works as it is.
ACCEPTED: Final = frozenset(
    [
        "addresstype",
        "alertnotify",
        "allowignoredconf",
        "asmap",
        "avoidpartialspends",
        "blocknotify",
        "blockreconstructionextratxn",
        "blocksxor",
        "capturemessages",
        "changetype",
        "checkaddrman",
        "checkblockindex",
        "checkmempool",
        "checkpoints",
        "cjdnsreachable",
        "consolidatefeerate",
        "daemon",
        "daemonwait",
        "dbbatchsize",
        "dbcrashratio",
        "deprecatedrpc",
        "disablewallet",
        "discardfee",
        "discover",
        "dns",
        "fallbackfee",
        "fixedseeds",
        "flushwallet",
        "forcednsseed",
        "help-debug",
        "i2pacceptincoming",
        "i2psam",
        "includeconf",
        "ipcbind",
        "keypool",
        "limitdescendantsize",
        "limitancestorsize",
        "listenonion",
        "loadblock",
        "loglevel",
        "loglevelalways",
        "logratelimit",
        "logsourcelocations",
        "logthreadnames",
        "logtimemicros",
        "logtimestamps",
        "maxapsfee",
        "maxorphantx",
        "maxsigcachesize",
        "maxtxfee",
        "mintxfee",
        "natpmp",
        "onion",
        "onlynet",
        "paytxfee",
        "printpriority",
        "privatebroadcast",
        "proxy",
        "proxyrandomize",
        "rpccookieperms",
        "rpcdoccheck",
        "rpcwhitelist",
        "rpcwhitelistdefault",
        "sandbox",
        "settings",
        "shutdownnotify",
        "signer",
        "spendzeroconfchange",
        "startupnotify",
        "stopafterblockimport",
        "swapbdbendian",
        "torcontrol",
        "torpassword",
        "txconfirmtarget",
        "txreconciliation",
        "unsafesqlitesync",
        "upnp",
        "usehd",
        "wallet",
        "walletbroadcast",
        "walletcrosschain",
        "walletdir",
        "walletnotify",
        "walletrbf",
        "walletrejectlongchains",
        "whitelistforcerelay",
        "whitelistrelay",
        "zmqpubhashblock",
        "zmqpubhashblockhwm",
        "zmqpubhashtx",
        "zmqpubhashtxhwm",
        "zmqpubrawblock",
        "zmqpubrawblockhwm",
        "zmqpubrawtx",
        "zmqpubrawtxhwm",
        "zmqpubsequence",
        "zmqpubsequencehwm",
    ]
)
#: Accepted like those, but a user who asks for them is told.
WITHOUT_EFFECT: Final = ("externalip", "maxuploadtarget", "peerbloomfilters", "rest")
#: Accepting these without doing what they say would expose a user: refused unless switched off.
_PRIVACY: Final = ("proxy", "onion", "onlynet", "i2psam")
_SPECIAL: Final = frozenset({"datadir", "conf", "chain", "h", "help", "?", "version", *_SWITCHES})
#: Numbers that are taken for the least that works where they are below it, as Core does.
_RAISED: Final = frozenset({"dbcache", "mempoolexpiry", "rpcservertimeout", "rpcthreads", "rpcworkqueue"})
#: Options whose bare form means a list entry '1' ("all"), not the boolean true.
_ALIASES: Final = {"?": "h", "help": "h"}


@dataclass(slots=True)
class Arguments:
    """Options by name with every value given, in order; `negated` ones came as `-noname`."""

    values: dict[str, list[str]] = field(default_factory=dict)
    negated: set[str] = field(default_factory=set)

    def add(self, name: str, value: str) -> None:
        if name.startswith("no") and name not in _KNOWN and name[2:] in _KNOWN:
            name = name[2:]
            if _truth(value):
                self.values[name] = []
                self.negated.add(name)
                return
            value = "1"
        self.negated.discard(name)
        self.values.setdefault(name, []).append(value)

    def last(self, name: str) -> str | None:
        given = self.values.get(name)
        return given[-1] if given else None

    def flag(self, name: str, default: bool = False) -> bool:
        if name in self.negated:
            return False
        value = self.last(name)
        return default if value is None else _truth(value)


_KNOWN: Final = frozenset(BY_CORE) | ACCEPTED | frozenset(WITHOUT_EFFECT) | _SPECIAL


def _truth(value: str) -> bool:
    """Core's InterpretBool: empty is true, otherwise the leading integer decides."""
    if value == "":
        return True
    match = re.match(r"\s*[+-]?[0-9]+", value)
    return bool(match and int(match.group()))


def parse_command_line(arguments: Sequence[str]) -> Arguments:
    """UserError with Core's text for an option that does not exist or a bare word."""
    parsed = Arguments()
    for argument in arguments:
        if not argument.startswith("-") or argument == "-":
            raise UserError(
                f"Command line contains unexpected token '{argument}', see pickaxe-bitcoind -h for a list of options."
            )
        name, _, value = argument.lstrip("-").partition("=")
        name = _ALIASES.get(name, name)
        if name not in _KNOWN and not (name.startswith("no") and name[2:] in _KNOWN):
            raise UserError(f"Error parsing command line arguments: Invalid parameter {argument.partition('=')[0]}")
        parsed.add(name, value)
    return parsed


def parse_file(text: str) -> dict[str, Arguments]:
    """Options by section; '' is what stands before the first. UserError names the line, in Core's words."""
    sections: dict[str, Arguments] = {"": Arguments()}
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].strip() if "rpcpassword" not in raw else raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            sections.setdefault(section, Arguments())
            continue
        if line.startswith("-"):
            raise UserError(
                f"Error reading configuration file: parse error on line {number}: {line}, options in configuration"
                " file must be specified without leading -"
            )
        name, equals, value = line.partition("=")
        if not equals:
            hint = (
                f", if you intended to specify a negated option, use {line}=1 instead" if line.startswith("no") else ""
            )
            raise UserError(f"Error reading configuration file: parse error on line {number}: {line}{hint}")
        name = name.strip()
        if "." in name:
            prefix, _, rest = name.partition(".")
            sections.setdefault(prefix, Arguments()).add(rest.strip(), value.strip())
        else:
            sections[section].add(name, value.strip())
    return sections


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a command line and its file amount to."""

    config: NodeConfig
    warnings: tuple[str, ...]


def load(arguments: Arguments) -> Loaded:
    """Read the datadir's bitcoin.conf, choose the network, merge. UserError for anything that Core refuses."""
    base = arguments.last("datadir")
    datadir = Path(base).expanduser() if base else Path.home() / ".pickaxe"
    if base and not datadir.is_dir():
        raise UserError(f'Specified data directory "{base}" does not exist.')
    chosen = arguments.last("conf")
    conf_path = Path(chosen) if chosen else Path("bitcoin.conf")
    if not conf_path.is_absolute():
        conf_path = datadir / conf_path
    sections = {"": Arguments()}
    if conf_path.is_file():
        try:
            sections = parse_file(conf_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"Error reading configuration file: {conf_path}: {error}") from error
    elif chosen and "conf" not in arguments.negated:
        raise UserError(f'specified config file "{chosen}" could not be opened.')
    in_file = sections[""].last("datadir")
    if in_file and not base:
        datadir = Path(in_file).expanduser()
        if not datadir.is_dir():
            raise UserError(f'Specified data directory "{in_file}" does not exist.')
    network = _choose_network(arguments, sections[""])
    section = sections.get(SECTION_OF[network], Arguments())
    for name in _PRIVACY:
        for source in (arguments, section, sections[""]):
            if source.last(name) not in (None, "", "0"):
                raise UserError(f"-{name} is not supported: this node can only connect directly. Remove it to go on.")
    warnings = [f"Section [{name}] is not recognized." for name in sections if name and name not in CHAINS]
    warnings += [
        f"Ignoring unknown configuration value {name}"
        for part in sections.values()
        for name in part.values
        if name not in _KNOWN
    ]
    warnings += [
        f"-{name} has no effect in this version."
        for name in WITHOUT_EFFECT
        if any(source.last(name) not in (None, "0") for source in (arguments, section, sections[""]))
    ]
    values: dict[str, Any] = {"network": network, "datadir": datadir.absolute()}
    for option in BY_CORE.values():
        sources = [arguments, section]
        if not option.local or network == "bitcoin":
            sources.append(sections[""])
        value = _merge(option, sources)
        if value is not None:
            values[option.field] = value
    _imply(values, arguments, section, sections[""])
    if values.get("blocks_dir"):  # from the folder where the command was given, as in Core
        values["blocks_dir"] = str(Path(values["blocks_dir"]).expanduser().absolute())
    return Loaded(build(values), tuple(warnings))


def _choose_network(arguments: Arguments, top: Arguments) -> str:
    names: set[str] = set()
    for source in (arguments, top):
        for switch, chain in _SWITCHES.items():
            if source.flag(switch) and not (source is top and switch in arguments.negated):
                names.add(chain)
        chain_name = source.last("chain")
        if chain_name is not None and not (source is top and names):
            names.add(chain_name)
    if len(names) > 1:
        raise UserError(
            "Invalid combination of -regtest, -signet, -testnet, -testnet4 and -chain. Can use at most one."
        )
    name = names.pop() if names else "main"
    if name not in CHAINS:
        raise UserError(f"Unknown chain {name}.")
    return CHAINS[name]


def _merge(option: Option, sources: Sequence[Arguments]) -> Any:
    """The value of one option; the first source that has it wins, lists are joined until one source negates."""
    if option.kind is Kind.LIST:
        joined: list[str] = []
        seen = False
        for source in sources:
            given = source.values.get(option.core)
            if given is None:
                continue
            seen = True
            joined += given
            if option.core in source.negated:
                break
        return tuple(joined) if seen else None
    for source in sources:
        given = source.values.get(option.core)
        if given is not None:
            if not given:
                return _zero(option)
            return _convert(option, given[-1])
    return None


def _zero(option: Option) -> Any:
    return {Kind.BOOL: False, Kind.INT: 0, Kind.FEE: 0}.get(option.kind, "0")


def _convert(option: Option, text: str) -> Any:
    if option.kind is Kind.BOOL:
        return _truth(text)
    if option.kind is Kind.INT:
        match = re.match(r"\s*([+-]?[0-9]+)", text)
        value = int(match.group(1)) if match else (1 if text == "" else 0)
        if option.field == "port" or option.field == "rpc_port":
            if not 0 < value <= 65_535:
                raise UserError(f"Invalid port specified in -{option.core}: '{text}'")
            return value
        if option.minimum is not None and value < option.minimum and option.core in ("mocktime",):
            return check_range(option, value, f"-{option.core}")
        if option.minimum is not None and option.core in _RAISED:
            return max(value, option.minimum)
        return value
    if option.kind is Kind.FEE:
        whole, _, part = text.partition(".")
        if not (whole + part).isdigit() or len(part) > 8:
            raise UserError(f"Invalid amount for -{option.core}=<amount>: '{text}'")
        return int(whole or "0") * 100_000_000 + int(part.ljust(8, "0") or "0")
    return text


def _imply(values: dict[str, Any], *sources: Arguments) -> None:
    """Settings that follow from others, as Core's InitParameterInteraction has them."""
    connect = values.get("connect")
    if connect is not None:
        values["connect"] = tuple(c for c in connect if c != "0") or ("0",)
        values.setdefault("dns_seeds", False)
        if "bind" not in values and "whitebind" not in values:
            values.setdefault("listen", False)
    if values.get("bind") or values.get("whitebind"):
        values.setdefault("listen", True)
    if values.get("rpc_server") is None:
        values["rpc_server"] = True
    if values.get("block_filter_index") in ("", "1"):
        values["block_filter_index"] = "basic"
    elif values.get("block_filter_index") == "0":
        values["block_filter_index"] = ""
    if values.get("prune_mib", 0) > 1_000_000_000:
        values["prune_mib"] = 1_000_000_000
    values.setdefault("print_to_console", not any(s.flag("daemon") for s in sources))
