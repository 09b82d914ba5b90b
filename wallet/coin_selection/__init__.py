"""Coin selection: which coins pay, what the fee is, what comes back as change."""

from __future__ import annotations

from wallet.coin_selection.select import select_coins, sweep
from wallet.coin_selection.selectors import SELECTORS
from wallet.coin_selection.types import (
    INPUT_WEIGHTS,
    Candidate,
    InsufficientFunds,
    Request,
    Selection,
    TooManyInputs,
    dust_threshold,
    fee_for_weight,
    output_weight,
    transaction_weight,
)

__all__ = [
    "INPUT_WEIGHTS",
    "SELECTORS",
    "Candidate",
    "InsufficientFunds",
    "Request",
    "Selection",
    "TooManyInputs",
    "dust_threshold",
    "fee_for_weight",
    "output_weight",
    "select_coins",
    "sweep",
    "transaction_weight",
]
