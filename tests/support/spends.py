"""Spends of every template and of odd scripts, and ways to damage them: input for the differential tests of scripts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.crypto import secp256k1
from chain.crypto.der import ORDER
from chain.crypto.hashes import hash160, sha256
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.script import standard
from chain.script.interpreter import tapbranch_hash, tapleaf_hash, taptweak_hash
from chain.script.script import TruncatedScript, iterate, push_data, push_int
from chain.script.sighash import TxData, hash_annex, legacy_sighash, segwit_v0_sighash, taproot_sighash

HASH_TYPES = (1, 1, 1, 1, 1, 2, 3, 0x81, 0x82, 0x83)
ODD_HASH_TYPES = (0, 4, 0x41, 0x61, 0x80, 0x84, 0xFF)
CHECKSIG, CHECKSIGVERIFY, CHECKMULTISIG, CODESEPARATOR = b"\xac", b"\xad", b"\xae", b"\xab"
CHECKSIGADD, NUMEQUAL, NOT, SWAP, DROP = b"\xba", b"\x9c", b"\x91", b"\x7c", b"\x75"

#: (signature for a secret under a hash type): how a script's signatures are made depends on where the script stands.
Sign = Callable[[bytes, int], bytes]


@dataclass
class Puzzle:
    """A script, where signing begins in it, and the stack that satisfies it."""

    script: bytes
    solve: Callable[[Sign], list[bytes]]
    code: bytes | None = None  # what signatures cover if not the whole script

    @property
    def script_code(self) -> bytes:
        return self.script if self.code is None else self.code


@dataclass
class Output:
    """A scriptPubKey and how to spend it: (transaction data, input, value) -> (scriptSig, witness)."""

    kind: str
    script: bytes
    spend: Callable[[TxData, int, int], tuple[bytes, tuple[bytes, ...]]]


class SpendGenerator:
    """Makes transactions whose inputs are valid, from seeded randomness."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    # keys and signatures

    def secret(self) -> bytes:
        return self.rng.randrange(1, ORDER).to_bytes(32, "big")

    def hash_type(self) -> int:
        return self.rng.choice(ODD_HASH_TYPES if self.rng.random() < 0.05 else HASH_TYPES)

    def pubkey(self, secret: bytes, *, segwit: bool = False) -> bytes:
        pick = self.rng.random()
        if pick < (0.95 if segwit else 0.7):
            return secp256k1.pubkey_from_secret(secret)
        key = secp256k1.pubkey_from_secret(secret, compressed=False)
        if pick > 0.98:
            return bytes((6 + (key[64] & 1),)) + key[1:]  # hybrid: consensus allows it
        return key

    def ecdsa(self, secret: bytes, digest: bytes, hash_type: int) -> bytes:
        signature = secp256k1.sign_ecdsa(secret, digest, grind=self.rng.random() < 0.5)
        if self.rng.random() < 0.05:
            signature = high_s(signature)
        return signature + bytes((hash_type,))

    # puzzles

    def puzzle(self, *, segwit: bool) -> Puzzle:
        """A script for legacy, P2SH or P2WSH, with ECDSA signatures."""
        rng = self.rng
        makers = [
            self._p2pk,
            self._p2pkh,
            self._multisig,
            self._multisig,
            self._branches,
            self._negated,
            self._separated,
            self._hash_lock,
            self._verify_chain,
            self._unsigned,
            self._lazy,
        ]
        return rng.choice(makers)(segwit)

    def _p2pk(self, segwit: bool) -> Puzzle:
        secret, hash_type = self.secret(), self.hash_type()
        key = self.pubkey(secret, segwit=segwit)
        return Puzzle(push_data(key) + CHECKSIG, lambda sign: [sign(secret, hash_type)])

    def _p2pkh(self, segwit: bool) -> Puzzle:
        secret, hash_type = self.secret(), self.hash_type()
        key = self.pubkey(secret, segwit=segwit)
        return Puzzle(standard.p2pkh(hash160(key)), lambda sign: [sign(secret, hash_type), key])

    def _multisig(self, segwit: bool) -> Puzzle:
        rng = self.rng
        total = rng.choice((1, 2, 2, 3, 3, 3, 5, 15))
        required = rng.randint(1, total)
        secrets = [self.secret() for _ in range(total)]
        keys = [self.pubkey(secret, segwit=segwit) for secret in secrets]
        if rng.random() < 0.2 and required < total:
            keys[rng.randrange(total)] = rng.randbytes(33)
        signers = sorted(rng.sample(range(total), required))
        hash_type = self.hash_type()
        script = push_int(required) + b"".join(map(push_data, keys)) + push_int(total)
        script += rng.choice((CHECKMULTISIG, CHECKMULTISIG, b"\xaf\x51", CHECKMULTISIG + b"\x69\x51"))
        return Puzzle(script, lambda sign: [b"", *(sign(secrets[n], hash_type) for n in signers)])

    def _branches(self, segwit: bool) -> Puzzle:
        """IF key ELSE other key ENDIF CHECKSIG, or with the CHECKSIG inside the branches."""
        first, second = self.secret(), self.secret()
        a, b = push_data(self.pubkey(first, segwit=segwit)), push_data(self.pubkey(second, segwit=segwit))
        inside = self.rng.random() < 0.5
        script = b"\x63" + a + CHECKSIG * inside + b"\x67" + b + CHECKSIG * inside + b"\x68" + CHECKSIG * (not inside)
        taken = self.rng.random() < 0.5
        hash_type = self.hash_type()
        return Puzzle(script, lambda sign: [sign(first if taken else second, hash_type), b"\x01" if taken else b""])

    def _negated(self, segwit: bool) -> Puzzle:
        """Valid exactly if the signature is not."""
        secret, other = self.secret(), self.secret()
        script = push_data(self.pubkey(secret, segwit=segwit)) + CHECKSIG + NOT
        wrong, hash_type = self.rng.random() < 0.5, self.hash_type()
        return Puzzle(script, lambda sign: [sign(other, hash_type) if wrong else b""])

    def _separated(self, segwit: bool) -> Puzzle:
        secret, hash_type = self.secret(), self.hash_type()
        after = push_data(self.pubkey(secret, segwit=segwit)) + CHECKSIG
        return Puzzle(b"\x61" + CODESEPARATOR + after, lambda sign: [sign(secret, hash_type)], after)

    def _hash_lock(self, segwit: bool) -> Puzzle:
        secret, preimage = self.secret(), self.rng.randbytes(32)
        script = (
            b"\xa8" + push_data(sha256(preimage)) + b"\x88" + push_data(self.pubkey(secret, segwit=segwit)) + CHECKSIG
        )
        hash_type = self.hash_type()
        return Puzzle(script, lambda sign: [sign(secret, hash_type), preimage])

    def _verify_chain(self, segwit: bool) -> Puzzle:
        """Two keys, CHECKSIGVERIFY then CHECKSIG, and lock times that may or may not be met."""
        first, second = self.secret(), self.secret()
        lock = self.rng.choice((b"", push_int(100) + b"\xb1\x75", push_int(3) + b"\xb2\x75"))
        script = lock + push_data(self.pubkey(first, segwit=segwit)) + CHECKSIGVERIFY
        script += push_data(self.pubkey(second, segwit=segwit)) + CHECKSIG
        hash_type = self.hash_type()
        return Puzzle(script, lambda sign: [sign(second, hash_type), sign(first, hash_type)])

    def _unsigned(self, segwit: bool) -> Puzzle:
        """Random operations that mostly end well."""
        script = b"".join(
            self.rng.choice((b"\x51", b"\x52", b"\x76", b"\x74", b"\x93", b"\x7c", b"\x9c", b"\x82", b"\x61"))
            for _ in range(12)
        )
        return Puzzle(script + b"\x51", lambda sign: [b"\x01", b"\x02", b"\x03"][: self.rng.randrange(4)])

    def _lazy(self, segwit: bool) -> Puzzle:
        """A signature check whose result nobody looks at."""
        secret, hash_type, wrong = self.secret(), self.hash_type(), self.rng.random() < 0.5
        script = push_data(self.pubkey(secret, segwit=segwit)) + CHECKSIG + DROP + b"\x51"
        return Puzzle(script, lambda sign: [sign(self.secret() if wrong else secret, hash_type)])

    # outputs

    def output(self) -> Output:
        return self.rng.choice(
            (
                self.bare,
                self.p2pkh,
                self.p2pkh,
                self.p2sh,
                self.p2wpkh,
                self.p2wpkh,
                self.p2sh_p2wpkh,
                self.p2wsh,
                self.p2sh_p2wsh,
                self.p2tr_key,
                self.p2tr_key,
                self.p2tr_script,
                self.p2tr_script,
                self.anyone,
            )
        )()

    def bare(self) -> Output:
        puzzle = self.puzzle(segwit=False)
        return Output("bare", puzzle.script, lambda txdata, n, value: (self._legacy(puzzle, txdata, n), ()))

    def p2pkh(self) -> Output:
        puzzle = self._p2pkh(False)
        return Output("p2pkh", puzzle.script, lambda txdata, n, value: (self._legacy(puzzle, txdata, n), ()))

    def p2sh(self) -> Output:
        puzzle = self.puzzle(segwit=False)
        return Output(
            "p2sh",
            standard.p2sh(hash160(puzzle.script)),
            lambda txdata, n, value: (self._legacy(puzzle, txdata, n) + push_data(puzzle.script), ()),
        )

    def _legacy(self, puzzle: Puzzle, txdata: TxData, n: int) -> bytes:
        def sign(secret: bytes, hash_type: int) -> bytes:
            return self.ecdsa(secret, legacy_sighash(txdata, n, puzzle.script_code, hash_type), hash_type)

        return b"".join(
            push_data(item) if len(item) != 1 or self.rng.random() < 0.5 else push_int(item[0])
            for item in puzzle.solve(sign)
        )

    def _segwit(self, puzzle: Puzzle, txdata: TxData, n: int, value: int) -> list[bytes]:
        def sign(secret: bytes, hash_type: int) -> bytes:
            return self.ecdsa(secret, segwit_v0_sighash(txdata, n, puzzle.script_code, value, hash_type), hash_type)

        return puzzle.solve(sign)

    def p2wpkh(self) -> Output:
        puzzle = self._p2pkh(True)
        return Output(
            "p2wpkh",
            b"\0\x14" + puzzle.script[3:23],
            lambda txdata, n, value: (b"", tuple(self._segwit(puzzle, txdata, n, value))),
        )

    def p2wsh(self) -> Output:
        puzzle = self.puzzle(segwit=True)
        return Output(
            "p2wsh",
            standard.p2wsh(sha256(puzzle.script)),
            lambda txdata, n, value: (b"", (*self._segwit(puzzle, txdata, n, value), puzzle.script)),
        )

    def _wrapped(self, kind: str, inner: Output) -> Output:
        return Output(
            kind,
            standard.p2sh(hash160(inner.script)),
            lambda txdata, n, value: (push_data(inner.script), inner.spend(txdata, n, value)[1]),
        )

    def p2sh_p2wpkh(self) -> Output:
        return self._wrapped("p2sh-p2wpkh", self.p2wpkh())

    def p2sh_p2wsh(self) -> Output:
        return self._wrapped("p2sh-p2wsh", self.p2wsh())

    def anyone(self) -> Output:
        """Witness programs that nobody defined yet, and the anchor."""
        program = self.rng.choice((b"\x4e\x73", self.rng.randbytes(self.rng.randint(2, 40))))
        script = standard.witness_output(self.rng.choice((1, 1, 2, 16)), program)
        if self.rng.random() < 0.3:
            return self._wrapped("p2sh-unknown", Output("unknown", script, lambda txdata, n, value: (b"", ())))
        return Output("unknown", script, lambda txdata, n, value: (b"", (b"\x01",) * self.rng.randrange(3)))

    # taproot

    def _annex(self) -> bytes | None:
        return b"\x50" + self.rng.randbytes(self.rng.randrange(3)) if self.rng.random() < 0.15 else None

    def _schnorr(
        self, secret: bytes, txdata: TxData, n: int, hash_type: int, annex: bytes | None, leaf: bytes | None, pos: int
    ) -> bytes:
        digest = taproot_sighash(
            txdata,
            n,
            hash_type,
            annex_hash=None if annex is None else hash_annex(annex),
            leaf_hash=leaf,
            codeseparator_pos=pos,
        )
        signature = secp256k1.sign_schnorr(secret, digest or bytes(32), self.rng.randbytes(32))
        return signature + (bytes((hash_type,)) if hash_type else b"")

    def _tap_hash_type(self) -> int:
        return self.rng.choice((0, 0, 0, 0, 1, 2, 3, 0x81, 0x82, 0x83))

    def p2tr_key(self) -> Output:
        secret = self.secret()
        internal = secp256k1.pubkey_from_secret(secret)
        even = secp256k1.secret_negate(secret) if internal[0] == 3 else secret
        tweaked = secp256k1.secret_tweak_add(even, taptweak_hash(internal[1:]))
        annex, hash_type = self._annex(), self._tap_hash_type()

        def spend(txdata: TxData, n: int, value: int) -> tuple[bytes, tuple[bytes, ...]]:
            signature = self._schnorr(tweaked, txdata, n, hash_type, annex, None, 0xFFFFFFFF)
            return b"", (signature,) if annex is None else (signature, annex)

        return Output("p2tr-key", standard.p2tr(secp256k1.xonly_from_secret(tweaked)), spend)

    def p2tr_script(self) -> Output:
        rng = self.rng
        secrets = [self.secret() for _ in range(3)]
        keys = [secp256k1.xonly_from_secret(secret) for secret in secrets]
        separator = 0xFFFFFFFF
        shape = rng.randrange(8)
        signed: list[int | None] = []  # which key signs each stack element, top last; None is an empty signature
        if shape == 0:
            script, signed = push_data(keys[0]) + CHECKSIG, [0]
        elif shape == 1:
            script = push_data(keys[0]) + CHECKSIG + push_data(keys[1]) + CHECKSIGADD + push_data(keys[2]) + CHECKSIGADD
            script += b"\x52" + NUMEQUAL
            absent = rng.randrange(3)
            signed = [None if n == absent else n for n in (2, 1, 0)]
        elif shape == 2:
            script, signed = push_data(keys[0]) + CHECKSIGVERIFY + push_data(keys[1]) + CHECKSIG, [1, 0]
        elif shape == 3:
            script, signed, separator = b"\x61" + CODESEPARATOR + push_data(keys[0]) + CHECKSIG, [0], 1
        elif shape == 4:
            script, signed = push_data(keys[0]) + CHECKSIG + NOT, [None]
        elif shape == 5:
            script = push_data(rng.randbytes(rng.choice((1, 31, 33)))) + CHECKSIG  # a key of a kind nobody defined yet
            signed = [0]
        elif shape == 6:
            # One signature checked so often that the budget of the witness's weight may not suffice.
            script = (
                (b"\x76" + push_data(keys[0]) + CHECKSIGVERIFY) * rng.randint(4, 12) + push_data(keys[0]) + CHECKSIG
            )
            signed = [0]
        else:
            script = rng.choice((b"\x50", b"\x51", b"\x01", b"\x62\x4c", push_data(bytes(32)) + CHECKSIG))
        version = 0xC0 if rng.random() < 0.9 else rng.choice((0xC2, 0x66, 0x7E))
        leaf = tapleaf_hash(script, version)
        path = [rng.randbytes(32) for _ in range(rng.choice((0, 0, 1, 2, 5)))]
        root = leaf
        for node in path:
            root = tapbranch_hash(root, node)
        internal = secp256k1.xonly_from_secret(self.secret())
        output, parity = secp256k1.xonly_tweak_add(internal, taptweak_hash(internal, root))
        control = bytes((version | parity,)) + internal + b"".join(path)
        annex, hash_type = self._annex(), self._tap_hash_type()

        def spend(txdata: TxData, n: int, value: int) -> tuple[bytes, tuple[bytes, ...]]:
            stack = [
                b"" if k is None else self._schnorr(secrets[k], txdata, n, hash_type, annex, leaf, separator)
                for k in signed
            ]
            return b"", (*stack, script, control, *([] if annex is None else [annex]))

        return Output("p2tr-script", standard.p2tr(output), spend)

    # transactions

    def transaction(self, outputs: Sequence[Output] | None = None) -> tuple[Transaction, list[bytes]]:
        """A transaction of one to five signed inputs, and the packed coins they spend."""
        rng = self.rng
        outputs = outputs or [self.output() for _ in range(rng.choice((1, 1, 2, 3, 5)))]
        values = [rng.randrange(1, 10**10) for _ in outputs]
        coins: list[bytes] = [
            pack_coin(value, out.script, rng.randrange(1 << 20), False)
            for value, out in zip(values, outputs, strict=True)
        ]
        inputs = [
            TxIn(OutPoint(rng.randbytes(36)), b"", rng.choice((0xFFFFFFFF, 0xFFFFFFFE, 5, 1 << 22 | 3, 1 << 31)))
            for _ in outputs
        ]
        paid = [TxOut(Amount(rng.randrange(10**9)), rng.randbytes(22)) for _ in range(rng.choice((1, 1, 2, 3)))]
        version, locktime = rng.choice((1, 2, 2, 2, 0xFFFFFFFF)), rng.choice((0, 100, 500_000_000, 700_000))
        txdata = TxData(Transaction.build(version, inputs, paid, locktime), coins)
        signed = []
        for n, (out, empty, value) in enumerate(zip(outputs, inputs, values, strict=True)):
            script_sig, witness = out.spend(txdata, n, value)
            signed.append(TxIn(empty.prevout, script_sig, empty.sequence, witness))
        return Transaction.build(version, signed, paid, locktime), coins


