"""What a certificate was proved on, as far as a request shows it; and whether a request is part of that.

A bound on a risk holds for the distribution that the CERT rows were drawn from. What of that distribution can be seen
on a request is checked on each. Conditions of fewer than `LEAST_ROWS` CERT rows are not covered, and such rows do not
count as evidence either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from router_models.types.conditions import Conditions

LEAST_ROWS = 20
"""The CERT rows that a condition needs in order to be covered."""
NOVELTY_QUANTILE = 0.95
"""A prompt farther from the training data than this share of TUNE's prompts is novel."""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Say why nothing is promised of a request: `reason` is one word, for metrics; `why` is a sentence."""

    reason: str
    why: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """Hold the conditions that a certificate was proved on.

    Parameters
    ----------
    decodings : tuple of str
        Sampling settings of the rows themselves, as canonical JSON; an empty one: the tiers' defaults.
    system_prompts : tuple of str
        sha256 of each, in hex; an empty one: no system prompt.
    turns : int
        The most turns of the user.
    tools, tool_loops, prefilled : bool
        Whether there were rows that declare tools, hold calls or results, end in a begun answer.
    response_formats : tuple of str
        Types of formats; an empty one: text.
    max_tokens : int, optional
        The least length that the rows permitted; None: they left it to the tiers.
    novelty : float, optional
        The largest distance from the training data; None: it is not measured.
    n : int
        CERT rows under these conditions.
    """

    decodings: tuple[str, ...] = ("",)
    system_prompts: tuple[str, ...] = ("",)
    turns: int = 1
    tools: bool = False
    response_formats: tuple[str, ...] = ("",)
    tool_loops: bool = False
    prefilled: bool = False
    max_tokens: int | None = None
    novelty: float | None = None
    n: int = 0

    @classmethod
    def of(cls, rows: Sequence[Conditions], novelty: float | None = None, least: int = LEAST_ROWS) -> Coverage:
        """Return the conditions that at least `least` of these CERT rows were asked under; labels are not read.

        Parameters
        ----------
        rows : sequence of Conditions
            Of every CERT row that may count.
        novelty : float, optional
            The `NOVELTY_QUANTILE` of TUNE's distances.
        least : int
            The rows that a condition needs.
        """

        def often(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(sorted(value for value, count in Counter(values).items() if count >= least))

        turns = sorted((row.turns for row in rows), reverse=True)
        limits = sorted(row.max_tokens for row in rows if row.max_tokens is not None)
        found = cls(
            often([row.decoding for row in rows]),
            often([row.system_prompt for row in rows]),
            turns[least - 1] if len(turns) >= least else 1,
            True in often([row.tools for row in rows]),
            often([row.response_format for row in rows]),
            True in often([row.tool_loop for row in rows]),
            True in often([row.prefilled for row in rows]),
            None if not limits else limits[min(least, len(limits)) - 1],
            novelty,
        )
        return replace(found, n=sum(found.uncovered(row) is None for row in rows))

    def uncovered(
        self,
        asked: Conditions,
        distance: float | None = None,
        defaults: Sequence[Mapping[str, Any]] = ({},),
    ) -> Uncovered | None:
        """Return why a request is not covered; None where it is.

        Parameters
        ----------
        asked : Conditions
            What the request is asked under.
        distance : float, optional
            Its distance from the training data; None: not measured yet, and not checked.
        defaults : sequence of mapping
            Every tier's default sampling settings, on top of which a request's own count.
        """
        if asked.choices > 1:
            return Uncovered("choices", f"{asked.choices} choices are wanted, and answers were certified one by one")
        if asked.decoding not in self.decodings and not self._same_decoding(asked, defaults):
            return Uncovered(
                "decoding", f"the sampling settings {asked.decoding or 'of the tiers'} were not certified"
            )
        if asked.system_prompt not in self.system_prompts:
            named = f"the system prompt {asked.system_prompt[:12]}" if asked.system_prompt else "no system prompt"
            return Uncovered("system_prompt", f"{named} was not certified")
        if asked.tool_loop and not self.tool_loops:
            return Uncovered("tool_loop", "no conversation with tool calls was certified")
        if asked.tools and not self.tools:
            return Uncovered("tools", "no request that declares tools was certified")
        if asked.response_format not in self.response_formats:
            return Uncovered(
                "response_format", f"the response format {asked.response_format or 'text'} was not certified"
            )
        if asked.turns > self.turns:
            return Uncovered("turns", f"{asked.turns} turns of the user, and at most {self.turns} were certified")
        if asked.prefilled and not self.prefilled:
            return Uncovered("prefilled", "no conversation that ends in the assistant's turn was certified")
        if asked.max_tokens is not None and self.max_tokens is not None and asked.max_tokens < self.max_tokens:
            return Uncovered(
                "max_tokens", f"{asked.max_tokens} tokens at most, and no fewer than {self.max_tokens} were certified"
            )
        if distance is not None and self.novelty is not None and distance > self.novelty:
            return Uncovered(
                "novelty",
                f"the prompt lies {distance:.2f} from the training data, and up to {self.novelty:.2f} was certified",
            )
        return None

    def _same_decoding(self, asked: Conditions, defaults: Sequence[Mapping[str, Any]]) -> bool:
        wanted = [asked.effective_decoding(own) for own in defaults]
        return any(
            wanted == [Conditions(decoding=known).effective_decoding(own) for own in defaults]
            for known in self.decodings
        )

    def summary(self) -> str:
        """Return the conditions in words, for a report and a banner."""
        decodings = ", ".join(known or "the tiers' own" for known in self.decodings)
        hashes = [known[:12] if known else "none" for known in self.system_prompts]
        formats = ", ".join(known or "text" for known in self.response_formats)
        parts = [
            f"decoding {decodings}",
            f"system prompt {' or '.join(hashes)}",
            f"up to {self.turns} turn{'s' if self.turns > 1 else ''}",
            f"format {formats}",
            f"tools {'yes' if self.tools else 'no'}",
            f"tool loops {'yes' if self.tool_loops else 'no'}",
        ]
        parts += [] if self.novelty is None else [f"distance up to {self.novelty:.2f}"]
        parts += [] if self.max_tokens is None else [f"max_tokens from {self.max_tokens}"]
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able data; `from_json` gives an equal coverage back. Its hash is bound by the certificate."""
        return {
            "decodings": list(self.decodings),
            "system_prompts": list(self.system_prompts),
            "turns": self.turns,
            "tools": self.tools,
            "response_formats": list(self.response_formats),
            "tool_loops": self.tool_loops,
            "prefilled": self.prefilled,
            "max_tokens": self.max_tokens,
            "novelty": self.novelty,
            "n": self.n,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Coverage:
        """Read what `to_json` wrote; ValueError where something is missing or of the wrong kind."""
        try:
            return cls(
                tuple(str(known) for known in data["decodings"]),
                tuple(str(known) for known in data["system_prompts"]),
                int(data["turns"]),
                bool(data["tools"]),
                tuple(str(known) for known in data["response_formats"]),
                bool(data["tool_loops"]),
                bool(data["prefilled"]),
                None if data["max_tokens"] is None else int(data["max_tokens"]),
                None if data["novelty"] is None else float(data["novelty"]),
                int(data["n"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a certificate's coverage cannot be read: {error!r}") from error
