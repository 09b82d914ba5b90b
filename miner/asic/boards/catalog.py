"""The boards known by name (REFERENCE.md §9)."""

from __future__ import annotations

from chain.primitives.errors import UserError
from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.models.bm1366 import BM1366
from miner.asic.bm13xx.models.bm1368 import BM1368
from miner.asic.bm13xx.models.bm1370 import BM1370
from miner.asic.bm13xx.models.bm1397 import BM1397
from miner.asic.bm13xx.models.model import FastRate
from miner.asic.boards.profile import BoardProfile, Control, RegulatorWiring
from miner.asic.boards.safety import SafetyLimits
from miner.asic.boards.sensors import Emc2101, Emc2302
from miner.asic.gekko.models import BM1384, BM1387

_WIRING_12V = RegulatorWiring(vin_on=11.5, vin_off=11.0, vin_over=14.8, vin_warn=11.0, scale_loop=0.125)
#: The bridge ends at 3,000,000 baud, below the 3,125,000 that other boards with a BM1397 run at (§9; gekko §1).
_FT231X_RATE = FastRate(reg.MISC_1M5_BM1397, 1_500_000)

_BOARDS = (
    BoardProfile(name="gekko-compac", title="GekkoScience Compac: 1 × BM1384", model=BM1384, chips=1),
    BoardProfile(name="gekko-2pac", title="GekkoScience 2Pac: 2 × BM1384", model=BM1384, chips=2, target_mhz=100.0),
    BoardProfile(name="gekko-newpac", title="GekkoScience NewPac: 2 × BM1387", model=BM1387, chips=2),
    BoardProfile(name="gekko-r606", title="GekkoScience R606: 12 × BM1387", model=BM1387, chips=12, target_mhz=550.0),
    BoardProfile(
        name="gekko-compacf",
        title="GekkoScience Compac F: 1 × BM1397",
        model=BM1397,
        chips=1,
        fast_rate=_FT231X_RATE,
        target_mhz=200.0,
    ),
    BoardProfile(
        name="gekko-r909",
        title="GekkoScience R909: 6 × BM1397",
        model=BM1397,
        chips=6,
        fast_rate=_FT231X_RATE,
        target_mhz=450.0,
    ),
    BoardProfile(
        name="bitaxe-ultra",
        title="Bitaxe Ultra 207 with bitaxe-raw firmware: 1 × BM1366",
        model=BM1366,
        chips=1,
        control=Control.BITAXE_RAW,
        fan=Emc2101(),
        regulator=RegulatorWiring(),
        limits=SafetyLimits(watts=25.0),
    ),
    BoardProfile(
        name="bitaxe-supra",
        title="Bitaxe Supra 402, 403 with bitaxe-raw firmware: 1 × BM1368",
        model=BM1368,
        chips=1,
        control=Control.BITAXE_RAW,
        fan=Emc2101(),
        regulator=RegulatorWiring(),
    ),
    BoardProfile(
        name="bitaxe-gamma",
        title="Bitaxe Gamma 600 to 603 with bitaxe-raw firmware: 1 × BM1370",
        model=BM1370,
        chips=1,
        control=Control.BITAXE_RAW,
        fan=Emc2101(ideality=0x24, beta=0x00),
        regulator=RegulatorWiring(),
    ),
    BoardProfile(
        name="bitaxe-gamma-duo",
        title="Bitaxe GammaDuo 650 with bitaxe-raw firmware: 2 × BM1370",
        model=BM1370,
        chips=2,
        control=Control.BITAXE_RAW,
        target_mhz=400.0,
        highest_mhz=410.0,
        fan=Emc2101(ideality=0x24, beta=0x00),
        regulator=RegulatorWiring(),
        limits=SafetyLimits(amps=35.0),
    ),
    BoardProfile(
        name="bitaxe-hex",
        title="Bitaxe Hex 302, 303 with bitaxe-raw firmware: 6 × BM1366",
        model=BM1366,
        chips=6,
        domains=3,
        chips_per_domain=2,
        control=Control.BITAXE_RAW,
        fan=Emc2302(),
        thermometers=(0x4A, 0x4B),
        thermometer_offset_c=10.0,
        regulator=_WIRING_12V,
        limits=SafetyLimits(watts=90.0),
    ),
    BoardProfile(
        name="bitaxe-supra-hex",
        title="Bitaxe SupraHex 701, 702 with bitaxe-raw firmware: 6 × BM1368",
        model=BM1368,
        chips=6,
        domains=3,
        chips_per_domain=2,
        control=Control.BITAXE_RAW,
        fan=Emc2302(),
        thermometers=(0x4A, 0x4B),
        thermometer_offset_c=10.0,
        regulator=_WIRING_12V,
        limits=SafetyLimits(watts=120.0, amps=32.0),
    ),
)
BOARDS = {board.name: board for board in _BOARDS}


def board_named(name: str) -> BoardProfile:
    """The board of that name; UserError lists the names."""
    found = BOARDS.get(name.lower())
    if found is None:
        raise UserError(f"there is no board {name!r}; known are {', '.join(BOARDS)}, or a TOML file that describes one")
    return found
