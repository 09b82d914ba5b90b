"""A wallet against a node: receive, confirm, reorganise, replace, spend, restore."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chain.params import network
from chain.primitives.amount import COIN
from chain.primitives.errors import UserError
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, hash_to_hex
from chain.script.addresses import decode_address
from wallet import spend
from wallet.ledger import TxState
from wallet.sync import (
    NodeAddress,
    NodeError,
    Refused,
    RpcClient,
    RpcError,
    Synchronizer,
    SyncReport,
    broadcast,
    rebroadcast,
    suggest_fee_rate,
)
from wallet.wallet import Wallet

REGTEST = network("regtest")
ANYONE = b"\x51"
OTHER_WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
Node = Any
MakeWallet = Callable[..., Wallet]


def talk(node: Node, work: Callable[[RpcClient], Awaitable[Any]]) -> Any:
    async def body() -> Any:
        async with RpcClient(node.address) as rpc:
            return await work(rpc)

    return asyncio.run(body())


def sync(node: Node, wallet: Wallet) -> SyncReport:
    report = talk(node, lambda rpc: Synchronizer(wallet, rpc).sync())
    assert isinstance(report, SyncReport)
    return report


def script_of(wallet: Wallet, kind: str = "bip84") -> bytes:
    return decode_address(wallet.new_address(kind), REGTEST.addresses)


def pay(node: Node, wallet: Wallet, script: bytes, value: int, rate: int = 2000) -> Transaction:
    draft = spend.draft_payment(wallet, [(script, value)], rate)
    tx = spend.sign_draft(wallet, draft)
    spend.record(wallet, draft, tx)
    talk(node, lambda rpc: broadcast(wallet, rpc, tx.txid))
    return tx


def funded(node: Node, wallet: Wallet, *amounts: int, kind: str = "bip84") -> None:
    for amount in amounts:
        node.pay(script_of(wallet, kind), amount)
        node.mine(1)
    sync(node, wallet)


def test_pending_then_confirmed_then_reorganised(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    tx = node.pay(script_of(wallet), 3 * COIN)
    sync(node, wallet)
    assert (wallet.balance().pending, wallet.balance().confirmed) == (3 * COIN, 0)
    node.mine(1)
    report = sync(node, wallet)
    assert report.reorganised_from is None
    assert (wallet.balance().pending, wallet.balance().confirmed) == (0, 3 * COIN)
    node.reorganise(1, 2)
    assert sync(node, wallet).reorganised_from == 111
    assert (wallet.balance().pending, wallet.balance().confirmed) == (3 * COIN, 0)
    node.mine(1)
    sync(node, wallet)
    assert wallet.balance().confirmed == 3 * COIN
    assert wallet.entries[tx.txid].height == 113


def test_payment_lost_in_a_reorganisation_stops_counting(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, COIN)
    node.reorganise(1, 2, keep=False)
    sync(node, wallet)
    assert wallet.balance().total == 0
    assert [item.entry.state for item in wallet.history()] == [TxState.DROPPED]


def test_deep_reorganisation_below_the_kept_hashes(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    node.mine(200)
    funded(node, wallet, COIN)
    depth = node.height - 20
    node.reorganise(depth, depth + 5, keep=False)
    sync(node, wallet)
    assert wallet.tip_height == node.height
    assert wallet.balance().total == 0


def test_chain_that_moves_while_it_is_read(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    node.pay(script_of(wallet), COIN)
    node.mine(1)
    seen = {"getblock": 0}

    def disturb(method: str) -> None:
        if method == "getblock":
            seen["getblock"] += 1
            if seen["getblock"] in (30, 60):
                node.hook = None
                node.reorganise(100, 101)
                node.hook = disturb

    node.hook = disturb
    sync(node, wallet)
    assert wallet.tip_height == node.height
    assert wallet.sync_point is not None
    assert wallet.sync_point.block_hash == node.chain[-1].hash
    assert wallet.balance().total == COIN


def test_coinbase_matures_after_a_hundred_blocks(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    node.mine(1, script_of(wallet))
    node.mine(98)
    sync(node, wallet)
    assert (wallet.balance().immature, wallet.balance().confirmed) == (50 * COIN, 0)
    with pytest.raises(UserError, match="not yet mature"):
        spend.draft_payment(wallet, [(ANYONE, COIN)], 1000)
    node.mine(1)
    sync(node, wallet)
    assert (wallet.balance().immature, wallet.balance().confirmed) == (0, 50 * COIN)
    pay(node, wallet, ANYONE, COIN)
    node.mine(1)
    sync(node, wallet)


@pytest.mark.parametrize("kind", ["bip84", "bip86"])
def test_payment_pays_exactly_the_rate(node: Node, make_wallet: MakeWallet, kind: str) -> None:
    wallet = make_wallet()
    funded(node, wallet, 3 * COIN, 2 * COIN, COIN, kind=kind)
    destination = decode_address("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", REGTEST.addresses)
    tx = pay(node, wallet, destination, 4 * COIN, rate=7_500)
    fee = 6 * COIN - sum(tx.values) if len(tx.prevouts) == 3 else wallet.history()[-1].fee
    assert fee is not None
    assert -(-tx.vsize * 7500 // 1000) <= fee <= -(-(tx.vsize + 1) * 7500 // 1000)
    assert set(tx.sequences) == {0xFFFFFFFD}
    assert (destination, 4 * COIN) in zip(tx.scripts, tx.values, strict=True)
    assert wallet.balance().total == 2 * COIN - fee
    node.mine(1)
    sync(node, wallet)
    assert wallet.balance().confirmed == 2 * COIN - fee
    assert wallet.history()[-1].kind == "sent"


def test_mixed_inputs_and_sweep(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, COIN, 2 * COIN)
    funded(node, wallet, 3 * COIN, kind="bip86")
    draft = spend.draft_sweep(wallet, ANYONE + b"\x20" + bytes(32), 3000)
    tx = spend.sign_draft(wallet, draft)
    assert len(tx.prevouts) == 3
    assert len(tx.values) == 1
    assert sum(tx.values) + draft.fee == 6 * COIN
    assert tx.vsize <= spend.draft_vsize(draft) <= tx.vsize + 1
    spend.record(wallet, draft, tx)
    talk(node, lambda rpc: broadcast(wallet, rpc, tx.txid))
    assert wallet.balance().total == 0


def test_addresses_are_fresh_and_change_differs(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    assert len({wallet.new_address() for _ in range(30)}) == 30
    first = pay(node, wallet, ANYONE, COIN)
    second = pay(node, wallet, ANYONE, COIN)
    changes = [s for tx in (first, second) for s in tx.scripts if s in wallet.owners]
    assert len(set(changes)) == 2
    assert all(wallet.owners[s].branch == 1 for s in changes)


def test_unconfirmed_change_can_be_spent_and_foreign_pending_cannot(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    pay(node, wallet, ANYONE, COIN)
    pay(node, wallet, ANYONE, COIN)
    assert len(node.mempool) == 2
    node.pay(script_of(wallet), 20 * COIN)
    sync(node, wallet)
    with pytest.raises(UserError, match=r"not enough funds.*pending"):
        spend.draft_payment(wallet, [(ANYONE, 10 * COIN)], 1000)


def test_double_spend_in_a_block_conflicts_ours_and_its_children(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    rival_draft = spend.draft_payment(wallet, [(ANYONE, 2 * COIN)], 9000)
    rival = spend.sign_draft(wallet, rival_draft)
    ours = pay(node, wallet, ANYONE, COIN)
    child = pay(node, wallet, ANYONE, COIN)
    node.mine(1, include=[rival])
    node.mempool.clear()
    sync(node, wallet)
    assert wallet.entries[ours.txid].state is TxState.CONFLICTED
    assert wallet.entries[child.txid].state is TxState.CONFLICTED
    assert wallet.balance().total == 3 * COIN - rival_draft.fee
    node.reorganise(1, 2, keep=False)
    node.accept(ours)
    sync(node, wallet)
    assert wallet.entries[ours.txid].state is TxState.PENDING


def test_bump_fee_replaces(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    old = pay(node, wallet, ANYONE, COIN, rate=1000)
    with pytest.raises(UserError, match="must be at least"):
        spend.draft_bump(wallet, old.txid, 1500)
    draft = spend.draft_bump(wallet, old.txid, 5000)
    new = spend.sign_draft(wallet, draft)
    spend.record(wallet, draft, new)
    talk(node, lambda rpc: broadcast(wallet, rpc, new.txid))
    assert list(node.mempool) == [hash_to_hex(new.txid)]
    assert wallet.entries[old.txid].state is TxState.REPLACED
    assert (ANYONE, COIN) in zip(new.scripts, new.values, strict=True)
    assert {s for s in new.scripts if s in wallet.owners} == {s for s in old.scripts if s in wallet.owners}
    node.mine(1)
    sync(node, wallet)
    assert wallet.balance().confirmed == 4 * COIN - draft.fee
    with pytest.raises(UserError, match="pending"):
        spend.draft_bump(wallet, new.txid, 9000)


def test_refused_payment_frees_its_coins(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    node.refuse = "some-policy"
    with pytest.raises(Refused, match="some-policy"):
        pay(node, wallet, ANYONE, COIN)
    assert wallet.balance().confirmed == 5 * COIN
    node.refuse = None
    pay(node, wallet, ANYONE, COIN)


def test_payment_recorded_when_the_node_dies_is_sent_later(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    draft = spend.draft_payment(wallet, [(ANYONE, COIN)], 1000)
    tx = spend.sign_draft(wallet, draft)
    spend.record(wallet, draft, tx)
    dead = NodeAddress("http://127.0.0.1:1", user="x", password="y")

    async def send_nowhere() -> None:
        async with RpcClient(dead) as rpc:
            await broadcast(wallet, rpc, tx.txid)

    with pytest.raises(NodeError, match="rebroadcast"):
        asyncio.run(send_nowhere())
    sync(node, wallet)
    assert wallet.entries[tx.txid].state is TxState.PENDING
    assert not node.mempool
    assert talk(node, lambda rpc: rebroadcast(wallet, rpc)) == [tx.txid]
    assert list(node.mempool) == [hash_to_hex(tx.txid)]
    assert talk(node, lambda rpc: rebroadcast(wallet, rpc)) == []


def test_two_wallets_pay_each_other_and_nothing_is_lost(
    node: Node, make_wallet: MakeWallet, rng: random.Random
) -> None:
    wallets = [make_wallet("a"), make_wallet("b", OTHER_WORDS)]
    for wallet in wallets:
        funded(node, wallet, 10 * COIN, kind="bip86")
    fees = 0
    for _ in range(12):
        sender = rng.randrange(2)
        kind = rng.choice(["bip84", "bip86"])
        script = script_of(wallets[1 - sender], kind)
        tx = pay(node, wallets[sender], script, rng.randrange(1000, COIN), rate=rng.randrange(1000, 20_000))
        fee = next(item.fee for item in wallets[sender].history() if item.txid == tx.txid)
        assert fee is not None
        fees += fee
        if rng.random() < 0.6:
            node.mine(1)
        for wallet in wallets:
            sync(node, wallet)
    node.mine(1)
    for wallet in wallets:
        sync(node, wallet)
        assert wallet.balance().pending == 0
    assert sum(w.balance().confirmed for w in wallets) == 20 * COIN - fees
    for wallet, words, name in ((wallets[0], None, "a2"), (wallets[1], OTHER_WORDS, "b2")):
        again = make_wallet(name, words) if words else make_wallet(name)
        sync(node, again)
        assert again.balance() == wallet.balance()
        assert [i.txid for i in again.history()] == [i.txid for i in wallet.history()]


def test_rescan_finds_the_same(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, COIN, 2 * COIN)
    node.mine(3, script_of(wallet))
    pay(node, wallet, ANYONE, COIN // 2)
    sync(node, wallet)
    before = wallet.balance(), [i.txid for i in wallet.history()]
    wallet.forget_chain()
    sync(node, wallet)
    assert (wallet.balance(), [i.txid for i in wallet.history()]) == before


def test_child_listed_before_its_parent_in_the_mempool(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    parent = node.pay(script_of(wallet), 2 * COIN)
    twin = make_wallet("twin")
    sync(node, twin)
    node.mempool.clear()
    for height in range(450):  # more than two batches of others between them
        filler = Transaction.build(2, [TxIn(parent.prevouts[0], sequence=height)], [TxOut(Amount(1), ANYONE)])
        node.mempool[hash_to_hex(filler.txid)] = filler
    child = Transaction.build(2, [TxIn(parent.outpoint(0))], [TxOut(Amount(COIN), ANYONE)])
    node.mempool = {hash_to_hex(child.txid): child, **node.mempool, hash_to_hex(parent.txid): parent}
    sync(node, wallet)
    assert {parent.txid, child.txid} <= set(wallet.entries)
    assert wallet.balance().pending == 0


def test_another_network_is_refused(node: Node, tmp_path: Path) -> None:
    wallet = Wallet.create(tmp_path / "m.sqlite", network("bitcoin"), "x", "abandon " * 11 + "about")
    with wallet, pytest.raises(NodeError, match="network"):
        sync(node, wallet)


def test_wrong_login_and_missing_cookie_say_so(node: Node, make_wallet: MakeWallet, tmp_path: Path) -> None:
    wallet = make_wallet()
    for address, message in (
        (NodeAddress(node.url, user="a", password="b"), "refused the login"),
        (NodeAddress(node.url, cookie=tmp_path / "nowhere"), "no node is running here"),
        (NodeAddress("http://127.0.0.1:1", user="a", password="b"), "no node answers"),
    ):

        async def attempt(where: NodeAddress = address) -> None:
            async with RpcClient(where) as rpc:
                await Synchronizer(wallet, rpc).sync()

        with pytest.raises(NodeError, match=message):
            asyncio.run(attempt())


@pytest.mark.parametrize("url", ["localhost:8332", "ftp://x", "http://x:99999", "http://x:0", "http://:80", ""])
def test_an_address_that_is_no_nodes_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=f"^'{url}' is not a node's address: write it like") as caught:
        NodeAddress(url)
    assert not isinstance(caught.value, NodeError)  # which asking again may mend


def test_unpayable_requests_are_one_clear_line(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, COIN)
    p2wpkh = b"\0\x14" + bytes(20)
    for payments, rate, message in (
        ([(p2wpkh, 293)], 1000, "too little"),
        ([(p2wpkh, 2 * COIN)], 1000, "not enough funds"),
        ([(p2wpkh, COIN)], 1000, "not enough funds"),
        ([(p2wpkh, 50_000)], 900_000, "more than a quarter"),
        ([(p2wpkh, 50_000)], 2_000_000, "absurd"),
        ([], 1000, "no recipient"),
    ):
        with pytest.raises(UserError, match=message):
            spend.draft_payment(wallet, payments, rate)
    with pytest.raises(UserError, match="not an address"):
        spend.parse_destination("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", wallet)
    assert wallet.balance().confirmed == COIN


@pytest.mark.parametrize("text", ["", "abc", "-1", "1e3", "1.2345", "0.05", "٣", "1.", "nan"])
def test_bad_fee_rates(text: str) -> None:
    with pytest.raises(UserError):
        spend.parse_fee_rate(text)


def test_fee_rate_text() -> None:
    assert [spend.parse_fee_rate(t) for t in ("1", "1.5", "0.1", "250.125", "2.500")] == [1000, 1500, 100, 250125, 2500]


def test_the_wallet_agrees_with_the_coins_of_the_chain(node: Node, make_wallet: MakeWallet, rng: random.Random) -> None:
    """Whatever happens, in whatever order: once synchronized, what the wallet counts is what the chain holds for it."""
    wallet = make_wallet()
    funded(node, wallet, 20 * COIN, kind="bip86")

    def receive() -> None:
        node.pay(script_of(wallet, rng.choice(["bip84", "bip86"])), rng.randrange(1000, 5 * COIN))

    def mine() -> None:
        script = script_of(wallet) if rng.random() < 0.3 else ANYONE
        node.mine(rng.randrange(1, 4), script)

    def reorganise() -> None:
        depth = rng.randrange(1, 6)
        node.reorganise(depth, depth + rng.randrange(1, 3), keep=rng.random() < 0.7)

    def send() -> None:
        sync(node, wallet)
        with contextlib.suppress(UserError):  # not enough funds, a fee too high for the amount, a coin that is gone
            pay(node, wallet, ANYONE, rng.randrange(1000, 3 * COIN), rng.randrange(1000, 9000))

    def evict() -> None:
        if node.mempool:
            del node.mempool[rng.choice(sorted(node.mempool))]

    for _ in range(40):
        rng.choice([receive, receive, mine, mine, mine, reorganise, send, send, evict])()
        if rng.random() < 0.5:
            sync(node, wallet)
    node.mine(1)
    sync(node, wallet)
    held = {op: int.from_bytes(c[:8], "little") for op, c in node.coins().items() if c[12:] in wallet.owners}
    pending = {p for e in wallet.entries.values() if e.state is TxState.PENDING for p in e.tx.prevouts}
    balance = wallet.balance()
    assert balance.confirmed + balance.immature == sum(v for op, v in held.items() if op not in pending)
    assert wallet.tip_height == node.height


def test_change_of_a_payment_the_node_lacks_waits(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    draft = spend.draft_payment(wallet, [(ANYONE, COIN)], 1000)
    tx = spend.sign_draft(wallet, draft)
    spend.record(wallet, draft, tx)
    with pytest.raises(UserError, match="pending"):
        spend.draft_payment(wallet, [(ANYONE, COIN)], 1000)
    talk(node, lambda rpc: broadcast(wallet, rpc, tx.txid))
    spend.draft_payment(wallet, [(ANYONE, COIN)], 1000)


def test_two_drafts_of_one_coin_and_only_one_is_sent(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    drafts = [spend.draft_payment(wallet, [(ANYONE, coins * COIN)], 1000) for coins in (1, 2)]
    signed = [spend.sign_draft(wallet, draft) for draft in drafts]
    spend.record(wallet, drafts[0], signed[0])
    with pytest.raises(UserError, match="another process"):
        spend.record(wallet, drafts[1], signed[1])
    assert set(wallet.entries) >= {signed[0].txid}
    assert signed[1].txid not in wallet.entries


def test_a_node_that_is_still_catching_up_takes_nothing_away(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    whole = list(node.chain)
    node.is_syncing = True
    del node.chain[50:]
    report = sync(node, wallet)
    assert report.node_is_syncing
    assert (wallet.tip_height, wallet.balance().confirmed) == (len(whole) - 1, 5 * COIN)
    node.chain = whole
    node.mine(2)
    assert sync(node, wallet).tip_height == node.height
    node.is_syncing = False
    del node.chain[-3:]
    assert sync(node, wallet).reorganised_from == 113
    assert wallet.tip_height == node.height
    assert wallet.balance().confirmed == 0


def test_a_restored_copy_can_replace_a_pending_payment(node: Node, make_wallet: MakeWallet) -> None:
    wallet = make_wallet()
    funded(node, wallet, 5 * COIN)
    old = pay(node, wallet, ANYONE, COIN, rate=1000)
    copy = make_wallet("copy")
    sync(node, copy)
    assert copy.entries[old.txid].is_own
    draft = spend.draft_bump(copy, old.txid, 4000)
    new = spend.sign_draft(copy, draft)
    spend.record(copy, draft, new)
    talk(node, lambda rpc: broadcast(copy, rpc, new.txid))
    node.mine(1)
    for each in (wallet, copy):
        sync(node, each)
    assert wallet.entries[old.txid].state is TxState.CONFLICTED
    assert wallet.balance() == copy.balance()


@pytest.mark.parametrize("value", [None, -1, 10**9, "zz", {}, [None]], ids=repr)
@pytest.mark.parametrize(
    "method",
    [
        "getblockchaininfo",
        "getblockhash",
        "getblockcount",
        "getbestblockhash",
        "getblock",
        "getblockheader",
        "getrawmempool",
        "getrawtransaction",
        "estimatesmartfee",
        "getmempoolinfo",
    ],
)
def test_nonsense_from_the_node_harms_nothing(node: Node, make_wallet: MakeWallet, method: str, value: object) -> None:
    """One clear line or a result, never a traceback, and with an honest node all is well again."""
    wallet = make_wallet()
    funded(node, wallet, COIN)
    node.mine(1)
    if method == "getblockheader":
        node.reorganise(1, 2)
    node.pay(script_of(wallet), 2 * COIN)
    node.garbage = {method: value}
    with contextlib.suppress(NodeError, RpcError):
        sync(node, wallet)
        talk(node, lambda rpc: suggest_fee_rate(wallet, rpc))
    node.garbage = {}
    sync(node, wallet)
    assert (wallet.balance().confirmed, wallet.balance().pending) == (COIN, 2 * COIN)
