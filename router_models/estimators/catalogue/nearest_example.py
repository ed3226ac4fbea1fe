"""Which intent of a catalogue a prompt has: that of the example it resembles most, where it reaches the floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder
from router_models.errors import DataError
from router_models.estimators.catalogue.intents import KNOWN_HARD, Catalogue
from router_models.types import FloatArray, IntentMatch


@dataclass(frozen=True, eq=False)
class CatalogueIndex:
    """Hold a catalogue with its examples embedded.

    Parameters
    ----------
    catalogue : Catalogue
        Where the examples come from.
    vectors : array of float32, (k, d)
        A unit row an example, in the order of `catalogue.every`.
    owners : array of int, (k,)
        The position of every example's intent in `catalogue.every`.
    encoder : str
        The digest of what embedded them.
    """

    catalogue: Catalogue
    vectors: NDArray[np.float32]
    owners: NDArray[np.int64]
    encoder: str

    @classmethod
    def of(cls, catalogue: Catalogue, encoder: TextEncoder, before: CatalogueIndex | None = None) -> CatalogueIndex:
        """Embed a catalogue's examples; those that `before` holds by the same encoder are not embedded again."""
        texts = [example for one in catalogue.every for example in one.examples]
        owners = [i for i, one in enumerate(catalogue.every) for _ in one.examples]
        known: dict[str, NDArray[np.float32]] = {}
        if before is not None and before.encoder == encoder.digest:
            held = [example for one in before.catalogue.every for example in one.examples]
            known = dict(zip(held, before.vectors, strict=True))
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known |= dict(zip(new, encoder.encode(new), strict=True))
        vectors = np.stack([known[text] for text in texts]).astype(np.float32)
        return cls(catalogue, vectors, np.array(owners, dtype=np.int64), encoder.digest)

    def match(self, embeddings: FloatArray | NDArray[np.float32]) -> list[IntentMatch]:
        """Return what the catalogue says of every prompt, (n,).

        Parameters
        ----------
        embeddings : array of float, (n, d)
            Unit rows by the encoder that embedded the examples.

        Raises
        ------
        DataError
            For embeddings of another width.
        """
        if embeddings.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"embeddings of width {embeddings.shape[1]}, but the catalogue's have {self.vectors.shape[1]}"
            )
        cosines = np.asarray(embeddings, dtype=np.float32) @ self.vectors.T
        every = self.catalogue.every
        best = np.stack([cosines[:, self.owners == i].max(axis=1) for i in range(len(every))], axis=1)
        return [self._match(row) for row in best]

    def _match(self, best: NDArray[np.float32]) -> IntentMatch:
        """What the greatest cosine to each intent's examples, (intents,), says of one prompt."""
        every, digest = self.catalogue.every, self.catalogue.digest
        reached = [i for i, one in enumerate(every) if float(best[i]) >= one.floor]
        if not reached:
            return IntentMatch(digest)
        is_hard = self.catalogue.known_hard is not None and reached[0] == 0
        chosen = 0 if is_hard else max(reached, key=lambda i: (float(best[i]), -i))
        one = every[chosen]
        layer = "known-hard" if one.name == KNOWN_HARD else "semantic"
        return IntentMatch(digest, layer, one.name, min(float(best[chosen]), 1.0), one.floor, one.tier)
