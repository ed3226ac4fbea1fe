"""The risks that a certificate can bound, by name, and which bounds may be asked for."""

from __future__ import annotations

from router_models.errors import DataError

ACCEPTED_RISK = "P(wrong | cheap accepted)"
HARM = "cheap wrong and last tier right"
HARM_RISK = f"P({HARM} | cheap accepted)"
ANSWERED_RISK = "P(wrong | answered)"
ABSTAIN_RISK = "P(abstain)"
PRE_ROUTED = "routed cheap"
PRE_ROUTED_RISK = f"P(wrong | {PRE_ROUTED})"
PRE_ROUTED_HARM = f"P({HARM} | {PRE_ROUTED})"
PROMPT = "prompt"
"""Of what one row counts where rows are not grouped: a risk is an average over these."""


def check_budget(epsilon: float, delta: float) -> None:
    """Raise DataError unless 0 < ε < 1 and 0 < δ < 1."""
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < value < 1:
            raise DataError(f"{name} must lie strictly between 0 and 1, got {value!r}")


def check_acceptable(grade: float | None) -> None:
    """Raise DataError unless the grade from which on an answer counts as right lies in (0, 1]; None: right is 1."""
    if grade is not None and not 0 < grade <= 1:
        raise DataError(f"the grade from which on an answer is acceptable must lie in (0, 1], got {grade!r}")
