"""All chips that a chain driver speaks to, whatever their family."""

from __future__ import annotations

from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import ChainDriver, DriverOptions
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.gekko.driver import gekko_driver
from miner.asic.gekko.models import GEKKO_MODELS

CHIPS = {**MODELS, **GEKKO_MODELS}


def chip_named(name: str) -> ChipModel:
    """The chip of that name, in any case; UserError listing the names."""
    model = CHIPS.get(name.lower())
    if model is None:
        raise UserError(f"no chip is called {name!r}; known are {', '.join(CHIPS)}")
    return model


def driver_for(model: ChipModel | None, options: DriverOptions) -> ChainDriver:
    """The driver that speaks to that chip; None: a BM13xx that says which."""
    if model is not None and model.name in GEKKO_MODELS:
        return gekko_driver(model, options)
    return ChainDriver(model, options)
