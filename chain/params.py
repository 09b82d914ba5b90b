"""Networks as frozen data: Bitcoin's own, exact, and ours.

Every rule that differs between networks is a field here; the code that applies it asks the field, never the name.
Bitcoin's values are those of Bitcoin Core 31 (kernel/chainparams.cpp). `load_network` reads a user-made network from a
TOML file (chain.network_file).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from chain.crypto.hashes import sha256d
from chain.genesis import SATOSHI_MESSAGE, SATOSHI_SCRIPT, build_genesis
from chain.primitives.amount import COIN
from chain.primitives.block import Block
from chain.primitives.errors import UserError
from chain.primitives.serialize import var_bytes
from chain.primitives.target import nbits_from_target
from chain.primitives.types import Amount, BlockHash, Nbits, hash_from_hex
from chain.script.addresses import AddressPrefixes
from chain.script.flags import ScriptFlags

NO_TIMEOUT = (1 << 63) - 1  #: BIP9 deployment that never times out
_BITCOIN_SUBSIDY = Amount(50 * COIN)
ALWAYS_ACTIVE = -1  #: BIP9 start time: active from genesis
NEVER_ACTIVE = -2  #: BIP9 start time: cannot activate


class Retargeting(Enum):
    """How the next target follows from the chain."""

    BITCOIN = "bitcoin"  #: every retarget_timespan_s / block_interval_s blocks, clamped to a factor of four
    ASERT = "asert"  #: aserti3-2d after every block, anchored at the genesis block
    NONE = "none"  #: never changes


@dataclass(frozen=True, slots=True)
class Bip9Deployment:
    """A rule change that miners signal for (BIP9 with the minimum activation height of BIP341)."""

    name: str
    bit: int
    start_time: int  #: median time past from which signalling counts, or ALWAYS_ACTIVE, NEVER_ACTIVE
    timeout: int  #: median time past from which it fails, or NO_TIMEOUT
    min_activation_height: int
    period: int  #: blocks
    threshold: int  #: signalling blocks in a period that lock it in
    gbt_optional: bool = True  #: getblocktemplate clients may ignore it


@dataclass(frozen=True, slots=True)
class AssumeUtxo:
    """A UTXO snapshot that may be loaded: its block, the hash_serialized_3 of its coins, the transactions up to it."""

    height: int
    block_hash: BlockHash
    hash_serialized: bytes
    chain_tx_count: int


@dataclass(frozen=True, slots=True)
class ChainTxData:
    """Transactions up to a time and their later rate: what `verificationprogress` is estimated from."""

    time: int
    tx_count: int
    tx_per_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkParams:
    """All that tells one network from another. Times in seconds, amounts in satoshi, hashes in internal order."""

    name: str  #: what `--network` takes
    chain_name: str  #: what getblockchaininfo reports (Core's main, test, testnet4, signet, regtest)
    data_folder: str  #: below the data directory; "" for none
    magic: bytes  #: 4 bytes that begin every message and every stored block
    default_port: int
    rpc_port: int
    genesis: Block
    addresses: AddressPrefixes

    pow_limit: int
    retargeting: Retargeting
    block_interval_s: int
    retarget_timespan_s: int = 14 * 24 * 60 * 60
    allow_min_difficulty: bool = (
        False  #: a block 2 intervals late may have the easiest target (Bitcoin's test networks)
    )
    enforce_bip94: bool = False
    asert_half_life_s: int = 34_560
    max_future_drift_s: int = 7200

    initial_subsidy: Amount = _BITCOIN_SUBSIDY
    subsidy_halving_interval: int = 210_000

    bip34_height: int = 1
    bip34_hash: BlockHash | None = None  #: the known block at that height, whose descendants need no BIP30 look-ups
    bip66_height: int = 1
    bip65_height: int = 1
    csv_height: int = 1
    segwit_height: int = 1
    taproot_height: int = (
        1  #: for display: like Core, taproot's script rules hold in every block but the exceptions below
    )
    bip54_height: int | None = None
    deployments: tuple[Bip9Deployment, ...] = ()
    min_bip9_warning_height: int = 0
    script_flag_exceptions: Mapping[BlockHash, ScriptFlags] = field(default_factory=lambda: MappingProxyType({}))
    bip30_exceptions: Mapping[BlockHash, int] = field(
        default_factory=lambda: MappingProxyType({})
    )  #: blocks that repeat a coinbase: hash to height
    bip30_unspendable: Mapping[BlockHash, int] = field(
        default_factory=lambda: MappingProxyType({})
    )  #: blocks whose coinbase was overwritten so
    signet_challenge: bytes | None = None  #: BIP325

    minimum_chain_work: int = 0
    assumevalid: BlockHash | None = None
    assumeutxo: tuple[AssumeUtxo, ...] = ()
    chain_tx_data: ChainTxData = ChainTxData(0, 0, 0.0)
    dns_seeds: tuple[str, ...] = ()
    prune_after_height: int = 1000
    is_test_chain: bool = True
    is_mockable: bool = False  #: setmocktime, and instant blocks by `generate*`
    header_commitment_period: int = 600  #: header pre-synchronisation (Core: HeadersSyncParams)
    header_redownload_buffer: int = 16_000
    pow_limit_nbits: Nbits = field(init=False)
    retarget_interval: int = field(init=False)  #: blocks

    def __post_init__(self) -> None:
        object.__setattr__(self, "pow_limit_nbits", nbits_from_target(self.pow_limit))
        object.__setattr__(self, "retarget_interval", self.retarget_timespan_s // self.block_interval_s)

    @property
    def genesis_hash(self) -> BlockHash:
        return self.genesis.hash

    def assumed_utxo(self, block_hash: bytes) -> AssumeUtxo | None:
        """The table's line for a UTXO snapshot of that block."""
        return next((line for line in self.assumeutxo if line.block_hash == block_hash), None)


