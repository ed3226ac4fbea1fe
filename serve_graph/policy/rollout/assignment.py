"""Which version answers a request while a canary is under way: by a hash of who asks, the same on every replica."""

from __future__ import annotations

import hashlib
from typing import Literal

Arm = Literal["stable", "candidate"]
_RANGE = float(2**64)


def unit_of(session: str | None, key: str | None, prompt: str) -> str:
    """What is assigned as one: a request's session, else its access key, else its prompt. Hashed: it can be kept."""
    what, value = ("session", session) if session else ("key", key) if key else ("prompt", prompt)
    return hashlib.sha256(f"{what}\0{value}".encode("utf-8", "replace")).hexdigest()[:32]


def arm_of(rollout_id: str, unit: str, weight: float) -> Arm:
    """The version that answers a unit at a weight (0 to 1).

    Whoever is the candidate's at one weight is so at every greater one. Another rollout draws anew.
    """
    digest = hashlib.sha256(f"{rollout_id}\0{unit}".encode("utf-8", "replace")).digest()
    return "candidate" if int.from_bytes(digest[:8], "big") / _RANGE < weight else "stable"
