"""Frames, checksums, clocks and masks against captures of real chips and against worked examples."""

from __future__ import annotations

import pytest

from chain.crypto.hashes import sha256d
from miner.asic import crc
from miner.asic.bm13xx import pll, ticket_mask
from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.frames import (
    NonceReply,
    RegisterReply,
    ReplyDecoder,
    chain_inactive,
    chip_order,
    full_header_job,
    midstate_job,
    read_register,
    set_address,
    write_register,
)
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.registers import Register


def test_checksums_of_the_usual_check_string() -> None:
    assert crc.crc5(b"123456789") == 0x0F
    assert crc.crc16(b"123456789") == 0x29B1


BROADCAST_WRITES = (
    "A49000FFFF1C A48000FFFF18 A490001FFF15 A80007000003 18F000C10004 18FF0FC10000 18B000C10014"
    " 3C80008B0012 3C8000800C11 3C800080181F 3C800085400C 3C8000802019 3C8000800805 3C80008DEE1B"
    " 14000000FF08 54000000031D 540000000218 58000111110D 580211111106 B9000044800D 281130020003"
    " 28113000001E 28013000001A 1000001EB50F 14000080FF04 140000C0FF02 14000000FC07 14000000001C"
    " 80000000001C 840000000011 200000000102 3C8000807410 68C070011100 280600000F18 1800007A3115"
    " 180000603100 18000061311C 700F0F0F0019 084044022107 10000C2FB718 3C80008D0404 685AA55AA51C"
    " C4000000001F 288000000018 A8F00701F004 18FF00C1001C 190000000001 3C8000805A12 3C800082AA0D"
    " B0800000000F B0000200001F B00102000016 B0100200001B"
)

COMMANDS = [
    (read_register(0), "52 05 00 00 0A"),
    (chain_inactive(), "53 05 00 00 03"),
    *[
        (set_address(address), f"40 05 {address:02X} 00 {check:02X}")
        for address, check in {
            **{0x00: 0x1C, 0x02: 0x01, 0x04: 0x03, 0x06: 0x1E, 0x08: 0x07, 0x80: 0x10, 0x2A: 0x19, 0x54: 0x16},
            **{0x7E: 0x13, 0xA8: 0x08, 0xD2: 0x18, 0x10: 0x0F, 0x20: 0x1F, 0x40: 0x1A},
        }.items()
    ],
    *[
        (write_register(int(text[:2], 16), int(text[2:10], 16)), f"51 09 00 {text}")
        for text in BROADCAST_WRITES.split()
    ],
    (write_register(0x2C, 0x007C0003, 0), "41 09 00 2C 00 7C 00 03 03"),
    (write_register(0x2C, 0x004F0003, 0), "41 09 00 2C 00 4F 00 03 00"),
    (write_register(0xA8, 0x000701F0, 0), "41 09 00 A8 00 07 01 F0 15"),
    (write_register(0x18, 0xF000C100, 0), "41 09 00 18 F0 00 C1 00 0C"),
    *[
        (
            write_register(0x3C, 0x80008000 | int(value, 16), 0),
            f"41 09 00 3C 80 00 {0x8000 | int(value, 16):04X} {check}",
        )
        for value, check in {"B00": "1A", "00C": "19", "018": "17", "540": "04", "020": "11", "2AA": "05"}.items()
    ],
    (write_register(0x0C, 0x80000000, 0x00), "41 09 00 0C 80 00 00 00 1A"),
    (write_register(0x0C, 0x800003F1, 0x02), "41 09 02 0C 80 00 03 F1 03"),
    (write_register(0x0C, 0x8000FC10, 0x80), "41 09 80 0C 80 00 FC 10 06"),
    (write_register(0x58, 0x0001F111, 0x00), "41 09 00 58 00 01 F1 11 0C"),
    (write_register(0x58, 0x0001F111, 0x04), "41 09 04 58 00 01 F1 11 17"),
    (read_register(0xB4), "52 05 00 B4 1B"),
    *[
        (read_register(register), f"52 05 00 {register:02X} {check:02X}")
        for register, check in {0x4C: 0x14, 0x88: 0x09, 0x89: 0x0C, 0x8A: 3, 0x8B: 6, 0x8C: 0x1D, 0x04: 0x1E}.items()
    ],
]


