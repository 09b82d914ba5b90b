"""Two wallets that pay each other: the miner's, which earns the blocks, and a friend's."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from pathlib import Path

from chain.params import NetworkParams
from chain.primitives.amount import COIN, format_amount
from chain.primitives.errors import UserError
from chain.primitives.types import Txid
from wallet.mnemonic import generate
from wallet.spend import draft_payment, parse_destination, record, sign_draft
from wallet.sync.broadcast import broadcast
from wallet.sync.rpc import RpcClient
from wallet.sync.synchronizer import Synchronizer
from wallet.wallet import Wallet, wallet_path

NAMES = ("miner", "friend")
KINDS = ("bip84", "bip86")
FEE_RATE_SAT_PER_KVB = 2_000
MAX_PAYMENT = 3 * COIN


@dataclass(frozen=True)
class Payment:
    """One payment that was sent."""

    sender: str
    receiver: str
    amount: int
    txid: Txid

    def __str__(self) -> str:
        return f"{self.sender} paid {self.receiver} {format_amount(self.amount)}"


def demo_password(datadir: Path) -> str:
    """The password of both wallets, made at the first start and kept beside them: their coins are worth nothing."""
    path = datadir / "wallets" / "password"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(18) + "\n")
    return path.read_text().strip()


class People:
    """Both wallets open, in step with the node."""

    def __init__(self, datadir: Path, params: NetworkParams, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._rng = random.Random()
        password = demo_password(datadir)
        self.wallets = {
            name: _open_or_create(wallet_path(datadir, params.name, name), params, password) for name in NAMES
        }
        self._synchronizers = [Synchronizer(wallet, rpc) for wallet in self.wallets.values()]

    def close(self) -> None:
        """Release both files."""
        for wallet in self.wallets.values():
            wallet.close()

    async def sync(self) -> None:
        """Bring both up to the node's tip and mempool."""
        for synchronizer in self._synchronizers:
            await synchronizer.sync()

    async def pay(self) -> Payment | None:
        """One payment, from one wallet or the other as chance and their purses decide; None while neither can pay."""
        confirmed = [self.wallets[name].balance().confirmed for name in NAMES]
        if not sum(confirmed):
            return None
        sender = self._rng.choices(NAMES, [min(value, 10 * COIN) for value in confirmed])[0]
        receiver = next(name for name in NAMES if name != sender)
        wallet, other = self.wallets[sender], self.wallets[receiver]
        most = min(wallet.balance().confirmed // 2, MAX_PAYMENT)
        if most < COIN // 100:
            return None
        amount = self._rng.randrange(COIN // 1000, most)
        script = parse_destination(other.new_address(self._rng.choice(KINDS)), wallet)
        try:
            draft = draft_payment(wallet, [(script, amount)], FEE_RATE_SAT_PER_KVB)
        except UserError:
            return None  # what is confirmed sits in coins too small or already taken: the next block changes that
        tx = sign_draft(wallet, draft)
        record(wallet, draft, tx)
        await broadcast(wallet, self._rpc, tx.txid)
        return Payment(sender, receiver, amount, tx.txid)


def _open_or_create(path: Path, params: NetworkParams, password: str) -> Wallet:
    if path.exists():
        return Wallet.open(path, params, password)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Wallet.create(path, params, password, generate())
