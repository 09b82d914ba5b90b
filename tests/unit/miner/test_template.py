"""From a node's template to a job and to a block; what is wrong with a template is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from chain.primitives.block import Block
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import Transaction
from miner.device import Candidate
from miner.share import Finding, check_candidate
from miner.work.coinbase import MAX_SCRIPT_SIG, build_coinbase, push_height
from miner.work.job import VERSION_ROLLING_MASK, Job, UnitSequence
from miner.work.template import BadTemplate, job_from_template, solved_block
from tests.support.template_node import TemplateNode

PAYOUT = b"\x51"
REQUIRED = ("height", "bits", "previousblockhash", "curtime", "version", "transactions", "coinbasevalue")


def solve(template: dict[str, Any]) -> bytes:
    job = job_from_template(template, PAYOUT)
    unit = UnitSequence(job).take(1)
    assert unit is not None
    for nonce in range(1000):
        share = check_candidate(unit, Candidate(unit.hash_job.versions[0], nonce))
        if share.finding is Finding.BLOCK:
            return solved_block(job, unit.extranonce2, share.header)
    raise AssertionError("no solution in 1000 nonces at difficulty 1/2")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 33])
def test_solved_blocks_are_judged_good(count: int) -> None:
    node = TemplateNode()
    node.transactions = (node.transactions * 11)[:count]
    assert node.judge(Block.parse(solve(node.template()))) is None


def test_without_witnesses_and_commitment_the_coinbase_has_no_witness() -> None:
    node = TemplateNode(changes={"default_witness_commitment": None})
    node.transactions = [tx for tx in node.transactions if not tx.has_witness]
    block = Block.parse(solve(node.template()))
    assert node.judge(block) is None
    assert not block.transactions[0].has_witness


def test_a_commitment_is_made_where_the_node_gives_none() -> None:
    node = TemplateNode(changes={"default_witness_commitment": None})
    assert node.judge(Block.parse(solve(node.template()))) is None


@pytest.mark.parametrize("height", [1, 16, 17, 127, 128, 255, 256, 32767, 32768, 65535, 840_000, 8_388_607, 8_388_608])
def test_height_and_extras_fit_the_coinbase_script(height: int) -> None:
    parts = build_coinbase(height, 5, PAYOUT, None, extra=bytes(200))
    coinbase = Transaction.parse(parts.serialized(bytes(range(8))))
    assert coinbase.is_coinbase
    assert 2 <= len(coinbase.script_sigs[0]) <= MAX_SCRIPT_SIG
    assert coinbase.script_sigs[0].startswith(push_height(height) + b"\x08" + bytes(range(8)))
    assert coinbase.locktime == height - 1


def test_extranonce_changes_the_merkle_root_as_the_block_does() -> None:
    job = job_from_template(TemplateNode().template(), PAYOUT)
    roots = set()
    for extranonce2 in (0, 1, 255, 256, 2**32 - 1):
        header = job.header(extranonce2, job.time)
        block = Block.parse(solved_block(job, extranonce2, header))
        assert merkle_root([tx.txid for tx in block.transactions])[0] == block.header.merkle_root
        roots.add(block.header.merkle_root)
    assert len(roots) == 5


def spoil(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(template: dict[str, Any]) -> None:
        template[name] = value

    return change


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    def change(template: dict[str, Any]) -> None:
        del template[name]

    return change


def spoil_transaction(template: dict[str, Any]) -> None:
    data = template["transactions"][0]["data"]
    template["transactions"][0]["data"] = data[:-2] + ("00" if data[-2:] != "00" else "01")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        *((drop(name), name) for name in REQUIRED),
        (spoil("height", "7"), "height"),
        (spoil("height", -1), "height"),
        (spoil("height", True), "height"),
        (spoil("curtime", 2**32), "curtime"),
        (spoil("coinbasevalue", 21_000_001 * 10**8), "coinbasevalue"),
        (spoil("bits", "00"), "bits"),
        (spoil("bits", "zz"), "malformed"),
        (spoil("bits", "01800000"), "bits"),
        (spoil("target", "00" * 32), "target"),
        (spoil("previousblockhash", "00"), "malformed"),
        (spoil("transactions", {}), "not a list"),
        (spoil("transactions", [3]), "not an object"),
        (spoil("transactions", [{"data": "00"}]), "hash"),
        (spoil("default_witness_commitment", "6a24aa21a9ed" + "00" * 32), "witness commitment"),
        (spoil("rules", ["!segwit", "!frobnicate"]), "frobnicate"),
        (spoil_transaction, "does not have the hash"),
    ],
)  # fmt: skip
def test_each_defect_is_named(change: Callable[[dict[str, Any]], None], complaint: str) -> None:
    template = TemplateNode().template()
    change(template)
    with pytest.raises(BadTemplate, match=complaint) as caught:
        job_from_template(template, PAYOUT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", [None, [], "template", 7])
def test_a_template_is_an_object(template: Any) -> None:
    with pytest.raises(BadTemplate):
        job_from_template(template, PAYOUT)


def test_random_damage_never_escapes_as_another_error(rng: random.Random) -> None:
    values: list[Any] = [None, -1, 2**70, "", "zz", [], {}, [[]], 1.5, True, "00" * 32]
    refused = 0
    for _ in range(500):
        template = TemplateNode().template()
        target: Any = template if rng.random() < 0.6 else rng.choice(template["transactions"])
        target[rng.choice(list(target))] = rng.choice(values)
        try:
            assert isinstance(job_from_template(template, PAYOUT), Job)
        except BadTemplate:
            refused += 1
    assert 100 < refused < 500, "some fields matter, some do not"


def test_version_rolling_can_be_left_out() -> None:
    template = TemplateNode().template()
    assert job_from_template(template, PAYOUT).version_mask == VERSION_ROLLING_MASK
    assert job_from_template(template, PAYOUT, version_rolling=False).version_mask == 0
