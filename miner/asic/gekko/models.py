"""BM1384 and BM1387 as data (REFERENCE.md §1). What is 0 or empty is not known, or not theirs."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout
from miner.asic.bm13xx.pll import PllRules

_NO_PLL = PllRules(0, 0, 0.0, 0.0)  # their clock registers are the codec's business

BM1384 = ChipModel(
    name="bm1384",
    chip_ids=(0x1384,),
    core_byte=0,
    job_format=JobFormat.MIDSTATES,
    cores=55,
    sub_cores=1,
    units=55,
    pll=_NO_PLL,
    default_mhz=150.0,
    frequencies_mhz=(75, 100, 125, 150, 200, 250, 300, 400, 500),
    default_mv=0,
    voltages_mv=(0,),
    job_id_first=0x10,
    job_id_step=1,
    job_id_modulus=32,
    reply_id_mask=0x1F,
    reply_id_shift=0,
    sub_core_mask=0,
    nonce_layout=NonceLayout.FIRST_BYTE,
    hash_counting=0,
    counting_guard=0,
    baud=reg.UART_1M,
    host_baud=reg.BAUD_AT_RESET,
    start_up=(),
    midstates=1,
    counters=False,
)
BM1387 = ChipModel(
    name="bm1387",
    chip_ids=(0x1387,),
    core_byte=0,
    job_format=JobFormat.MIDSTATES,
    cores=114,
    sub_cores=4,
    units=114,
    pll=_NO_PLL,
    default_mhz=100.0,
    frequencies_mhz=(50, 100, 200, 300, 400, 500, 550, 600, 700),
    default_mv=0,
    voltages_mv=(0,),
    job_id_first=0x10,
    job_id_step=4,
    job_id_modulus=128,
    reply_id_mask=0x7C,
    reply_id_shift=0,
    sub_core_mask=0x03,
    nonce_layout=NonceLayout.FIRST_BYTE,
    hash_counting=0,
    counting_guard=0,
    baud=reg.UART_1M,
    host_baud=1_500_000,
    start_up=(),
    counters=False,
)
GEKKO_MODELS = {model.name: model for model in (BM1384, BM1387)}
