"""One tested statement of a certificate, what stands beside it, and how both are kept as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from router_models.errors import by_number


@dataclass(frozen=True, slots=True)
class Promise:
    """One tested statement: `what` ≤ `bound` with confidence 1 - `level`, shown by `errors` among `trials`.

    `upper` is the one-sided Clopper-Pearson bound at `level` on the same counts: information, not part of the proof
    (it ignores that a threshold was chosen). `threshold` is what the score is compared with (≥ accepts), +inf where
    nothing could be promised and therefore nothing is accepted, -inf where it holds of a policy's own thresholds.
    `also`: further statements about the same slice, shown at the same level together with this one.
    """

    what: str
    bound: float
    level: float
    trials: int
    errors: int
    upper: float
    threshold: float = math.inf
    also: tuple[Promise, ...] = ()

    @property
    def certified(self) -> bool:
        """Whether anything is accepted under this promise at all."""
        return self.threshold < math.inf


@dataclass(frozen=True, slots=True)
class Streamed:
    """How labels were spent that came one by one until the promise was proved.

    Parameters
    ----------
    labelled : int
        Rows that were labelled in all, those of more lenient thresholds that were not proved included.
    stopped_at : int
        After how many labels of accepted answers the threshold was proved.
    e_value : float
        What the bets against it had earned then.
    proved, tried : int
        How many thresholds of the sequence were proved, and how many it has.
    labellers : int
        How many people labelled.
    kappa : float, optional
        The least Cohen's kappa between two of them, where two labelled the same answers.
    """

    labelled: int
    stopped_at: int
    e_value: float
    proved: int
    tried: int
    labellers: int
    kappa: float | None = None

    @property
    def words(self) -> str:
        """The same in a few words, for a summary."""
        agreed = (
            ""
            if self.kappa is None
            else f", {self.labellers} {by_number(self.labellers, 'labeller')}, kappa {self.kappa:.2f}"
        )
        rows = by_number(self.labelled, "row")
        return f"streamed: {self.labelled} {rows} labelled, stopped at {self.stopped_at}{agreed}"


Span = tuple[float, float, float]
"""A figure and the ends of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What CERT shows of a version beside always asking the last tier: information, no proof.

    Parameters
    ----------
    n : int
        CERT prompts, routed or not.
    kept, wrong, harmed, gained : int
        Answers of a tier below the last that were given; the wrong ones of them; those of the wrong ones where the
        last tier's answer is right; and the right ones where it is wrong.
    ungraded : int
        Answers of the last tier that nobody graded, which count as right.
    right_difference : tuple of float
        Right answers less those of always asking the last tier, as a share of all prompts; an abstention is not right.
    cost_saved : tuple of float
        The share of always-last's cost that is saved, after router and verifier.
    """

    n: int
    kept: int
    wrong: int
    harmed: int
    gained: int
    ungraded: int
    right_difference: Span
    cost_saved: Span


PatternName = Literal["pre-route", "layered", "chain"]
PatternChoice = Literal["layered", "pre-route", "chain", "auto"]


def patterns_for(tiers: int) -> tuple[PatternName, ...]:
    """The ways to use so many tiers, simplest first: between equals the one with fewer verdicts is taken."""
    return ("pre-route", "layered") if tiers == 2 else ("layered", "chain")


@dataclass(frozen=True, slots=True)
class TestedPattern:
    """What became of one pattern where several were tested on the same labels.

    Parameters
    ----------
    name : str
        The pattern.
    taken : bool
        Whether it is the version's.
    kept, errors : int
        Cheap answers of CERT that it gives, and those that count against the promise; 0 where it was not certified.
    cost_saved, right_difference : tuple of float, optional
        As `Compared` holds them; None where it was not certified.
    why_not : str, optional
        Why it was not certified.
    """

    name: str
    taken: bool
    kept: int = 0
    errors: int = 0
    cost_saved: Span | None = None
    right_difference: Span | None = None
    why_not: str | None = None

    @property
    def words(self) -> str:
        """The same in a sentence."""
        if self.cost_saved is None or self.right_difference is None:
            return f"{self.name}: not certified: {self.why_not}"
        saved = "{:.1%} ({:.1%} to {:.1%})".format(*self.cost_saved)
        points = 100 * self.right_difference[0] + 0.0
        said = f"{self.name}: {self.errors} of {self.kept} on CERT, saves {saved}, {points:+.1f} points right"
        return f"{said}; taken" if self.taken else said

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data; `tested_pattern` gives an equal one back."""
        return asdict(self)


def tested_pattern(data: Mapping[str, Any]) -> TestedPattern:
    """Read what `to_json` wrote; KeyError, TypeError or ValueError where it cannot."""

    def span(name: str) -> Span | None:
        if (found := data[name]) is None:
            return None
        value, low, high = map(float, found)
        return value, low, high

    return TestedPattern(
        str(data["name"]),
        bool(data["taken"]),
        int(data["kept"]),
        int(data["errors"]),
        span("cost_saved"),
        span("right_difference"),
        None if data["why_not"] is None else str(data["why_not"]),
    )


def pattern_named(name: object) -> PatternChoice:
    """A name as a choice of patterns; ValueError for one that is none."""
    if name not in get_args(PatternChoice):
        raise ValueError(f"unknown pattern {name!r}; known: {', '.join(get_args(PatternChoice))}")
    return cast(PatternChoice, name)


def compared_to_json(found: Compared | None) -> dict[str, Any] | None:
    """As JSON-able data; `compared_from_json` gives an equal comparison back."""
    return None if found is None else asdict(found)


def compared_from_json(data: Mapping[str, Any] | None) -> Compared | None:
    """Read what `compared_to_json` wrote; KeyError, TypeError or ValueError where it cannot."""
    if data is None:
        return None
    n, kept, wrong, harmed, gained, ungraded = (int(data[field.name]) for field in fields(Compared)[:6])
    (moved, moved_low, moved_high), (saved, saved_low, saved_high) = data["right_difference"], data["cost_saved"]
    right: Span = (float(moved), float(moved_low), float(moved_high))
    return Compared(
        n, kept, wrong, harmed, gained, ungraded, right, (float(saved), float(saved_low), float(saved_high))
    )


def json_number(value: float) -> float | str:
    """JSON has no infinity: thresholds of ±inf are written as text."""
    return value if math.isfinite(value) else str(value)


def promise_to_json(promise: Promise) -> dict[str, Any]:
    """As JSON-able data; `promise_from_json` gives an equal promise back."""
    also = {"also": [promise_to_json(p) for p in promise.also]} if promise.also else {}
    return {
        "what": promise.what,
        "bound": promise.bound,
        "level": promise.level,
        "trials": promise.trials,
        "errors": promise.errors,
        "upper": promise.upper,
        "threshold": json_number(promise.threshold),
        **also,
    }


def promise_from_json(data: Mapping[str, Any]) -> Promise:
    """Read what `promise_to_json` wrote; KeyError, TypeError or ValueError where it cannot."""
    return Promise(
        what=str(data["what"]),
        bound=float(data["bound"]),
        level=float(data["level"]),
        trials=int(data["trials"]),
        errors=int(data["errors"]),
        upper=float(data["upper"]),
        threshold=float(data["threshold"]),
        also=tuple(promise_from_json(p) for p in data.get("also", ())),
    )
