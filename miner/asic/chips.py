"""All chips that can be driven, whatever their family."""

from __future__ import annotations

from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import ChainDriver, DriverOptions
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.models.model import ChipModel


def chip_named(name: str) -> ChipModel:
    """The chip of that name, in any case; UserError listing the names."""
    model = MODELS.get(name.lower())
    if model is None:
        raise UserError(f"no chip is called {name!r}; known are {', '.join(MODELS)}")
    return model


def driver_for(model: ChipModel | None, options: DriverOptions) -> ChainDriver:
    """The driver that speaks to that chip; None: a BM13xx that says which."""
    return ChainDriver(model, options)
