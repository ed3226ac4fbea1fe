"""The first token's entropy as a verifier."""

from __future__ import annotations

from typing import ClassVar

from router_models.estimators.verifiers.language_model.signal import SignalVerifier


class FirstTokenEntropyVerifier(SignalVerifier):
    """Calibrate the entropy of the answer's first token: σ(a·first_token_entropy + b).

    Parameters
    ----------
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    """

    family = "first-token-entropy"
    card = "needs the signal first_token_entropy: one token of the cheap model, which has read the prompt already"
    needs_signals: ClassVar[tuple[str, ...]] = ("first_token_entropy",)
    signal = "first_token_entropy"
    is_probability = False
