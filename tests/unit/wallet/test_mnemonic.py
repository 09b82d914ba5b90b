"""BIP39: vectors, and errors that help the person who mistyped."""

from __future__ import annotations

import hashlib
import random

import pytest

from chain.primitives.errors import UserError
from wallet import mnemonic

TWELVE = "abandon " * 11 + "about"

VECTORS = [  # (entropy, words, seed under the passphrase TREZOR), from BIP39's own test vectors
    (
        "00" * 16,
        TWELVE,
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e5349553"
        "1f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
    ),
    (
        "7f" * 16,
        "legal winner thank year wave sausage worth useful legal winner thank yellow",
        "2e8905819b8723fe2c1d161860e5ee1830318dbf49a83bd451cfb8440c28bd6f"
        "a457fe1296106559a3c80937a1c1069be3a3a5bd381ee6260e8d9739fce1f607",
    ),
    (
        "0ce452419635c1a5faf44d60f2029f73fdc43419b4de1f03",
        "artefact card motor cluster foster spray type meadow genius mosquito pond tree "
        "sword borrow grocery orange business burger",
        "378b20cc763e0c535514cd2dda75dfd3edfb3c3a09f2a2b096bce82d14ea6183"
        "7249797dc74b5dc0a5ec24f9c8fb244631447856b4a4a01322ca84d1574dfeb5",
    ),
    (
        "00ac97c48106f0aeb8ba061e0250a559b3251dc35854e694780ba51d53a50120",
        "absent gorilla van acoustic humor firm title dolphin bulk barely citizen recall "
        "crane moment aspect appear track phrase "
        "actual enforce steel spoon afraid benefit",
        "2e3c58340e28b1e70f1bec7393459fd4c16058aacd6c87d99439616742daf02f"
        "9d18d919fe7c74a34a2a9d2b417e9a9021fcc8f820e257e355762cbbece5eea2",
    ),
]


@pytest.mark.parametrize(("entropy", "words", "seed"), VECTORS)
def test_vectors(entropy: str, words: str, seed: str) -> None:
    assert mnemonic.mnemonic_from_entropy(bytes.fromhex(entropy)) == words
    assert mnemonic.entropy_from_mnemonic(words).hex() == entropy
    assert mnemonic.seed_from_mnemonic(words, "TREZOR").hex() == seed


def test_word_list_is_the_published_one() -> None:
    text = "".join(f"{word}\n" for word in mnemonic.word_list())
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
    )


def test_passphrase_is_normalised() -> None:
    composed, decomposed = "pässwörd ﬁ", "pa\u0308sswo\u0308rd fi"
    expected = (
        "f82b9a7fc1d9ace95adc24816e085087d4d27bbc61e5de30fdf46ee17e0786cc"
        "27d0e028ae0c6a71fc8f2171b717cab72e01f20a158dff08d44f568c4aa530c6"
    )
    assert mnemonic.seed_from_mnemonic(TWELVE, composed).hex() == expected
    assert mnemonic.seed_from_mnemonic(TWELVE, decomposed).hex() == expected


def test_spacing_and_case_do_not_matter() -> None:
    assert mnemonic.entropy_from_mnemonic("  " + TWELVE.upper().replace(" ", "\n ")) == bytes(16)


@pytest.mark.parametrize("count", mnemonic.WORD_COUNTS)
def test_generated_words_are_valid_and_differ(count: int) -> None:
    words = mnemonic.generate(count)
    assert len(words.split()) == count
    assert len(mnemonic.entropy_from_mnemonic(words)) == count * 4 // 3
    assert words != mnemonic.generate(count)


def test_unknown_word_is_named_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"word 3 \('abandn'\).*did you mean 'abandon'"):
        mnemonic.entropy_from_mnemonic("abandon abandon abandn " + "abandon " * 8 + "about")


@pytest.mark.parametrize("text", ["", "  ", "about", "abandon " * 12 + "about"])
def test_wrong_number_of_words(text: str) -> None:
    with pytest.raises(UserError):
        mnemonic.entropy_from_mnemonic(text)


def test_swapped_words_are_found() -> None:
    words = VECTORS[2][1].split()
    words[4], words[5] = words[5], words[4]
    with pytest.raises(UserError, match="words 5 and 6 are swapped"):
        mnemonic.entropy_from_mnemonic(" ".join(words))


def test_wrong_last_word_is_refused() -> None:
    with pytest.raises(UserError, match="checksum"):
        mnemonic.entropy_from_mnemonic("abandon " * 11 + "zoo")


def test_any_word_replaced_is_mostly_caught(rng: random.Random) -> None:
    words = VECTORS[3][1].split()
    caught = 0
    for _ in range(40):
        changed = list(words)
        changed[rng.randrange(24)] = rng.choice([w for w in mnemonic.word_list() if w not in words])
        try:
            mnemonic.entropy_from_mnemonic(" ".join(changed))
        except UserError:
            caught += 1
    assert caught >= 36  # an 8-bit checksum lets one in 256 through


def test_four_letters_are_enough() -> None:
    short = " ".join(word[:4] for word in VECTORS[3][1].split())
    assert mnemonic.complete_words(short) == VECTORS[3][1]
