"""BM1397: the last part that takes midstates (REFERENCE.md §11.2, §15.1)."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout, Step, ToAll
from miner.asic.bm13xx.pll import PllRules

BM1397 = ChipModel(
    name="bm1397",
    chip_ids=(0x1397,),
    core_byte=0x18,
    job_format=JobFormat.MIDSTATES,
    cores=168,
    sub_cores=4,
    units=672,
    pll=PllRules(60, 200, 600.0, 3200.0, raw_dividers=True, fast_bit=False),
    default_mhz=425.0,
    frequencies_mhz=(400, 425, 450, 475, 485, 500, 525, 550, 575, 600),
    default_mv=1400,
    voltages_mv=tuple(range(1100, 1501, 50)),
    job_id_first=0x04,
    job_id_step=0x04,
    job_id_modulus=128,
    reply_id_mask=0xFC,
    reply_id_shift=0,
    sub_core_mask=0x03,
    nonce_layout=NonceLayout.BM1397,
    hash_counting=0,
    counting_guard=0,
    baud=reg.MISC_3M_BM1397,
    host_baud=3_125_000,
    counters=False,
    pll_preamble=(reg.PLL0_DIVIDER_BM1397,),
    start_up=(
        Step.COUNT,
        Step.INACTIVE,
        Step.ASSIGN,
        ToAll(reg.CLOCK_ORDER_0_ZERO),
        ToAll(reg.CLOCK_ORDER_1_ZERO),
        ToAll(reg.ORDERED_CLOCK_BM1397),
        ToAll(reg.CLOCK_DELAY_BM1397),
        Step.TICKET_MASK,
        ToAll(reg.PLL3_BM1397),
        ToAll(reg.FAST_UART_BM1397),
        ToAll(reg.MISC_115200_BM1397),
        Step.CLOCK,
        Step.BAUD,
    ),
)
