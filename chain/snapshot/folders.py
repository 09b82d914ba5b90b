"""Which folders hold the coins, and how that changes at a moment that no crash can split.

`chainstate` alone is the usual state. `chainstate_snapshot` beside it holds the active chain's coins from a UTXO
snapshot on; it counts only once its file `base_blockhash` is there. When the snapshot has been validated, the next
start moves the header tree over, then exchanges the folders by renaming.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash
from chain.storage.faults import storage_fault
from chain.storage.layout import (
    CHAINSTATE_DIR,
    OBSOLETE_DIR,
    SNAPSHOT_BASE_FILE,
    SNAPSHOT_DIR,
    SNAPSHOT_INVALID_DIR,
)


def settle(datadir: Path, *, drop: bool) -> tuple[BlockHash | None, list[str]]:
    """Finish what a crash left half-way; the base of the snapshot that the active chain stands on, or None, and what
    the operator should know. With `drop` a snapshot is deleted instead. LocalFault if the disk fails.
    """
    snapshot, main, obsolete = datadir / SNAPSHOT_DIR, datadir / CHAINSTATE_DIR, datadir / OBSOLETE_DIR
    remarks: list[str] = []
    try:
        if obsolete.exists() and not main.exists() and snapshot.exists():
            _rename(snapshot, main)
        if obsolete.exists() and main.exists():
            shutil.rmtree(obsolete)
        (main / SNAPSHOT_BASE_FILE).unlink(missing_ok=True)
        if not snapshot.exists():
            return None, remarks
        marker = snapshot / SNAPSHOT_BASE_FILE
        if drop:
            remarks.append("[snapshot] deleting snapshot chainstate due to reindexing")
        elif not marker.exists():
            remarks.append("[snapshot] deleting a snapshot chainstate that was not loaded to its end")
        else:
            return BlockHash(marker.read_bytes()), [f"[snapshot] detected active snapshot chainstate ({snapshot})"]
        remove_snapshot(datadir)
        return None, remarks
    except OSError as error:
        raise storage_fault(error, "settling", snapshot) from error


def activate(datadir: Path, base: bytes) -> None:
    """Let the snapshot chainstate count from now on. LocalFault if the disk fails: then it does not."""
    folder = datadir / SNAPSHOT_DIR
    path = folder / SNAPSHOT_BASE_FILE
    try:
        partial = path.with_suffix(".new")
        with partial.open("wb") as file:
            file.write(base)
            file.flush()
            os.fsync(file.fileno())
        _rename(partial, path)
        _sync_folder(datadir)
    except OSError as error:
        raise storage_fault(error, "writing", path) from error


def remove_snapshot(datadir: Path) -> None:
    """Delete the snapshot chainstate, its mark first."""
    folder = datadir / SNAPSHOT_DIR
    (folder / SNAPSHOT_BASE_FILE).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def exchange(datadir: Path) -> None:
    """Put the validated snapshot chainstate, which has the header tree too, in the place of the other. No store may be
    open. LocalFault if the disk fails; `settle` goes on from there.
    """
    snapshot, main, obsolete = datadir / SNAPSHOT_DIR, datadir / CHAINSTATE_DIR, datadir / OBSOLETE_DIR
    try:
        if obsolete.exists():
            shutil.rmtree(obsolete)
        _rename(main, obsolete)
        _rename(snapshot, main)
        (main / SNAPSHOT_BASE_FILE).unlink(missing_ok=True)
        shutil.rmtree(obsolete)
    except OSError as error:
        raise storage_fault(error, "exchanging", snapshot) from error


def set_aside(datadir: Path) -> Path:
    """Rename a snapshot chainstate that proved wrong; its new place. LocalFault with what to do if that fails."""
    folder, place = datadir / SNAPSHOT_DIR, datadir / SNAPSHOT_INVALID_DIR
    try:
        if place.exists():
            shutil.rmtree(place)
        _rename(folder, place)
    except OSError as error:
        raise LocalFault(
            f"Rename of '{folder}' -> '{place}' failed ({error.strerror}). Move or delete the invalid snapshot folder"
            f" {folder} by hand, otherwise the same error comes again at the next start."
        ) from error
    return place


def _rename(old: Path, new: Path) -> None:
    os.replace(old, new)
    _sync_folder(new.parent)


def _sync_folder(path: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
