"""OpenCL's errors as one line."""

from __future__ import annotations

import pytest

from miner.gpu.errors import build_error, device_error, explain


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES", "OUT_OF_RESOURCES: the kernel was stopped or did not fit"),
        ("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR", "PLATFORM_NOT_FOUND_KHR: no OpenCL driver is installed"),
        ("clFinish failed: SOMETHING_NEW", "SOMETHING_NEW"),
        ("no status\nbut two lines", "no status"),
        ("", "RuntimeError"),
    ],
)
def test_explained(text: str, line: str) -> None:
    explained = explain(RuntimeError(text))
    assert explained.startswith(line)
    assert "\n" not in explained


def test_what_was_tried_comes_first() -> None:
    error = device_error("starting a batch", RuntimeError("clFlush failed: INVALID_COMMAND_QUEUE"))
    assert str(error).startswith("starting a batch failed: INVALID_COMMAND_QUEUE: an earlier failure")


def test_a_build_failure_names_the_variant_and_the_first_complaint() -> None:
    log = "clBuildProgram failed: BUILD_PROGRAM_FAILURE\nwarning: x\nkernel.cl:3:1: error: no such thing\nerror: more"
    assert str(build_error("w1m1", RuntimeError(log))) == (
        "building kernel variant w1m1 failed: kernel.cl:3:1: error: no such thing"
    )
    assert "BUILD_PROGRAM_FAILURE: the driver's compiler refuses" in str(
        build_error("w1m1", RuntimeError("clBuildProgram failed: BUILD_PROGRAM_FAILURE"))
    )