def _hash(hex_: str) -> BlockHash:
    return BlockHash(hash_from_hex(hex_))


def _testdummy(threshold: int = 1512, *, start: int = NEVER_ACTIVE, period: int = 2016) -> Bip9Deployment:
    return Bip9Deployment("testdummy", 28, start, NO_TIMEOUT, 0, period, threshold)


def _snapshot(height: int, block_hash_hex: str, serialized_hex: str, chain_tx_count: int) -> AssumeUtxo:
    return AssumeUtxo(height, _hash(block_hash_hex), hash_from_hex(serialized_hex), chain_tx_count)


def _bitcoin_genesis(time: int, nonce: int, nbits: int) -> Block:
    return build_genesis(SATOSHI_MESSAGE, time, nbits, nonce, value=50 * COIN, script=SATOSHI_SCRIPT)


_TEST_XPUB, _TEST_XPRV = bytes.fromhex("043587cf"), bytes.fromhex("04358394")
_BITCOIN_LIMIT = (1 << 224) - 1
_BITCOIN_INTERVAL_S = 600
_SIGNET_CHALLENGE = bytes.fromhex(
    "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be430"
    "210359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae"
)

BITCOIN = NetworkParams(
    name="bitcoin",
    chain_name="main",
    data_folder="",
    magic=bytes.fromhex("f9beb4d9"),
    default_port=8333,
    rpc_port=8332,
    genesis=_bitcoin_genesis(1231006505, 2083236893, 0x1D00FFFF),
    addresses=AddressPrefixes(0, 5, 128, bytes.fromhex("0488b21e"), bytes.fromhex("0488ade4"), "bc"),
    pow_limit=_BITCOIN_LIMIT,
    retargeting=Retargeting.BITCOIN,
    block_interval_s=_BITCOIN_INTERVAL_S,
    bip34_height=227_931,
    bip34_hash=_hash("000000000000024b89b42a942fe0d9fea3bb44ab7bd1b19115dd6a759c0808b8"),
    bip65_height=388_381,
    bip66_height=363_725,
    csv_height=419_328,
    segwit_height=481_824,
    taproot_height=709_632,
    deployments=(_testdummy(1815),),
    min_bip9_warning_height=711_648,
    script_flag_exceptions=MappingProxyType(
        {
            _hash("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22"): ScriptFlags(0),  # breaks BIP16
            _hash("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad"): ScriptFlags.P2SH
            | ScriptFlags.WITNESS,  # breaks taproot
        }
    ),
    bip30_exceptions=MappingProxyType(
        {
            _hash("00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec"): 91_842,
            _hash("00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721"): 91_880,
        }
    ),
    bip30_unspendable=MappingProxyType(
        {
            _hash("00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e"): 91_722,
            _hash("00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f"): 91_812,
        }
    ),
    minimum_chain_work=0x1128750F82F4C366153A3A030,
    assumevalid=_hash("00000000000000000000ccebd6d74d9194d8dcdc1d177c478e094bfad51ba5ac"),  # height 938,343
    assumeutxo=(
        _snapshot(
            840_000,
            "0000000000000000000320283a032748cef8227873ff4872689bf23f1cda83a5",
            "a2a5521b1b5ab65f67818e5e8eccabb7171a517f9e2382208f77687310768f96",
            991_032_194,
        ),
        _snapshot(
            880_000,
            "000000000000000000010b17283c3c400507969a9c2afd1dcf2082ec5cca2880",
            "dbd190983eaf433ef7c15f78a278ae42c00ef52e0fd2a54953782175fbadcea9",
            1_145_604_538,
        ),
        _snapshot(
            910_000,
            "0000000000000000000108970acb9522ffd516eae17acddcb1bd16469194a821",
            "4daf8a17b4902498c5787966a2b51c613acdab5df5db73f196fa59a4da2f1568",
            1_226_586_151,
        ),
        _snapshot(
            935_000,
            "0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee",
            "e4b90ef9eae834f56c4b64d2d50143cee10ad87994c614d7d04125e2a6025050",
            1_305_397_408,
        ),
    ),
    chain_tx_data=ChainTxData(1772055173, 1_315_805_869, 5.40111006496122),
    dns_seeds=(
        "seed.bitcoin.sipa.be.",
        "dnsseed.bluematt.me.",
        "seed.bitcoin.jonasschnelli.ch.",
        "seed.btc.petertodd.net.",
        "seed.bitcoin.sprovoost.nl.",
        "dnsseed.emzy.de.",
        "seed.bitcoin.wiz.biz.",
        "seed.mainnet.achownodes.xyz.",
    ),
    prune_after_height=100_000,
    is_test_chain=False,
    header_commitment_period=641,
    header_redownload_buffer=15_218,
)

