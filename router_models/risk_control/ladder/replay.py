"""What became of every prompt under a policy of a ladder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_models.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of each prompt under a policy, all (n,).

    `tried`: the tier that was asked first. `escalated`: whether the last tier was asked after it. `answered_by`: the
    tier whose answer was given, -1 where it abstained. `cost_usd`: what all its calls cost. `top` is the last tier.
    `called`, (n, K): which tiers were asked.
    """

    tried: IntArray
    escalated: BoolArray
    answered_by: IntArray
    cost_usd: FloatArray
    top: int
    called: BoolArray

    @property
    def abstained(self) -> BoolArray:
        """Whether no answer was given."""
        return self.answered_by < 0

    @property
    def accepted(self) -> BoolArray:
        """Whether the answer of a tier below the last was given."""
        return (self.answered_by >= 0) & (self.answered_by < self.top)

    def wrong(self, right: BoolArray) -> BoolArray:
        """Whether the prompt was answered, and wrongly; `right` is (n, K)."""
        return np.asarray(~self._chosen(right) & ~self.abstained, dtype=np.bool_)

    def harmed(self, right: BoolArray) -> BoolArray:
        """Whether a tier below the last answered, wrongly, and the last one's answer is right; `right` is (n, K)."""
        return np.asarray(self.accepted & ~self._chosen(right) & right[:, -1], dtype=np.bool_)

    def right(self, right: BoolArray) -> BoolArray:
        """Whether the prompt was answered, and rightly: an abstention is not right; `right` is (n, K)."""
        return np.asarray(self._chosen(right) & ~self.abstained, dtype=np.bool_)

    def _chosen(self, right: BoolArray) -> BoolArray:
        return np.asarray(right[np.arange(len(self.answered_by)), np.maximum(self.answered_by, 0)], dtype=np.bool_)