@pytest.mark.parametrize(("frame", "expected"), COMMANDS, ids=[expected for _, expected in COMMANDS])
def test_commands_are_the_bytes_that_hosts_send(frame: bytes, expected: str) -> None:
    assert frame.hex() == "55aa" + expected.replace(" ", "").lower()


def decode(frame_hex: str) -> list[NonceReply | RegisterReply]:
    frame = bytes.fromhex(frame_hex)
    return ReplyDecoder(reply_size=len(frame)).receive_data(frame)


REPLIES = {
    "AA 55 13 70 00 00 00 00 00 00 10": RegisterReply(0x13700000, 0, 0),
    "AA 55 13 70 00 00 00 00 06": RegisterReply(0x13700000, 0, 0),
    "AA 55 13 97 18 00 00 00 06": RegisterReply(0x13971800, 0, 0),
    "AA 55 13 62 03 00 00 00 0D": RegisterReply(0x13620300, 0, 0),
    "AA 55 13 62 03 00 00 00 00 00 1E": RegisterReply(0x13620300, 0, 0),
    "AA 55 13 66 00 00 00 00 00 00 05": RegisterReply(0x13660000, 0, 0),
    "AA 55 13 68 00 00 00 00 00 00 0F": RegisterReply(0x13680000, 0, 0),
    "AA 55 13 72 00 00 00 00 17": RegisterReply(0x13720000, 0, 0),
    "AA 55 13 73 00 00 00 00 00 00 1E": RegisterReply(0x13730000, 0, 0),
    "AA 55 13 70 00 80 80 00 00 00 06": RegisterReply(0x13700080, 0x80, 0),
    "AA 55 13 66 00 2A 2A 00 00 00 19": RegisterReply(0x1366002A, 0x2A, 0),
    "AA 55 00 00 C1 00 00 18 02": RegisterReply(0x0000C100, 0, 0x18),
    "AA 55 80 00 08 0C 00 B4 00 00 1A": RegisterReply(0x8000080C, 0, 0xB4),
    "AA 55 00 01 E2 40 00 8C 00 00 10": RegisterReply(123456, 0, 0x8C),
    "AA 55 00 00 00 03 00 4C 00 00 09": RegisterReply(3, 0, 0x4C),
    "AA 55 00 04 27 0A 00 04 10": RegisterReply(0x0004270A, 0, 0x04),
    "AA 55 18 00 A6 40 02 99 22 F9 91": NonceReply(0x40A60018, 2, 0x99, 0x22F9),
    "AA 55 4C 03 52 75 0C D2 05 A2 9C": NonceReply(0x7552034C, 12, 0xD2, 0x05A2),
    "AA 55 6D B8 8E E1 01 04 03 54 94": NonceReply(0xE18EB86D, 1, 0x04, 0x0354),
    "AA 55 07 35 CD CF 02 5E 00 2E 96": NonceReply(0xCFCD3507, 2, 0x5E, 0x002E),
    "AA 55 46 03 32 E7 00 C3 2C 83 99": NonceReply(0xE7320346, 0, 0xC3, 0x2C83),
    "AA 55 7B 8D 81 60 02 55 00 85 81": NonceReply(0x60818D7B, 2, 0x55, 0x0085),
    "AA 55 32 2A 84 5A 02 52 01 B2 8C": NonceReply(0x5A842A32, 2, 0x52, 0x01B2),
    "AA 55 50 03 41 D6 00 81 18 01 9B": NonceReply(0xD6410350, 0, 0x81, 0x1801),
    "AA 55 9B 04 4C 0A 00 1A 94": NonceReply(0x0A4C049B, 0, 0x1A, None),
    "AA 55 D1 9E 02 0A 00 0C 81": NonceReply(0x0A029ED1, 0, 0x0C, None),
    "AA 55 47 89 6E 27 00 30 00 00 99": NonceReply(0x276E8947, 0, 0x30, 0),
    "AA 55 47 89 6E 27 00 18 00 00 9B": NonceReply(0x276E8947, 0, 0x18, 0),
    "AA 55 D1 9E 02 0A 02 30 00 00 87": NonceReply(0x0A029ED1, 2, 0x30, 0),
    "AA 55 D1 9E 02 0A 02 18 00 00 85": NonceReply(0x0A029ED1, 2, 0x18, 0),
}


