"""Checksums of database pages: they follow every commit, and no flipped bit or lost byte of a page in use goes
unnoticed.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import lmdb
import pytest

from chain.storage.page_checksums import DATA_FILE, LAST_FILE, SUMS_FILE, DatabaseDamage, PageChecksums

COINS = b"coins"
INDEX = b"index"


def checksums(folder: Path) -> PageChecksums:
    return PageChecksums(folder, repair="start with --reindex", durable=False)


def in_use(sums: PageChecksums) -> dict[int, int]:
    """Page and sum."""
    return {number: value for number, value in enumerate(sums._sums) if value}


class Environment:
    """An LMDB environment with two trees, and what must be in them."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder, rng
        folder.mkdir(exist_ok=True)
        self.coins: dict[bytes, bytes] = {}
        self.sums = checksums(folder)
        self.sums.verify()
        self.env = lmdb.open(str(folder), map_size=1 << 30, max_dbs=4)
        self.dbs = {name: self.env.open_db(name) for name in (COINS, INDEX)}
        self.sums.update()

    def commit(self, changes: int, *, large: bool = False) -> None:
        """Add, replace and delete some; a few values need pages of their own if `large`."""
        rng = self.rng
        with self.env.begin(write=True) as txn:
            for _ in range(changes):
                if self.coins and rng.random() < 0.4:
                    key = rng.choice(list(self.coins)[:50])
                    del self.coins[key]
                    txn.delete(key, db=self.dbs[COINS])
                else:
                    key = rng.randbytes(36)
                    value = rng.randbytes(rng.choice((34, 46, 60)) if not large else rng.choice((40, 3000, 20_000)))
                    self.coins[key] = value
                    txn.put(key, value, db=self.dbs[COINS])
            txn.put(rng.randbytes(32), rng.randbytes(104), db=self.dbs[INDEX])
        self.sums.update()

    def close(self) -> None:
        self.env.close()


@pytest.mark.parametrize("large", [False, True])
def test_sums_follow_every_commit(tmp_path: Path, rng: random.Random, large: bool) -> None:
    made = Environment(tmp_path, rng)
    for size in (1, 2000, 1, 30, 500, 3, 3, 3, 1500, 40, 1, 1):
        made.commit(size // 10 + 1 if large else size, large=large)
        again = checksums(tmp_path)
        again.verify()  # what was appended reads as what is in memory …
        assert in_use(again) == in_use(made.sums)
        (tmp_path / SUMS_FILE).rename(tmp_path / "kept")
        anew = checksums(tmp_path)
        anew.verify()  # … and as what a walk over the whole environment finds
        assert in_use(anew) == in_use(made.sums)
        (tmp_path / "kept").rename(tmp_path / SUMS_FILE)
    made.close()
    rows = dict(checksums_with_meta(tmp_path).rows(COINS))
    assert rows == made.coins


def checksums_with_meta(folder: Path) -> PageChecksums:
    sums = checksums(folder)
    sums.verify()
    return sums


def test_every_flipped_bit_of_a_page_in_use_is_found(tmp_path: Path, rng: random.Random) -> None:
    made = Environment(tmp_path / "whole", rng)
    for size in (300, 20, 20):
        made.commit(size, large=size == 20)
    used = made.sums._sums
    made.close()
    whole = (tmp_path / "whole" / DATA_FILE).read_bytes()
    folder = tmp_path / "hit"
    shutil.copytree(tmp_path / "whole", folder)
    found = harmless = 0
    for _ in range(400):
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        data = bytearray(whole)
        data[at] ^= 1 << bit
        (folder / DATA_FILE).write_bytes(data)
        damage = None
        try:
            checksums(folder).verify()
        except DatabaseDamage as error:
            damage = str(error)
        if damage is not None:
            assert "is damaged" in damage
            assert damage.endswith("start with --reindex")
            found += 1
            continue
        harmless += 1
        page = at // 4096
        assert page >= len(used) or not used[page], f"bit {bit} of byte {at} was not seen"
        with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=4) as env, env.begin() as txn:
            coins = dict(txn.cursor(env.open_db(COINS, txn, create=False)))
        assert coins == made.coins
    assert found > 100, (found, harmless)


