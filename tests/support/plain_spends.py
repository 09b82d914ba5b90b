"""Spends without surprises: ordinary signatures and keys, so that tests know what to expect."""

from __future__ import annotations

from chain.crypto.hashes import hash160, sha256
from chain.crypto.secp256k1 import pubkey_from_secret, sign_ecdsa
from chain.script import standard
from chain.script.script import push_data
from chain.script.sighash import TxData, legacy_sighash
from tests.support.spends import Output, Puzzle, SpendGenerator


class PlainSpends(SpendGenerator):
    """Compressed keys, SIGHASH_ALL (taproot: default), low S, no annex."""

    def hash_type(self) -> int:
        return 1

    def pubkey(self, secret: bytes, *, segwit: bool = False) -> bytes:
        return pubkey_from_secret(secret)

    def ecdsa(self, secret: bytes, digest: bytes, hash_type: int) -> bytes:
        return sign_ecdsa(secret, digest) + bytes((hash_type,))

    def _tap_hash_type(self) -> int:
        return 0

    def _annex(self) -> bytes | None:
        return None


def p2wsh(plain: PlainSpends, puzzle: Puzzle) -> Output:
    """An output of a puzzle behind P2WSH."""
    return Output(
        "p2wsh",
        standard.p2wsh(sha256(puzzle.script)),
        lambda txdata, n, value: (b"", (*plain._segwit(puzzle, txdata, n, value), puzzle.script)),
    )


def p2sh(plain: PlainSpends, puzzle: Puzzle) -> Output:
    """An output of a puzzle behind P2SH."""

    def unlock(txdata: TxData, n: int, value: int) -> tuple[bytes, tuple[bytes, ...]]:
        def sign(secret: bytes, hash_type: int) -> bytes:
            return sign_ecdsa(secret, legacy_sighash(txdata, n, puzzle.script, hash_type)) + bytes((hash_type,))

        return b"".join(map(push_data, (*puzzle.solve(sign), puzzle.script))), ()

    return Output("p2sh", standard.p2sh(hash160(puzzle.script)), unlock)


def multisig(plain: PlainSpends, required: int, total: int, signers: list[int]) -> Puzzle:
    """m-of-n, signed by these."""
    secrets = [plain.secret() for _ in range(total)]
    script = standard.multisig(required, [pubkey_from_secret(secret) for secret in secrets])
    return Puzzle(script, lambda sign: [b"", *(sign(secrets[n], 1) for n in signers)])


def swapped(stack: list[bytes]) -> list[bytes]:
    """The signatures in reverse, after the dummy."""
    return [stack[0], *reversed(stack[1:])]
