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
    unfamiliar : float, optional
        The largest share of a prompt's, or a part's, letter triples that no training prompt has; None: not compared.
    """

    part_chars: int = 0
    drop: float | None = None
    unfamiliar: float | None = None

    def uncovered(self, drop: float | None, unfamiliar: float | None) -> tuple[str, str] | None:
        """Return the reason, one word and a sentence, why a text is not covered; None where it is."""
        if self.unfamiliar is not None and unfamiliar is not None and unfamiliar > self.unfamiliar:
            return (
                "spelling",
                f"{unfamiliar:.0%} of the letter triples of some part of the prompt are those of no training prompt, "
                f"and up to {self.unfamiliar:.0%} were certified",
            )
        if self.drop is not None and drop is not None and drop > self.drop:
            return (
                "parts",
                f"a part of the prompt is estimated {drop:.2f} in log-odds below the whole, and up to {self.drop:.2f} "
                "was certified",
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able data; `from_json` gives an equal one back."""
        return {"part_chars": self.part_chars, "drop": self.drop, "unfamiliar": self.unfamiliar}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextCoverage:
        """Read what `to_json` wrote; KeyError, TypeError or ValueError where it did not."""
        chars = int(data["part_chars"])
        drop, unfamiliar = (None if data[name] is None else float(data[name]) for name in ("drop", "unfamiliar"))
        if chars < 1 or not all(limit is None or 0 <= limit < math.inf for limit in (drop, unfamiliar)):
            raise ValueError(f"parts of {chars} characters, limits {drop} and {unfamiliar}: no limits of a text")
        return cls(chars, drop, unfamiliar)


NOT_COMPARED = TextCoverage()
"""Texts are not compared: of certificates that know nothing of them."""