@pytest.mark.parametrize("frame", REPLIES)
def test_captured_replies_decode(frame: str) -> None:
    assert decode(frame) == [REPLIES[frame]]


def test_nonces_name_their_chip_core_and_job() -> None:
    """The worked decodes of REFERENCE.md §12.4."""
    bm1370, bm1362 = MODELS["bm1370"], MODELS["bm1362"]
    assert (bm1370.core_of(0x40A60018), bm1370.job_id_of(0x99), 0x99 & bm1370.sub_core_mask) == (12, 0x48, 9)
    assert (bm1370.core_of(0x7552034C), bm1370.job_id_of(0xD2), 0xD2 & bm1370.sub_core_mask) == (38, 0x68, 2)
    assert (bm1362.core_of(0xE18EB86D), bm1362.job_id_of(0x04), 0x04 & bm1362.sub_core_mask) == (54, 0, 4)
    assert bm1362.chip_of(0xE18EB86D, 126) == 110


V1_HEADER = bytes.fromhex(
    "00000020fd55646bc162b96dfcd4f201a3f4670d1d3996bc96520100000000000000000006ddf5f08c36414b95ea54db71a0c28761a98bcf"
    "6355919e044f88725519a7cbd7685468043a021700000000"
)
V1_FRAME = """55 AA 21 56  68 01  00 00 00 00  04 3A 02 17  D7 68 54 68
    55 19 A7 CB  04 4F 88 72  63 55 91 9E  61 A9 8B CF  71 A0 C2 87  95 EA 54 DB  8C 36 41 4B  06 DD F5 F0
    00 00 00 00  00 00 00 00  96 52 01 00  1D 39 96 BC  A3 F4 67 0D  FC D4 F2 01  C1 62 B9 6D  FD 55 64 6B
    00 00 00 20  72 1C"""


def test_a_captured_job_and_its_share() -> None:
    """A Bitaxe Gamma's job and the share it returned, which a pool accepted (§11.1)."""
    assert full_header_job(V1_HEADER, 0x68) == bytes.fromhex(V1_FRAME)
    assert full_header_job(V1_HEADER, 0x68, length_byte=0x36)[-2:].hex() == "5658"
    (reply,) = decode("AA 55 4C 03 52 75 0C D2 05 A2 9C")
    assert isinstance(reply, NonceReply)
    assert reply.version_field is not None
    version = 0x20000000 | reply.version_field << 13
    header = version.to_bytes(4, "little") + V1_HEADER[4:76] + reply.nonce.to_bytes(4, "little")
    assert sha256d(header)[::-1].hex() == "0000000000023704cface997bcf7388694ea43dae96c51d80658687a7d8827fe"


def header_from_stratum(version: int, prev_hash: str, merkle_root: str, time: int, nbits: int) -> bytes:
    words = bytes.fromhex(prev_hash)
    internal = b"".join(words[at : at + 4][::-1] for at in range(0, 32, 4))
    return b"".join(
        [
            version.to_bytes(4, "little"),
            internal,
            bytes.fromhex(merkle_root),
            time.to_bytes(4, "little"),
            nbits.to_bytes(4, "little"),
            bytes(4),
        ]
    )


V2_HEADER = header_from_stratum(
    0x20000004,
    "d02b10fc0d4711eae1a805af50a8a83312a2215e00017f2b0000000000000000",
    "6d0359c451434605c52a5a9ce074340be47c2c63840731f9edf1db3f26b1cdd9",
    0x646FF1A9,
    0x1705AE3A,
)
V3_HEADER = header_from_stratum(
    0x20000004,
    "0c859545a3498373a57452fac22eb7113df2a465000543520000000000000000",
    "5bdc1968499c3393873edf8e07a1c3a50a97fc3a9d1a376bbf77087dd63778eb",
    0x647025B5,
    0x1705AE3A,
)


