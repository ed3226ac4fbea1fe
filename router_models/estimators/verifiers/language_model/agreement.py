"""Self-consistency: the share of k samples of one question that agree with the answer (Wang et al., arXiv 2203.11171).

Pure functions over texts give a share in (0, 1), the signal `agreement`; `AgreementVerifier` calibrates it. The
answer is compared with samples drawn at a temperature above 0; equal texts at temperature 0 carry no information.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from router_models.errors import DataError
from router_models.estimators.verifiers.language_model.signal import SignalVerifier

Match = Callable[[str, str], bool]

AGREEMENT_CHARS = 4000

_NUMBER = re.compile(r"[-+−]?\d[\d,. ]*")


def normalised(text: str) -> str:
    """Normalise case, Unicode form, outer punctuation, markdown emphasis and blanks; drop a leading article."""
    folded = " ".join(unicodedata.normalize("NFKC", text[:AGREEMENT_CHARS]).casefold().replace("*", "").split())
    return re.sub(r"^(?:the|an?|der|die|das|el|la|los|las) ", "", folded.strip(" .!?\"'`“”„«»()[]:;,"))


def last_number(text: str) -> float:
    """Return the last number written in a text, thousands separators removed; NaN where there is none."""
    found = _NUMBER.findall(text[-AGREEMENT_CHARS:])
    if not found:
        return math.nan
    digits = found[-1].replace("−", "-").replace(" ", "").rstrip(".,")
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits):
        digits = digits.replace(",", "")
    elif digits.count(",") == 1 and "." not in digits:
        digits = digits.replace(",", ".")
    try:
        return float(digits)
    except ValueError:
        return math.nan


def same_text(left: str, right: str) -> bool:
    """Return whether two answers are equal after `normalised`."""
    return normalised(left) == normalised(right)


def same_number(left: str, right: str) -> bool:
    """Return whether two answers end in the same number (to one part in a million); falls back to `same_text`."""
    a, b = last_number(left), last_number(right)
    if math.isnan(a) or math.isnan(b):
        return same_text(left, right)
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def agreement(answer: str, samples: Sequence[str], match: Match = same_text) -> float:
    """Return the share of samples that match the answer, smoothed.

    Parameters
    ----------
    answer : str
        The answer.
    samples : sequence of str
        k samples of the same question.
    match : callable
        Returns whether two texts agree; `same_text` or `same_number`.

    Returns
    -------
    float
        (matches + 1/2) / (k + 1); NaN for no samples.
    """
    if not samples:
        return math.nan
    return (sum(match(answer, sample) for sample in samples) + 0.5) / (len(samples) + 1.0)


def agreement_by_meaning(embeddings: NDArray[np.float32], cosine: float = 0.85) -> float:
    """Return the agreement of free texts by the similarity of their embeddings.

    Parameters
    ----------
    embeddings : array of float32, (1 + k, d)
        Unit rows, the answer first.
    cosine : float
        The similarity from which on two texts match.

    Returns
    -------
    float
        (matches + 1/2) / (k + 1); NaN for no samples.
    """
    if embeddings.ndim != 2 or len(embeddings) == 0:
        raise DataError(f"embeddings (1 + k, d) with the answer first, found shape {embeddings.shape}")
    samples = len(embeddings) - 1
    if samples == 0:
        return math.nan
    return (float((embeddings[1:] @ embeddings[0] >= cosine).sum()) + 0.5) / (samples + 1.0)


def plurality(texts: Sequence[str], match: Match = same_text) -> tuple[int, float]:
    """Return the index of the text that most others match, the earliest of equals, and the share that match it."""
    if not texts:
        raise DataError("no texts to find a plurality in")
    votes = [sum(match(text, other) for other in texts) for text in texts]
    best = int(np.argmax(votes))
    return best, votes[best] / len(texts)


class AgreementVerifier(SignalVerifier):
    """Calibrate self-consistency: σ(a·logit(agreement) + b).

    Parameters
    ----------
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.

    References
    ----------
    Wang et al., "Self-consistency improves chain of thought reasoning in language models", arXiv 2203.11171.
    """

    family = "agreement"
    card = "needs the signal agreement: k more samples of the cheap model per query; strong on short answers"
    needs_signals: ClassVar[tuple[str, ...]] = ("agreement",)
    signal = "agreement"
