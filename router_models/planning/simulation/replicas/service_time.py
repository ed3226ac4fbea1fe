"""How long a call takes by its tokens: prefill less what a prefix cache spares, and decoding with speculation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_models.errors import DataError
from router_models.types import FloatArray


@dataclass(frozen=True, slots=True)
class Speculation:
    """Hold how decoding is speculated.

    Parameters
    ----------
    draft_tokens : int
        Tokens proposed a step, γ; at least 1.
    acceptance : float
        The chance α that a proposed token is accepted where those before it were, in [0, 1].
    draft_cost : float
        What a proposed token costs, as a part of a step of the engine without speculation; at least 0.
    """

    draft_tokens: int
    acceptance: float
    draft_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.draft_tokens < 1 or not 0 <= self.acceptance <= 1 or not self.draft_cost >= 0:
            raise DataError(f"speculation needs ≥ 1 draft tokens, acceptance in [0, 1] and a cost ≥ 0, found {self}")

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step yields on average: (1 − α^(γ+1)) / (1 − α).

        References
        ----------
        Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", 2023, equation 1.
        """
        if self.acceptance == 1:
            return self.draft_tokens + 1.0
        return float((1 - self.acceptance ** (self.draft_tokens + 1)) / (1 - self.acceptance))

    @property
    def speedup(self) -> float:
        """Tokens a second beside those without speculation; below 1 where it loses."""
        return self.tokens_per_step / (1 + self.draft_cost * self.draft_tokens)


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """Hold how fast one call runs, in an engine as full as it is going to be.

    Parameters
    ----------
    prefill_tokens_per_s, decode_tokens_per_s : float
        Prompt tokens computed, and answer tokens given, a second, for one call; above 0. That an engine slows down as
        its batch fills is not modelled: these are the rates at the batch that it is planned for.
    speculation : Speculation, optional
        None: one token a step.
    prefix_cached : float
        The share of prompt tokens that a prefix cache holds already, in [0, 1].
    before_s : float
        Seconds a call takes beside its tokens.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    speculation: Speculation | None = None
    prefix_cached: float = 0.0
    before_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.prefill_tokens_per_s > 0 and self.decode_tokens_per_s > 0 and self.before_s >= 0):
            raise DataError(f"an engine's rates must be above 0, found {self}")
        if not 0 <= self.prefix_cached <= 1:
            raise DataError(f"the share of cached prompt tokens lies in [0, 1], found {self.prefix_cached}")

    def seconds(self, prompt_tokens: FloatArray, answer_tokens: FloatArray) -> FloatArray:
        """Return the seconds that calls take.

        Parameters
        ----------
        prompt_tokens, answer_tokens : array of float
            Of each call.

        Returns
        -------
        array of float
            As many.
        """
        faster = 1.0 if self.speculation is None else self.speculation.speedup
        computed = prompt_tokens * (1 - self.prefix_cached) / self.prefill_tokens_per_s
        return np.asarray(self.before_s + computed + answer_tokens / (self.decode_tokens_per_s * faster))


def token_counts(mean: float, spread: float, n: int, seed: int) -> FloatArray:
    """Draw log-normal counts of tokens.

    Parameters
    ----------
    mean : float
        Of all that are drawn, at least 1.
    spread : float
        Their standard deviation as a multiple of the mean.
    n : int
        How many.
    seed : int
        Of the draw.

    Returns
    -------
    array of shape (n,)
        Each at least 1.
    """
    if not (mean >= 1 and spread >= 0):
        raise DataError(f"tokens need a mean ≥ 1 and a spread ≥ 0, found {mean} and {spread}")
    width = np.sqrt(np.log1p(spread**2))
    drawn = np.exp(np.random.default_rng(seed).normal(0.0, 1.0, n) * width)
    return np.asarray(np.maximum(1.0, mean * drawn / drawn.mean()))