TESTNET3 = NetworkParams(
    name="testnet3",
    chain_name="test",
    data_folder="testnet3",
    magic=bytes.fromhex("0b110907"),
    default_port=18333,
    rpc_port=18332,
    genesis=_bitcoin_genesis(1296688602, 414098458, 0x1D00FFFF),
    addresses=AddressPrefixes(111, 196, 239, _TEST_XPUB, _TEST_XPRV, "tb"),
    pow_limit=_BITCOIN_LIMIT,
    retargeting=Retargeting.BITCOIN,
    block_interval_s=_BITCOIN_INTERVAL_S,
    allow_min_difficulty=True,
    bip34_height=21_111,
    bip34_hash=_hash("0000000023b3a96d3484e5abb3755c413e7d41500f8e2a5c3f0dd01299cd8ef8"),
    bip65_height=581_885,
    bip66_height=330_776,
    csv_height=770_112,
    segwit_height=834_624,
    taproot_height=2_011_968,
    deployments=(_testdummy(),),
    min_bip9_warning_height=2_013_984,
    script_flag_exceptions=MappingProxyType(
        {_hash("00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105"): ScriptFlags(0)}  # breaks BIP16
    ),
    minimum_chain_work=0x17DDE1C649F3708D14B6,
    assumevalid=_hash("000000007a61e4230b28ac5cb6b5e5a0130de37ac1faf2f8987d2fa6505b67f4"),  # height 4,842,348
    assumeutxo=(
        _snapshot(
            2_500_000,
            "0000000000000093bcb68c03a9a168ae252572d348a2eaeba2cdf9231d73206f",
            "f841584909f68e47897952345234e37fcd9128cd818f41ee6c3ca68db8071be7",
            66_484_552,
        ),
        _snapshot(
            4_840_000,
            "00000000000000f4971a7fb37fbdff89315b69a2e1920c467654a382f0d64786",
            "ce6bb677bb2ee9789c4a1c9d73e6683c53fc20e8fdbedbdaaf468982a0c8db2a",
            536_078_574,
        ),
    ),
    chain_tx_data=ChainTxData(1772051651, 536_108_416, 0.02691479016257117),
    dns_seeds=(
        "testnet-seed.bitcoin.jonasschnelli.ch.",
        "seed.tbtc.petertodd.net.",
        "seed.testnet.bitcoin.sprovoost.nl.",
        "testnet-seed.bluematt.me.",
        "seed.testnet.achownodes.xyz.",
    ),
    header_commitment_period=673,
    header_redownload_buffer=14_460,
)

