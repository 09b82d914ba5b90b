"""BM1368 (REFERENCE.md §15.3). The only part whose die reports its temperature."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout, Step, ToAll, ToEach
from miner.asic.bm13xx.pll import PllRules

BM1368 = ChipModel(
    name="bm1368",
    chip_ids=(0x1368,),
    core_byte=0x00,
    job_format=JobFormat.FULL_HEADER,
    cores=80,
    sub_cores=16,
    units=1276,
    pll=PllRules(0x90, 0xEB, 1600.0, 3200.0),
    default_mhz=490.0,
    frequencies_mhz=(400, 425, 450, 475, 485, 490, 500, 525, 550, 575),
    default_mv=1166,
    voltages_mv=(1100, 1150, 1166, 1200, 1250, 1300),
    job_id_first=0x18,
    job_id_step=0x18,
    job_id_modulus=128,
    reply_id_mask=0xF0,
    reply_id_shift=1,
    sub_core_mask=0x0F,
    nonce_layout=NonceLayout.ADDRESS,
    hash_counting=None,
    counting_guard=0,
    baud=reg.UART_1M,
    host_baud=1_000_000,
    temperature=True,
    start_up=(
        *(ToAll(reg.ROLL_ALL_VERSION_BITS) for _ in range(4)),
        Step.COUNT,
        Step.INACTIVE,
        ToAll(reg.SOFT_RESET_DEFAULT),
        ToAll(reg.REPORTS_BM1366),
        ToAll(reg.CLOCK_SELECT),
        ToAll(reg.CLOCK_DELAY_BM1368),
        Step.TICKET_MASK,
        ToAll(reg.ANALOG_MUX_DEFAULT),
        ToAll(reg.DRIVE_STRENGTH_BM1366),
        Step.ASSIGN,
        ToEach(
            (
                reg.SOFT_RESET_CORES,
                reg.REPORTS_ALL_CORES,
                reg.CLOCK_SELECT,
                reg.CLOCK_DELAY_BM1368,
                reg.CORE_ENABLE,
            ),
            pause_s=0.5,
        ),
        Step.TICKET_MASK,
        *(ToAll(setting, 0.01) for setting in reg.TEMPERATURE_SENSOR_ON),
        Step.CLOCK,
        Step.HASH_COUNTING,
        Step.VERSION_MASK,
        Step.BAUD,
    ),
)
