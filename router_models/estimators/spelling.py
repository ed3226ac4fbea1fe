"""Notice texts that are spelled like no training prompt: encoded, disguised, in another script or language.

A router that meets words which it never saw says what it says of the average prompt, whatever is asked. So the share
of a text's runs of four letters that no training prompt has is measured, in the text and in each of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import ArtifactError
from router_models.types import FloatArray

SLOTS = 2**22
LETTERS_OF_RUN = 4
LETTERS_AT_ONCE = 50_000
"""Letters of texts that are looked up together: many short texts take a fifth of the time that each alone does."""
_PRIMES = (2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263)


class Spelling:
    """Know the runs of four letters of the training prompts, as one bit each of a hash.

    Case and the kind of white space do not count. Of runs that were never seen a few in a hundred are taken for known
    ones, as tens of thousands share four million bits.
    """

    def __init__(self) -> None:
        self.known_: NDArray[np.bool_] = np.zeros(SLOTS, dtype=np.bool_)

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn the runs of n training prompts."""
        self.known_ = np.zeros(SLOTS, dtype=np.bool_)
        for text in texts:
            self.known_[_slots(_plain(text))] = True
        return self

    def unfamiliar(self, texts: Sequence[str]) -> FloatArray:
        """Return the share of every text's runs that no training prompt has, (n,), in [0, 1].

        Parameters
        ----------
        texts : sequence of str
            n texts; one of fewer than four letters has no runs, and 0.
        """
        parts: list[FloatArray] = []
        some, letters = list[str](), 0
        for text in texts:
            some.append(_plain(text))
            letters += len(some[-1])
            if letters > LETTERS_AT_ONCE:
                parts.append(self._unfamiliar(some))
                some, letters = [], 0
        return np.concatenate([*parts, self._unfamiliar(some)])

    def _unfamiliar(self, plain: Sequence[str]) -> FloatArray:
        """Of texts one after the other: what reaches from one into the next is a run of none."""
        if len(plain) == 1:
            slots = _slots(plain[0])
            return np.array([float((~self.known_[slots]).mean()) if len(slots) else 0.0])
        length = np.array([len(text) for text in plain], dtype=np.int64)
        begins, runs = np.cumsum(length) - length, np.maximum(length - (LETTERS_OF_RUN - 1), 0)
        unknown = np.zeros(int(length.sum()) + 1, dtype=np.int64)
        slots = _slots("".join(plain))
        np.cumsum(~self.known_[slots], out=unknown[1 : len(slots) + 1])
        return np.asarray(
            (unknown[begins + runs] - unknown[begins]) * (runs > 0) / np.maximum(runs, 1), dtype=np.float64
        )

    def state(self) -> State:
        """Return the learned state; `from_state` rebuilds an equal one."""
        return State({"known": np.packbits(self.known_)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; ArtifactError where it does not fit this version."""
        known = state.arrays.get("known")
        if known is None or known.dtype != np.uint8 or known.shape != (SLOTS // 8,):
            raise ArtifactError("not the stored runs of letters of training prompts")
        spelling = cls()
        spelling.known_ = np.unpackbits(known).astype(np.bool_)
        return spelling


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _slots(plain: str) -> NDArray[np.int64]:
    """Return the slots of the runs of a text without case and kinds of white space, in order."""
    letters = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    n = len(letters) - LETTERS_OF_RUN + 1
    if n < 1:
        return np.empty(0, dtype=np.int64)
    mixed = np.zeros(n, dtype=np.uint64)
    for place, prime in enumerate(_PRIMES):
        mixed += letters[place : place + n] * np.uint64(prime)
    return ((mixed >> np.uint64(11)) % np.uint64(SLOTS)).astype(np.int64)
