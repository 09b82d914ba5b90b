"""Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256: the initiator's side of the handshake, the server's certificate, and
the ciphers that follow (§4)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.crypto import ellswift
from chain.crypto.hashes import sha256
from chain.crypto.secp256k1 import verify_schnorr

PROTOCOL_NAME = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256"
MAC_SIZE = 16
#: ephemeral key; static key and MAC; certificate and MAC
ANSWER_SIZE = ellswift.ELLSWIFT_SIZE + (ellswift.ELLSWIFT_SIZE + MAC_SIZE) + (74 + MAC_SIZE)
_CERTIFICATE_SIZE = 74
_CERTIFICATE_VERSION = 0
_CLOCK_SKEW_S = 60  #: clocks of miner and pool may disagree by this much


class NoiseError(Exception):
    """The other side is not who it should be, or somebody has changed its bytes; one clause saying what."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """SIGNATURE_NOISE_MESSAGE with the key that it is about (x-only, 32 bytes). Times in Unix seconds."""

    version: int
    valid_from: int
    not_valid_after: int
    signature: bytes
    server_key: bytes

    def check(self, authority_key: bytes, now: float) -> None:
        """Raise NoiseError unless the authority has signed it and it is valid now."""
        if self.version != _CERTIFICATE_VERSION:
            raise NoiseError(f"its certificate is of version {self.version}, which is not known here")
        signed = self.version.to_bytes(2, "little") + self.valid_from.to_bytes(4, "little")
        signed += self.not_valid_after.to_bytes(4, "little") + self.server_key
        if not verify_schnorr(authority_key, self.signature, sha256(signed)):
            raise NoiseError("its certificate is not signed by the key in its address: check the address")
        if now + _CLOCK_SKEW_S < self.valid_from:
            raise NoiseError("its certificate is not valid yet: is the clock right?")
        if now - _CLOCK_SKEW_S > self.not_valid_after:
            raise NoiseError("its certificate has expired")


class Cipher:
    """A CipherState with a key: each call uses up one nonce."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def encrypt(self, plaintext: bytes, associated: bytes = b"") -> bytes:
        """Ciphertext and MAC."""
        return self._cipher.encrypt(self._nonce(), plaintext, associated)

    def decrypt(self, ciphertext: bytes, associated: bytes = b"") -> bytes:
        """The plaintext; raises NoiseError for what was not encrypted so."""
        try:
            return self._cipher.decrypt(self._nonce(), ciphertext, associated)
        except InvalidTag:
            raise NoiseError("its messages do not decrypt: they were damaged or changed on the way") from None

    def _nonce(self) -> bytes:
        nonce = bytes(4) + self._count.to_bytes(8, "little")
        self._count += 1
        return nonce


class Initiator:
    """The client's side: `hello` goes out, `finish` takes the answer (ANSWER_SIZE bytes).

    `authority_key`: x-only key that signs the pool's certificates. The ephemeral secret and its encoding can be given,
    for vectors.
    """

    def __init__(self, authority_key: bytes, ephemeral: tuple[bytes, bytes] | None = None) -> None:
        self._authority_key = authority_key
        self._secret, self._public = ephemeral or ellswift.generate()
        self._chaining_key = sha256(PROTOCOL_NAME)  # longer than a hash, so hashed
        self._hash = sha256(self._chaining_key)
        self._cipher: Cipher | None = None
        self._mix_hash(self._public)
        self._mix_hash(b"")  # the empty payload of the first message

    @property
    def hello(self) -> bytes:
        """The first message: our ephemeral key."""
        return self._public

    def finish(self, answer: bytes, now: float) -> tuple[Cipher, Cipher, Certificate]:
        """The ciphers to send and to receive with, and the certificate, checked at Unix time `now`. Raises
        NoiseError."""
        if len(answer) != ANSWER_SIZE:
            raise NoiseError("its handshake has the wrong length")
        key_end = ellswift.ELLSWIFT_SIZE
        static_end = key_end + ellswift.ELLSWIFT_SIZE + MAC_SIZE
        ephemeral = answer[:key_end]
        self._mix_hash(ephemeral)
        self._mix_key(ephemeral)
        try:
            static = self._decrypt_and_hash(answer[key_end:static_end])
            self._mix_key(static)
            message = self._decrypt_and_hash(answer[static_end:])
        except NoiseError:
            raise NoiseError("its handshake is not Stratum V2's: is this the right port?") from None
        certificate = Certificate(
            int.from_bytes(message[:2], "little"),
            int.from_bytes(message[2:6], "little"),
            int.from_bytes(message[6:10], "little"),
            message[10:_CERTIFICATE_SIZE],
            ellswift.decode(static),
        )
        certificate.check(self._authority_key, now)
        send_key, receive_key = _hkdf(self._chaining_key, b"")
        return Cipher(send_key), Cipher(receive_key), certificate

    def _mix_hash(self, data: bytes) -> None:
        self._hash = sha256(self._hash + data)

    def _mix_key(self, theirs: bytes) -> None:
        secret = ellswift.shared_secret(self._secret, self._public, theirs, initiating=True)
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._cipher = Cipher(key)

    def _decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        if self._cipher is None:
            raise NoiseError("it is not time to decrypt")
        plaintext = self._cipher.decrypt(ciphertext, self._hash)
        self._mix_hash(ciphertext)
        return plaintext


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """RFC 5869 with two outputs and no info."""
    key = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(key, b"\x01", "sha256")
    return first, hmac.digest(key, first + b"\x02", "sha256")
