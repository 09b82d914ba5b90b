"""The chips, as data. docs/add-a-chip.md says how to add one."""

from __future__ import annotations

from miner.asic.bm13xx.models.bm1362 import BM1362
from miner.asic.bm13xx.models.bm1366 import BM1366
from miner.asic.bm13xx.models.bm1368 import BM1368
from miner.asic.bm13xx.models.bm1370 import BM1370
from miner.asic.bm13xx.models.bm1373 import BM1373
from miner.asic.bm13xx.models.bm1397 import BM1397
from miner.asic.bm13xx.models.model import ChipModel

MODELS: dict[str, ChipModel] = {model.name: model for model in (BM1397, BM1362, BM1366, BM1368, BM1370, BM1373)}
BY_CHIP_ID: dict[int, ChipModel] = {chip_id: model for model in MODELS.values() for chip_id in model.chip_ids}
