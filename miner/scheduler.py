"""Work for every device: disjoint units, taken as each device finishes its last, dropped everywhere when the job
changes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from miner.device import IDLE_S, NONCE_SPACE, Candidate, DeviceError, HashDevice, HashJob, Switchable, Wakeable
from miner.share import Finding, Share, check_candidate
from miner.telemetry import Telemetry
from miner.work.job import Job, UnitSequence, WorkUnit

#: Units whose nonces are still known. At their own pace devices use a few hundred a job; only one that takes a single
#: version at a time at terahashes would come near.
UNITS_KEPT = 1 << 14
#: A search that finds nothing is interrupted this often, so that its hashes are counted when they are done.
REPORT_S = 0.5
_SEEN_KEPT = 1 << 12  # shares of one unit remembered against duplicates
_JUDGED = 64  # a device is judged by its last so many nonces
_TOO_MANY_WRONG = 32  # of them
_WRONG = (Finding.HARDWARE_ERROR, Finding.OUT_OF_RANGE)


@dataclass(slots=True)
class _Issued:
    """A unit given out: which job change it belongs to, and the shares already found in it."""

    unit: WorkUnit
    generation: int
    seen: set[tuple[int, int]] = field(default_factory=set)


class _Worker:
    """A device and its thread. `paused` and `leaving` are read without the lock by the device at work: a stale read
    costs one slice."""

    def __init__(self, device: HashDevice, predecessor: threading.Thread | None) -> None:
        self.device = device
        self.wakeable = device if isinstance(device, Wakeable) else None
        self.switchable = device if isinstance(device, Switchable) else None
        self.searching = False  # it has a unit
        self.handed: _Issued | None = None  # the unit that it was switched to, and is to search next
        self.predecessor = predecessor  # a thread of the same device that may still be closing it
        self.paused = False
        self.leaving = False
        self.failed = False
        self.warned = False
        self.judged: deque[bool] = deque(maxlen=_JUDGED)  # for each nonce: was it wrong
        self.thread: threading.Thread | None = None

    def switch(self) -> bool:
        """Send its device the unit handed to it; False where its thread has to do that."""
        handed = self.handed
        return self.switchable is not None and handed is not None and self.switchable.switch(handed.unit.hash_job)

    def wake(self) -> None:
        """Have its device look whether its search is still wanted."""
        if self.wakeable is not None:
            self.wakeable.wake()


class Scheduler:
    """One thread per device.

    A fast device takes more units, so the split is fair without weights; units never overlap (UnitSequence). `on_share`
    is called in a device's thread with each share or block that its source may still want; `on_failure` when a device
    has been retired, with whether any is left; `on_warning` with what the user should know of one that goes on.
    Devices may come, pause and go at any time, by name; those methods return at once.
    """

    def __init__(
        self,
        devices: Sequence[HashDevice],
        telemetry: Telemetry,
        on_share: Callable[[Share], None],
        on_failure: Callable[[HashDevice, str, bool], None],
        on_warning: Callable[[HashDevice, str], None] | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._on_share = on_share
        self._on_failure = on_failure
        self._on_warning = on_warning
        self._changed = threading.Condition()
        self._job: Job | None = None  # None as well when its one solution has been found
        self._sequence: UnitSequence | None = None
        self._generation = 0  # read without the lock by devices at work, as _Worker.paused
        self._issued: dict[HashJob, _Issued] = {}  # the oldest first
        self._started = False
        self._stopping = False
        self._workers = {device.name: _Worker(device, None) for device in devices}

    def start(self) -> None:
        """Start the devices' threads; they wait for the first job."""
        with self._changed:
            self._started = True
            for worker in self._workers.values():
                self._start(worker)

    def set_job(self, job: Job | None) -> None:
        """Mine this from now on; None: nothing. Whatever was being searched stops within a slice."""
        sequence = UnitSequence(job) if job is not None else None
        with self._changed:
            self._job = job
            self._sequence = sequence
            self._generation += 1
            # nonces of the job before may still come; before that one, nobody wants them
            self._issued = {
                hash_job: issued
                for hash_job, issued in self._issued.items()
                if issued.generation == self._generation - 1 or self._same_parent(issued.unit.job)
            }
            self._changed.notify_all()
            workers = list(self._workers.values())
            for worker in workers:
                worker.handed = self._take(worker) if worker.switchable is not None and worker.searching else None
        # All that can be switched from here before the first thread is woken and wants its turn of the interpreter; and
        # none is woken under the lock, which each wants at once.
        for worker in [worker for worker in workers if not worker.switch()]:
            worker.wake()
        self._telemetry.new_job(job.height if job is not None else None)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the threads and close the devices."""
        with self._changed:
            self._stopping = True
            self._generation += 1
            threads = [worker.thread for worker in self._workers.values() if worker.thread is not None]
            self._changed.notify_all()
            self._wake()
        for thread in threads:
            if thread.is_alive():
                thread.join(timeout_s)

    def add(self, device: HashDevice) -> None:
        """Mine with one more device, or with one again that was retired or removed. ValueError where its name is
        taken."""
        with self._changed:
            known = self._workers.get(device.name)
            if known is not None and not (known.failed or known.leaving):
                raise ValueError(f"there already is a device {device.name}")
            worker = _Worker(device, None if known is None else known.thread)
            self._workers[device.name] = worker
            self._telemetry.add(device)
            if self._started and not self._stopping:
                self._start(worker)

    def remove(self, name: str) -> None:
        """Let a device finish its slice and close it; KeyError where there is none."""
        with self._changed:
            self._present(name).leaving = True
            self._changed.notify_all()
            self._wake()
        self._telemetry.removed(name)

    def pause(self, name: str) -> None:
        """No work for this device until it is resumed; KeyError where there is none."""
        with self._changed:
            self._present(name).paused = True
            self._changed.notify_all()
            self._wake()
        self._telemetry.paused(name, True)

    def resume(self, name: str) -> None:
        """Work again for a paused device; one that was retired is opened again. KeyError where there is none."""
        with self._changed:
            worker = self._present(name)
            worker.paused = False
            if worker.failed:
                self.add(worker.device)  # the lock is re-entrant
            self._changed.notify_all()
        self._telemetry.paused(name, False)

    @property
    def devices(self) -> list[HashDevice]:
        """Those that mine, are paused or have been retired, in the order in which they came."""
        with self._changed:
            return [worker.device for worker in self._workers.values() if not worker.leaving]

    def _wake(self) -> None:
        for worker in self._workers.values():
            worker.wake()

    def _present(self, name: str) -> _Worker:
        worker = self._workers[name]
        if worker.leaving:
            raise KeyError(name)
        return worker

    # --- in the devices' threads ---

    def _start(self, worker: _Worker) -> None:
        name = f"miner-{worker.device.name}"
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
        worker.thread.start()

    def _run(self, worker: _Worker) -> None:
        if worker.predecessor is not None:
            worker.predecessor.join()
        device = worker.device
        try:
            device.open()
            try:
                while (issued := self._next(worker)) is not None:
                    self._search(worker, issued)
            finally:
                device.close()
        except DeviceError as error:
            self._retire(worker, str(error))
        except Exception as error:  # a defect in one driver must not stop the others
            self._retire(worker, f"{type(error).__name__}: {error}")

    def _next(self, worker: _Worker) -> _Issued | None:
        """Wait for a unit; None when the device is to end."""
        while True:
            with self._changed:
                worker.searching = False
                if (issued := self._take(worker)) is None and not self._ends(worker):
                    self._changed.wait(IDLE_S)
                    issued = self._take(worker)
                if issued is not None or self._ends(worker):
                    worker.searching = issued is not None
                    return issued
            worker.device.idle()

    def _ends(self, worker: _Worker) -> bool:
        return self._stopping or worker.leaving

    def _take(self, worker: _Worker) -> _Issued | None:
        if self._sequence is None or worker.paused or self._ends(worker):
            return None
        handed, worker.handed = worker.handed, None
        if handed is not None and handed.generation == self._generation:
            return handed
        unit = self._sequence.take(worker.device.preferred_versions)
        if unit is None:
            return None  # every unit of the job is taken; there are more when the time may be rolled on
        issued = self._issued[unit.hash_job] = _Issued(unit, self._generation)
        if len(self._issued) > UNITS_KEPT:
            del self._issued[next(iter(self._issued))]
        return issued

    def _search(self, worker: _Worker, issued: _Issued) -> None:
        generation, unit, device = issued.generation, issued.unit, worker.device

        def over() -> bool:
            return self._generation != generation or worker.paused or worker.leaving

        def cancelled() -> bool:
            return over() or time.monotonic() >= report_at

        done = 0
        while done < NONCE_SPACE and not over():
            report_at = time.monotonic() + REPORT_S
            result = device.search(unit.hash_job, done, NONCE_SPACE - done, cancelled)
            done += result.done
            hashes = result.hashes if result.hashes is not None else result.done * len(unit.hash_job.versions)
            self._telemetry.worked(device, hashes)
            for candidate in result.candidates:
                self._take_candidate(worker, issued, candidate)

    def _take_candidate(self, worker: _Worker, searched: _Issued, candidate: Candidate) -> None:
        device, issued = worker.device, searched
        if candidate.job is not None and candidate.job is not searched.unit.hash_job:
            with self._changed:
                found = self._issued.get(candidate.job)
            if found is None:
                self._telemetry.late(device)
                return
            issued = found
        share = check_candidate(issued.unit, candidate, device.name)
        if share.finding in (Finding.BLOCK, Finding.SHARE):
            key = candidate.version, candidate.nonce
            if key in issued.seen:
                self._telemetry.duplicate(device)
                return
            if len(issued.seen) < _SEEN_KEPT:
                issued.seen.add(key)
            self._telemetry.found(device, share)
            if self._is_wanted(share):
                self._on_share(share)
            else:
                self._telemetry.late(device)
        else:
            self._telemetry.found(device, share)
        self._judge(worker, share.finding in _WRONG)

    def _is_wanted(self, share: Share) -> bool:
        """Whether a pool still takes an old job's share is for its source to say. A block is good as long as another
        would be on its parent; a solo job ends with its first: the next would only orphan it."""
        if not share.unit.job.single_solution:
            return True
        with self._changed:
            if not self._same_parent(share.unit.job):
                return False
            if share.finding is Finding.BLOCK:
                self._job = self._sequence = None
                self._generation += 1
                self._wake()
        return True

    def _same_parent(self, job: Job) -> bool:
        return self._job is not None and self._job.prev_hash == job.prev_hash

    def _judge(self, worker: _Worker, wrong: bool) -> None:
        """Warn at a device's first wrong nonce; raise DeviceError when half of its last ones were."""
        worker.judged.append(wrong)
        if not wrong:
            return
        count = sum(worker.judged)
        if count >= _TOO_MANY_WRONG:
            raise DeviceError(
                f"{count} of its last {len(worker.judged)} nonces were wrong: check its clock, voltage and cooling"
            )
        if not worker.warned:
            worker.warned = True
            if self._on_warning is not None:
                text = "returned a wrong nonce; wrong ones are counted as hardware errors, and never sent"
                self._on_warning(worker.device, text)

    def _retire(self, worker: _Worker, reason: str) -> None:
        with self._changed:
            worker.failed = True
            any_left = any(not (other.failed or other.leaving) for other in self._workers.values())
            wanted = not self._ends(worker)
        if wanted:
            self._telemetry.failed(worker.device, reason)
            self._on_failure(worker.device, reason, any_left)
