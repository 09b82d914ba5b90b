"""Choice of kernel, its memory, and the compiled code's cache."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from miner.cpu import tuner
from miner.cpu.device import SLICE_S, CpuDevice
from miner.cpu.features import ALL_VARIANTS, HostProcessor, contenders, host_processor, usable_variants
from miner.kernels import search
from miner.kernels.layout import JOB_WORDS, MIDSTATE_WORDS
from miner.kernels.prepare import aligned_words, prepare
from miner.kernels.sha256_constants import IV, K
from miner.kernels.variant import Variant, generator_stamp

SHA = Variant(2, sha_extensions=True)


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
    processor = HostProcessor("any", frozenset(features))
    usable = usable_variants(processor)
    assert usable[0] == widest
    assert usable[-2:] == [Variant(4), Variant(1)]
    assert contenders(processor) == timed
    assert set(timed) <= set(usable) <= {variant for variant, _ in ALL_VARIANTS}


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
    for damage in ("", "[]", "{", "null", json.dumps({host_processor().fingerprint: {"width": 3}}), "{}"):
        path.write_text(damage)
        assert tuner.tuned(tmp_path) == first
        assert json.loads(path.read_text()) == kept
    assert len(measured) == 7


def test_another_processor_compiler_or_kernel_is_measured_anew() -> None:
    base = HostProcessor("a", frozenset({"x"}))
    assert base.fingerprint != HostProcessor("b", frozenset({"x"})).fingerprint
    assert base.fingerprint != HostProcessor("a", frozenset({"x", "y"})).fingerprint


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


def test_prepare_is_the_same_for_few_versions_and_for_many(rng: random.Random) -> None:
    """Few are computed one by one, many at once."""
    header, target = rng.randbytes(80), rng.getrandbits(256)
    versions = [rng.getrandbits(32) for _ in range(64)]
    many = prepare(header, versions, target)
    for count in (1, 2, 8, 9):
        few = prepare(header, versions[:count], target)
        assert few.tolist() == many[: len(few)].tolist()


def test_prepare_bounds_its_input() -> None:
    assert prepare(bytes(80), [1, 2], 0).shape == (JOB_WORDS + 2 * MIDSTATE_WORDS,)
    for header, versions in ((bytes(79), [1]), (bytes(80), []), (bytes(80), range(65))):
        with pytest.raises(ValueError, match=r"header|versions"):
            prepare(header, list(versions), 0)


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
