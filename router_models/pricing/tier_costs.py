"""Compute what a tier's calls cost and how long they take, from recorded values or from stated assumptions.

Nothing is filled in silently: where a table has no tokens or latencies and no assumption is given, DataError names
what to record or assume; the `…_basis` fields say which of the two a figure rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.types import FloatArray, Usage


@dataclass(frozen=True, slots=True)
class TierCosts:
    """Hold a tier's prices, and the assumptions for what is not recorded.

    Parameters
    ----------
    price : Price
        The tier's prices.
    batch_factor : float
        Multiplies the price of batched traffic; 0.5 = half price. In [0, 1].
    batch_share : float
        The share of traffic that may wait for a batch, in [0, 1].
    token_ratio : float
        This tier's tokens per assumed token (tokenizers differ); recorded counts are not changed.
    chars_per_token : float, optional
        Converts characters of prompts and answers to tokens.
    input_tokens, output_tokens : float, optional
        Tokens of every call.
    cached_share : float, optional
        The share of the prompt that is read from a cache, in [0, 1]; it replaces recorded counts.
    latency_p50_s, latency_p95_s : float, optional
        Seconds; both or neither.

    Raises
    ------
    DataError
        For values outside these ranges.
    """

    price: Price
    batch_factor: float = 1.0
    batch_share: float = 0.0
    token_ratio: float = 1.0
    chars_per_token: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cached_share: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch_factor", "batch_share", "cached_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"{name} must lie in [0, 1], found {value}")
        for name in ("token_ratio", "chars_per_token"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise DataError(f"{name} must be a finite number > 0, found {value}")
        for name in ("input_tokens", "output_tokens", "latency_p50_s", "latency_p95_s"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise DataError(f"{name} must be a finite number ≥ 0, found {value}")
        if (self.latency_p50_s is None) != (self.latency_p95_s is None):
            raise DataError("assume both latency_p50_s and latency_p95_s, or neither")
        p50, p95 = self.latency_p50_s, self.latency_p95_s
        if p50 is not None and p95 is not None and not 0 < p50 <= p95:
            raise DataError(f"latencies need 0 < p50 ≤ p95, found {p50} and {p95}")

    @property
    def batch_multiplier(self) -> Decimal:
        """Return the factor on the price of the average call that comes from batching part of the traffic."""
        return (1 - Decimal(str(self.batch_share)) * (1 - Decimal(str(self.batch_factor)))).normalize()


@dataclass(frozen=True, slots=True)
class Calls:
    """Hold one tier's n calls.

    Parameters
    ----------
    usage : tuple of Usage
        Tokens of each call.
    usd : array of float, (n,)
        US dollars of each call.
    seconds : array of float, (n,), optional
        Seconds of each call; None where latencies are neither recorded nor assumed.
    tokens_basis, seconds_basis : str
        Whether tokens and seconds are recorded or assumed, in words.
    """

    usage: tuple[Usage, ...]
    usd: FloatArray
    seconds: FloatArray | None
    tokens_basis: str
    seconds_basis: str


def calls_of(table: OutcomeTable, tier: str, terms: TierCosts, seed: int = 0) -> Calls:
    """Compute tokens, cost and time of every prompt of a table at one tier.

    Parameters
    ----------
    table : OutcomeTable
        n prompts.
    tier : str
        The tier.
    terms : TierCosts
        Its prices and assumptions.
    seed : int
        Orders assumed latencies.

    Returns
    -------
    Calls

    Raises
    ------
    DataError
        Where tokens are neither recorded nor assumed.
    """
    table.grade(tier)
    sent, sent_basis = _tokens(table, tier, terms, "prompt")
    made, made_basis = _tokens(table, tier, terms, "completion")
    cached = _cached(table, tier, terms, sent)
    usage = tuple(Usage(int(p), int(c), int(k)) for p, c, k in zip(sent, made, cached, strict=True))
    factor = terms.batch_multiplier
    usd = np.array([float(terms.price.cost(u) * factor) for u in usage], dtype=np.float64)
    seconds, seconds_basis = _seconds(table, tier, terms, seed)
    tokens_basis = sent_basis if sent_basis == made_basis else f"prompt {sent_basis}, answer {made_basis}"
    return Calls(usage, usd, seconds, tokens_basis, seconds_basis)


def token_ratio_recorded(table: OutcomeTable, tier: str, reference: str) -> float | None:
    """Return how many tokens one tier's tokenizer needs per token of another's; None where not recorded."""
    if tier not in table.prompt_tokens or reference not in table.prompt_tokens:
        return None
    return float(np.nansum(table.prompt_tokens[tier]) / max(np.nansum(table.prompt_tokens[reference]), 1.0))


def check_ladder(usd: Mapping[str, FloatArray], right: Mapping[str, FloatArray], cheap: str, frontier: str) -> None:
    """Raise DataError where trying the cheap tier first cannot save: a free frontier, or a cheap tier not cheaper.

    Parameters
    ----------
    usd : mapping of str to array of float, (n,)
        The price of every call, by tier.
    right : mapping of str to array of float, (n,)
        Grades, by tier.
    cheap, frontier : str
        The two tiers.
    """
    cost = {tier: float(values.mean()) for tier, values in usd.items()}
    good = {tier: float(values.mean()) for tier, values in right.items()}
    if cost[frontier] == 0:
        raise DataError(f"{frontier!r} costs nothing at these prices: there is nothing to save; check the prices")
    if cost[cheap] < cost[frontier]:
        return
    found = (
        f"{cheap!r} is named as the weak tier but costs ${cost[cheap]:.3g} a call and {frontier!r} "
        f"${cost[frontier]:.3g}; right {good[cheap]:.1%} against {good[frontier]:.1%}"
    )
    if good[cheap] <= good[frontier]:
        raise DataError(f"{found}: it is dearer and no better. Serve {frontier!r} alone, or check the prices.")
    raise DataError(f"{found}: it is the dearer and the better one. Name the tiers the other way round.")


def _tokens(table: OutcomeTable, tier: str, terms: TierCosts, what: str) -> tuple[FloatArray, str]:
    recorded = (table.prompt_tokens if what == "prompt" else table.completion_tokens).get(tier)
    if recorded is not None and np.isfinite(recorded).all():
        return recorded, "recorded"
    assumed = terms.input_tokens if what == "prompt" else terms.output_tokens
    if assumed is not None:
        total = assumed * terms.token_ratio
        ratio = "" if terms.token_ratio == 1 else f" × {terms.token_ratio:g}"
        return np.full(len(table), round(total), dtype=np.float64), f"assumed: {assumed:g} tokens{ratio}"
    chars = _characters(table, tier, what)
    if terms.chars_per_token is not None and chars is not None:
        basis = f"assumed: characters / {terms.chars_per_token:g}"
        basis += "" if terms.token_ratio == 1 else f" × {terms.token_ratio:g}"
        return np.ceil(chars / terms.chars_per_token * terms.token_ratio), basis
    name = "input" if what == "prompt" else "output"
    gaps = "no" if recorded is None else "gaps in the"
    raise DataError(
        f"{gaps} {what}_tokens of tier {tier!r}: record them, or assume {name} tokens per call"
        + ("" if chars is None else " or characters per token")
    )


def _characters(table: OutcomeTable, tier: str, what: str) -> FloatArray | None:
    if what == "prompt":
        return np.array([len(text) for text in table.prompts.texts], dtype=np.float64)
    answers = table.answers_of(tier)
    counted = answers.signals.get("outchars")
    if counted is not None and np.isfinite(counted).all():
        return counted
    return np.array([len(t) for t in answers.texts], dtype=np.float64) if any(answers.texts) else None


def _cached(table: OutcomeTable, tier: str, terms: TierCosts, sent: FloatArray) -> FloatArray:
    recorded = table.cached_tokens.get(tier)
    if terms.cached_share is not None:
        return np.floor(sent * terms.cached_share)
    return np.zeros(len(sent)) if recorded is None else np.nan_to_num(recorded)


def _seconds(table: OutcomeTable, tier: str, terms: TierCosts, seed: int) -> tuple[FloatArray | None, str]:
    recorded = table.latency_s.get(tier)
    if recorded is not None and np.isfinite(recorded).all() and (recorded > 0).any():
        return recorded, "recorded"
    if terms.latency_p50_s is None or terms.latency_p95_s is None:
        return None, "not known"
    basis = f"assumed: lognormal, p50 {terms.latency_p50_s:g} s, p95 {terms.latency_p95_s:g} s"
    return lognormal_seconds(terms.latency_p50_s, terms.latency_p95_s, len(table), seed), basis


def lognormal_seconds(p50_s: float, p95_s: float, n: int, seed: int) -> FloatArray:
    """Return latencies at evenly spaced quantiles of a lognormal distribution, in a seeded order.

    Parameters
    ----------
    p50_s, p95_s : float
        Its median and 95th percentile, in seconds.
    n : int
        How many.
    seed : int
        Orders them.

    Returns
    -------
    array of float, (n,)
    """
    from scipy.special import ndtri

    places = np.random.default_rng(seed).permutation((np.arange(n) + 0.5) / n)
    spread = np.log(p95_s / p50_s) / ndtri(0.95)
    return np.asarray(p50_s * np.exp(spread * ndtri(places)), dtype=np.float64)
