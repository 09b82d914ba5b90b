"""BM1372 and BM1373, treated as one part; known from a single host (REFERENCE.md §5.3, §15.5)."""

from __future__ import annotations

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout, Step, ToAll, ToDomainEnds
from miner.asic.bm13xx.pll import PllRules

BM1373 = ChipModel(
    name="bm1373",
    chip_ids=(0x1373, 0x1372),
    core_byte=0x00,
    job_format=JobFormat.FULL_HEADER,
    cores=128,
    sub_cores=16,
    units=6725,
    pll=PllRules(0xA0, 0xEF, 1600.0, 3200.0),
    default_mhz=327.0,
    frequencies_mhz=(327, 350, 375, 380, 400, 410),
    default_mv=1000,
    voltages_mv=(1000, 1060, 1100, 1150, 1200, 1250),
    job_id_first=0x18,
    job_id_step=0x18,
    job_id_modulus=128,
    reply_id_mask=0xF0,
    reply_id_shift=1,
    sub_core_mask=0x0F,
    nonce_layout=NonceLayout.ADDRESS,
    hash_counting=0x1EB5,
    counting_guard=0,
    baud=reg.UART_3M_BM1373,
    host_baud=3_000_000,
    assign_stride=0x10,
    command_shift=2,
    start_up=(
        Step.COUNT,
        Step.INACTIVE,
        Step.ASSIGN,
        ToAll(reg.NONCE_BIN_OVERFLOW_BM1373),
        Step.TICKET_MASK,
        ToAll(reg.DRIVE_STRENGTH),
        ToDomainEnds(reg.DRIVE_STRENGTH_DOMAIN_END),
        ToAll(reg.RING_OSCILLATOR_OFF, 0.01),
        ToAll(reg.AUTO_WORK_OFF),
        Step.BAUD,
        ToAll(reg.SOFT_RESET_BM1373, 0.02),
        ToAll(reg.REPORTS_BM1373, 0.01),
        ToAll(reg.MISC_ADD_BM1373, 0.01),
        ToAll(reg.CLOCK_SELECT, 0.01),
        ToAll(reg.CLOCK_DELAY_BM1373, 0.01),
        ToAll(reg.CORE_ENABLE, 0.01),
        ToAll(reg.ANALOG_MUX_DIODE),
        Step.CLOCK,
        Step.HASH_COUNTING,
        Step.VERSION_MASK,
    ),
)
