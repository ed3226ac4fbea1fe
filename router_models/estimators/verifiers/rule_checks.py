"""The rule-based answer checks as a verifier: refusal, hedging, truncation, loops, echo, shape, format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from router_models.estimators.verifiers.learned.combined import CombinedVerifier


class RuleChecksVerifier(CombinedVerifier):
    """Estimate P(acceptable) from `checks.check_columns` alone: no model, no logprobs, no embeddings.

    Parameters
    ----------
    sources : sequence of str
        As in `CombinedVerifier`.
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    """

    family = "rule-checks"
    card = "needs the answer's text; costs under a millisecond; finds what is visibly wrong, not what is false"
    needs_embeddings: ClassVar[bool] = False

    def __init__(self, sources: Sequence[str] = ("checks",), folds: int = 5, seed: int = 0) -> None:
        super().__init__(sources, folds, seed)
