"""Cut the first N tokens of an answer, in the same way for certification and for serving.

A verdict on a prefix is certified on recorded answers and made on streamed ones. Both are cut here, so that the same
answer gives the same prefix whatever the size of the chunks in which it arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.types import PREFIX_FINISH, Completion

KEPT_BITS = 12
"""Of a logprob's mantissa: relative steps of 1 in 4096, far below what any verifier can tell, small in a file."""


def prefix_of(texts: Sequence[str], logprobs: Sequence[float], tokens: int) -> Completion | None:
    """Return the first tokens of an answer as a completion of its own.

    Parameters
    ----------
    texts : sequence of str
        The generated tokens, including the one that ends the answer.
    logprobs : sequence of float
        Their natural-logarithm probabilities.
    tokens : int
        How many tokens to keep.

    Returns
    -------
    Completion or None
        With the finish_reason `PREFIX_FINISH`; None where the answer has no more than `tokens` tokens and is judged
        whole. Later tokens are never read.
    """
    if min(len(texts), len(logprobs)) <= tokens:
        return None
    return Completion("".join(texts[:tokens]), PREFIX_FINISH, token_logprobs=kept_logprobs(logprobs[:tokens]))


def kept_logprobs(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Round natural logarithms to the `KEPT_BITS` bits of mantissa that are stored and judged.

    Rounding twice changes nothing. NaN and -inf become -9999, which is also what engines write for them.

    Parameters
    ----------
    logprobs : sequence of float
        Natural logarithms.

    Returns
    -------
    tuple of float
    """
    values = np.nan_to_num(np.asarray(logprobs, dtype=np.float64), nan=-9999.0, neginf=-9999.0, posinf=0.0)
    mantissa, exponent = np.frexp(values)
    steps = 2.0**KEPT_BITS
    return tuple(np.ldexp(np.round(mantissa * steps) / steps, exponent).astype(np.float32).tolist())
