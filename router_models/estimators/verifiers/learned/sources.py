"""The columns of a combined verifier: one pure function per source of evidence.

A source that is absent from a batch yields nothing (the checks, where no answer has a text); `fit` settles which ones
a verifier uses, and their absence later is an error, never a silent default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.data.features import SURFACE_NAMES, surface_features
from router_models.errors import DataError
from router_models.estimators.verifiers.base import signals_of
from router_models.estimators.verifiers.checks.checks import CHECK_COLUMNS, check_columns
from router_models.estimators.verifiers.learned.logistic import logit
from router_models.estimators.verifiers.learned.logprob import LOGPROB_COLUMNS, logprob_columns
from router_models.types import Answers, FloatArray
from router_models.types.exchange import LOGPROB_NAMES, verifier_of

PROBABILITY_SIGNALS = (
    "router_score", "p_yes", "p_true", "self_verification", "agreement", "last_tier_verdict", "max_token_confidence",
    "stated_confidence",
)  # fmt: skip
"""Signals in [0, 1] that enter as log-odds (and missing or not)."""

NUMBER_SIGNALS = (
    "reward", "first_token_entropy", "last_tier_likelihood", "schema_fault", "tool_fault", "field_agreement",
)  # fmt: skip
"""Signals that enter as they are (and missing or not); so does every verifier model's score."""

SOURCES = ("logprob", "signals", "checks", "surface", "text", "embedding")

DEFAULT_SOURCES = ("logprob", "signals", "checks", "text", "embedding")
"""All but `surface`: beside the checks and the words its columns lost AUC everywhere it was tried (.7608 to .7584 on
multiple choice, .728 to .708 on task families not seen in training)."""


def available(X: Answers, sources: Sequence[str]) -> tuple[str, ...]:
    """Return those of `sources` that this batch holds, in order; DataError for none or an unknown name."""
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
        raise DataError(f"no source {', '.join(unknown)}; known: {', '.join(SOURCES)}")
    has = {
        "logprob": all(name in X.signals for name in LOGPROB_NAMES),
        "signals": bool(signals_in(X)),
        "checks": any(text.strip() for text in X.texts),
        "surface": True,
        "text": True,
        "embedding": X.prompts.embeddings is not None,
    }
    found = tuple(name for name in sources if has[name])
    if not found:
        raise DataError(f"the batch holds none of the sources {', '.join(sources)}")
    return found


def signals_in(X: Answers) -> tuple[str, ...]:
    """Return the known non-logprob signals with at least one measured value in this batch."""
    models = sorted(name for name in X.signals if verifier_of(name) is not None)
    names = (*PROBABILITY_SIGNALS, *NUMBER_SIGNALS, *models)
    return tuple(name for name in names if name in X.signals and np.isfinite(X.signals[name]).any())


def signal_columns(X: Answers, names: Sequence[str]) -> FloatArray:
    """Return columns (n, 2 · len(names)): each signal (log-odds of a probability, NaN = missing), then its absence."""
    raw = signals_of(X, tuple(names))
    missing = ~np.isfinite(raw)
    values = [logit(raw[:, i]) if name in PROBABILITY_SIGNALS else raw[:, i] for i, name in enumerate(names)]
    columns = np.concatenate([*(column[:, None] for column in values), missing], axis=1) if values else raw
    columns[:, : len(values)][missing] = np.nan
    return columns


def plain_columns(X: Answers, source: str, signals: Sequence[str]) -> FloatArray:
    """Return the columns (n, k) of a source; none for `text` and `embedding`, which are learned first."""
    if source == "logprob":
        return logprob_columns(X)
    if source == "signals":
        return signal_columns(X, signals)
    if source == "checks":
        return check_columns(X)
    if source == "surface":
        return surface_features(X.prompts.texts)
    return np.empty((len(X), 0), dtype=np.float64)


def plain_names(source: str, signals: Sequence[str]) -> list[str]:
    """Return the names of `plain_columns`, for reports and for refusing a state made from other columns."""
    if source == "signals":
        return [*signals, *(f"{name}_missing" for name in signals)]
    names = {"logprob": LOGPROB_COLUMNS, "checks": CHECK_COLUMNS, "surface": SURFACE_NAMES}
    return list(names.get(source, ()))
