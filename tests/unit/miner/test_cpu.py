"""Choice of kernel, its memory, and the compiled code's cache."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from miner.cpu import tuner
from miner.cpu.device import SLICE_S, CpuDevice
from miner.cpu.features import (
    ALL_VARIANTS,
    X86,
    HostProcessor,
    contenders,
    host_processor,
    known_variants,
    processor_of,
    usable_variants,
)
from miner.device import HashJob
from miner.kernels import search
from miner.kernels.layout import JOB_WORDS, MIDSTATE_WORDS
from miner.kernels.midstate import portable_midstate
from miner.kernels.prepare import aligned_words, prepare
from miner.kernels.sha256_constants import IV, K
from miner.kernels.variant import Variant, generator_stamp

SHA = Variant(2, sha_extensions=True)
ARM_SHA = [Variant(4, sha_extensions=True, arm=True), Variant(2, sha_extensions=True, arm=True)]
PLAIN = [Variant(4), Variant(1)]


def test_constants_are_those_of_fips_180() -> None:
    assert [f"{word:08x}" for word in (K[0], K[1], K[62], K[63])] == ["428a2f98", "71374491", "bef9a3f7", "c67178f2"]
    assert [f"{word:08x}" for word in IV] == [
        "6a09e667", "bb67ae85", "3c6ef372", "a54ff53a", "510e527f", "9b05688c", "1f83d9ab", "5be0cd19",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("features", "widest", "timed"),
    [
        (set(), Variant(4), [Variant(4), Variant(1)]),
        ({"sse2"}, Variant(4), [Variant(4), Variant(1)]),
        ({"sse4.1", "ssse3", "sha"}, SHA, [Variant(4), SHA]),
        ({"avx2"}, Variant(8), [Variant(8), Variant(4)]),
        ({"avx2", "avx512f"}, Variant(8), [Variant(8), Variant(4)]),
        ({"avx2", "sse4.1", "ssse3", "sha"}, Variant(8), [Variant(8), SHA]),
        ({"avx2", "avx512f", "avx512bw"}, Variant(16, True), [Variant(16, True), Variant(8)]),
        ({"avx2", "avx512f", "avx512bw", "avx512vl"}, Variant(16, True), [Variant(16, True), Variant(8, True)]),
        ({"avx2", "avx512f", "avx512bw", "sse4.1", "ssse3", "sha"}, Variant(16, True), [Variant(16, True), SHA]),
    ],
)
def test_variants_follow_the_processor(features: set[str], widest: Variant, timed: list[Variant]) -> None:
    processor = HostProcessor(X86, "any", frozenset(features))
    usable = usable_variants(processor)
    assert usable[0] == widest
    assert usable[-2:] == [Variant(4), Variant(1)]
    assert contenders(processor) == timed
    assert set(timed) <= set(usable) <= {variant for variant, _ in ALL_VARIANTS}


#: What LLVM 22 says on Linux, given a /proc/cpuinfo with the processor and features that each machine is documented to
#: have; the texts were written by hand, not captured.
@pytest.mark.parametrize(
    ("name", "features", "has_sha"),
    [
        # Raspberry Pi 4: fp asimd evtstrm crc32 cpuid
        ("cortex-a72", "-aes,+crc,+fp-armv8,+neon,-rand,-sha2,-sve", False),
        # Raspberry Pi 5: … aes pmull sha1 sha2 crc32 atomics …
        ("cortex-a76", "+aes,+crc,+fp-armv8,+lse,+neon,-rand,+sha2,-sve", True),
        # AWS Graviton2
        ("neoverse-n1", "+aes,+crc,+fp-armv8,+lse,+neon,-rand,+sha2,-sve", True),
        # AWS Graviton3
        ("neoverse-v1", "+aes,+crc,+fp-armv8,+lse,+neon,+rand,+sha2,+sha3,+sm4,+sve", True),
        # no /proc/cpuinfo
        ("generic", "-aes,-rand,-sha2,-sve", False),
        # before version 16, LLVM had one name for all of aes, pmull, sha1 and sha2
        ("neoverse-n1", "+crc,+crypto,+fp-armv8,+neon", True),
        ("cortex-a72", "+crc,+fp-armv8,+neon", False),
    ],
)
def test_an_arm_machine_gets_what_it_has(name: str, features: str, has_sha: bool) -> None:
    processor = processor_of("aarch64-unknown-linux-gnu", name, features)
    assert usable_variants(processor) == [*(ARM_SHA if has_sha else []), *PLAIN]
    assert contenders(processor) == ([Variant(4), *ARM_SHA] if has_sha else PLAIN)
    assert [variant for variant, _ in known_variants(processor)] == [*ARM_SHA, *PLAIN]


def test_apples_processors_are_known_by_name() -> None:
    """LLVM names none of their features."""
    for name in ("apple-m1", "apple-m4"):
        assert usable_variants(processor_of("arm64-apple-darwin23.1.0", name, "")) == [*ARM_SHA, *PLAIN]
    # NUMBA_CPU_NAME=generic: Numba then compiles for a processor without them
    assert usable_variants(processor_of("arm64-apple-darwin23.1.0", "generic", "")) == PLAIN


def test_numbas_settings_count_for_what_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compile for a processor without the instructions, and LLVM then ends the process."""
    monkeypatch.setattr(config, "CPU_NAME", "generic")
    monkeypatch.setattr(config, "CPU_FEATURES", "")
    assert usable_variants(host_processor.__wrapped__()) == PLAIN


