"""Verification by the last tier's reading of a cheaper answer, which costs its input price: a verdict, a likelihood.

The signals are asked for by `estimators.asked_signals`; the verifiers here calibrate each alone.
"""

from __future__ import annotations

from typing import ClassVar

from router_models.estimators.verifiers.language_model.signal import SignalVerifier


class LastTierVerdictVerifier(SignalVerifier):
    """Calibrate the last tier's P(True) of a cheaper answer: σ(a·logit(last_tier_verdict) + b).

    Parameters
    ----------
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    """

    family = "last-tier-verdict"
    card = "needs the signal last_tier_verdict: one token of the last tier, which reads conversation and answer"
    needs_signals: ClassVar[tuple[str, ...]] = ("last_tier_verdict",)
    signal = "last_tier_verdict"


class LastTierLikelihoodVerifier(SignalVerifier):
    """Calibrate the mean logprob that the last tier gives a cheaper answer: σ(a·last_tier_likelihood + b).

    Parameters
    ----------
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    """

    family = "last-tier-likelihood"
    card = "needs the signal last_tier_likelihood: the last tier reads conversation and answer and writes nothing"
    needs_signals: ClassVar[tuple[str, ...]] = ("last_tier_likelihood",)
    signal = "last_tier_likelihood"
    is_probability = False
