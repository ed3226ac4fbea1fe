"""Which texts a certificate speaks of: spelled like the training prompts, and no part much harder than the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    """

    part_chars: int = 0
    drop: float | None = None
    unfamiliar: float | None = None
    unfamiliar_part: float | None = None
    cut_drop: float | None = None

    def uncovered(
        self,
        drop: float | None,
        unfamiliar: float | None,
        unfamiliar_part: float | None = None,
        cut_drop: float | None = None,
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
        parts = ("a part of the prompt", drop, self.drop), ("the prompt without a sentence", cut_drop, self.cut_drop)
        for what, below, most in parts:
            if most is not None and below is not None and below > most:
                return (
                    "parts",
                    f"{what} is estimated {below:.2f} in log-odds below the whole, and up to {most:.2f} was certified",
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
            **({} if self.cut_drop is None else {"cut_drop": self.cut_drop}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextCoverage:
        """Read what `to_json` wrote; KeyError, TypeError or ValueError where it did not."""
        chars = int(data["part_chars"])
        names = ("drop", "unfamiliar", "unfamiliar_part", "cut_drop")
        limits = [None if data.get(name) is None else float(data[name]) for name in names]
        if chars < 1 or not all(limit is None or 0 <= limit < math.inf for limit in limits):
            raise ValueError(f"parts of {chars} characters and limits {limits} are no limits of a text")
        return cls(chars, *limits)


NOT_COMPARED = TextCoverage()
"""Texts are not compared: of certificates that know nothing of them."""
