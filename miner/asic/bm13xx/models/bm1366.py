"""BM1366 (REFERENCE.md §15.2)."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout, Step, ToAll, ToEach, ToFirst
from miner.asic.bm13xx.pll import PllRules

BM1366 = ChipModel(
    name="bm1366",
    chip_ids=(0x1366,),
    core_byte=0x00,
    job_format=JobFormat.FULL_HEADER,
    cores=112,
    sub_cores=8,
    units=894,
    pll=PllRules(0x90, 0xEB, 1600.0, 3200.0),
    default_mhz=485.0,
    frequencies_mhz=(400, 425, 450, 475, 485, 500, 525, 550, 575),
    default_mv=1200,
    voltages_mv=tuple(range(1100, 1301, 50)),
    job_id_first=0x08,
    job_id_step=0x08,
    job_id_modulus=128,
    reply_id_mask=0xF8,
    reply_id_shift=0,
    sub_core_mask=0x07,
    nonce_layout=NonceLayout.ADDRESS,
    hash_counting=None,
    counting_guard=0,
    baud=reg.UART_1M,
    host_baud=1_000_000,
    start_up=(
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        Step.COUNT,
        ToAll(reg.SOFT_RESET_DEFAULT),
        ToAll(reg.REPORTS_BM1366),
        Step.INACTIVE,
        Step.ASSIGN,
        ToAll(reg.HASH_CLOCK_SELECT),
        ToAll(reg.CLOCK_DELAY_BM1366),
        Step.TICKET_MASK,
        ToAll(reg.ANALOG_MUX_DEFAULT),
        ToAll(reg.DRIVE_STRENGTH_BM1366),
        ToFirst(reg.UART_RELAY_FIRST_CHIP),
        ToEach(
            (
                reg.SOFT_RESET_CORES,
                reg.REPORTS_ALL_CORES,
                reg.HASH_CLOCK_SELECT,
                reg.CLOCK_DELAY_BM1366,
                reg.CORE_ENABLE,
            )
        ),
        Step.CLOCK,
        Step.HASH_COUNTING,
        Step.VERSION_MASK,
        Step.BAUD,
    ),
)