def test_lost_ends_are_found(tmp_path: Path, rng: random.Random) -> None:
    made = Environment(tmp_path, rng)
    made.commit(500)
    made.close()
    whole = (tmp_path / DATA_FILE).read_bytes()
    for size in (0, 1, 4096, 5000, 8192, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        (tmp_path / DATA_FILE).write_bytes(whole[:size])
        if size:
            with pytest.raises(DatabaseDamage):
                checksums(tmp_path).verify()
    (tmp_path / DATA_FILE).write_bytes(whole)
    checksums(tmp_path).verify()


def test_damaged_sums_are_no_better_than_a_damaged_database(tmp_path: Path, rng: random.Random) -> None:
    made = Environment(tmp_path, rng)
    for _ in range(3):
        made.commit(50)
    made.close()
    whole = (tmp_path / SUMS_FILE).read_bytes()
    for _ in range(100):
        data = bytearray(whole)
        data[rng.randrange(len(whole) - 200)] ^= 1 << rng.randrange(8)
        (tmp_path / SUMS_FILE).write_bytes(data)
        with pytest.raises(DatabaseDamage, match="is damaged"):
            checksums(tmp_path).verify()


def test_a_crash_between_commit_and_sums_is_made_up_for(tmp_path: Path, rng: random.Random) -> None:
    made = Environment(tmp_path, rng)
    earlier: bytes | None = None
    for size in (500, 20, 200):
        before = (tmp_path / SUMS_FILE).read_bytes()
        made.commit(size)
        after = (tmp_path / SUMS_FILE).read_bytes()
        last = (tmp_path / LAST_FILE).read_bytes() if (tmp_path / LAST_FILE).exists() else None
        for kept in (len(before), len(before) + 7, len(after) - 1):  # the new record not there, or torn
            (tmp_path / SUMS_FILE).write_bytes(after[:kept])
            (tmp_path / LAST_FILE).unlink(missing_ok=True)
            if earlier is not None:
                (tmp_path / LAST_FILE).write_bytes(earlier)
            again = checksums(tmp_path)
            again.verify()
            assert in_use(again) == in_use(made.sums)
            assert (tmp_path / SUMS_FILE).read_bytes() == after
            assert last is None or (tmp_path / LAST_FILE).read_bytes() == last
        earlier = last
    (tmp_path / SUMS_FILE).write_bytes(before)
    made.commit(5)
    (tmp_path / SUMS_FILE).write_bytes(before)  # two behind: not by a crash of ours
    (tmp_path / LAST_FILE).unlink()
    checksums(tmp_path).verify()
    made.close()


def test_sums_that_have_lost_their_end_hide_no_damage(tmp_path: Path, rng: random.Random) -> None:
    """Whatever was cut off, a page of the last commit that has changed is found; and without one, the last record
    alone is made up for.
    """
    made = Environment(tmp_path, rng)
    made.commit(500)
    sizes = []
    for _ in range(4):
        known = in_use(made.sums)
        made.commit(20)
        sizes.append((tmp_path / SUMS_FILE).stat().st_size)
    made.close()
    data, sums, last = ((tmp_path / name).read_bytes() for name in (DATA_FILE, SUMS_FILE, LAST_FILE))
    written = [page for page, value in in_use(made.sums).items() if page > 1 and known.get(page) != value]

    def verify(data: bytes, sums: bytes, last: bytes) -> None:
        for name, content in ((DATA_FILE, data), (SUMS_FILE, sums), (LAST_FILE, last)):
            (tmp_path / name).write_bytes(content)
        again = checksums(tmp_path)
        again.verify()
        assert in_use(again) == in_use(made.sums)

    verify(data, sums, last)
    for size in range(sizes[-2], sizes[-1]):
        verify(data, sums[:size], last)
        assert (tmp_path / SUMS_FILE).read_bytes() == sums
    for _ in range(50):
        with pytest.raises(DatabaseDamage, match="the end is missing"):
            verify(data, sums[: rng.randrange(sizes[0], sizes[-2])], last)
        at = rng.choice(written) * 4096 + rng.randrange(4096)
        bad = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
        with pytest.raises(DatabaseDamage):
            verify(bad, sums[: rng.randrange(sizes[0], sizes[-1])], last)
        with pytest.raises(DatabaseDamage):
            verify(bad, sums, last[: rng.randrange(len(last))])
        verify(data, sums, last[: rng.randrange(len(last))])


def test_an_environment_without_sums_must_be_sound(tmp_path: Path, rng: random.Random) -> None:
    """Without sums a flipped bit of a value passes; a page that would lead LMDB astray does not."""
    made = Environment(tmp_path, rng)
    made.commit(2000)
    made.close()
    whole = (tmp_path / DATA_FILE).read_bytes()
    (tmp_path / SUMS_FILE).unlink()
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        page = rng.choice([n for n, used in enumerate(made.sums._sums) if used and n > 1])
        data[page * 4096 + rng.randrange(16 + 20)] ^= 1 << rng.randrange(8)  # its header and first pointers
        (tmp_path / DATA_FILE).write_bytes(data)
        try:
            checksums(tmp_path).verify()
        except DatabaseDamage:
            refused += 1
        (tmp_path / SUMS_FILE).unlink(missing_ok=True)
    assert refused > 50


def test_damage_to_the_page_that_names_the_trees_is_refused_or_harmless(tmp_path: Path, rng: random.Random) -> None:
    """Every bit of its header, its pointers and its nodes' heads: where it leads out of the page is a damage, too."""
    made = Environment(tmp_path, rng)
    made.commit(50)
    made.close()
    whole = (tmp_path / DATA_FILE).read_bytes()
    page = next(n for n in range(2, len(whole) // 4096) if made.sums._sums[n] and COINS in whole[n * 4096 :][:4096])
    start = page * 4096
    nodes = [start + int.from_bytes(whole[at : at + 2], "little") for at in (start + 16, start + 18)]
    refused = 0
    for at in (*range(start, start + 20), *(node + byte for node in nodes for byte in range(8))):
        for bit in range(8):
            (tmp_path / SUMS_FILE).unlink(missing_ok=True)
            (tmp_path / DATA_FILE).write_bytes(whole[:at] + bytes((whole[at] ^ 1 << bit,)) + whole[at + 1 :])
            try:
                checksums(tmp_path).verify()
            except DatabaseDamage:
                refused += 1
    assert refused > 100


def test_the_file_of_sums_does_not_grow_for_ever(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chain.storage.page_checksums._COMPACT_BYTES", 2000)
    made = Environment(tmp_path, rng)
    sizes = []
    for _ in range(60):
        made.commit(20)
        sizes.append((tmp_path / SUMS_FILE).stat().st_size)
    assert max(sizes) < 8000
    made.close()
    checksums(tmp_path).verify()


def test_another_format_is_left_to_lmdb(tmp_path: Path) -> None:
    (tmp_path / DATA_FILE).write_bytes(b"not LMDB" * 2000)
    checksums(tmp_path).verify()
    assert (tmp_path / DATA_FILE).read_bytes() == b"not LMDB" * 2000
    assert not (tmp_path / SUMS_FILE).exists()
    with pytest.raises(lmdb.InvalidError):
        lmdb.open(str(tmp_path))