TESTNET4 = NetworkParams(
    name="testnet4",
    chain_name="testnet4",
    data_folder="testnet4",
    magic=bytes.fromhex("1c163f28"),
    default_port=48333,
    rpc_port=48332,
    genesis=build_genesis(
        b"03/May/2024 000000000000000000001ebd58c244970b3aa9d783bb001011fbe8ea8e98e00e",
        1714777860,
        0x1D00FFFF,
        393743547,
        value=50 * COIN,
        script=b"\x21" + bytes(33) + b"\xac",
    ),
    addresses=AddressPrefixes(111, 196, 239, _TEST_XPUB, _TEST_XPRV, "tb"),
    pow_limit=_BITCOIN_LIMIT,
    retargeting=Retargeting.BITCOIN,
    block_interval_s=_BITCOIN_INTERVAL_S,
    allow_min_difficulty=True,
    enforce_bip94=True,
    deployments=(_testdummy(),),
    minimum_chain_work=0x9A0FE15D0177D086304,
    assumevalid=_hash("0000000002368b1e4ee27e2e85676ae6f9f9e69579b29093e9a82c170bf7cf8a"),  # height 123,613
    assumeutxo=(
        _snapshot(
            90_000,
            "0000000002ebe8bcda020e0dd6ccfbdfac531d2f6a81457191b99fc2df2dbe3b",
            "784fb5e98241de66fdd429f4392155c9e7db5c017148e66e8fdbc95746f8b9b5",
            11_347_043,
        ),
        _snapshot(
            120_000,
            "000000000bd2317e51b3c5794981c35ba894ce27d3e772d5c39ecd9cbce01dc8",
            "10b05d05ad468d0971162e1b222a4aa66caca89da2bb2a93f8f37fb29c4794b0",
            14_141_057,
        ),
    ),
    chain_tx_data=ChainTxData(1772013387, 14_191_421, 0.01848579579528412),
    dns_seeds=("seed.testnet4.bitcoin.sprovoost.nl.", "seed.testnet4.wiz.biz."),
    header_commitment_period=606,
    header_redownload_buffer=16_092,
)

SIGNET = NetworkParams(
    name="signet",
    chain_name="signet",
    data_folder="signet",
    magic=sha256d(var_bytes(_SIGNET_CHALLENGE))[:4],
    default_port=38333,
    rpc_port=38332,
    genesis=_bitcoin_genesis(1598918400, 52613770, 0x1E0377AE),
    addresses=AddressPrefixes(111, 196, 239, _TEST_XPUB, _TEST_XPRV, "tb"),
    pow_limit=0x377AE << 216,
    retargeting=Retargeting.BITCOIN,
    block_interval_s=_BITCOIN_INTERVAL_S,
    deployments=(_testdummy(1815),),
    signet_challenge=_SIGNET_CHALLENGE,
    minimum_chain_work=0xB463EA0A4B8,
    assumevalid=_hash("00000008414aab61092ef93f1aacc54cf9e9f16af29ddad493b908a01ff5c329"),  # height 293,175
    assumeutxo=(
        _snapshot(
            160_000,
            "0000003ca3c99aff040f2563c2ad8f8ec88bd0fd6b8f0895cfaf1ef90353a62c",
            "fe0a44309b74d6b5883d246cb419c6221bcccf0b308c9b59b7d70783dbdf928a",
            2_289_496,
        ),
        _snapshot(
            290_000,
            "0000000577f2741bb30cd9d39d6d71b023afbeb9764f6260786a97969d5c9ac0",
            "97267e000b4b876800167e71b9123f1529d13b14308abec2888bbd2160d14545",
            28_547_497,
        ),
    ),
    chain_tx_data=ChainTxData(1772055248, 28_676_833, 0.06736623436338929),
    dns_seeds=("seed.signet.bitcoin.sprovoost.nl.", "seed.signet.achownodes.xyz."),
    header_commitment_period=620,
    header_redownload_buffer=15_724,
)

