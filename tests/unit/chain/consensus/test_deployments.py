"""Buried heights, script flags and the BIP9 state machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.consensus.deployments import (
    Deployment,
    ThresholdState,
    VersionBits,
    activation_height,
    block_script_flags,
    is_active,
)
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import (
    ALWAYS_ACTIVE,
    BITCOIN,
    NETWORKS,
    PICKAXE,
    REGTEST,
    TESTNET3,
    Bip9Deployment,
    NetworkParams,
    with_vbparams,
)
from chain.primitives.types import hash_from_hex
from chain.script.flags import ScriptFlags
from tests.support.blocks import add_header, add_headers

SIGNAL = 0x20000000 | 1 << 28
ALWAYS = ScriptFlags.P2SH | ScriptFlags.WITNESS | ScriptFlags.TAPROOT


def test_heights() -> None:
    assert [activation_height(deployment, BITCOIN) for deployment in Deployment] == [
        227931,
        363725,
        388381,
        419328,
        481824,
    ]
    assert not is_active(Deployment.SEGWIT, 481_823, BITCOIN)
    assert is_active(Deployment.SEGWIT, 481_824, BITCOIN)
    for deployment in Deployment:
        assert activation_height(deployment, PICKAXE) == 1
    assert activation_height(Deployment.SEGWIT, REGTEST) == 0


def test_flags_by_height() -> None:
    assert block_script_flags(bytes(32), 0, BITCOIN) == ALWAYS
    flags = ALWAYS
    for height, flag in (
        (363_725, ScriptFlags.DERSIG),
        (388_381, ScriptFlags.CHECKLOCKTIMEVERIFY),
        (419_328, ScriptFlags.CHECKSEQUENCEVERIFY),
        (481_824, ScriptFlags.NULLDUMMY),
    ):
        assert block_script_flags(bytes(32), height - 1, BITCOIN) == flags
        flags |= flag
        assert block_script_flags(bytes(32), height, BITCOIN) == flags
    for params in NETWORKS.values():
        if params not in (BITCOIN, TESTNET3):
            assert block_script_flags(bytes(32), 1, params) == flags, params.name


def test_flags_of_the_exceptional_blocks() -> None:
    bip16 = hash_from_hex("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22")
    taproot = hash_from_hex("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad")
    assert block_script_flags(bip16, 170_060, BITCOIN) == ScriptFlags.NONE
    assert block_script_flags(taproot, 692_261, BITCOIN) == (
        block_script_flags(bytes(32), 692_261, BITCOIN) & ~ScriptFlags.TAPROOT
    )
    assert block_script_flags(bip16, 170_060, TESTNET3) == ALWAYS
    testnet = hash_from_hex("00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105")
    assert block_script_flags(testnet, 514, TESTNET3) == ScriptFlags.NONE


class Bits:
    """A chain whose blocks signal or not, and the state that the block after its tip is in."""

    def __init__(self, params: NetworkParams) -> None:
        self.index = HeaderIndex(params)
        self.bits = VersionBits(params)
        self.tip: BlockIndexEntry = self.index.genesis

    def grow(self, count: int, version: int = 0x20000000) -> Bits:
        self.tip = add_headers(self.index, self.tip, count, version=version)
        return self

    @property
    def state(self) -> ThresholdState:
        return self.bits.state(self.bits.deployments["testdummy"], self.tip)


def test_signalling_locks_in_and_activates() -> None:
    chain = Bits(REGTEST)
    assert chain.state is ThresholdState.DEFINED
    assert chain.grow(142).state is ThresholdState.DEFINED
    assert chain.grow(1).state is ThresholdState.STARTED  # 143 is the last of the first period
    assert chain.bits.block_version(chain.tip) == SIGNAL
    assert chain.grow(36).grow(107, SIGNAL).state is ThresholdState.STARTED
    assert (
        chain.grow(1, 0x40000000 | 1 << 28).state is ThresholdState.STARTED
    )  # 107 signals: other top bits do not count
    assert chain.grow(36).grow(108, SIGNAL).state is ThresholdState.LOCKED_IN
    assert chain.bits.block_version(chain.tip) == SIGNAL
    assert chain.grow(143).state is ThresholdState.LOCKED_IN
    assert chain.grow(1).state is ThresholdState.ACTIVE
    assert chain.bits.block_version(chain.tip) == 0x20000000
    assert chain.grow(1000).state is ThresholdState.ACTIVE
    assert chain.bits.since(chain.bits.deployments["testdummy"], chain.tip) == 144 * 4
    # a branch that did not signal has its own state
    fork = chain.tip.ancestor(200)
    assert fork is not None
    side = add_headers(chain.index, fork, 200, version=0x20000000, salt=1)
    assert chain.bits.state(chain.bits.deployments["testdummy"], side) is ThresholdState.STARTED


def test_timeout_fails_for_good_but_locking_in_wins() -> None:
    start, end = REGTEST.genesis.header.time + 1, REGTEST.genesis.header.time + 144 * 600
    params = with_vbparams(REGTEST, [f"testdummy:{start}:{end}"])
    chain = Bits(params).grow(143)
    assert chain.state is ThresholdState.STARTED
    assert chain.grow(144).state is ThresholdState.FAILED
    assert chain.grow(144, SIGNAL).state is ThresholdState.FAILED
    chain = Bits(params).grow(143).grow(144, SIGNAL)
    assert chain.state is ThresholdState.LOCKED_IN
    assert chain.grow(144).state is ThresholdState.ACTIVE


def test_minimum_activation_height_delays() -> None:
    chain = Bits(with_vbparams(REGTEST, [f"testdummy:0:{2**63 - 1}:700"])).grow(143).grow(144, SIGNAL)
    assert chain.state is ThresholdState.LOCKED_IN
    assert chain.grow(288).state is ThresholdState.LOCKED_IN  # next is 576
    assert chain.grow(144).state is ThresholdState.ACTIVE  # next is 720
    assert chain.bits.since(chain.bits.deployments["testdummy"], chain.tip) == 720


def test_special_start_times() -> None:
    always = replace(REGTEST, deployments=(Bip9Deployment("testdummy", 28, ALWAYS_ACTIVE, 0, 0, 144, 108),))
    assert Bits(always).state is ThresholdState.ACTIVE
    assert Bits(BITCOIN).state is ThresholdState.FAILED
    assert Bits(BITCOIN).bits.since(BITCOIN.deployments[0], HeaderIndex(BITCOIN).genesis) == 0


def test_info_as_of_a_block() -> None:
    chain = Bits(REGTEST).grow(143)
    info = chain.bits.info("testdummy", chain.tip)
    assert (info.state, info.next_state, info.since, info.stats) == ("defined", "started", 0, None)
    chain.grow(10).grow(1, SIGNAL)
    info = chain.bits.info("testdummy", chain.tip)
    assert (info.state, info.next_state, info.since, info.active_since) == ("started", "started", 144, None)
    stats = info.stats
    assert stats is not None
    assert (stats.period, stats.threshold, stats.elapsed, stats.count, stats.possible) == (144, 108, 11, 1, True)
    assert info.signalling == [False] * 10 + [True]
    chain.grow(27)  # 37 without a signal: 108 are out of reach
    stats = chain.bits.info("testdummy", chain.tip).stats
    assert stats is not None
    assert not stats.possible
    chain.grow(106).grow(144, SIGNAL)
    info = chain.bits.info("testdummy", chain.tip)
    assert (info.state, info.next_state) == ("started", "locked_in")
    chain.grow(144)
    info = chain.bits.info("testdummy", chain.tip)
    assert (info.state, info.next_state, info.active_since) == ("locked_in", "active", chain.tip.height + 1)
    assert info.stats is not None
    assert (info.stats.threshold, info.stats.possible) == (0, False)
    chain.grow(5)
    info = chain.bits.info("testdummy", chain.tip)
    assert (info.state, info.since, info.active_since, info.stats) == ("active", 576, 576, None)


def test_template_states() -> None:
    chain = Bits(REGTEST)
    assert not any(chain.bits.template_states(chain.tip).values())
    chain.grow(143)
    assert [deployment.name for deployment in chain.bits.template_states(chain.tip)[ThresholdState.STARTED]] == [
        "testdummy"
    ]
    chain.grow(144, SIGNAL)
    assert chain.bits.template_states(chain.tip)[ThresholdState.LOCKED_IN]
    chain.grow(144)
    assert chain.bits.template_states(chain.tip)[ThresholdState.ACTIVE]


def test_unknown_activations_are_noticed() -> None:
    chain = Bits(REGTEST).grow(143).grow(144, 0x20000000 | 1 << 7)
    assert chain.bits.unknown_activations(chain.tip) == [(7, False)]
    chain.grow(144)
    assert chain.bits.unknown_activations(chain.tip) == [(7, True)]
    chain = Bits(REGTEST).grow(143).grow(144, SIGNAL)  # one that we know
    assert chain.bits.unknown_activations(chain.tip) == []


@pytest.mark.parametrize("height", [143, 144, 200])
def test_state_is_the_same_for_all_blocks_of_a_period(height: int) -> None:
    index = HeaderIndex(REGTEST)
    bits = VersionBits(REGTEST)
    tip = add_headers(index, index.genesis, 300)
    entry = tip.ancestor(height)
    assert entry is not None
    child = add_header(index, entry, salt=9)
    deployment = REGTEST.deployments[0]
    assert bits.state(deployment, entry) is ThresholdState.STARTED
    assert bits.state(deployment, child.prev) is ThresholdState.STARTED