@pytest.mark.parametrize("triple", ["armv7l-unknown-linux-gnueabihf", "riscv64-unknown-linux-gnu", "ppc64le-linux"])
def test_any_other_machine_gets_the_portable_kernels(triple: str) -> None:
    processor = processor_of(triple, "generic", "+sha,+sha2,+ssse3,+sse4.1,+avx2")
    assert usable_variants(processor) == contenders(processor) == PLAIN


def test_an_instruction_set_of_the_other_architecture_is_not_even_listed() -> None:
    x86 = processor_of("x86_64-unknown-linux-gnu", "znver3", "+avx2,+sha,+sse4.1,+ssse3,-avx512f,+sha2")
    assert usable_variants(x86) == [Variant(8), SHA, *PLAIN]
    assert not any(variant.arm for variant, _ in known_variants(x86))
    assert {variant for variant, _ in ALL_VARIANTS} == {variant for variant, _ in known_variants(x86)} | set(ARM_SHA)


def test_tuning_is_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(processor: HostProcessor) -> tuner.Tuning:
        measured.append(processor)
        return tuner.Tuning(contenders(processor)[0], 16, 1e6)

    monkeypatch.setattr(tuner, "measure", measure)
    first = tuner.tuned(tmp_path)
    assert tuner.tuned(tmp_path) == first
    assert len(measured) == 1
    path = tmp_path / "tuning.json"
    kept = json.loads(path.read_text())
    key = host_processor().fingerprint
    foreign = [json.dumps({key: {**kept[key], "width": width}}) for width in (3, math.inf)]
    for damage in ("", "[]", "{", "null", *foreign, "[" * 100_000, "{}"):
        path.write_text(damage)
        assert tuner.tuned(tmp_path) == first
        assert json.loads(path.read_text()) == kept
    assert len(measured) == 9


def test_another_processor_compiler_or_kernel_is_measured_anew() -> None:
    base = HostProcessor(X86, "a", frozenset({"x"}))
    assert base.fingerprint != HostProcessor(X86, "b", frozenset({"x"})).fingerprint
    assert base.fingerprint != HostProcessor(X86, "a", frozenset({"x", "y"})).fingerprint
    assert base.fingerprint != HostProcessor("aarch64", "a", frozenset({"x"})).fingerprint


def test_compiled_kernels_are_cached_until_the_generator_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = Variant(1)
    first = search.build_search(variant, tmp_path)
    files = set(tmp_path.iterdir())
    assert sum(first.stats.cache_hits.values()) == 0
    assert all(generator_stamp()[:16] in file.name for file in files)
    assert files
    again = search.build_search(variant, tmp_path)
    assert sum(again.stats.cache_hits.values()) == 1
    assert set(tmp_path.iterdir()) == files
    monkeypatch.setattr(search, "generator_stamp", lambda: "0" * 64)
    changed = search.build_search(variant, tmp_path)
    assert sum(changed.stats.cache_hits.values()) == 0
    assert set(tmp_path.iterdir()) > files


