"""Work for every device: disjoint units, taken as each device finishes its last, dropped everywhere when the job
changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from miner.device import NONCE_SPACE, DeviceError, HashDevice
from miner.share import Finding, Share, check_candidate
from miner.telemetry import Telemetry
from miner.work.job import Job, UnitSequence, WorkUnit


class Scheduler:
    """One thread per device.

    A fast device takes more units, so the split is fair without weights; units never overlap (UnitSequence). `on_share`
    is called in a device's thread with each share or block that is still current; `on_failure` when a device has been
    retired, with whether any is left.
    """

    def __init__(
        self,
        devices: Sequence[HashDevice],
        telemetry: Telemetry,
        on_share: Callable[[Share], None],
        on_failure: Callable[[HashDevice, str, bool], None],
    ) -> None:
        self._devices = devices
        self._telemetry = telemetry
        self._on_share = on_share
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._sequence: UnitSequence | None = None
        self._generation = 0  # read without the lock by devices at work: a stale read costs one slice
        self._stopping = False
        self._alive = len(devices)
        self._threads = [
            threading.Thread(target=self._run, args=(device,), name=f"miner-{device.name}", daemon=True)
            for device in devices
        ]

    def start(self) -> None:
        """Start the devices' threads; they wait for the first job."""
        for thread in self._threads:
            thread.start()

    def set_job(self, job: Job | None) -> None:
        """Mine this from now on; None: nothing. Whatever was being searched stops within a slice."""
        sequence = UnitSequence(job) if job is not None else None
        with self._changed:
            self._sequence = sequence
            self._generation += 1
            self._changed.notify_all()
        self._telemetry.new_height(job.height if job is not None else None)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the threads and close the devices."""
        with self._changed:
            self._stopping = True
            self._generation += 1
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)

    def _run(self, device: HashDevice) -> None:
        try:
            device.open()
            try:
                while (taken := self._take(device)) is not None:
                    self._search(device, *taken)
            finally:
                device.close()
        except DeviceError as error:
            self._retire(device, str(error))
        except Exception as error:  # a defect in one driver must not stop the others
            self._retire(device, f"{type(error).__name__}: {error}")

    def _take(self, device: HashDevice) -> tuple[int, WorkUnit] | None:
        """Wait for a unit; None when stopping."""
        with self._changed:
            while not self._stopping:
                if self._sequence is not None:
                    unit = self._sequence.take(device.preferred_versions)
                    if unit is not None:
                        return self._generation, unit
                    self._sequence = None  # every unit of the job is taken
                self._changed.wait()
        return None

    def _search(self, device: HashDevice, generation: int, unit: WorkUnit) -> None:
        def cancelled() -> bool:
            return self._generation != generation

        done = 0
        while done < NONCE_SPACE and not cancelled():
            result = device.search(unit.hash_job, done, NONCE_SPACE - done, cancelled)
            done += result.done
            self._telemetry.worked(device, result.done * len(unit.hash_job.versions))
            for candidate in result.candidates:
                share = check_candidate(unit, candidate)
                self._telemetry.found(device, share)
                if share.finding in (Finding.BLOCK, Finding.SHARE) and self._is_current(generation, share):
                    self._on_share(share)

    def _is_current(self, generation: int, share: Share) -> bool:
        """False for what belongs to an old job. A solo job ends with its first block: the next would only orphan it.
        Whether a pool still takes an old job's share is for its source to say."""
        with self._changed:
            if self._generation != generation:
                return not share.unit.job.single_solution
            if share.finding is Finding.BLOCK and share.unit.job.single_solution:
                self._sequence = None
                self._generation += 1
        return True

    def _retire(self, device: HashDevice, reason: str) -> None:
        with self._changed:
            self._alive -= 1
            any_left = self._alive > 0
        self._telemetry.failed(device, reason)
        self._on_failure(device, reason, any_left)
