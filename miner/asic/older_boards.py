"""`pickaxe asic info` and `pickaxe asic test` for boards that a HashDevice drives without a chain of BM13xx chips."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from chain.primitives.errors import UserError
from miner.asic.families import serial_devices
from miner.device import NONCE_SPACE, Candidate, DeviceDetails, DeviceError, HashDevice, HashJob

_FOUND_S = 15.0  #: for detection, clock and voltage commands and their waits
_LOOK_S = 0.01
_FEWEST_NONCES = 5
_WORST_WRONG = 0.02  #: of nonces: more is a sick board (avalon/REFERENCE.md §5)


def identify_board(port: str, board: str, zero_bits: int = 32) -> str:
    """What is behind the port, one line. UserError when there is nothing of that kind."""
    device = _open(port, board, None, zero_bits)
    try:
        return _describe(_until_found(device))
    finally:
        device.close()


def judge_board(
    port: str, board: str, frequency_mhz: float | None, seconds: float, zero_bits: int, say: Callable[[str], None]
) -> None:
    """Hash random jobs for that long and judge. UserError with what is wrong."""
    device = _open(port, board, frequency_mhz, zero_bits)
    try:
        say(_describe(_until_found(device)) + f"; hashing for {seconds:g} s")
        hashes, candidates = _hash_for(device, seconds)
        details = device.details()
    finally:
        device.close()
    if details is None or details.nominal_rate is None:
        raise UserError("self-test failed: the board tells nothing about itself")
    wrong = details.counters.get("wrong", 0)
    expected = hashes / (1 << zero_bits)
    say(
        f"{len(candidates)} true nonces where {expected:.1f} were to be expected of {hashes:.4g} hashes,"
        f" {wrong} wrong, {details.counters.get('duplicate', 0)} repeated"
    )
    problems = []
    if expected >= _FEWEST_NONCES and len(candidates) < expected - 4 * expected**0.5:
        problems.append("far fewer nonces than hashes should give")
    elif not candidates and expected >= _FEWEST_NONCES:
        problems.append("no nonce at all")
    if wrong > _WORST_WRONG * max(len(candidates), 50):
        problems.append(f"{wrong} wrong nonces")
    if problems:
        raise UserError("self-test failed: " + "; ".join(problems))
    if expected < _FEWEST_NONCES:
        say(f"too few to judge the rate by; --seconds {seconds * _FEWEST_NONCES / max(expected, 0.1):.0f} would do")


def _open(port: str, board: str, frequency_mhz: float | None, zero_bits: int) -> HashDevice:
    (device,) = serial_devices([port], None, frequency_mhz, zero_bits, [board])
    try:
        device.open()
    except DeviceError as error:
        raise UserError(str(error)) from None
    return device


def _until_found(device: HashDevice) -> DeviceDetails:
    """Wait for the board's first sign of life."""
    end = time.monotonic() + _FOUND_S
    while time.monotonic() < end:
        time.sleep(_LOOK_S)  # the board needs the time, and nothing else wants this thread
        try:
            device.idle()
        except DeviceError as error:
            raise UserError(str(error)) from None
        details = device.details()
        if details is not None and details.state.startswith("running"):
            return details
    raise UserError("the board did not come up")


def _hash_for(device: HashDevice, seconds: float) -> tuple[int, list[Candidate]]:
    rng = random.Random()
    end = time.monotonic() + seconds
    hashes, found = 0, []
    while time.monotonic() < end:
        versions = tuple(range(device.preferred_versions))
        job = HashJob(rng.randbytes(80), versions, (1 << 256) - 1)
        done = 0
        while done < NONCE_SPACE and time.monotonic() < end:
            try:
                result = device.search(job, done, NONCE_SPACE - done, lambda: time.monotonic() > end)
            except DeviceError as error:
                raise UserError(f"self-test failed: {error}") from None
            done += result.done
            hashes += result.hashes if result.hashes is not None else result.done * len(versions)
            for candidate in result.candidates:
                found.append(candidate)
    return hashes, found


def _describe(details: DeviceDetails) -> str:
    parts = [details.model or "board"]
    if details.frequency_mhz is not None:
        parts.append(f"{details.frequency_mhz:g} MHz")
    if details.nominal_rate is not None:
        parts.append(f"{details.nominal_rate / 1e6:.4g} MH/s")
    return ", ".join(parts)