def high_s(signature: bytes) -> bytes:
    """The same DER signature with S replaced by its negative: valid, but not under LOW_S."""
    r_size = signature[3]
    s = int.from_bytes(signature[6 + r_size :], "big")
    negated = (ORDER - s).to_bytes(33, "big").lstrip(b"\0")
    if negated[0] & 0x80:
        negated = b"\0" + negated
    body = signature[2 : 4 + r_size] + bytes((2, len(negated))) + negated
    return bytes((0x30, len(body))) + body


def damage(rng: random.Random, tx: Transaction, coins: list[bytes]) -> tuple[Transaction, list[bytes]]:
    """Change one thing in a transaction or in a coin that it spends. The result is often invalid, not always."""
    inputs = list(tx.inputs)
    n = rng.randrange(len(inputs))
    target = inputs[n]
    version, locktime, outputs = tx.version, tx.locktime, tx.outputs
    pick = rng.random()
    if pick < 0.45 and target.witness:
        inputs[n] = target._replace(witness=tuple(_damage_items(rng, list(target.witness))))
    elif pick < 0.75 and target.script_sig:
        try:
            items = [data if data is not None else bytes((op,)) for op, data in iterate(target.script_sig)]
        except TruncatedScript:
            items = [target.script_sig]
        raw = rng.random() < 0.2
        script = _flip(rng, target.script_sig) if raw else b"".join(map(push_data, _damage_items(rng, items)))
        inputs[n] = target._replace(script_sig=script)
    elif pick < 0.8:
        inputs[n] = target._replace(sequence=rng.choice((0, 1, 0xFFFFFFFF, 1 << 31)))
    elif pick < 0.84:
        locktime = rng.choice((0, 99, 101, 600_000_000))
    elif pick < 0.87:
        version = rng.choice((0, 1, 2, 3))
    elif pick < 0.9:
        outputs = (*outputs[:-1], TxOut(Amount(outputs[-1].value + 1), outputs[-1].script_pubkey))
    elif pick < 0.93:
        inputs[n] = target._replace(witness=(*target.witness, rng.choice((b"", b"\x01", b"\x50", rng.randbytes(521)))))
    elif pick < 0.95:
        inputs[n] = target._replace(script_sig=target.script_sig + rng.choice((b"\0", b"\x51", b"\x61", b"\x4c")))
    else:
        at = rng.choice((0, *range(12, len(coins[n]))))
        damaged = coins[n][:at] + bytes((coins[n][at] ^ 1 << rng.randrange(8),)) + coins[n][at + 1 :]
        coins = [*coins[:n], damaged, *coins[n + 1 :]]
    return Transaction.build(version, inputs, outputs, locktime), coins


