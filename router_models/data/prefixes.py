"""The beginning of an answer, cut after N tokens: one definition for serving and for certifying.

A prefix verdict is certified on recorded answers and made on live ones. Both are cut here, so that the same answer
gives the same beginning whatever the size of the pieces it arrived in, from an engine or from a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.types import PREFIX_FINISH, Completion

KEPT_BITS = 12
"""Of a logprob's mantissa: relative steps of 1 in 4096, far below what any verifier can tell, small in a file."""


def prefix_of(texts: Sequence[str], logprobs: Sequence[float], tokens: int) -> Completion | None:
    """The first `tokens` tokens as a Completion whose finish_reason is PREFIX; None where the answer is no longer.

    `texts` and `logprobs` have one entry per generated token, the one that ends the answer included: only an answer of
    more than `tokens` of them has a beginning, a shorter one is judged whole. What follows is never looked at.
    """
    if min(len(texts), len(logprobs)) <= tokens:
        return None
    return Completion("".join(texts[:tokens]), PREFIX_FINISH, token_logprobs=kept_logprobs(logprobs[:tokens]))


def kept_logprobs(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Natural logarithms as they are stored and judged: `KEPT_BITS` bits of mantissa. Doing it twice changes nothing.

    NaN and -inf become -9999, which is also what engines write for them.
    """
    values = np.nan_to_num(np.asarray(logprobs, dtype=np.float64), nan=-9999.0, neginf=-9999.0, posinf=0.0)
    mantissa, exponent = np.frexp(values)
    steps = 2.0**KEPT_BITS
    return tuple(np.ldexp(np.round(mantissa * steps) / steps, exponent).astype(np.float32).tolist())
