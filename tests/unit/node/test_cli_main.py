"""The `pickaxe` command as a whole: what the user sees of errors."""

from __future__ import annotations

import errno
import os

import pytest

from node.cli import main as entry


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x/y"), "Error: /x/y: Permission denied: check its"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "Error: No space left on device"),
    ],
)
def test_system_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(entry, "cli", fail)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith(said)
    assert text.count("\n") == 1


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no number, no system call")

    monkeypatch.setattr(entry, "cli", fail)
    with pytest.raises(OSError, match="no system call"):
        entry.main()
