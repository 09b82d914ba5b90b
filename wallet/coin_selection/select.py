"""Choosing coins for a payment: every selector runs, the answer that wastes least wins, fees are exact to the virtual
byte."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from wallet.coin_selection.selectors import SELECTORS, Goal, Priced
from wallet.coin_selection.types import (
    MAX_STANDARD_WEIGHT,
    Candidate,
    InsufficientFunds,
    Request,
    Selection,
    TooManyInputs,
    fee_for_weight,
    output_weight,
    transaction_weight,
)

#: an answer so long that its input count takes more bytes may fall short: the target is raised and selectors run again
MAX_ROUNDS = 8


def select_coins(
    candidates: Iterable[Candidate],
    request: Request,
    rng: random.Random,
    *,
    selectors: Sequence[str] = tuple(SELECTORS),
) -> Selection:
    """The selection with the least waste. InsufficientFunds when no set of candidates pays for the
    request, TooManyInputs when none that does fits a standard transaction.

    The fee is at least the rate for the signed size, and exceeds it only by an excess too small to be worth a change
    output.
    """
    rate = request.fee_rate_sat_per_kvb
    pool = [p for p in (_price(coin, request) for coin in candidates) if p.effective > 0]
    forced = [_price(coin, request) for coin in request.must_spend]
    scripts = [out.script_pubkey for out in request.outputs]
    frame = transaction_weight([], scripts) + 2 + len(forced)
    base = request.payment + fee_for_weight(frame, rate) - sum(p.effective for p in forced)
    change_fee = fee_for_weight(output_weight(request.change_script), rate)
    best: Selection | None = None
    oversized = False
    shortfall = 0
    for _ in range(MAX_ROUNDS):
        exact = base + shortfall
        least_change = max(request.dust_limit, fee_for_weight(request.change_spend_weight, rate) + 1)
        goal = Goal(exact, request.cost_of_change, exact + change_fee + least_change)
        missing = 0
        for name in selectors:
            if exact <= 0 and forced:
                chosen: list[Priced] | None = []
            else:
                chosen = SELECTORS[name](pool, goal, rng)
            if chosen is None:
                continue
            answer = _finish(name, [*forced, *chosen], request)
            if isinstance(answer, int):
                missing = max(missing, answer)
            elif transaction_weight(answer.inputs, [*scripts, request.change_script]) > MAX_STANDARD_WEIGHT:
                oversized = True
            elif best is None or answer.waste < best.waste:
                best = answer
        if best is not None or not missing:
            break
        shortfall += missing
    if best is None and oversized:
        raise TooManyInputs
    if best is None:
        available = sum(p.coin.value for p in [*pool, *forced])
        raise InsufficientFunds(
            max(base + sum(p.coin.value - p.effective for p in pool), request.payment + 1), available
        )
    return best


def sweep(candidates: Iterable[Candidate], script_pubkey: bytes, rate_sat_per_kvb: int) -> Selection:
    """All candidates worth their own fee to one output: the fee leaves the amount. `total - fee` is what arrives."""
    coins = tuple(c for c in candidates if c.value > fee_for_weight(c.weight, rate_sat_per_kvb))
    fee = fee_for_weight(transaction_weight(coins, [script_pubkey]), rate_sat_per_kvb)
    total = sum(c.value for c in coins)
    if transaction_weight(coins, [script_pubkey]) > MAX_STANDARD_WEIGHT:
        raise TooManyInputs
    if not coins or total <= fee:
        raise InsufficientFunds(fee + 1, total)
    return Selection(coins, fee, None, 0, "sweep")


def _price(coin: Candidate, request: Request) -> Priced:
    now = -(-coin.weight * request.fee_rate_sat_per_kvb // 4000)
    later = -(-coin.weight * request.long_term_fee_rate_sat_per_kvb // 4000)
    return Priced(coin, coin.value - now, now - later)


def _finish(name: str, chosen: list[Priced], request: Request) -> Selection | int:
    """The selection that a set gives, with the exact fee; or by how many satoshi the set falls short."""
    rate = request.fee_rate_sat_per_kvb
    coins = tuple(p.coin for p in chosen)
    scripts = [out.script_pubkey for out in request.outputs]
    over = sum(c.value for c in coins) - request.payment
    fee_without = fee_for_weight(transaction_weight(coins, scripts), rate)
    fee_with = fee_for_weight(transaction_weight(coins, [*scripts, request.change_script]), rate)
    timing_waste = sum(p.waste for p in chosen)
    if over < fee_without:
        return fee_without - over
    change = over - fee_with
    spend_later = fee_for_weight(request.change_spend_weight, request.long_term_fee_rate_sat_per_kvb)
    excess = over - fee_without
    if change >= request.dust_limit and excess > fee_with - fee_without + spend_later:
        return Selection(coins, fee_with, change, timing_waste + request.cost_of_change, name)
    return Selection(coins, over, None, timing_waste + excess, name)