def test_jobs_with_known_answers() -> None:
    assert full_header_job(V2_HEADER, 0x18).hex().upper() == (
        "55AA21561801000000003AAE0517A9F16F6426B1CDD9EDF1DB3F840731F9E47C2C63E074340BC52A5A9C514346056D0359C4"
        "00000000000000002B7F01005E21A21233A8A850AF05A8E1EA11470DFC102BD0040000209B57"
    )
    assert full_header_job(V3_HEADER, 0x18).hex().upper() == (
        "55AA21561801000000003AAE0517B5257064D63778EBBF77087D9D1A376B0A97FC3A07A1C3A5873EDF8E499C33935BDC1968"
        "00000000000000005243050065A4F23D11B72EC2FA5274A5738349A34595850C04000020ABF4"
    )
    assert full_header_job(V3_HEADER, 0x18, length_byte=0x36)[-2:].hex().upper() == "8FB0"


def test_job_checksum_of_another_capture() -> None:
    data = bytes.fromhex(
        "2156180100000000 38FA0117 DC17D668 1516AB3D 1642BB1F E2E2377F 8AC583E5 DA996C6B C7053EAE 564B0203 CC4ED237"
        " 00000000 00000000 A25C0000 A1E7AB5E 5F2446A3 5F9CBBEA 3F5316E5 4E3993DE 00000020".replace(" ", "")
    )
    assert crc.crc16(data) == 0x6B18


def test_midstate_jobs() -> None:
    """One and four midstates, the worked examples of §11.2 and the BM1397 form of §18's third job."""
    tail = bytes.fromhex("C604A846 D88B6564 01DD0517")
    state = chip_order(bytes.fromhex("4D3185F25F7D5DE0E3591741CB21CAE11574DDD65D490D3D68739F8A52EADF91"))
    assert state.hex().startswith("52eadf91")
    short = midstate_job(tail, [state], 0x04)
    assert short.hex().upper() == (
        "55AA213604010000000001DD0517D88B6564C604A846"
        "4D3185F25F7D5DE0E3591741CB21CAE11574DDD65D490D3D68739F8A52EADF9100F1"
    )
    padded = midstate_job(tail, [state, *[bytes(32)] * 3], 0x04)
    assert padded[:6].hex() == "55aa21960404"
    assert padded[-2:].hex() == "6b1d"


BM1370_CLOCKS = [
    ("bm1397", 56.25, "403F0272", 0x03),
    ("bm1397", 62.5, "403C0262", 0x14),
    ("bm1397", 400, "40400221", 0x08),
    ("bm1397", 425, "40440221", 0x07),
    ("bm1397", 450, "40480221", 0x16),
    ("bm1397", 485, "40C20251", 0x07),
    ("bm1397", 500, "40500221", 0x11),
    ("bm1397", 600, "40600221", 0x1F),
    ("bm1366", 56.25, "40BD0265", 0x01),
    ("bm1366", 62.5, "40960254", 0x0B),
    ("bm1366", 100, "40900252", 0x0F),
    ("bm1366", 200, "40A00241", 0x14),
    ("bm1368", 400, "40A00240", 0x11),
    ("bm1368", 450, "40900230", 0x13),
    ("bm1366", 485, "50C20240", 0x1C),
    ("bm1368", 490, "50C40240", 0x06),
    ("bm1366", 500, "40A00230", 0x1D),
    ("bm1366", 575, "40B80230", 0x1A),
    ("bm1370", 56.25, "40BD0265", 0x01),
    ("bm1370", 62.5, "40AF0264", 0x08),
    ("bm1370", 68.75, "40A50254", 0x08),
    ("bm1370", 75, "40A80263", 0x11),
    ("bm1373", 327, "40B70260", 0x1B),
    ("bm1370", 350, "40A80250", 0x15),
    ("bm1370", 400, "40A00240", 0x11),
    ("bm1370", 490, "50C40240", 0x06),
    ("bm1370", 525, "40A80230", 0x03),
    ("bm1370", 550, "40B00230", 0x04),
    ("bm1370", 600, "50C00230", 0x05),
    ("bm1370", 625, "50C80230", 0x1B),
]


@pytest.mark.parametrize(("chip", "mhz", "value", "check"), BM1370_CLOCKS)
def test_clock_settings(chip: str, mhz: float, value: str, check: int) -> None:
    """The frequencies that hosts set and the bytes they send (§8.3)."""
    rules = MODELS[chip].pll
    setting = pll.find(mhz, rules)
    assert f"{setting.register_value(rules):08X}" == value
    assert pll.decode(int(value, 16), rules) == setting
    assert write_register(Register.PLL0, int(value, 16))[-1] == check