REGTEST = NetworkParams(
    name="regtest",
    chain_name="regtest",
    data_folder="regtest",
    magic=bytes.fromhex("fabfb5da"),
    default_port=18444,
    rpc_port=18443,
    genesis=_bitcoin_genesis(1296688602, 2, 0x207FFFFF),
    addresses=AddressPrefixes(111, 196, 239, _TEST_XPUB, _TEST_XPRV, "bcrt"),
    pow_limit=(1 << 255) - 1,
    retargeting=Retargeting.NONE,
    block_interval_s=_BITCOIN_INTERVAL_S,
    retarget_timespan_s=24 * 60 * 60,
    allow_min_difficulty=True,
    subsidy_halving_interval=150,
    segwit_height=0,
    taproot_height=0,
    deployments=(_testdummy(108, start=0, period=144),),
    assumeutxo=(
        _snapshot(
            110,
            "6affe030b7965ab538f820a56ef56c8149b7dc1d1c144af57113be080db7c397",
            "b952555c8ab81fec46f3d4253b7af256d766ceb39fb7752b9d18cdf4a0141327",
            111,
        ),
        _snapshot(
            200,
            "385901ccbd69dff6bbd00065d01fb8a9e464dede7cfe0372443884f9b1dcf6b9",
            "17dcc016d188d16068907cdeb38b75691a118d43053b8cd6a25969419381d13a",
            201,
        ),
        _snapshot(
            299,
            "7cc695046fec709f8c9394b6f928f81e81fd3ac20977bb68760fa1faa7916ea2",
            "d2b051ff5e8eef46520350776f4100dd710a63447a8e01d917e92e79751a63e2",
            334,
        ),
    ),
    chain_tx_data=ChainTxData(0, 0, 0.001),
    dns_seeds=("dummySeed.invalid.",),
    is_mockable=True,
    header_commitment_period=275,
    header_redownload_buffer=7_017,
)

# Our own: Bitcoin's rules from height 1 with BIP54, faster blocks, and a target that follows the hash rate from block
# to block.
_BIRTHDAY = 1795219200  # 2026-11-21 00:00 UTC
GENESIS_MESSAGES_AND_TIMES = {  # network: what its genesis coinbase says, and when
    "pickaxe": (b"21/Nov/2026 Pickaxe: a chain that one machine can mine, check and spend on", _BIRTHDAY),
    "pickaxe-test": (b"21/Nov/2026 Pickaxe test: a chain to break things on", _BIRTHDAY),
    # long past, so that a computer whose clock runs far behind can mine on it too
    "dev": (b"Pickaxe dev: a chain of one's own, blocks at once", 1735689600),
}
_OWN_INTERVAL_S = 120
_OWN_LIMIT = 0xFFFF << 216  # 0x1e00ffff
_DEV_LIMIT = 0x7FFFFF << 232  # 0x207fffff

PICKAXE = NetworkParams(
    name="pickaxe",
    chain_name="pickaxe",
    data_folder="pickaxe",
    magic=bytes.fromhex("e9d0c1fa"),
    default_port=7425,
    rpc_port=7424,
    genesis=build_genesis(*GENESIS_MESSAGES_AND_TIMES["pickaxe"], 0x1E00FFFF, 21434115),
    addresses=AddressPrefixes(55, 117, 183, bytes.fromhex("01da950e"), bytes.fromhex("01da90d3"), "pick"),
    pow_limit=_OWN_LIMIT,
    retargeting=Retargeting.ASERT,
    block_interval_s=_OWN_INTERVAL_S,
    asert_half_life_s=34_560,
    max_future_drift_s=600,
    initial_subsidy=Amount(10 * COIN),
    subsidy_halving_interval=1_051_200,
    bip54_height=1,
    chain_tx_data=ChainTxData(_BIRTHDAY, 1, 1 / _OWN_INTERVAL_S),
    is_test_chain=False,
)

PICKAXE_TEST = replace(
    PICKAXE,
    name="pickaxe-test",
    chain_name="pickaxe-test",
    data_folder="pickaxe-test",
    magic=bytes.fromhex("ead2c3fb"),
    default_port=17425,
    rpc_port=17424,
    genesis=build_genesis(*GENESIS_MESSAGES_AND_TIMES["pickaxe-test"], 0x1E00FFFF, 55668117),
    addresses=AddressPrefixes(127, 65, 191, bytes.fromhex("022dbf5e"), bytes.fromhex("022dbb23"), "tpick"),
    is_test_chain=True,
)

