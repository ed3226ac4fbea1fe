"""Whether embeddings that somebody brings along are what an encoder makes of the texts: some are made again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder
from router_models.errors import DataError

CHECKED = 16
"""Texts that are embedded again, spread over all."""
SAME, RELATED = 0.9995, 0.9
"""Cosines of one text's two embeddings: the least by the same encoder (float16 and other machines leave .99999; the
same weights otherwise multiplied .998, docs/decisions/capacity/0100-products-of-integers-in-the-encoder.md), and the
median by another make of the same model.
"""


def check_made_by(
    encoder: TextEncoder, texts: Sequence[str], vectors: NDArray[np.float32], whose: str, *, exactly: bool = True
) -> str | None:
    """Raise DataError unless embeddings are what an encoder makes of texts; `CHECKED` of them are embedded for that.

    Rows that are wrong between those are not found.

    Parameters
    ----------
    encoder : TextEncoder
        What should have made them.
    texts : sequence of str
        n texts.
    vectors : array of float32, (n, d)
        Their embeddings, as unit rows.
    whose : str
        Whose encoder it is, for the message.
    exactly : bool
        Whether another make of the same model is refused, too.

    Returns
    -------
    str or None
        What is to be said of embeddings that are taken and of another make.
    """
    if not len(texts):
        return None
    rows = np.unique(np.linspace(0, len(texts) - 1, CHECKED).round().astype(np.int64))
    made = encoder.encode([texts[row] for row in rows])
    if made.shape[1] != vectors.shape[1]:
        raise DataError(
            f"the embeddings are of {vectors.shape[1]} numbers, and {whose} makes {made.shape[1]}: they are another "
            "encoder's. Leave them out, and the prompts are embedded"
        )
    cosines = np.sum(made * vectors[rows], axis=1)
    if cosines.min() >= SAME:
        return None
    median = float(np.median(cosines))
    said = f"cosine {cosines.min():.3f} of row {rows[int(cosines.argmin())]}, {median:.3f} at the median"
    found = f"the embeddings are not what {whose} makes of the prompts ({said})"
    if median < RELATED:
        why = "they are another encoder's, or of other prompts or another order of them"
    elif exactly:
        why = "they are of another make of the same model (products of integers, or floats as before)"
    else:
        return f"{found}, but of another make of the same model"
    raise DataError(f"{found}: {why}. Leave them out, and the prompts are embedded")
