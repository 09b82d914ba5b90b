"""BIP39: the twelve to twenty-four words that back up a wallet.

The words encode 128 to 256 bits of entropy and a checksum of its SHA-256; the seed is PBKDF2-HMAC-SHA512 over the words
themselves (2,048 rounds), so the words, not the entropy, are the secret.
"""

from __future__ import annotations

import difflib
import hashlib
import secrets
import unicodedata
from functools import cache
from importlib import resources

from chain.primitives.errors import UserError

WORD_COUNTS = (12, 15, 18, 21, 24)
BITS_PER_WORD = 11
SEED_ROUNDS = 2048  #: BIP39; fewer or more would give other coins
UNIQUE_PREFIX = 4  #: the first four letters name a word of the English list


@cache
def word_list() -> tuple[str, ...]:
    """The 2,048 English words of BIP39, in order."""
    text = resources.files("wallet").joinpath("wordlists", "english.txt").read_text("ascii")
    words = tuple(text.split())
    if len(words) != 1 << BITS_PER_WORD:
        raise UserError("wallet/wordlists/english.txt is damaged: install Pickaxe again")
    return words


@cache
def _positions() -> dict[str, int]:
    return {word: i for i, word in enumerate(word_list())}


def generate(word_count: int = 12) -> str:
    """Fresh words from the system's randomness."""
    if word_count not in WORD_COUNTS:
        raise UserError(f"{word_count} words is not possible: choose one of {', '.join(map(str, WORD_COUNTS))}")
    return mnemonic_from_entropy(secrets.token_bytes(word_count * 4 // 3))


def mnemonic_from_entropy(entropy: bytes) -> str:
    """Words for 16, 20, 24, 28 or 32 bytes; ValueError for another length."""
    if len(entropy) not in (16, 20, 24, 28, 32):
        raise ValueError("entropy must be 16, 20, 24, 28 or 32 bytes")
    checksum_bits = len(entropy) // 4
    bits = int.from_bytes(entropy, "big") << checksum_bits | hashlib.sha256(entropy).digest()[0] >> 8 - checksum_bits
    count = (len(entropy) * 8 + checksum_bits) // BITS_PER_WORD
    words = word_list()
    return " ".join(words[bits >> BITS_PER_WORD * i & 0x7FF] for i in reversed(range(count)))


def entropy_from_mnemonic(text: str) -> bytes:
    """The entropy behind words that a person typed. UserError names the word that is wrong, as far as it can be
    known."""
    words = normalize(text).split(" ")
    if words == [""]:
        raise UserError("no words were given: type the 12 to 24 words of the backup, separated by spaces")
    bits = 0
    for number, word in enumerate(words, 1):
        index = _positions().get(word)
        if index is None:
            raise UserError(f"word {number} ('{word[:20]}') is not in the BIP39 list{_suggest(word)}")
        bits = bits << BITS_PER_WORD | index
    if len(words) not in WORD_COUNTS:
        raise UserError(
            f"{len(words)} words were given, a backup has 12, 15, 18, 21 or 24: look for a missing or doubled word"
        )
    checksum_bits = len(words) // 3
    entropy = (bits >> checksum_bits).to_bytes(len(words) * 4 // 3, "big")
    if hashlib.sha256(entropy).digest()[0] >> 8 - checksum_bits != bits & (1 << checksum_bits) - 1:
        raise UserError(
            f"the words do not fit together (checksum){_suspect(words)}: compare each with the backup, and their order"
        )
    return entropy


def complete_words(text: str) -> str:
    """`text` with every word written out that its first four letters name; unknown ones stay as they are."""
    by_prefix = {word[:UNIQUE_PREFIX]: word for word in word_list() if len(word) >= UNIQUE_PREFIX}
    return " ".join(
        word if word in _positions() or len(word) != UNIQUE_PREFIX else by_prefix.get(word, word)
        for word in normalize(text).split(" ")
    )


def seed_from_mnemonic(text: str, passphrase: str = "") -> bytes:
    """The 64-byte BIP32 seed. Does not check the words: BIP39 defines a seed for any text."""
    words = normalize(text).encode()
    salt = ("mnemonic" + unicodedata.normalize("NFKD", passphrase)).encode()
    return hashlib.pbkdf2_hmac("sha512", words, salt, SEED_ROUNDS)


def normalize(text: str) -> str:
    """NFKD, lower case, single spaces: what the seed is computed from."""
    return " ".join(unicodedata.normalize("NFKD", text).lower().split())


def _suggest(word: str) -> str:
    near = difflib.get_close_matches(word, word_list(), n=1, cutoff=0.6)
    same_start = [w for w in word_list() if w[:UNIQUE_PREFIX] == word[:UNIQUE_PREFIX]]
    return f": did you mean '{(same_start or near)[0]}'?" if same_start or near else ": check its spelling"


def _suspect(words: list[str]) -> str:
    """Which one word, replaced by a near one, or swapped with its neighbour, would make the checksum right: a hint only
    when unique."""
    swaps = []
    for i in range(len(words) - 1):
        if words[i] != words[i + 1] and _fits([*words[:i], words[i + 1], words[i], *words[i + 2 :]]):
            swaps.append(i)
    typos = []
    for i, word in enumerate(words):
        for near in difflib.get_close_matches(word, word_list(), n=4, cutoff=0.75):
            if near != word and _fits([*words[:i], near, *words[i + 1 :]]):
                typos.append((i, near))
    if len(typos) == 1 and not swaps:
        return f"; perhaps word {typos[0][0] + 1} ('{words[typos[0][0]]}') should be '{typos[0][1]}'"
    if len(swaps) == 1 and not typos:
        return f"; perhaps words {swaps[0] + 1} and {swaps[0] + 2} are swapped"
    return ""


def _fits(words: list[str]) -> bool:
    bits = 0
    for word in words:
        bits = bits << BITS_PER_WORD | _positions()[word]
    checksum_bits = len(words) // 3
    entropy = (bits >> checksum_bits).to_bytes(len(words) * 4 // 3, "big")
    return hashlib.sha256(entropy).digest()[0] >> 8 - checksum_bits == bits & (1 << checksum_bits) - 1
