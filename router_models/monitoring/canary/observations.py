"""What is observed of two versions: requests that both decided, and units of traffic that one of them served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Arm = Literal["stable", "candidate"]


@dataclass(frozen=True, slots=True)
class PairedRequest:
    """One request that both versions decided.

    Parameters
    ----------
    alike : bool
        Whether both gave the same answer by the same path: every difference is then 0, and grades may be None.
    stable_right, candidate_right : float, optional
        The grades of their answers, in [0, 1]; None: not graded.
    stable_harm, candidate_harm : bool, optional
        Whether the answer is wrong where the last tier's is right; None: not known.
    stable_usd, candidate_usd : float
        What answering cost, by each version's path.
    slices : tuple of str
        The slices that the request belongs to.
    group : str, optional
        Requests that are no independent evidence share one: those of a session, or with the same prompt. The first
        of each counts. None: it stands by itself.
    came_at : str, optional
        When the request came (ISO 8601, UTC); the tests go by the order in which they are given pairs alone.
    last_usd : float, optional
        What the last tier's answer costs, or would: costs are compared as shares of it where no bound is stated. None:
        the dearer of both paths stands for it.
    tie : bool
        Whether the grader's word depended on which answer stood first. The grades are what it said over both orders;
        None: not kept, and the difference is 0, as that of harms is.
    """

    alike: bool
    stable_right: float | None
    candidate_right: float | None
    stable_harm: bool | None
    candidate_harm: bool | None
    stable_usd: float
    candidate_usd: float
    slices: tuple[str, ...] = ()
    group: str | None = None
    came_at: str | None = None
    last_usd: float | None = None
    tie: bool = False


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """One unit of assignment (a session, a key, a prompt), served by one version. Each unit counts once.

    A unit keeps its arm, so that of one that comes again at another weight the arm follows from the first time: only
    the first says anything that chance decided.

    Parameters
    ----------
    arm : str
        `stable` or `candidate`.
    weight : float
        The probability, in [0, 1], with which the candidate was to serve it.
    failed : bool
        Whether it ended in an error.
    latency_s : float
        How long the answer took, in seconds.
    usd : float
        What it cost.
    """

    arm: Arm
    weight: float
    failed: bool
    latency_s: float
    usd: float