def _damage_items(rng: random.Random, items: list[bytes]) -> list[bytes]:
    n = rng.randrange(len(items))
    item = items[n]
    pick = rng.randrange(10)
    if pick < 3 and item:
        items[n] = _flip(rng, item)
    elif pick == 3 and item:
        items[n] = item[:-1] + bytes((rng.choice((*HASH_TYPES, *ODD_HASH_TYPES)),))
    elif pick == 4:
        items[n] = b""
    elif pick == 5:
        items.pop(n)
    elif pick == 6:
        items.insert(n, rng.choice((b"", b"\0", b"\x01", b"\x80", item)))
    elif pick == 7:
        other = rng.randrange(len(items))
        items[n], items[other] = items[other], items[n]
    elif pick == 8 and len(item) > 60 and item[0] == 0x30:
        items[n] = _loosen(rng, item)
    else:
        items[n] = item + b"\x01" if rng.random() < 0.5 else item[:-1]
    return items


def _loosen(rng: random.Random, sig: bytes) -> bytes:
    """The same signature in DER that only a lax parser accepts, or with S negated."""
    try:
        if rng.random() < 0.4:
            return high_s(sig[:-1]) + sig[-1:]
        r_size = sig[3]
        if rng.random() < 0.5:
            return bytes((0x30, sig[1] + 1, 2, r_size + 1, 0)) + sig[4:]  # R padded
        return sig[:1] + b"\x81" + sig[1:]  # long form of the length
    except (IndexError, OverflowError):
        return sig


def _flip(rng: random.Random, data: bytes) -> bytes:
    bit = rng.randrange(len(data) * 8)
    return data[: bit // 8] + bytes((data[bit // 8] ^ 1 << bit % 8,)) + data[bit // 8 + 1 :]