def test_clock_captures_of_other_hosts_decode() -> None:
    """Emulators and read-backs meet dividers chosen by other rules (§8.4)."""
    rules = MODELS["bm1370"].pll
    for value, mhz in {0x50D20265: 62.5, 0x50C40263: 87.5, 0x50E00263: 100, 0x40A20255: 56.25, 0xD0C00230: 600}.items():
        assert pll.decode(value, rules).frequency_mhz == mhz


def test_no_option_drives_an_oscillator_out_of_its_range() -> None:
    """Hosts that look only at the frequency run a BM1370's oscillator at 5.7 GHz for 380 MHz (§8.3)."""
    for model in MODELS.values():
        for mhz in (*model.frequencies_mhz, *pll.ramp(50, model.default_mhz)):
            setting = pll.find(mhz, model.pll)
            assert model.pll.oscillator_min_mhz <= setting.oscillator_mhz <= model.pll.oscillator_max_mhz
            assert abs(setting.frequency_mhz - mhz) < 0.6, (model.name, mhz)


def test_ramp_goes_by_steps_to_the_exact_target() -> None:
    assert pll.ramp(50, 75) == [56.25, 62.5, 68.75, 75]
    assert pll.ramp(50, 485)[-3:] == [475.0, 481.25, 485]
    assert pll.ramp(100, 82) == [93.75, 87.5, 82]
    assert pll.ramp(500, 503) == [503]
    assert pll.ramp(500, 500) == [500]


def test_ticket_masks() -> None:
    """Register values of §7."""
    for difficulty, value in {
        **{1: 0, 2: 0x80, 4: 0xC0, 8: 0xE0, 16: 0xF0, 32: 0xF8, 64: 0xFC, 128: 0xFE, 256: 0xFF, 512: 0x80FF},
        **{1024: 0xC0FF, 4096: 0xF0FF, 8192: 0xF8FF, 65536: 0xFFFF, 1 << 20: 0xF0FFFF},
    }.items():
        assert ticket_mask.register_value(difficulty) == value
        assert ticket_mask.difficulty_of(value) == difficulty
    assert [ticket_mask.floor_power_of_two(d) for d in (0.3, 1, 1.9, 255.9, 256, 1000)] == [1, 1, 1, 128, 256, 512]
    share = bytes.fromhex("0000000000023704cface997bcf7388694ea43dae96c51d80658687a7d8827fe")
    assert [ticket_mask.passes(ticket_mask.register_value(1 << k), share) for k in (8, 14, 15)] == [True, True, False]


def test_hash_counting_numbers() -> None:
    """§14.2, and the whole-slice values that hosts compute."""
    for chip, mhz, chips, value in (
        ("bm1370", 525, 1, 0x000C2FB7),
        ("bm1370", 400, 2, 0x0007FEF4),
        ("bm1366", 485, 1, 0x000D3224),
        ("bm1366", 485, 6, 0x0001A644),
        ("bm1368", 490, 1, 0x000D0FAC),
        ("bm1373", 327, 3, 0x1EB5),
    ):
        model = MODELS[chip]
        assert model.hash_counting_number(pll.find(mhz, model.pll), chips) == value


def test_nonce_offsets_are_the_makers() -> None:
    offsets = [MODELS["bm1370"].nonce_offset(index, 65) for index in range(65)]
    assert (offsets[0], offsets[1], offsets[-1]) == (0, 0x03F1, 0xFC10)


def test_wheels_of_job_ids() -> None:
    assert MODELS["bm1370"].job_ids()[:6] == [0x18, 0x30, 0x48, 0x60, 0x78, 0x10]
    for model in MODELS.values():
        ids = model.job_ids()
        assert len(ids) == len(set(ids)) == (32 if model.name == "bm1397" else 16)


def test_temperature_of_a_captured_register() -> None:
    measured = reg.celsius(0x8000080C)
    assert measured is not None
    assert round(measured, 2) == 53.45
    assert reg.celsius(0x0000080C) is None
    assert reg.temperature_value(53.45) == 0x8000080C


def test_every_written_value_names_its_source() -> None:
    settings = [value for value in vars(reg).values() if isinstance(value, reg.Setting)]
    assert len(settings) > 30
    assert all(setting.section.startswith("§") and setting.meaning for setting in settings)
    assert set(reg.REGISTERS) == set(Register)
