"""OpenCL's errors in one line each: what failed, and what to do about it. Whoever shows it names the device."""

from __future__ import annotations

import re

from miner.device import DeviceError

#: By OpenCL's name for the status: what it usually means here.
_MEANING = {
    "DEVICE_NOT_AVAILABLE": "the driver has taken the device away: look in the system's log, restart the driver",
    "DEVICE_NOT_FOUND": "the driver lists no device any more",
    "COMPILER_NOT_AVAILABLE": "this driver has no compiler: install the vendor's full OpenCL package",
    "BUILD_PROGRAM_FAILURE": "the driver's compiler refuses the kernel",
    "MEM_OBJECT_ALLOCATION_FAILURE": "the device's memory is full: end other programs that use it",
    "OUT_OF_RESOURCES": "the kernel was stopped or did not fit: undo overclocking; on a card that drives a screen the"
    " system may stop long kernels",
    "OUT_OF_HOST_MEMORY": "the driver got no memory: the machine's is full, or the driver is in a bad state",
    "INVALID_COMMAND_QUEUE": "an earlier failure ended the device's queue: look in the system's log, reset the card",
    "INVALID_CONTEXT": "the device was reset while in use",
    "INVALID_WORK_GROUP_SIZE": "the device takes no work-groups of this size: remove gpu-tuning.json from the cache"
    " folder, so that it is tuned again",
    "INVALID_BINARY": "a kernel in the driver's cache is damaged or from another driver: empty that cache",
    "PLATFORM_NOT_FOUND_KHR": "no OpenCL driver is installed",
}


def explain(error: BaseException) -> str:
    """The status's name, and what it means where that is known."""
    match = re.search(r"\b([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)\b", str(error))
    status = match.group(1) if match else (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    meaning = _MEANING.get(status)
    return f"{status}: {meaning}" if meaning else status


def device_error(action: str, error: BaseException) -> DeviceError:
    """`action`: what was tried ("starting a batch")."""
    return DeviceError(f"{action} failed: {explain(error)}")


def build_error(variant: object, error: BaseException) -> DeviceError:
    """A kernel that does not build: names the variant, and the compiler's first complaint."""
    complaint = next((line.strip() for line in str(error).splitlines() if re.search(r"\berror\b", line, re.I)), "")
    detail = complaint[:160] or explain(error)
    return DeviceError(f"building kernel variant {variant} failed: {detail}")
