"""Notice texts that are spelled like no training prompt: encoded, disguised, in another script or language.

A router that meets words which it never saw says what it says of the average prompt, whatever is asked. So the share
of a text's letter triples that no training prompt has is measured, in the text and in each of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import ArtifactError
from router_models.types import FloatArray

SLOTS = 2**20
_PRIMES = np.array([2_654_435_761, 2_246_822_519, 3_266_489_917], dtype=np.uint64)


class Spelling:
    """Know the letter triples of the training prompts, as one bit each of a hash.

    Case and the kind of white space do not count. Of triples that were never seen one in a hundred or fewer is taken
    for a known one, as thousands of triples share a million bits.
    """

    def __init__(self) -> None:
        self.known_: NDArray[np.bool_] = np.zeros(SLOTS, dtype=np.bool_)

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn the triples of n training prompts."""
        self.known_ = np.zeros(SLOTS, dtype=np.bool_)
        for text in texts:
            self.known_[_triples(text)] = True
        return self

    def unfamiliar(self, texts: Sequence[str]) -> FloatArray:
        """Return the share of every text's distinct triples that no training prompt has, (n,), in [0, 1].

        Parameters
        ----------
        texts : sequence of str
            n texts; one of fewer than three letters has no triples, and 0.
        """
        found = (_triples(text) for text in texts)
        return np.array([float((~self.known_[slots]).mean()) if len(slots) else 0.0 for slots in found])

    def state(self) -> State:
        """Return the learned state; `from_state` rebuilds an equal one."""
        return State({"known": np.packbits(self.known_)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; ArtifactError where it does not fit this version."""
        known = state.arrays.get("known")
        if known is None or known.dtype != np.uint8 or known.shape != (SLOTS // 8,):
            raise ArtifactError("not the stored letter triples of training prompts")
        spelling = cls()
        spelling.known_ = np.unpackbits(known).astype(np.bool_)
        return spelling


def _triples(text: str) -> NDArray[np.int64]:
    """Return the distinct slots of a text's triples."""
    plain = " ".join(text.lower().split()).encode("utf-32-le", "surrogatepass")
    letters = np.frombuffer(plain, dtype=np.uint32).astype(np.uint64)
    if len(letters) < 3:
        return np.empty(0, dtype=np.int64)
    mixed = letters[:-2] * _PRIMES[0] + letters[1:-1] * _PRIMES[1] + letters[2:] * _PRIMES[2]
    return np.unique((mixed >> np.uint64(13)) % np.uint64(SLOTS)).astype(np.int64)
