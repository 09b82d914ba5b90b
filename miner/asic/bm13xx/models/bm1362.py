"""BM1362, in the order of the makers' S19j Pro (REFERENCE.md §15.6)."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout, Step, ToAll, ToEach
from miner.asic.bm13xx.pll import PllRules

BM1362 = ChipModel(
    name="bm1362",
    chip_ids=(0x1362,),
    core_byte=0x03,
    job_format=JobFormat.FULL_HEADER,
    cores=65,
    sub_cores=8,
    units=514,
    pll=PllRules(0x10, 0xFA, 2000.0, 3125.0),
    default_mhz=525.0,
    frequencies_mhz=(400, 425, 450, 475, 500, 525, 550),
    default_mv=1200,
    voltages_mv=(1100, 1150, 1200, 1250, 1300),
    job_id_first=0x08,
    job_id_step=0x08,
    job_id_modulus=128,
    reply_id_mask=0xF8,
    reply_id_shift=0,
    sub_core_mask=0x07,
    nonce_layout=NonceLayout.ADDRESS,
    hash_counting=None,  # the makers' 0x1381 covers 80 % of a slice on 126 chips and far less on a short chain
    counting_guard=0,
    baud=reg.UART_3M,
    host_baud=3_125_000,
    counters=False,
    start_up=(
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        Step.COUNT,
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        ToAll(reg.ROLL_ALL_VERSION_BITS),
        ToAll(reg.SOFT_RESET_BM1362),
        ToAll(reg.REPORTS_BM1362),
        Step.INACTIVE,
        Step.ASSIGN,
        ToAll(reg.HASH_CLOCK_SELECT),
        ToAll(reg.CLOCK_DELAY_BM1362),
        Step.TICKET_MASK,
        ToAll(reg.ANALOG_MUX_DEFAULT),
        ToAll(reg.DRIVE_STRENGTH),
        Step.BAUD,
        Step.CLOCK,
        ToEach(
            (
                reg.SOFT_RESET_CORES_BM1362,
                reg.REPORTS_BM1362,
                reg.HASH_CLOCK_SELECT,
                reg.CLOCK_DELAY_BM1362,
                reg.CORE_ENABLE,
            )
        ),
        Step.HASH_COUNTING,
        Step.VERSION_MASK,
    ),
)
