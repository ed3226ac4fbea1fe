"""The outcomes of a rollout's units in little memory: some 50 bytes each, however long the rollout goes on."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import overload

import numpy as np

from router_models.monitoring.canary import ArmOutcome

MERGED_AT = 1024
"""How many units are looked up in a set before they join the sorted ones; an eighth of those, where that is more."""
_CANDIDATE, _FAILED = 1, 2


class UnitOutcomes(Sequence[ArmOutcome]):
    """One outcome of each session, key or prompt, in the order in which they were added.

    Units are told apart by 64 bits: of a million the chance that two are taken for one is 3 in 10⁸.
    """

    def __init__(self) -> None:
        self._numbers = array("d")
        self._flags = bytearray()
        self._sorted = np.empty(0, dtype=np.uint64)
        self._fresh: set[int] = set()

    def add(self, unit: str, outcome: ArmOutcome) -> bool:
        """Add the outcome of a unit's first request; False where the unit is there already."""
        key = int.from_bytes(hashlib.blake2b(unit.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        if key in self._fresh or self._holds(key):
            return False
        self._fresh.add(key)
        self._numbers.extend((outcome.weight, outcome.latency_s, outcome.usd))
        self._flags.append((outcome.arm == "candidate") * _CANDIDATE | outcome.failed * _FAILED)
        if len(self._fresh) > max(MERGED_AT, len(self._sorted) // 8):
            merged = np.concatenate([self._sorted, np.fromiter(self._fresh, np.uint64, len(self._fresh))])
            merged.sort()
            self._sorted, self._fresh = merged, set()
        return True

    def _holds(self, key: int) -> bool:
        at = int(np.searchsorted(self._sorted, np.uint64(key)))
        return at < len(self._sorted) and int(self._sorted[at]) == key

    def __len__(self) -> int:
        return len(self._flags)

    @overload
    def __getitem__(self, at: int) -> ArmOutcome: ...

    @overload
    def __getitem__(self, at: slice) -> list[ArmOutcome]: ...

    def __getitem__(self, at: int | slice) -> ArmOutcome | list[ArmOutcome]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        n = range(len(self))[at]
        weight, latency_s, usd = self._numbers[3 * n : 3 * n + 3]
        flags = self._flags[n]
        return ArmOutcome(
            "candidate" if flags & _CANDIDATE else "stable", weight, bool(flags & _FAILED), latency_s, usd
        )
