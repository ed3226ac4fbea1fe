"""The embeddings of the texts that came last, by their hashes: prompts come again, and parts of them more often."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.features import text_digest
from router_models.types import PromptEmbedding, Query

MOST_VECTORS = 4096
"""Embeddings that are kept, 1.5 kB each."""


class RecentVectors:
    """Embed texts, those that came before excepted. Keeps no text. Threads may use one at the same time.

    Parameters
    ----------
    most : int
        Embeddings that are kept; of more the longest unused go.
    """

    def __init__(self, most: int = MOST_VECTORS) -> None:
        self.most = most
        self._known: OrderedDict[tuple[str, bytes], NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[RecentVectors], tuple[int]]:
        return RecentVectors, (self.most,)  # a copy elsewhere begins with none

    def of(self, encoder: TextEncoder, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return each text's embedding, n of shape (d,); those that are not known are made with one call."""
        keys = [(encoder.digest, text_digest(text)) for text in texts]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
            for key in found:
                self._known.move_to_end(key)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new:
            made = dict(zip(new, encoder.encode(list(new.values())), strict=True))
            found |= made
            with self._lock:
                # a row of its own, so that no batch is kept for one of its rows
                self._known |= {key: vector.copy() for key, vector in islice(made.items(), self.most)}
                while len(self._known) > self.most:
                    self._known.popitem(last=False)
        return [found[key] for key in keys]

    def of_queries(self, encoder: TextEncoder, queries: Sequence[Query]) -> list[PromptEmbedding]:
        """Return the embeddings of queries, each with what it was made from, n."""
        vectors = self.of(encoder, [query.text for query in queries])
        return [
            PromptEmbedding(text_digest(query.text), encoder.digest, vector)
            for query, vector in zip(queries, vectors, strict=True)
        ]
