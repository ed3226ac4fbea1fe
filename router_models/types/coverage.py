"""What a certificate was proved on, as far as a request shows it; and whether a request is part of that.

A bound on a risk holds for the distribution that the CERT rows were drawn from. What of that distribution can be seen
on a request is checked on each. `versions.covering` says which conditions a certificate's rows cover.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router_models.types.conditions import Conditions
from router_models.types.declared import LARGE, PLAIN_FORMATS
from router_models.types.text_coverage import NOT_COMPARED, TextCoverage

LONGEST_NAME, MOST_NAMES = 40, 8
"""What is said of a request's own words at most: reasons are recorded, prompts are not."""


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
        The least length that a request may permit: what the rows permitted, or their longest answer; None: they left
        it to the tiers, and lengths are not known.
    novelty : float, optional
        The largest distance from the training data; None: it is not measured.
    n : int
        CERT rows under these conditions.
    least_turns : int
        The fewest turns of the user.
    only_tools, only_tool_loops, only_prefilled : bool
        Whether all rows declared tools, held calls or results, ended in a begun answer: others are not covered then.
    own_limits : bool
        Whether rows left the length to the tiers, so that requests may.
    left_out : tuple of (str, int)
        CERT rows that do not count, by the reason why they are not covered.
    most_tokens : int, optional
        The largest length that rows permitted themselves; None: they left it to the tiers, or it is not known. Of
        requests that permit more, no longer answer is covered (`longest_answer`).
    text : TextCoverage
        What of a prompt's text was certified beyond its distance.
    declared : tuple of str
        sha256 of each set of tools that rows declared, in hex: others are not covered.
    schemas : tuple of str
        sha256 of each format's schema, in hex; an empty one: a format without.
    catalogue : str
        The digest of the catalogue of intents that was in force, by which some prompts were sent to a tier before the
        router was asked; '' = none was.
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
    least_turns: int = 1
    only_tools: bool = False
    only_tool_loops: bool = False
    only_prefilled: bool = False
    own_limits: bool = True
    left_out: tuple[tuple[str, int], ...] = ()
    most_tokens: int | None = None
    text: TextCoverage = NOT_COMPARED
    declared: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ("",)
    catalogue: str = ""

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
            Every tier's default sampling settings, on top of which a request's own count; `max_tokens` among them is
            the length of answers to requests, and of rows, that set none.
        """
        if asked.choices > 1:
            return Uncovered("choices", f"{asked.choices} choices are wanted, and answers were certified one by one")
        if asked.unread:
            return Uncovered("unread", f"its messages hold {asked.unread[:LONGEST_NAME]}, which no router reads")
        if asked.system_prompt not in self.system_prompts:
            named = f"the system prompt {asked.system_prompt[:12]}" if asked.system_prompt else "no system prompt"
            return Uncovered("system_prompt", f"{named} was not certified")
        if asked.tool_loop and not self.tool_loops:
            return Uncovered("tool_loop", "no conversation with tool calls was certified")
        if self.only_tool_loops and not asked.tool_loop:
            return Uncovered("tool_loop", "conversations with tool calls alone were certified")
        if asked.tools and not self.tools:
            return Uncovered("tools", "no request that declares tools was certified")
        if self.only_tools and not asked.tools:
            return Uncovered("tools", "requests that declare tools alone were certified")
        if asked.tools and asked.declared not in self.declared:
            return Uncovered("tools", _not_certified("tools", "were", asked.declared))
        if asked.decoding not in self.decodings and not self._same_decoding(asked, defaults):
            return Uncovered("decoding", f"the sampling settings {_settings_named(asked)} were not certified")
        if asked.response_format not in self.response_formats:
            named = asked.response_format[:LONGEST_NAME] or "text"
            return Uncovered("response_format", f"the response format {named} was not certified")
        if asked.schema not in self.schemas or (not asked.schema and asked.response_format not in PLAIN_FORMATS):
            return Uncovered("response_format", _not_certified("format's schema", "was", asked.schema))
        if asked.turns > self.turns:
            return Uncovered("turns", f"{asked.turns} turns of the user, and at most {self.turns} were certified")
        if asked.turns < self.least_turns:
            return Uncovered(
                "turns", f"{asked.turns} turns of the user, and {self.least_turns} or more were certified"
            )
        if asked.prefilled and not self.prefilled:
            return Uncovered("prefilled", "no conversation that ends in the assistant's turn was certified")
        if self.only_prefilled and not asked.prefilled:
            return Uncovered("prefilled", "conversations that end in the assistant's turn alone were certified")
        if asked.max_tokens is not None or not self.own_limits:
            for own in defaults:
                length, least = asked.max_tokens or own.get("max_tokens"), self.max_tokens or own.get("max_tokens")
                if self.own_limits and least is not None:
                    least = min(least, own.get("max_tokens") or least)  # no answer of this tier was longer
                if length is not None and least is not None and length < least:
                    return Uncovered(
                        "max_tokens", f"{length} tokens at most, and no fewer than {least} were certified"
                    )
        return None if distance is None else self.novel(distance)

    def longest_answer(self, asked: Conditions, defaults: Sequence[Mapping[str, Any]] = ({},)) -> int | None:
        """Return the tokens of the longest answer that is covered, where a request permits longer ones; else None.

        A longer answer would have been cut off when the rows were asked, so that none was judged. One that ends
        earlier is the answer that they got. `defaults` as for `uncovered`.
        """
        covered = []
        for own in defaults:
            permitted, left = asked.max_tokens or own.get("max_tokens"), own.get("max_tokens")
            known = [most for most in (self.most_tokens, left if self.own_limits else None) if most is not None]
            if permitted is not None and known and not (self.own_limits and left is None) and permitted > max(known):
                covered.append(max(known))
        return min(covered, default=None)

    def novel(self, distance: float) -> Uncovered | None:
        """Return that a prompt is novel where it lies farther from the training data than `novelty`; else None."""
        if self.novelty is None or distance <= self.novelty:
            return None
        far = f"the prompt lies {distance:.2f} from the training data"
        return Uncovered("novelty", f"novel: {far}, and up to {self.novelty:.2f} was certified")

    def unlike(
        self,
        drop: float | None,
        unfamiliar: float | None,
        unfamiliar_part: float | None = None,
        cut_drop: float | None = None,
        **short: float,
    ) -> Uncovered | None:
        """Return why a prompt's text is not covered, by what `TextModels` measures; None where it is."""
        found = self.text.uncovered(drop, unfamiliar, unfamiliar_part, cut_drop, **short)
        return None if found is None else Uncovered(*found)

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
            f"{f'{self.least_turns} ' if self.least_turns > 1 else ''}up to {self.turns} turn{'s'[: self.turns > 1]}",
            f"format {formats}{_hashes(self.schemas)}",
            f"tools {_either(self.tools, self.only_tools)}{_hashes(self.declared)}",
            f"tool loops {_either(self.tool_loops, self.only_tool_loops)}",
        ]
        parts += [f"begun answers {_either(True, self.only_prefilled)}"] if self.prefilled else []
        parts += [] if self.novelty is None else [f"distance up to {self.novelty:.2f}"]
        parts += [] if self.text.drop is None else [f"parts down to {self.text.drop:.2f} in log-odds"]
        parts += [] if self.text.cut_drop is None else [f"without a sentence down to {self.text.cut_drop:.2f}"]
        parts += [] if self.text.apart is None else [f"parts up to {self.text.apart:.2f} apart"]
        parts += [] if self.text.attacked is None else [self.text.attacked.summary()]
        parts += [] if self.text.unfamiliar is None else [f"unknown spelling up to {self.text.unfamiliar:.0%}"]
        parts += [] if self.max_tokens is None else [f"max_tokens from {self.max_tokens}"]
        parts += [] if self.most_tokens is None or self.own_limits else [f"answers up to {self.most_tokens} tokens"]
        parts += [f"beside the catalogue of intents {self.catalogue[:12]}"] if self.catalogue else []
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
            "least_turns": self.least_turns,
            "only_tools": self.only_tools,
            "only_tool_loops": self.only_tool_loops,
            "only_prefilled": self.only_prefilled,
            "own_limits": self.own_limits,
            "left_out": dict(self.left_out),
            **({} if self.most_tokens is None else {"most_tokens": self.most_tokens}),
            **({} if self.text == NOT_COMPARED else {"text": self.text.to_json()}),
            **({} if not self.declared else {"declared_tools": list(self.declared)}),
            **({} if self.schemas == ("",) else {"format_schemas": list(self.schemas)}),
            **({} if not self.catalogue else {"catalogue": self.catalogue}),
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
                int(data["least_turns"]),
                bool(data["only_tools"]),
                bool(data["only_tool_loops"]),
                bool(data["only_prefilled"]),
                bool(data["own_limits"]),
                tuple((str(reason), int(count)) for reason, count in data["left_out"].items()),
                None if data.get("most_tokens") is None else int(data["most_tokens"]),
                text=TextCoverage.from_json(data["text"]) if "text" in data else NOT_COMPARED,
                declared=tuple(str(known) for known in data.get("declared_tools", ())),
                schemas=tuple(str(known) for known in data.get("format_schemas", ("",))),
                catalogue=str(data.get("catalogue", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"a certificate's coverage cannot be read: {error!r}") from error


def _hashes(known: Sequence[str]) -> str:
    """Name digests by their first digits, for a line of words."""
    named = [one[:12] for one in known if one]
    return f" ({' or '.join(named)})" if named else ""


def _not_certified(what: str, were: str, digest: str) -> str:
    if digest == LARGE:
        return f"the {what} {were} too large to be compared"
    return f"the {what} {digest[:12]} {were} not certified" if digest else f"which {what} {were} sent is not known"


def _either(some: bool, always: bool) -> str:
    return "always" if always else "yes" if some else "no"


def _settings_named(asked: Conditions) -> str:
    """Name a request's sampling settings, with the values of those that are numbers."""
    if not asked.decoding:
        return "of the tiers"
    found = json.loads(asked.decoding).items()
    named = [f"{name[:LONGEST_NAME]}{f' {value:g}' if type(value) is float else ''}" for name, value in found]
    return ", ".join(named[:MOST_NAMES]) + (" and others" if len(named) > MOST_NAMES else "")
