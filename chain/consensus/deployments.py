"""Which rules bind which block: buried activation heights (BIP90), script flags, and version-bits signalling (BIP9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from chain.consensus.constants import VERSIONBITS_TOP_BITS, VERSIONBITS_TOP_MASK
from chain.index import BlockIndexEntry
from chain.params import ALWAYS_ACTIVE, NEVER_ACTIVE, Bip9Deployment, NetworkParams
from chain.script.flags import ScriptFlags

VERSIONBITS_COUNT = 29  #: BIP9: bits 0 to 28


class Deployment(StrEnum):
    """Buried deployments, in the order and with the names that getdeploymentinfo gives them."""

    BIP34 = "bip34"
    BIP66 = "bip66"
    BIP65 = "bip65"
    CSV = "csv"
    SEGWIT = "segwit"


def activation_height(deployment: Deployment, params: NetworkParams) -> int:
    """The first height that the rule binds."""
    return int(getattr(params, f"{deployment.value}_height"))


def is_active(deployment: Deployment, height: int, params: NetworkParams) -> bool:
    """Whether the rule binds the block at `height`."""
    return height >= activation_height(deployment, params)


_ALWAYS = ScriptFlags.P2SH | ScriptFlags.WITNESS | ScriptFlags.TAPROOT


def block_script_flags(block_hash: bytes, height: int, params: NetworkParams) -> ScriptFlags:
    """The flags under which the block's scripts run (Core's GetBlockScriptFlags).

    P2SH, witness and taproot rules hold since genesis but in the few blocks that are exceptions; the others from their
    heights on.
    """
    flags = params.script_flag_exceptions.get(block_hash, _ALWAYS)  # type: ignore[call-overload]
    if height >= params.bip66_height:
        flags |= ScriptFlags.DERSIG
    if height >= params.bip65_height:
        flags |= ScriptFlags.CHECKLOCKTIMEVERIFY
    if height >= params.csv_height:
        flags |= ScriptFlags.CHECKSEQUENCEVERIFY
    if height >= params.segwit_height:
        flags |= ScriptFlags.NULLDUMMY
    return ScriptFlags(flags)


class ThresholdState(StrEnum):
    """States of BIP9; the values are what getdeploymentinfo shows."""

    DEFINED = "defined"
    STARTED = "started"
    LOCKED_IN = "locked_in"
    ACTIVE = "active"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Bip9Stats:
    """Signalling in the current period; `threshold` is 0 and `possible` False once locked in."""

    period: int
    threshold: int
    elapsed: int
    count: int
    possible: bool


@dataclass(frozen=True, slots=True)
class Bip9Info:
    """What getdeploymentinfo shows of a deployment as of a block."""

    state: ThresholdState  #: of that block
    next_state: ThresholdState  #: of the block after it
    since: int  #: first height of `state`
    stats: Bip9Stats | None = None  #: while started or locked in
    signalling: list[bool] = field(default_factory=list)  #: per block of the period so far
    active_since: int | None = None


class VersionBits:
    """The state machine of BIP9 for all deployments of a network, with its results cached per period."""

    def __init__(self, params: NetworkParams) -> None:
        self.params = params
        self.deployments = {deployment.name: deployment for deployment in params.deployments}
        self._cache: dict[str, dict[BlockIndexEntry | None, ThresholdState]] = {name: {} for name in self.deployments}
        self._warning_cache: dict[int, dict[BlockIndexEntry | None, ThresholdState]] = {}

    def state(self, deployment: Bip9Deployment, prev: BlockIndexEntry | None) -> ThresholdState:
        """The state of the block after `prev`."""
        return self._state(deployment, prev, self._cache[deployment.name])

    def _signals(self, deployment: Bip9Deployment, entry: BlockIndexEntry) -> bool:
        return _signals(entry.version, deployment.bit)

    def _state(
        self,
        deployment: Bip9Deployment,
        prev: BlockIndexEntry | None,
        cache: dict[BlockIndexEntry | None, ThresholdState],
        *,
        unknown: bool = False,
    ) -> ThresholdState:
        if deployment.start_time == ALWAYS_ACTIVE:
            return ThresholdState.ACTIVE
        if deployment.start_time == NEVER_ACTIVE:
            return ThresholdState.FAILED
        period = deployment.period
        if prev is not None:  # all blocks of a period share the state of its first
            prev = prev.ancestor(prev.height - (prev.height + 1) % period)
        todo = []
        while prev not in cache:
            if prev is None or prev.median_time_past() < deployment.start_time:
                cache[prev] = ThresholdState.DEFINED
                break
            todo.append(prev)
            prev = prev.ancestor(prev.height - period)
        state = cache[prev]
        for end in reversed(todo):
            if state is ThresholdState.DEFINED:
                if end.median_time_past() >= deployment.start_time:
                    state = ThresholdState.STARTED
            elif state is ThresholdState.STARTED:
                count = 0
                walk: BlockIndexEntry | None = end
                for _ in range(period):
                    if walk is None:
                        break
                    count += self._signals_unknown(deployment.bit, walk) if unknown else self._signals(deployment, walk)
                    walk = walk.prev
                if count >= deployment.threshold:
                    state = ThresholdState.LOCKED_IN
                elif end.median_time_past() >= deployment.timeout:
                    state = ThresholdState.FAILED
            elif state is ThresholdState.LOCKED_IN and end.height + 1 >= deployment.min_activation_height:
                state = ThresholdState.ACTIVE
            cache[end] = state
        return state

    def since(self, deployment: Bip9Deployment, prev: BlockIndexEntry | None) -> int:
        """The height from which the block after `prev` has had its state."""
        if deployment.start_time in (ALWAYS_ACTIVE, NEVER_ACTIVE):
            return 0
        state = self.state(deployment, prev)
        if state is ThresholdState.DEFINED or prev is None:
            return 0
        period = deployment.period
        end = prev.ancestor(prev.height - (prev.height + 1) % period)
        while end is not None:
            before = end.ancestor(end.height - period)
            if before is None or self.state(deployment, before) is not state:
                return end.height + 1
            end = before
        return 0

    def statistics(self, deployment: Bip9Deployment, entry: BlockIndexEntry) -> tuple[Bip9Stats, list[bool]]:
        """Signalling in the period of `entry` up to it, and which of its blocks did."""
        elapsed = 1 + entry.height % deployment.period
        signalling = []
        walk: BlockIndexEntry | None = entry
        for _ in range(elapsed):
            if walk is None:
                break
            signalling.append(self._signals(deployment, walk))
            walk = walk.prev
        signalling.reverse()
        count = sum(signalling)
        possible = deployment.period - deployment.threshold >= elapsed - count
        return Bip9Stats(deployment.period, deployment.threshold, elapsed, count, possible), signalling

    def info(self, name: str, entry: BlockIndexEntry) -> Bip9Info:
        """All about the deployment `name` as of `entry`."""
        deployment = self.deployments[name]
        state = self.state(deployment, entry.prev)
        next_state = self.state(deployment, entry)
        since = self.since(deployment, entry.prev)
        stats: Bip9Stats | None = None
        signalling: list[bool] = []
        if state in (ThresholdState.STARTED, ThresholdState.LOCKED_IN):
            stats, signalling = self.statistics(deployment, entry)
            if state is ThresholdState.LOCKED_IN:
                stats = Bip9Stats(stats.period, 0, stats.elapsed, stats.count, False)
        active_since = None
        if state is ThresholdState.ACTIVE:
            active_since = since
        elif next_state is ThresholdState.ACTIVE:
            active_since = entry.height + 1
        return Bip9Info(state, next_state, since, stats, signalling, active_since)

    def template_states(self, prev: BlockIndexEntry) -> dict[ThresholdState, list[Bip9Deployment]]:
        """The deployments that getblocktemplate speaks of, for a block after `prev`: started, locked in, active."""
        states: dict[ThresholdState, list[Bip9Deployment]] = {
            ThresholdState.STARTED: [],
            ThresholdState.LOCKED_IN: [],
            ThresholdState.ACTIVE: [],
        }
        for deployment in self.params.deployments:
            listed = states.get(self.state(deployment, prev))
            if listed is not None:
                listed.append(deployment)
        return states

    def block_version(self, prev: BlockIndexEntry | None) -> int:
        """The version of a new block after `prev`: BIP9's top bits and the bits of what is being signalled for (Core's
        ComputeBlockVersion).
        """
        version = VERSIONBITS_TOP_BITS
        for deployment in self.params.deployments:
            if self.state(deployment, prev) in (ThresholdState.STARTED, ThresholdState.LOCKED_IN):
                version |= 1 << deployment.bit
        return version

    def _signals_unknown(self, bit: int, entry: BlockIndexEntry) -> bool:
        return (
            entry.height >= self.params.min_bip9_warning_height
            and _signals(entry.version, bit)
            and not self.block_version(entry.prev) >> bit & 1
        )

    def unknown_activations(self, entry: BlockIndexEntry) -> list[tuple[int, bool]]:
        """Bits of rule changes that we do not know and that miners locked in: (bit, whether it is active after
        `entry`).
        """
        params = self.params
        period = params.retarget_interval if params.is_test_chain else 2016
        threshold = period * 3 // 4 if params.is_test_chain else 1815
        found = []
        for bit in range(VERSIONBITS_COUNT):
            deployment = Bip9Deployment(f"bit {bit}", bit, 0, (1 << 63) - 1, 0, period, threshold)
            state = self._state(deployment, entry, self._warning_cache.setdefault(bit, {}), unknown=True)
            if state in (ThresholdState.ACTIVE, ThresholdState.LOCKED_IN):
                found.append((bit, state is ThresholdState.ACTIVE))
        return found


def _signals(version: int, bit: int) -> bool:
    return version & VERSIONBITS_TOP_MASK == VERSIONBITS_TOP_BITS and bool(version >> bit & 1)