DEV = replace(
    PICKAXE,
    name="dev",
    chain_name="dev",
    data_folder="dev",
    magic=bytes.fromhex("ebd4c5fc"),
    default_port=27425,
    rpc_port=27424,
    genesis=build_genesis(*GENESIS_MESSAGES_AND_TIMES["dev"], 0x207FFFFF, 1),
    addresses=AddressPrefixes(90, 30, 217, bytes.fromhex("010aab46"), bytes.fromhex("010aa70c"), "dpick"),
    pow_limit=_DEV_LIMIT,
    retargeting=Retargeting.NONE,
    is_test_chain=True,
    is_mockable=True,
)

NETWORKS: Mapping[str, NetworkParams] = MappingProxyType(
    {params.name: params for params in (PICKAXE, PICKAXE_TEST, DEV, BITCOIN, TESTNET3, TESTNET4, SIGNET, REGTEST)}
)
_ALIASES = {"main": "bitcoin", "mainnet": "bitcoin", "test": "testnet3", "testnet": "testnet3"}


def network(name: str) -> NetworkParams:
    """The network of that name, or the one that the TOML file of that path describes; UserError otherwise."""
    params = NETWORKS.get(_ALIASES.get(name, name))
    if params is not None:
        return params
    if name.endswith(".toml"):
        return load_network(Path(name))
    raise UserError(
        f"There is no network '{name}'. Use one of {', '.join(NETWORKS)}, or the path of a network's .toml file."
    )


def load_network(path: Path) -> NetworkParams:
    """A user-made network; see chain.network_file.load_network."""
    from chain.network_file import load_network as load  # the other module builds on this one

    return load(path)


def signet_with_challenge(challenge: bytes, seeds: tuple[str, ...] = ()) -> NetworkParams:
    """A signet of one's own (BIP325): same genesis block, its own challenge script and, from it, its own magic."""
    return replace(
        SIGNET,
        signet_challenge=challenge,
        magic=sha256d(var_bytes(challenge))[:4],
        minimum_chain_work=0,
        assumevalid=None,
        chain_tx_data=ChainTxData(0, 0, 0.0),
        dns_seeds=seeds,
    )


_ACTIVATION_FIELDS = {
    "segwit": "segwit_height",
    "bip34": "bip34_height",
    "dersig": "bip66_height",
    "cltv": "bip65_height",
    "csv": "csv_height",
}


def _int_text(text: str, low: int, high: int) -> int | None:
    digits = text[1:] if text.startswith("-") else text
    if not digits.isascii() or not digits.isdigit():
        return None
    value = int(text)
    return value if low <= value <= high else None


def with_test_activation_heights(params: NetworkParams, options: list[str]) -> NetworkParams:
    """Core's `-testactivationheight=name@height` (regtest); UserError in Core's words."""
    heights: dict[str, int] = {}
    for option in options:
        name, at, value = option.partition("@")
        if not at:
            raise UserError(f"Invalid format ({option}) for -testactivationheight=name@height.")
        height = _int_text(value, 0, 2**31 - 2)
        if height is None:
            raise UserError(f"Invalid height value ({option}) for -testactivationheight=name@height.")
        if name not in _ACTIVATION_FIELDS:
            raise UserError(f"Invalid name ({option}) for -testactivationheight=name@height.")
        heights[_ACTIVATION_FIELDS[name]] = height
    return replace(params, **heights) if heights else params  # type: ignore[arg-type]


def with_vbparams(params: NetworkParams, options: list[str]) -> NetworkParams:
    """Core's `-vbparams=deployment:start:end[:min_activation_height]` (regtest); UserError in Core's words."""
    deployments = {deployment.name: deployment for deployment in params.deployments}
    low, high = -(2**63), 2**63 - 1
    for option in options:
        parts = option.split(":")
        if not 3 <= len(parts) <= 4:
            raise UserError("Version bits parameters malformed, expecting deployment:start:end[:min_activation_height]")
        start = _int_text(parts[1], low, high)
        if start is None:
            raise UserError(f"Invalid nStartTime ({parts[1]})")
        timeout = _int_text(parts[2], low, high)
        if timeout is None:
            raise UserError(f"Invalid nTimeout ({parts[2]})")
        minimum = _int_text(parts[3], low, high) if len(parts) == 4 else 0
        if minimum is None:
            raise UserError(f"Invalid min_activation_height ({parts[3]})")
        if parts[0] not in deployments:
            raise UserError(f"Invalid deployment ({parts[0]})")
        deployments[parts[0]] = replace(
            deployments[parts[0]], start_time=start, timeout=timeout, min_activation_height=minimum
        )
    return replace(params, deployments=tuple(deployments.values()))
