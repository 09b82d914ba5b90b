"""`pickaxe asic tune`: a board hashing on jobs of its own until its tuner has settled."""

from __future__ import annotations

import random
from collections.abc import Callable

from chain.primitives.errors import UserError
from miner.asic.device import AsicDevice
from miner.asic.families import OLDER_BOARDS, serial_devices
from miner.asic.tuning.auto import BoardTuner, TuneOptions
from miner.asic.tuning.search import Decision
from miner.device import NONCE_SPACE, DeviceError, HashJob, Versions

_EASIEST = (1 << 256) - 1
_ALL_VERSIONS = Versions(0x2000_0000, 0x1FFF_E000, 0, 1 << 16)


def tune_board(
    port: str,
    model: str | None,
    board_name: str | None,
    options: TuneOptions,
    zero_bits: int,
    say: Callable[[str], None],
) -> Decision:
    """The decision that the tuner has settled on. UserError when the board does not run, or cannot be tuned."""
    if board_name is not None and board_name.lower() in OLDER_BOARDS:
        raise UserError(f"a {board_name} has no clock to tune: BM13xx boards have")
    (device,) = serial_devices([port], model, None, zero_bits, [board_name] if board_name is not None else [], options)
    if not isinstance(device, AsicDevice) or device.tuner is None:
        raise UserError("this board cannot be tuned")
    tuner = device.tuner = BoardTuner(device.board, options, say)
    try:
        device.open()
        return _hash_until_settled(device, tuner)
    except DeviceError as error:
        raise UserError(str(error)) from None
    finally:
        device.close()


def _hash_until_settled(device: AsicDevice, tuner: BoardTuner) -> Decision:
    rng = random.Random()
    while True:
        job, done = HashJob(rng.randbytes(80), _ALL_VERSIONS, _EASIEST), 0
        while done < NONCE_SPACE:
            done += device.search(job, done, NONCE_SPACE - done, lambda: _over(tuner)).done
            if tuner.impossible is not None:
                raise UserError(f"{device.board.path}: {tuner.impossible}")
            if tuner.last is not None and tuner.last.settled:
                return tuner.last


def _over(tuner: BoardTuner) -> bool:
    return tuner.impossible is not None or (tuner.last is not None and tuner.last.settled)
