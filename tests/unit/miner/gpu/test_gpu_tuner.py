"""The tuner: checked before timed, remembered, and never stopped by one bad variant."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miner.device import DeviceError
from miner.gpu import FoundDevice, tuner
from miner.gpu import runner as runner_module
from miner.gpu.device import GpuDevice
from miner.gpu.program import GpuVariant, Logic, source
from miner.gpu.tuner import Tuning, fingerprint, measure, stages, tuned

GOOD = GpuVariant(width=16, group=4)
LIAR = GpuVariant(width=16, group=4, nonces=2)
BROKEN = GpuVariant(width=3, group=4)


def plan(*variants: GpuVariant) -> list[Callable[[GpuVariant], Sequence[GpuVariant]]]:
    return [lambda best: variants]


@pytest.fixture
def one_liar(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIAR's kernel has a wrong constant, as from a compiler's defect."""

    def changed(variant: GpuVariant) -> str:
        text = source(variant)
        return text.replace("#define K40 0x", "#define K40 1 + 0x") if variant == LIAR else text

    monkeypatch.setattr(runner_module, "source", changed)


@pytest.mark.usefixtures("one_liar")
def test_wrong_and_broken_variants_are_left_out_with_a_note(processor: FoundDevice) -> None:
    choice = measure(processor, plan=plan(LIAR, BROKEN, GOOD))
    assert choice.variant == GOOD
    assert [name for name, _ in choice.tried] == [str(GOOD)]
    assert choice.notes[0] == f"{LIAR} left out: it finds other nonces than hashlib"
    assert choice.notes[1].startswith(f"{BROKEN} left out: building kernel variant")
    assert choice.rate > 0


@pytest.mark.usefixtures("one_liar")
def test_nothing_that_works_is_an_error(processor: FoundDevice) -> None:
    with pytest.raises(DeviceError, match=r"no kernel variant works: .*it finds other nonces"):
        measure(processor, plan=plan(LIAR))
    with pytest.raises(DeviceError, match="none fits the device"):
        measure(processor, plan=plan(replace(GOOD, group=1 << 20)))


def test_the_budget_ends_the_search_but_not_before_one_works(
    processor: FoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[GpuVariant] = []

    def rate(self: Any, variant: GpuVariant, program: Any) -> float:
        timed.append(variant)
        return 1.0

    monkeypatch.setattr(tuner._Trial, "rate", rate)
    monkeypatch.setattr(tuner._Trial, "build", lambda self, variant: None)
    variants = [GpuVariant(width=width) for width in (1, 2, 4)]
    assert measure(processor, 0.0, plan(*variants)).variant == variants[0]
    assert timed == variants[:1]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts measurements; each finds the same."""
    calls: list[str] = []

    def fake(found: FoundDevice, budget_s: float = 0.0) -> Tuning:
        calls.append(found.driver)
        return Tuning(GpuVariant(logic=Logic.PTX, adds=1), 64, 5e9, ("a note",), (("x", 5e9),))

    monkeypatch.setattr(tuner, "measure", fake)
    return calls


CARD = FoundDevice("gpu0", "H100", platform="NVIDIA CUDA", vendor="NVIDIA Corporation", driver="580.1", handle=1)


def test_remembered_per_device_and_driver(measured: list[str], tmp_path: Path) -> None:
    first = tuned(CARD, tmp_path)
    second = tuned(CARD, tmp_path)
    assert measured == ["580.1"]
    assert (second.variant, second.versions, second.rate, second.notes) == (
        first.variant,
        first.versions,
        first.rate,
        first.notes,
    )
    tuned(replace(CARD, driver="581.0"), tmp_path)
    tuned(replace(CARD, title="H200"), tmp_path)
    assert measured == ["580.1", "581.0", "580.1"]
    assert len(json.loads((tmp_path / "gpu-tuning.json").read_text())) == 3


def test_cards_of_one_kind_opened_at_once_are_measured_once(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = tuner.measure

    def slow(found: FoundDevice, budget_s: float = 0.0) -> Tuning:
        time.sleep(0.05)
        return quick(found, budget_s)

    monkeypatch.setattr(tuner, "measure", slow)
    cards = [replace(CARD, name=f"gpu{index}") for index in range(4)] + [replace(CARD, title="H200")]
    with ThreadPoolExecutor(len(cards)) as pool:
        rates = [tuning.rate for tuning in pool.map(lambda card: tuned(card, tmp_path), cards)]
    assert rates == [5e9] * len(cards)
    assert len(measured) == 2
    assert len(json.loads((tmp_path / "gpu-tuning.json").read_text())) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"KEY": 5}',
        '{"KEY": {"variant": {"width": 1}, "versions": 64, "rate": 1, "notes": []}}',
        '{"KEY": {"variant": {"logic": 9}, "versions": 64, "rate": 1, "notes": []}}',
        '{"KEY": {"variant": {"logic": 0}, "versions": 65, "rate": 1, "notes": []}}',
        '{"KEY": {"variant": {"logic": 0, "group": 0}, "versions": 64, "rate": 1, "notes": []}}',
        '{"KEY": {"variant": {"logic": 0, "width": 3}, "versions": 64, "rate": 1, "notes": []}}',
        '{"KEY": {"variant": {"logic": 0, "width": 1e999}, "versions": 64, "rate": 1, "notes": []}}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_damaged_memory_is_none(measured: list[str], tmp_path: Path, content: str) -> None:
    (tmp_path / "gpu-tuning.json").write_text(content.replace("KEY", fingerprint(CARD)))
    assert tuned(CARD, tmp_path).rate == 5e9
    assert measured == ["580.1"]


def test_a_folder_that_cannot_be_written_costs_only_the_memory(measured: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert tuned(CARD, tmp_path / "file").rate == 5e9
    assert tuned(CARD, tmp_path / "file").rate == 5e9
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("vendor", "platform"),
    [
        ("NVIDIA Corporation", "NVIDIA CUDA"),
        ("Advanced Micro Devices, Inc.", "AMD Accelerated Parallel Processing"),
        ("Intel(R) Corporation", "Intel(R) OpenCL Graphics"),
        ("Mesa", "rusticl"),
    ],
)
def test_every_vendor_has_a_plan_that_begins_without_special_instructions_or_keeps_one_such(
    vendor: str, platform: str
) -> None:
    card = replace(CARD, vendor=vendor, platform=platform)
    first = next(iter(stages(card)))(GpuVariant())
    assert any(variant.logic in (Logic.OPERATORS, Logic.BUILTINS) for variant in first)
    tried = {variant for stage in stages(card) for variant in stage(first[0])}
    assert any(variant.logic is Logic.PTX for variant in tried) == ("NVIDIA" in vendor)
    assert any(variant.logic is Logic.AMD for variant in tried) == ("Advanced" in vendor)
    assert all(variant.width == 1 for variant in tried if variant.logic is Logic.PTX)


def test_the_device_tunes_itself_when_opened(
    processor: FoundDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PICKAXE_CACHE", str(tmp_path))
    monkeypatch.setattr(tuner, "stages", lambda found: plan(GOOD))
    device = GpuDevice(processor)
    device.open()
    try:
        assert device.variant == GOOD
        details = device.details()
        assert details.nominal_rate is not None
        assert details.nominal_rate > 0
        assert (tmp_path / "gpu-tuning.json").exists()
    finally:
        device.close()
