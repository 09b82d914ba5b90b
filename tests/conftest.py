"""What every test may ask for: real vectors, and randomness that can be replayed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.compiled import reading

# How long an example takes says how busy the machine is, and no more: no test of an input fails for it.
settings.register_profile("pickaxe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pickaxe")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of test vectors: PICKAXE_VECTORS, or ../shared/vectors beside the project."""
    folder = Path(os.environ.get("PICKAXE_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not folder.is_dir():
        pytest.skip(f"no test vectors in {folder}: set PICKAXE_VECTORS to their folder")
    return folder


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Seeded randomness. PICKAXE_SEED replays a run; the seed of a failing test is printed with its report."""
    seed = int(os.environ.get("PICKAXE_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"PICKAXE_SEED={seed} {request.node.nodeid}")
    return random.Random(seed)


@pytest.fixture(params=["python", "compiled"])
def both_readings(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs twice: with blocks read and connected by Python, and by compiled code."""
    with reading(request.param):
        yield
