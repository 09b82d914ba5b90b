"""Encryption of a wallet at rest: Argon2id turns the password into a key that wraps the data key; ChaCha20-Poly1305
seals every record.

The data key is random and never changes, so a new password rewrites one small value, and all or nothing of it. Every
sealed value is bound (as associated data) to its wallet and its record, so none can be moved, swapped or altered
unnoticed.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from dataclasses import asdict, dataclass
from hashlib import blake2b

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from chain.primitives.errors import LocalFault, UserError

KEY_SIZE = 32
NONCE_SIZE = 12  #: random; safe for 2^32 values a key
MAX_PASSWORD_BYTES = 1024
MAX_KDF_MEMORY_KIB = 1 << 20  #: a damaged file must not make us allocate without bound
MAX_KDF_ITERATIONS = 64


class WrongPassword(UserError):
    """The password does not open the wallet."""


@dataclass(frozen=True)
class KdfCost:
    """Argon2id's cost: passes, lanes, memory in KiB (RFC 9106's second recommended option)."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 65_536


@dataclass(frozen=True)
class WrappedKey:
    """The data key under a password: what the file's header holds, as JSON."""

    salt: bytes
    cost: KdfCost
    nonce: bytes
    ciphertext: bytes

    def to_bytes(self) -> bytes:
        fields = {
            "salt": self.salt.hex(),
            "nonce": self.nonce.hex(),
            "ciphertext": self.ciphertext.hex(),
            **asdict(self.cost),
        }
        return json.dumps({"kdf": "argon2id", "aead": "chacha20-poly1305", **fields}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> WrappedKey:
        """LocalFault for anything that this version did not write."""
        try:
            fields = json.loads(raw)
            if fields["kdf"] != "argon2id" or fields["aead"] != "chacha20-poly1305":
                raise ValueError("unknown algorithm")
            cost = KdfCost(int(fields["iterations"]), int(fields["lanes"]), int(fields["memory_kib"]))
            if not (
                1 <= cost.iterations <= MAX_KDF_ITERATIONS
                and 1 <= cost.lanes <= 64
                and 8 * cost.lanes <= cost.memory_kib <= MAX_KDF_MEMORY_KIB
            ):
                raise ValueError("key derivation cost out of range")
            parts = [bytes.fromhex(fields[name]) for name in ("salt", "nonce", "ciphertext")]
            if len(parts[0]) < 8 or len(parts[1]) != NONCE_SIZE:
                raise ValueError("salt or nonce has a wrong size")
        except (ValueError, KeyError, TypeError) as error:
            raise LocalFault(
                f"the wallet's key header is damaged ({error}): restore the wallet from its words"
            ) from error
        return cls(parts[0], cost, parts[1], parts[2])


class Vault:
    """Seals and opens the records of one wallet. Holds the data key; call `close` to wipe it."""

    def __init__(self, wallet_id: bytes, data_key: bytes) -> None:
        self._wallet_id = wallet_id
        self._key = bytearray(data_key)
        self._aead = ChaCha20Poly1305(data_key)
        self._index_key = blake2b(data_key, digest_size=KEY_SIZE, person=b"pickaxe-index").digest()

    @classmethod
    def create(cls, wallet_id: bytes) -> Vault:
        """With a fresh random data key."""
        return cls(wallet_id, secrets.token_bytes(KEY_SIZE))

    @classmethod
    def unlock(cls, wallet_id: bytes, wrapped: WrappedKey, password: str) -> Vault:
        """Open with the password. WrongPassword when it is not the one."""
        key = _derive(password, wrapped.salt, wrapped.cost)
        try:
            data_key = ChaCha20Poly1305(key).decrypt(
                wrapped.nonce, wrapped.ciphertext, _wrap_context(wallet_id, wrapped.cost)
            )
        except InvalidTag as error:
            raise WrongPassword("wrong password: nothing was opened or changed") from error
        return cls(wallet_id, data_key)

    def wrap(self, password: str, cost: KdfCost | None = None) -> WrappedKey:
        """The data key under `password`, with a fresh salt and nonce."""
        cost = cost or KdfCost()
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_SIZE)
        key = _derive(password, salt, cost)
        sealed = ChaCha20Poly1305(key).encrypt(nonce, bytes(self._key), _wrap_context(self._wallet_id, cost))
        return WrappedKey(salt, cost, nonce, sealed)

    def record_id(self, kind: str, name: str) -> bytes:
        """16 bytes that name a record without telling what it is."""
        return blake2b(f"{kind}\0{name}".encode(), key=self._index_key, digest_size=16).digest()

    def seal(self, record_id: bytes, plaintext: bytes) -> bytes:
        """Nonce and ciphertext, bound to this wallet and record."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        return nonce + self._aead.encrypt(nonce, plaintext, self._wallet_id + record_id)

    def open(self, record_id: bytes, sealed: bytes) -> bytes:
        """The plaintext. LocalFault when the value was damaged or altered, be it into something else than bytes."""
        try:
            return self._aead.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], self._wallet_id + record_id)
        except (InvalidTag, ValueError, TypeError) as error:
            raise LocalFault(
                "a record of the wallet file is damaged or was altered: restore the wallet from its words"
            ) from error

    def close(self) -> None:
        """Wipe our copy of the data key (the AEAD library keeps its own until it is collected)."""
        wipe(self._key)


def wipe(secret: bytearray) -> None:
    """Overwrite with zeros, as far as Python lets us: immutable copies may remain until collected."""
    for i in range(len(secret)):
        secret[i] = 0


def check_new_password(password: str) -> None:
    """UserError for a password that cannot protect anything."""
    if not password:
        raise UserError("the password is empty: choose one, it protects the keys in the wallet file")
    _encode(password)


def _encode(password: str) -> bytes:
    try:
        encoded = unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError as error:
        raise UserError("the password is not valid UTF-8 text") from error
    if len(encoded) > MAX_PASSWORD_BYTES:
        raise UserError(f"the password is longer than {MAX_PASSWORD_BYTES} bytes: choose a shorter one")
    return encoded


def _derive(password: str, salt: bytes, cost: KdfCost) -> bytes:
    encoded = _encode(password)
    try:
        return Argon2id(
            salt=salt, length=KEY_SIZE, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
        ).derive(encoded)
    except UnsupportedAlgorithm as error:
        raise LocalFault("this installation of `cryptography` lacks Argon2id: install version 44 or newer") from error
    except MemoryError as error:
        raise LocalFault(f"opening a wallet needs {cost.memory_kib // 1024} MiB of free memory") from error


def _wrap_context(wallet_id: bytes, cost: KdfCost) -> bytes:
    return b"pickaxe wallet key\0" + wallet_id + json.dumps(asdict(cost), sort_keys=True).encode()
