"""Which texts a certificate speaks of: spelled like the training prompts, and no part much harder than the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

NOT_SIMULATED = "none"
"""The way of rewriting of which nothing could be simulated."""


@dataclass(frozen=True, slots=True)
class Attacked:
    """Say what rewriting hard prompts of TUNE did under these limits, simulated when they were set.

    Parameters
    ----------
    prompts : int
        Prompts that a tier below the last answers wrong, fewest of any such tier; 0: nothing could be simulated.
    epsilon : float
        By how much the share of them that is sent to that tier or a cheaper one, and covered, may rise.
    way : str
        The way of rewriting that sends most down, of a longer ladder with the tier.
    rise, high : float
        By how much the share rises under it, and the upper end of its one-sided 95 % interval
        (97.5 % of each combination of limits, of which one was chosen). Below 0 where fewer are sent down: of a
        router by length, that whatever is added to a prompt sends up.
    price : float
        The share of TUNE's prompts that are sent down, and covered otherwise, that the limits on parts leave out; 0
        where none is sent down.
    """

    prompts: int
    epsilon: float
    way: str
    rise: float
    high: float
    price: float

    @property
    def held(self) -> bool:
        """Tell whether the rise is known to stay within epsilon."""
        return self.high <= self.epsilon

    def summary(self) -> str:
        """Return the same in words."""
        if not self.prompts:
            why = "nothing was simulated, as too few hard prompts or easy ones are known"
            return f"NOT HELD within {self.epsilon:g} where rewritten: {why}"
        found, most = f"of {self.prompts} hard prompts sent down", f", up to {self.high:+.1%}"
        if self.rise > 0:
            found = f"{self.rise:+.1%}{most}, {found}"
        else:
            fewer = f", {-100 * self.rise:.1f} points less" if self.rise < 0 else ""
            found = f"no larger share {found}{fewer}{most if self.high > 0 else ''}"
        found += f" ({self.way})"
        return f"rewritten: {found}" if self.held else f"NOT HELD within {self.epsilon:g} where rewritten: {found}"


@dataclass(frozen=True, slots=True)
class TextCoverage:
    """Hold what of a prompt's text was certified, beyond its distance from the training data.

    Parameters
    ----------
    part_chars : int
        About how many characters a prompt's parts have; 0: parts are not compared.
    drop : float, optional
        The largest difference, in log-odds, between a router's estimate of a prompt and of its least part; None: not
        compared.
    unfamiliar, unfamiliar_part : float, optional
        The largest shares of a prompt's, and of a part's, runs of four letters that no training prompt has; None: not
        compared.
    cut_drop : float, optional
        As `drop`, of the least of the pieces that are left of a short prompt without some of its sentences; None: not
        compared.
    shortfall, cut_shortfall : float, optional
        As `drop` and `cut_drop`, below the threshold from which on the tier is tried instead of below the whole; None:
        not compared.
    apart : float, optional
        The largest distance between two parts, 1 less the cosine of their embeddings: how far what they are about may
        differ; None: not compared.
    attacked : Attacked, optional
        What rewriting hard prompts does under these limits; None: it was not simulated.
    sent_down : bool
        Whether parts are compared of those prompts alone that the policy sends below its last tier: by hiding in
        others nothing is won.
    averaged : bool
        Whether the vector of a piece is its sentences' mean, by their lengths, instead of one of its own.
    """

    part_chars: int = 0
    drop: float | None = None
    unfamiliar: float | None = None
    unfamiliar_part: float | None = None
    cut_drop: float | None = None
    sent_down: bool = False
    averaged: bool = False
    shortfall: float | None = None
    cut_shortfall: float | None = None
    apart: float | None = None
    attacked: Attacked | None = None

    def uncovered(
        self,
        drop: float | None,
        unfamiliar: float | None,
        unfamiliar_part: float | None = None,
        cut_drop: float | None = None,
        shortfall: float | None = None,
        cut_shortfall: float | None = None,
        apart: float | None = None,
    ) -> tuple[str, str] | None:
        """Return the reason, one word and a sentence, why a text is not covered; None where it is."""
        spelled = ("the prompt", unfamiliar, self.unfamiliar), ("a part", unfamiliar_part, self.unfamiliar_part)
        for what, share, most in spelled:
            if most is not None and share is not None and share > most:
                return (
                    "spelling",
                    f"{share:.0%} of the runs of letters of {what} are those of no training prompt, and up to "
                    f"{most:.0%} were certified",
                )
        part, piece = "a part of the prompt", "the prompt without a sentence"
        parts = (
            (part, "whole", drop, self.drop),
            (piece, "whole", cut_drop, self.cut_drop),
            (part, "threshold", shortfall, self.shortfall),
            (piece, "threshold", cut_shortfall, self.cut_shortfall),
        )
        for what, than, below, most in parts:
            if most is not None and below is not None and below > most:
                return (
                    "parts",
                    f"{what} is estimated {below:.2f} in log-odds below the {than}; up to {most:.2f} was certified",
                )
        if self.apart is not None and apart is not None and apart > self.apart:
            return (
                "parts",
                f"two parts of the prompt lie {apart:.2f} apart; up to {self.apart:.2f} was certified",
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able data; `from_json` gives an equal one back.

        What former releases wrote is written as it was: certificates are bound to it.
        """
        return {
            "part_chars": self.part_chars,
            "drop": self.drop,
            "unfamiliar": self.unfamiliar,
            "unfamiliar_part": self.unfamiliar_part,
            **{
                name: value
                for name in ("cut_drop", "shortfall", "cut_shortfall", "apart")
                if (value := getattr(self, name)) is not None
            },
            **{name: True for name in ("sent_down", "averaged") if getattr(self, name)},
            **({} if self.attacked is None else {"attacked": {**asdict(self.attacked), "held": self.attacked.held}}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextCoverage:
        """Read what `to_json` wrote; KeyError, TypeError or ValueError where it did not."""
        chars = int(data["part_chars"])
        names = ("drop", "unfamiliar", "unfamiliar_part", "cut_drop", "shortfall", "cut_shortfall", "apart")
        limits = [None if data.get(name) is None else float(data[name]) for name in names]
        if chars < 1 or not all(limit is None or 0 <= limit < math.inf for limit in limits):
            raise ValueError(f"parts of {chars} characters and limits {limits} are no limits of a text")
        read, found = cls(chars, limits[0], limits[1], limits[2], limits[3]), data.get("attacked")
        attacked = None
        if found is not None:
            shares = [float(found[name]) for name in ("rise", "high", "price")]
            attacked = Attacked(int(found["prompts"]), float(found["epsilon"]), str(found["way"]), *shares)
        return replace(
            read,
            sent_down=bool(data.get("sent_down")),
            averaged=bool(data.get("averaged")),
            shortfall=limits[4],
            cut_shortfall=limits[5],
            apart=limits[6],
            attacked=attacked,
        )


NOT_COMPARED = TextCoverage()
"""Texts are not compared: of certificates that know nothing of them."""
