"""A wallet's file: SQLite holding nothing but sealed records.

Everything but the encryption header is sealed (see `wallet.vault`): keys, descriptors, addresses and history alike,
since a public descriptor alone tells a whole financial life. Records are JSON values named (kind, name), decrypted once
at opening and kept in memory; a transaction writes what changed, all or nothing. Several processes may have one wallet
open: a transaction first takes the file's write lock and then reads what others changed, so no address or coin is
handed out twice. `sealed` values (the secrets) are decrypted only when asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chain.primitives.errors import LocalFault, UserError
from wallet.vault import KdfCost, Vault, WrappedKey, check_new_password

APPLICATION_ID = 0x504B5857  #: 'PKXW', in the SQLite header: tells a wallet from any other database
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0
Value = dict[str, Any]

_SCHEMA = """
CREATE TABLE header (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE records (id BLOB PRIMARY KEY, seq INTEGER NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX records_seq ON records (seq);
CREATE TABLE sealed (id BLOB PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
"""

#: version to leave -> SQL that leads to the next; run in one transaction with the version's change.
_MIGRATIONS: Mapping[int, str] = {}


class WalletStore:
    """One open wallet file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, vault: Vault, wallet_id: bytes) -> None:
        self.path = path
        self.wallet_id = wallet_id
        self._db = connection
        self._vault = vault
        self.foreign_changes = 0  #: grows whenever records were read that this object did not write
        self._seq = 0
        self._records: dict[str, dict[str, Value]] = {}
        self._batch: dict[tuple[str, str], Value | None] | None = None
        self._undo: dict[tuple[str, str], Value | None] = {}

    @classmethod
    def create(
        cls,
        path: Path,
        password: str,
        *,
        records: Mapping[tuple[str, str], Value],
        sealed: Mapping[str, Value],
        cost: KdfCost | None = None,
    ) -> WalletStore:
        """Make a new file with its first contents and open it. It appears at `path` complete or not at all; an existing
        file is never touched."""
        check_new_password(password)
        exists = UserError(f"the wallet {path} exists already: choose another name")
        if path.exists():
            raise exists
        with _file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            wallet_id = secrets.token_bytes(16)
            vault = Vault.create(wallet_id)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
            try:
                os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                db = _connect(draft)
                with contextlib.closing(db):
                    db.executescript(_SCHEMA)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("INSERT INTO header VALUES ('wallet_id', ?)", (wallet_id,))
                    db.execute("INSERT INTO header VALUES ('key', ?)", (vault.wrap(password, cost).to_bytes(),))
                    for (kind, name), value in records.items():
                        _write_record(db, vault, kind, name, value, 1)
                    for name, value in sealed.items():
                        record_id = vault.record_id("sealed", name)
                        payload = vault.seal(record_id, _dump(["sealed", name, value]))
                        db.execute("INSERT INTO sealed VALUES (?, ?)", (record_id, payload))
                    db.execute("COMMIT")
                _sync_file(draft)
                try:
                    os.link(draft, path)
                except FileExistsError:
                    raise exists from None
                _sync_folder(path.parent)
            finally:
                vault.close()
                for leftover in (draft, draft.with_name(draft.name + "-journal")):
                    leftover.unlink(missing_ok=True)
        return cls.open(path, password)

    @classmethod
    def open(cls, path: Path, password: str) -> WalletStore:
        """Open an existing file. WrongPassword, UserError (no such wallet, not a wallet, newer version) or LocalFault
        (damaged)."""
        if not path.is_file():
            raise UserError(f"there is no wallet at {path}: make one with `pickaxe wallet create`")
        with _file_errors(path):
            _check_size(path)
            db = _connect(path)
            try:
                _check_identity(db, path)
                header = dict(db.execute("SELECT name, value FROM header").fetchall())
                if not isinstance(header.get("wallet_id"), bytes) or not isinstance(header.get("key"), bytes):
                    raise LocalFault(
                        f"the wallet file {path} is damaged (no key header): restore the wallet from its words"
                    )
                wallet_id = header["wallet_id"]
                vault = Vault.unlock(wallet_id, WrappedKey.from_bytes(header["key"]), password)
                _migrate(db)
                db.execute("PRAGMA journal_mode = WAL")
                store = cls(path, db, vault, wallet_id)
                store.refresh()
            except BaseException:
                db.close()
                raise
        return store

    def close(self) -> None:
        """Release the file and wipe the data key."""
        self._vault.close()
        self._records.clear()
        self._db.close()

    def __enter__(self) -> WalletStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, kind: str, name: str) -> Value | None:
        """The value of a record, as of the last refresh or transaction. Do not modify it: `put` a new one."""
        return self._records.get(kind, {}).get(name)

    def items(self, kind: str) -> Mapping[str, Value]:
        """All records of a kind, by name."""
        return self._records.get(kind, {})

    def sealed(self, name: str) -> Value:
        """Decrypt a secret. The caller drops it as soon as it can."""
        with _file_errors(self.path):
            row = self._db.execute(
                "SELECT payload FROM sealed WHERE id = ?", (self._vault.record_id("sealed", name),)
            ).fetchone()
        if row is None:
            raise UserError("this wallet watches and holds no keys: draft with --unsigned, sign where the keys are")
        kind, stored_name, value = _load(self._vault.open(self._vault.record_id("sealed", name), row[0]))
        if (kind, stored_name) != ("sealed", name):
            raise LocalFault("the wallet file is damaged: restore the wallet from its words")
        return dict(value)

    def has_sealed(self, name: str) -> bool:
        """Whether a secret is there at all."""
        with _file_errors(self.path):
            record_id = self._vault.record_id("sealed", name)
            return self._db.execute("SELECT 1 FROM sealed WHERE id = ?", (record_id,)).fetchone() is not None

    def refresh(self) -> bool:
        """Read what other processes wrote since; whether there was anything."""
        with _file_errors(self.path):
            rows = self._db.execute(
                "SELECT id, seq, payload FROM records WHERE seq > ? ORDER BY seq", (self._seq,)
            ).fetchall()
        for record_id, seq, payload in rows:
            kind, name, value = _load(self._vault.open(record_id, payload))
            if not isinstance(seq, int):
                raise LocalFault(f"the wallet file {self.path} is damaged: restore the wallet from its words")
            if value is None:
                self._records.get(kind, {}).pop(name, None)
            else:
                self._records.setdefault(kind, {})[name] = value
            self._seq = max(self._seq, seq)
        self.foreign_changes += bool(rows)
        return bool(rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the write lock, see others' changes, then write all that `put` and `delete` said inside, or, on any
        exception, nothing."""
        if self._batch is not None:
            yield  # joins the transaction around it
            return
        with _file_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
        try:
            self.refresh()
            self._batch = {}
            self._undo = {}
            seq = self._seq
            try:
                yield
                with _file_errors(self.path):
                    if self._batch:
                        self._seq += 1
                        for (kind, name), value in self._batch.items():
                            _write_record(self._db, self._vault, kind, name, value, self._seq)
                    self._db.execute("COMMIT")
            except BaseException:
                for (kind, name), value in self._undo.items():
                    if value is None:
                        self._records.get(kind, {}).pop(name, None)
                    else:
                        self._records.setdefault(kind, {})[name] = value
                self._seq = seq
                raise
        finally:
            self._batch = None
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def put(self, kind: str, name: str, value: Value) -> None:
        """Set a record, inside a transaction."""
        self._pending(kind, name)[(kind, name)] = value
        self._records.setdefault(kind, {})[name] = value

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, inside a transaction."""
        self._pending(kind, name)[(kind, name)] = None
        self._records.get(kind, {}).pop(name, None)

    def change_password(self, old: str, new: str, cost: KdfCost | None = None) -> None:
        """Wrap the data key under `new`, after checking `old`. One value changes in one transaction, so one of the two
        always opens the file."""
        check_new_password(new)
        with _file_errors(self.path):
            raw = self._db.execute("SELECT value FROM header WHERE name = 'key'").fetchone()[0]
            Vault.unlock(self.wallet_id, WrappedKey.from_bytes(raw), old).close()
            wrapped = self._vault.wrap(new, cost).to_bytes()
            self._db.execute("UPDATE header SET value = ? WHERE name = 'key'", (wrapped,))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # leaves no copy of the old wrapping beside the file

    def _pending(self, kind: str, name: str) -> dict[tuple[str, str], Value | None]:
        if self._batch is None:
            raise RuntimeError("records change inside a transaction only")
        self._undo.setdefault((kind, name), self.get(kind, name))
        return self._batch


def _write_record(db: sqlite3.Connection, vault: Vault, kind: str, name: str, value: Value | None, seq: int) -> None:
    record_id = vault.record_id(kind, name)
    payload = vault.seal(record_id, _dump([kind, name, value]))
    db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (record_id, seq, payload))


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    db.execute("PRAGMA synchronous = FULL")  # a signed transaction must be on disk before it is sent
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _check_size(path: Path) -> None:
    """SQLite notices a missing page only when it wants it; a wallet should not open first and fail when coins are
    spent."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return  # pages may still be there
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) == 100 and head.startswith(b"SQLite format 3\0"):
        page_size = int.from_bytes(head[16:18], "big")
        expected = (65536 if page_size == 1 else page_size) * int.from_bytes(head[28:32], "big")
        if path.stat().st_size < expected:
            raise LocalFault(f"the wallet file {path} is cut short: restore the wallet from its words")


def _check_identity(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise UserError(f"{path} is not a Pickaxe wallet")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version < 1:
        raise LocalFault(f"the wallet file {path} is damaged (its version is lost): restore the wallet from its words")
    if version > SCHEMA_VERSION:
        raise UserError(f"the wallet {path} was written by a newer Pickaxe (format {version}): update Pickaxe")


def _migrate(db: sqlite3.Connection) -> None:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    while version < SCHEMA_VERSION:
        db.executescript(f"BEGIN IMMEDIATE; {_MIGRATIONS[version]}; PRAGMA user_version = {version + 1}; COMMIT;")
        version += 1


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """SQLite's and the system's failures as one line each."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise UserError("another process is writing to this wallet: try again when it is done") from error
        if "full" in text:
            raise LocalFault(f"the disk is full: nothing was changed in {path}") from error
        if "readonly" in text:
            raise UserError(f"the wallet {path} cannot be written: check its permissions") from error
        raise LocalFault(
            f"the wallet file {path} cannot be read ({text}): check the disk, or restore the wallet from its words"
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite quotes what it cannot read, as it stands
        raise LocalFault(f"the wallet file {path} is damaged ({error}): restore the wallet from its words") from error
    except OSError as error:
        raise LocalFault(f"the wallet file {path} cannot be used: {error.strerror or error}") from error


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # not every system syncs folders
        _sync_file(path)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _load(raw: bytes) -> Any:
    return json.loads(raw)
