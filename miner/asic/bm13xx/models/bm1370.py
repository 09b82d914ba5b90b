"""BM1370 (REFERENCE.md §15.4)."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout, Step, ToAll, ToEach
from miner.asic.bm13xx.pll import PllRules

BM1370 = ChipModel(
    name="bm1370",
    chip_ids=(0x1370,),
    core_byte=0x00,
    job_format=JobFormat.FULL_HEADER,
    cores=128,
    sub_cores=16,
    units=2040,
    pll=PllRules(0xA0, 0xEF, 1600.0, 3200.0),
    default_mhz=525.0,
    frequencies_mhz=(350, 375, 380, 400, 410, 490, 525, 550, 600, 625),
    default_mv=1150,
    voltages_mv=(1000, 1060, 1100, 1150, 1200, 1250),
    job_id_first=0x18,
    job_id_step=0x18,
    job_id_modulus=128,
    reply_id_mask=0xF0,
    reply_id_shift=1,
    sub_core_mask=0x0F,
    nonce_layout=NonceLayout.OFFSET,
    hash_counting=None,
    counting_guard=268,
    baud=reg.UART_1M,
    host_baud=1_000_000,
    start_up=(
        *(ToAll(reg.ROLL_ALL_VERSION_BITS, 0.005) for _ in range(3)),
        Step.COUNT,
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        ToAll(reg.SOFT_RESET_DEFAULT),
        ToAll(reg.REPORTS_ALL_CORES),
        Step.INACTIVE,
        Step.ASSIGN,
        ToAll(reg.CLOCK_SELECT),
        ToAll(reg.CLOCK_DELAY_BM1370),
        Step.TICKET_MASK,
        ToAll(reg.DRIVE_STRENGTH),
        ToEach(
            (
                reg.SOFT_RESET_CORES,
                reg.REPORTS_ALL_CORES,
                reg.CLOCK_SELECT,
                reg.CLOCK_DELAY_BM1370,
                reg.CORE_ENABLE,
            )
        ),
        ToAll(reg.ADC_DIODE),
        ToAll(reg.ANALOG_MUX_DIODE),
        ToAll(reg.ADC_DIODE),
        ToAll(reg.NONCE_BIN_OVERFLOW_ON),
        Step.CLOCK,
        Step.HASH_COUNTING,
        Step.BAUD,
        Step.VERSION_MASK,
    ),
)
