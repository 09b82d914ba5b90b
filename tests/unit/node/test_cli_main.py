"""The `pickaxe` command as a whole: what the user sees of errors."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cli import main as entry

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _ctrl_c_of_the_tests() -> Iterator[None]:
    """The command's last act is to be deaf to it."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def _interrupted(program: str) -> subprocess.CompletedProcess[str]:
    program = f"import os, signal\nfrom node.cli import main as entry\n{program}\nentry.main()"
    return subprocess.run(
        [sys.executable, "-c", program, "network", "list"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )


def test_ctrl_c_while_a_command_loads_ends_without_a_word() -> None:
    done = _interrupted("entry.importlib.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_after_a_command_has_ended_changes_nothing() -> None:
    done = _interrupted("import atexit\natexit.register(os.kill, os.getpid(), signal.SIGINT)")
    assert done.returncode == 0
    assert "pickaxe" in done.stdout
    assert done.stderr == ""


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


@pytest.mark.parametrize("command", [["node"], ["wallet", "list"], ["index", "list"], ["up"], ["rpc"], ["mine"]])
@pytest.mark.parametrize("empty", [["--datadir", ""], ["--datadir="]])
def test_an_empty_datadir_is_not_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], empty: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pickaxe", *command, *empty])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == ("Error: --datadir is empty: name a folder, or leave it out for the usual one.\n")


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no number, no system call")

    monkeypatch.setattr(entry, "cli", fail)
    with pytest.raises(OSError, match="no system call"):
        entry.main()


def test_what_the_terminal_cannot_show_becomes_question_marks() -> None:
    program = "entry.cli = lambda: print('5 \\u00d7 \\udcff')\n"
    done = subprocess.run(
        [sys.executable, "-c", f"from node.cli import main as entry\n{program}entry.main()"],
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"5 ? ?", b"")


def test_a_user_without_account_and_home_can_work() -> None:
    program = (
        "import pwd\ndef nobody(number): raise KeyError(number)\npwd.getpwuid = nobody\n"
        "from node.cli import main as entry\n"
        "entry.cli = lambda: print(entry.Path.home())\nentry.main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "/\n", "")
