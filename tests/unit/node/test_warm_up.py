"""Compiled code is loaded in the background, and nobody waits for that."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from node.warm_up import PREPARATIONS, THREAD_NAME, WarmUp, end_process

LIMIT_S = 30.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def wait_for_end() -> None:
    for thread in threads():
        thread.join(LIMIT_S)
    assert not threads()


def test_the_preparations_run_one_after_another_beside_the_loop() -> None:
    seen: list[tuple[str, str]] = []
    done = threading.Event()

    def note(name: str) -> Callable[[], None]:
        return lambda: seen.append((name, threading.current_thread().name))

    asyncio.run(WarmUp([note("a"), note("b"), done.set], delay_s=0).run())
    assert done.wait(LIMIT_S)
    wait_for_end()
    assert seen == [("a", THREAD_NAME), ("b", THREAD_NAME)]


def test_a_node_that_stops_before_never_starts_it() -> None:
    async def stop_early() -> None:
        task = asyncio.create_task(WarmUp([lambda: pytest.fail("it ran")], delay_s=3600).run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop_early())
    assert not threads()


def test_the_loop_ends_while_the_thread_is_busy() -> None:
    release = threading.Event()
    try:
        start = time.monotonic()
        asyncio.run(WarmUp([lambda: release.wait(LIMIT_S)], delay_s=0).run())
        assert threads()
        assert time.monotonic() - start < LIMIT_S
    finally:
        release.set()
    wait_for_end()


def test_a_failure_is_one_line_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise OSError("no cache")

    with caplog.at_level(logging.WARNING, "pickaxe.node"):
        asyncio.run(WarmUp([fail, done.set], delay_s=0).run())
        assert done.wait(LIMIT_S)
        wait_for_end()
    (record,) = caplog.records
    assert record.getMessage() == "Could not load compiled code ahead of time (OSError: no cache)"
    assert record.exc_info is None


def test_without_a_warm_up_the_process_ends_as_usual() -> None:
    with pytest.raises(SystemExit) as ended:
        end_process(3)
    assert ended.value.code == 3


PROGRAM = """
import asyncio, atexit, threading, time
from node.warm_up import WarmUp, end_process
started = threading.Event()
def busy():
    started.set()
    {work}
async def main():
    await WarmUp([busy], delay_s=0).run()
    await asyncio.to_thread(started.wait)
asyncio.run(main())
print("last words")
end_process(5)
"""


@pytest.mark.parametrize(
    "work",
    ["time.sleep(3600)", "import numba; numba.njit('int64(int64)')(lambda x: x * x)(3)", "\n    while True: pass"],
    ids=["asleep", "in Numba", "in Python"],
)
def test_the_process_ends_at_once_and_says_nothing(work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(work=work)], capture_output=True, text=True, timeout=LIMIT_S * 2
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "last words\n", "")


def test_the_script_checks_are_there_afterwards() -> None:
    code = (
        "import sys, node.warm_up as w\n"
        "assert 'numba' not in sys.modules\n"
        "for prepare in w.PREPARATIONS: prepare()\n"
        "from chain.crypto import secp256k1\n"
        "from chain.script import spends\n"
        "assert spends._prover is not None\n"
        "assert ('numba' in sys.modules) is (secp256k1.BACKEND_NAME == 'libsecp256k1')\n"
    )
    assert PREPARATIONS
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S * 10)
    assert done.returncode == 0, done.stderr
