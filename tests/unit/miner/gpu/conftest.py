"""An OpenCL device that every test machine can have: the processor, through PoCL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from miner.gpu import FoundDevice, discover


@pytest.fixture(scope="module")
def processor(pytestconfig: pytest.Config) -> Iterator[FoundDevice]:
    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.cache is not None:
            patch.setenv("POCL_CACHE_DIR", str(pytestconfig.cache.mkdir("pocl")))
        found = [device for device in discover() if device.usable and device.processor]
        if not found:
            pytest.skip("no OpenCL driver for the processor (pocl-binary-distribution)")
        yield found[0]
