"""The encrypted store: nothing in the clear, nothing half-written, and one line for every way it can go wrong."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chain.params import network
from chain.primitives.errors import LocalFault, UserError
from wallet.store import WalletStore
from wallet.vault import KdfCost, Vault, WrappedKey, WrongPassword
from wallet.wallet import Wallet, wallet_path

CHEAP = KdfCost(iterations=1, lanes=1, memory_kib=64)
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
REGTEST = network("regtest")


def make(path: Path, password: str = "pw") -> WalletStore:
    return WalletStore.create(
        path, password, records={("kind", "name"): {"value": 1}}, sealed={"secret": {"words": WORDS}}, cost=CHEAP
    )


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_round_trip_and_reopen(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with make(path) as store, store.transaction():
        store.put("kind", "other", {"value": 2})
        store.delete("kind", "name")
    assert files(tmp_path) == {"w.sqlite"}
    with WalletStore.open(path, "pw") as store:
        assert dict(store.items("kind")) == {"other": {"value": 2}}
        assert store.sealed("secret") == {"words": WORDS}


def test_nothing_readable_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP) as wallet:
        address = wallet.new_address()
        descriptors = [text for pair in wallet.descriptors().values() for text in pair]
        raw = b"".join(p.read_bytes() for p in tmp_path.iterdir())  # with the write-ahead log
        script = wallet.peek_script("bip84", 0)[1]
    raw += path.read_bytes()
    for secret in [*WORDS.split(), address, *descriptors, "tpub", "bip84", "regtest", wallet.fingerprint.hex()]:
        assert secret.encode() not in raw
    assert script not in raw
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_wrong_password(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    make(path).close()
    before = path.read_bytes()
    for wrong in ("", "PW", "pw ", "x" * 2000):
        with pytest.raises(UserError):
            WalletStore.open(path, wrong)
    with pytest.raises(WrongPassword, match="wrong password"):
        WalletStore.open(path, "nope")
    assert path.read_bytes() == before
    assert files(tmp_path) == {"w.sqlite"}


def test_equivalent_unicode_passwords_are_one(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    make(path, "pässword").close()
    with WalletStore.open(path, "pa\u0308ssword") as store:
        assert store.sealed("secret") == {"words": WORDS}
    with pytest.raises(WrongPassword):
        WalletStore.open(path, "password")


def test_change_password(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with make(path) as store:
        with pytest.raises(WrongPassword):
            store.change_password("nope", "new", CHEAP)
        with pytest.raises(UserError, match="empty"):
            store.change_password("pw", "", CHEAP)
        store.change_password("pw", "new", CHEAP)
    with pytest.raises(WrongPassword):
        WalletStore.open(path, "pw")
    with WalletStore.open(path, "new") as store:
        assert store.get("kind", "name") == {"value": 1}
        assert store.sealed("secret") == {"words": WORDS}


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with make(path) as store:

        def fail() -> None:
            with store.transaction():
                store.put("kind", "name", {"value": 9})
                store.put("kind", "new", {"value": 9})
                store.delete("kind", "gone")
                raise ValueError("stop")

        with pytest.raises(ValueError, match="stop"):
            fail()
        assert dict(store.items("kind")) == {"name": {"value": 1}}
        with store.transaction():
            store.put("kind", "later", {"value": 3})
    with WalletStore.open(path, "pw") as store:
        assert dict(store.items("kind")) == {"name": {"value": 1}, "later": {"value": 3}}
    with make(tmp_path / "v.sqlite") as store, pytest.raises(RuntimeError):
        store.put("kind", "name", {})


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists"):
        make(path)
    assert path.read_bytes() == b"precious"
    assert files(tmp_path) == {"w.sqlite"}


def test_two_creations_race_and_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def attempt() -> None:
        barrier.wait()
        try:
            make(path).close()
            outcomes.append("made")
        except UserError:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made"] + ["refused"] * 3
    assert files(tmp_path) == {"w.sqlite"}


def test_what_is_not_a_wallet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no wallet"):
        WalletStore.open(tmp_path / "none.sqlite", "pw")
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(random.Random(1).randbytes(8192))
    with pytest.raises(LocalFault, match="damaged"):
        WalletStore.open(junk, "pw")
    other = tmp_path / "other.sqlite"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    with pytest.raises(UserError, match="not a Pickaxe wallet"):
        WalletStore.open(other, "pw")
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(UserError, match="not a Pickaxe wallet"):
        WalletStore.open(tmp_path / "empty.sqlite", "pw")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    make(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="newer"):
        WalletStore.open(path, "pw")


def test_every_truncation_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20):
        pass
    whole = path.read_bytes()
    for size in range(1, len(whole), 1777):
        path.write_bytes(whole[:size])
        with pytest.raises((UserError, LocalFault)) as caught:
            Wallet.open(path, REGTEST, "pw")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records SET seq = 'x'",
        "UPDATE records SET payload = 'x'",
        "UPDATE records SET id = hex(id)",
        "UPDATE sealed SET payload = 'x'",
        "PRAGMA user_version = 0",
    ],
)
def test_what_has_become_another_type_is_damage(tmp_path: Path, change: str) -> None:
    path = tmp_path / "w.sqlite"
    Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20).close()
    db = sqlite3.connect(path)
    db.execute(change)
    db.commit()
    db.close()

    def use() -> None:
        with Wallet.open(path, REGTEST, "pw") as wallet:
            wallet.words()

    with pytest.raises(LocalFault, match=r"damaged.*: restore the wallet from its words"):
        use()


def test_damage_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    """SQLite's complaint of its own schema quotes the bytes that it does not understand."""
    path = tmp_path / "w.sqlite"
    Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20).close()
    whole = path.read_bytes()
    for statement in (b"CREATE TABLE header", b"CREATE TABLE records"):
        assert statement in whole
        path.write_bytes(whole.replace(statement, statement.replace(b"LE", b"L\xce")))
        with pytest.raises(LocalFault, match=r"is damaged .*restore the wallet from its words") as caught:
            Wallet.open(path, REGTEST, "pw")
        assert "\n" not in str(caught.value)


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "w.sqlite"
    with Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20) as wallet:
        address = wallet.new_address()
    whole = path.read_bytes()
    in_use = [at for at, byte in enumerate(whole) if byte]  # much of the file is empty room
    noticed = 0
    for number in range(150):
        damaged = bytearray(whole)
        damaged[rng.choice(in_use) if number % 2 else rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            with Wallet.open(path, REGTEST, "pw") as opened:
                assert opened.words() == WORDS
                assert (
                    opened.address(opened.owners[wallet.expand(opened.peek_script("bip84", 0)[0]).script_pubkey])
                    != address
                )
        except (UserError, LocalFault):
            noticed += 1
    assert noticed > 5


def test_records_cannot_be_swapped(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with make(path) as store, store.transaction():
        store.put("kind", "second", {"value": 2})
    db = sqlite3.connect(path)
    rows = db.execute("SELECT id, payload FROM records").fetchall()
    db.execute("UPDATE records SET payload = ? WHERE id = ?", (rows[1][1], rows[0][0]))
    db.commit()
    db.close()
    with pytest.raises(LocalFault, match="altered"):
        WalletStore.open(path, "pw")


def test_a_costly_header_does_not_exhaust_memory() -> None:
    vault = Vault.create(bytes(16))
    raw = vault.wrap("pw", CHEAP).to_bytes().replace(b'"memory_kib": 64', b'"memory_kib": 99999999999')
    with pytest.raises(LocalFault, match="out of range"):
        WrappedKey.from_bytes(raw)


def test_two_openings_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with (
        Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20) as first,
        Wallet.open(path, REGTEST, "pw") as second,
    ):
        given = [first.new_address(), second.new_address(), first.new_address(), second.new_address()]
        assert len(set(given)) == 4
        first.refresh()
        assert first.peek_script("bip84", 0) == second.peek_script("bip84", 0)


def test_two_processes_never_give_one_address_twice(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20).close()
    code = (
        "import sys; from pathlib import Path; from chain.params import network; from wallet.wallet import Wallet\n"
        "with Wallet.open(Path(sys.argv[1]), network('regtest'), 'pw') as w:\n"
        "    for _ in range(15): print(w.new_address())\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    given = [line for worker in workers for line in worker.communicate(timeout=60)[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(given) == 45
    assert len(set(given)) == 45


def test_a_locked_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet.store.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "w.sqlite"
    with make(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        def change() -> None:
            with store.transaction():
                store.put("kind", "name", {"value": 5})

        with pytest.raises(UserError, match="another process"):
            change()
        other.execute("ROLLBACK")
        other.close()
        change()
        assert store.get("kind", "name") == {"value": 5}


def test_a_killed_writer_leaves_the_old_or_the_new(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "w.sqlite"
    Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20).close()
    code = (
        "import sys; from pathlib import Path; from chain.params import network; from wallet.wallet import Wallet\n"
        "with Wallet.open(Path(sys.argv[1]), network('regtest'), 'pw') as w:\n"
        "    while True: print(w.new_address(), flush=True)\n"
    )
    given: list[str] = []
    for _ in range(3):
        worker = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        for _ in range(rng.randrange(1, 30)):
            given.append(worker.stdout.readline().strip())
        worker.kill()
        rest = worker.communicate()[0]
        given += [line for line in rest.split("\n") if len(line) == len(given[0])]
    with Wallet.open(path, REGTEST, "pw") as wallet:
        given.append(wallet.new_address())
    assert len(set(given)) == len(given)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0b", "-x", "x" * 65, "ü"])
def test_names_cannot_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot name"):
        wallet_path(tmp_path, "regtest", name)


def test_a_wallet_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    Wallet.create(path, REGTEST, "pw", WORDS, cost=CHEAP, gap_limit=20).close()
    with pytest.raises(UserError, match="regtest"):
        Wallet.open(path, network("bitcoin"), "pw")


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with make(path) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")

        def grow() -> None:
            with store.transaction():
                for i in range(200):
                    store.put("kind", str(i), {"value": "x" * 500})

        with pytest.raises(LocalFault, match="full"):
            grow()
        assert dict(store.items("kind")) == {"name": {"value": 1}}
    with WalletStore.open(path, "pw") as store:
        assert dict(store.items("kind")) == {"name": {"value": 1}}