def test_damaged_kernels_are_compiled_anew(tmp_path: Path) -> None:
    search.build_search(Variant(1), tmp_path)
    for suffix, damage in ((".nbi", b""), (".nbi", bytes(4096)), (".nbc", b""), (".nbc", b"no pickle")):
        for file in tmp_path.glob(f"*{suffix}"):
            file.write_bytes(damage)
        assert sum(search.build_search(Variant(1), tmp_path).stats.cache_hits.values()) == 0
        assert sum(search.build_search(Variant(1), tmp_path).stats.cache_hits.values()) == 1


def test_variants_do_not_share_cache_entries(tmp_path: Path) -> None:
    search.build_search(Variant(1), tmp_path)
    other = search.build_search(Variant(4), tmp_path)
    assert sum(other.stats.cache_hits.values()) == 0


@pytest.mark.parametrize("count", [1, 15, 16, 1000])
def test_scratch_begins_on_a_cache_line(count: int) -> None:
    for _ in range(10):
        words = aligned_words(count)
        assert words.shape == (count,)
        assert words.dtype == np.uint32
        assert words.ctypes.data % 64 == 0


def test_prepare_is_the_same_for_few_versions_and_for_many(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are computed one by one, many at once where OpenSSL's compression is out of reach."""
    header, target = rng.randbytes(80), rng.getrandbits(256)
    versions = [rng.getrandbits(32) for _ in range(64)]
    usual = prepare(header, versions, target)
    monkeypatch.setattr("miner.kernels.prepare.midstate", portable_midstate)
    monkeypatch.setattr("miner.kernels.prepare._FEW_VERSIONS", 8)
    many = prepare(header, versions, target)
    assert many.tolist() == usual.tolist()
    for count in (1, 2, 8, 9):
        few = prepare(header, versions[:count], target)
        assert few.tolist() == many[: len(few)].tolist()


def test_prepare_bounds_its_input() -> None:
    assert prepare(bytes(80), [1, 2], 0).shape == (JOB_WORDS + 2 * MIDSTATE_WORDS,)
    for header, versions in ((bytes(79), [1]), (bytes(80), []), (bytes(80), range(65))):
        with pytest.raises(ValueError, match=r"header|versions"):
            prepare(header, list(versions), 0)


def test_a_wake_ends_the_slice_and_nothing_is_lost() -> None:
    device = CpuDevice("cpu0", Variant(1), 1)
    job, over = HashJob(bytes(80), (1,), 0), threading.Event()
    device.search(job, 0, 1000)  # compiled, if nobody has done that before
    device._slice_hashes = 1e12

    def end() -> None:
        over.set()
        device.wake()

    timers = [threading.Timer(0.05, device.wake), threading.Timer(0.12, end)]
    for timer in timers:
        timer.start()
    began = time.monotonic()
    done = device.search(job, 0, 1 << 32, over.is_set).done
    assert time.monotonic() - began < 10, "not after the whole of its slice"
    assert over.is_set(), "a wake alone cancels nothing"
    assert 0 < done < 1 << 32
    device.wake()
    assert device.search(job, 0, 1000).done == 1000, "and the next search goes on"
    for timer in timers:
        timer.join()


def test_slices_approach_their_time_and_no_single_one_swings_them() -> None:
    device = CpuDevice("cpu0", Variant(1), 1)
    rate = 40e6

    def run_slice(slowdown: float = 1.0) -> None:
        hashes = int(device._slice_hashes)
        device._adapt(hashes, hashes / rate * slowdown)

    for _ in range(20):
        run_slice()
    settled = device._slice_hashes
    assert settled == pytest.approx(rate * SLICE_S, rel=0.01)
    run_slice(slowdown=100)  # preempted once
    assert device._slice_hashes == settled / 2
    device._adapt(1000, 1e-6)  # the short rest of a range says nothing about the rate
    assert device._slice_hashes == settled / 2
    for _ in range(3):
        run_slice()
    assert device._slice_hashes == pytest.approx(settled, rel=0.01)
