"""What a request needs of a tier beyond text, and what of it no router or verifier has seen. Pure.

Routers and verifiers read text. Images, audio, video, files and parts of unknown kinds are invisible to both, so that
nothing is promised of a request that holds any, wherever in it: in any message, in a tool's result, in earlier turns,
or in what it wants back. A tier that does not declare what a request needs is never asked, but the last one where
it declares no modalities at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from router_models.types import Decision, Query
from serve_graph.config.tiers import TierConfig
from serve_graph.errors import RequestError
from serve_graph.gateway.rules import raised

MODALITY_OF: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("image_url", "input_image", "image", "image_file", "image_embeds", "output_image"), "image"),
        **dict.fromkeys(("input_audio", "audio", "audio_url", "audio_embeds", "output_audio"), "audio"),
        **dict.fromkeys(("video_url", "input_video", "video"), "video"),
        **dict.fromkeys(("file", "input_file", "file_url", "document", "document_url"), "file"),
    }
)
"""The modality of every part type that clients send; a part's own fields are named like them too."""
TEXT_PARTS = frozenset(
    {"text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking", "reasoning", "reasoning_text"}
)
NESTED_PARTS = frozenset({"tool_result", "function_call_output", "tool_use", "function_call"})
BESIDE_CONTENT: Mapping[str, str] = MappingProxyType(
    {"images": "image", "videos": "video", "files": "file", "attachments": "file", **MODALITY_OF}
)
"""The fields of a message, beside its content, that hold no text."""
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "image": "images",
        "audio": "audio",
        "video": "video",
        "file": "files",
        "tools": "tools",
        "json_schema": "JSON schemas",
        "reasoning": "a reasoning effort",
        "unknown": "parts of an unknown kind",
        "embedded": "encoded media in its text",
    }
)
_HOLDERS = ("text", "content", "output", "parts")
"""The fields of a part that hold text or parts."""
MODALITIES = frozenset({"image", "audio", "video", "file"})
PARAMETERS: Mapping[str, str] = MappingProxyType(
    {"tools": "tools", "json_schema": "response_format", "reasoning": "reasoning_effort"}
)
_BASE64 = (";base64", ";BASE64", ";Base64")
_EMBEDDED = re.compile(r"data:[^,\"'()<>\n]{0,200}?;base64(?:,|%2C)(?:[\w+/=-]{4}|\s{1,2}[\w+/=-]{24})", re.I)
_MEDIA_RESULT = re.compile(
    r"[\"'](?:mimeType|mime_type|mediaType|media_type)\\{0,3}[\"']\s{0,3}:\s{0,3}\\{0,3}[\"']"
    r"(?:image|audio|video|application\\{0,2}/(?:pdf|octet-stream|zip|msword|vnd\.))",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs: `capabilities` that a tier must declare, `unseen` what of it is no text, in sorted order.

    Kinds that nobody can declare (`unknown`, `embedded`) are in `unseen` alone.
    """

    capabilities: frozenset[str] = frozenset()
    unseen: tuple[str, ...] = ()

    @property
    def unmeasured(self) -> str | None:
        """Why nothing is promised of the request, in words; None where router and verifier see all of it."""
        if not self.unseen:
            return None
        return f"router and verifier see nothing of {_named(self.unseen)}"

    @property
    def needs_last(self) -> bool:
        """Whether only the last tier may be asked: no configuration can say which tier takes it."""
        return not MODALITIES.issuperset(self.unseen)


TEXT_ONLY = Needs()


def needs_of(query: Query) -> Needs:
    """Read everything that a request sends and asks for."""
    parameters = query.parameters
    messages = parameters.get("messages")
    found: set[str] = set()
    for message in [{"content": m.content} for m in query.messages] if messages is None else messages:
        found.update(_in_message(message))
    wanted = parameters.get("modalities") or ()
    found.update(_modality(kind) for kind in ([wanted] if isinstance(wanted, str) else wanted) if kind != "text")
    if parameters.get("audio"):
        found.add("audio")
    called = any(
        message.get("tool_calls") or message.get("role") in ("tool", "function") for message in messages or ()
    )
    declared = parameters.get("tools") or parameters.get("functions")
    needs = {
        "tools": called or (bool(declared) and parameters.get("tool_choice") != "none"),
        "json_schema": _type(parameters.get("response_format")) == "json_schema",
        "reasoning": any(_is_on(parameters.get(name)) for name in ("reasoning_effort", "reasoning", "thinking")),
    }
    capabilities = (found & MODALITIES) | {name for name, needed in needs.items() if needed}
    return Needs(frozenset(capabilities), tuple(sorted(found)))


def kind_of(part: Mapping[str, Any]) -> str | None:
    """The modality of a message's part, `unknown` for any other type; None for text and for what holds parts."""
    kind = part.get("type")
    fields = (modality for name, modality in MODALITY_OF.items() if part.get(name) is not None)
    modality = MODALITY_OF.get(str(kind)) or next(fields, None)
    return "unknown" if modality is None and kind not in TEXT_PARTS | NESTED_PARTS else modality


def capabilities_of(tiers: Sequence[TierConfig]) -> dict[str, frozenset[str]]:
    """What each tier of a configuration takes, as far as it says. The last one takes every modality unless it says:
    what no tier declares is its engine's to answer or to refuse, and never a cheaper tier's.
    """
    declared = {tier.name: tier.capabilities for tier in tiers}
    if tiers[-1].modalities is None:
        declared[tiers[-1].name] |= MODALITIES
    return declared


@dataclass(frozen=True, slots=True)
class CapableTiers:
    """Which tiers of a ladder can answer a request, and what becomes of a decision by that.

    `declared` is what each tier says that it takes; a tier that is not in it is taken to take everything.
    """

    ladder: tuple[str, ...]
    declared: Mapping[str, Collection[str]]
    needs: Needs = TEXT_ONLY

    @property
    def able(self) -> tuple[str, ...]:
        """The tiers that take the request, in the ladder's order; raises RequestError where none does."""
        found = tuple(tier for tier in self.ladder if not self.lacks(tier))
        if not found:
            raise self._refusal(f"no tier takes {self._wanted()}", "messages", self.ladder[-1])
        return found

    def lacks(self, tier: str) -> frozenset[str]:
        """What the request needs that this tier does not declare."""
        declared = self.declared.get(tier)
        return frozenset() if declared is None else self.needs.capabilities.difference(declared)

    def check_forced(self, tier: str) -> None:
        """Raise RequestError where a tier that was asked for by name does not take the request."""
        if lacking := self.lacks(tier):
            raise self._refusal(f"the tier {tier!r} does not take {_named(lacking)}", "model", tier)

    def check_floor(self, quality_floor: float) -> None:
        """Raise RequestError where the last tier, which alone may have this quality, does not take the request."""
        top = self.ladder[-1]
        if lacking := self.lacks(top):
            why = f"a quality floor of {quality_floor:g} needs {top!r}, which does not take {_named(lacking)}"
            raise self._refusal(why, "serve_graph", top)

    def apply(self, decision: Decision) -> Decision:
        """Move a decision up to the first tier that takes the request, and promise nothing of what was not measured.

        To the last tier where no tier can declare what the request holds. Raises RequestError where no tier from the
        chosen one up takes it: a cheaper one is not a choice that anybody has made.
        """
        able, needs, ladder = self.able, self.needs, self.ladder
        above = [tier for tier in able if ladder.index(tier) >= ladder.index(decision.tier)]
        if not above:
            raise self._refusal(
                f"{decision.tier!r} was chosen, and no tier from it up takes {self._wanted()}", "messages", ladder[-1]
            )
        unseen = needs.unmeasured
        if unseen is not None and needs.needs_last:
            decision = raised(decision, above[-1], unseen, ladder)
        elif lacking := self.lacks(decision.tier):
            why = f"{decision.tier} does not take {_named(lacking)}"
            decision = raised(decision, above[0], why, ladder)
        if unseen is None and ladder[-1] not in able:
            unseen = f"{ladder[-1]}, which would have the last word, does not take {self._wanted()}"
        if unseen is None:
            return decision
        return replace(decision, reason=f"{decision.reason}; nothing is promised: {unseen}", promised=False)

    def _wanted(self) -> str:
        return _named(self.needs.capabilities)

    def _refusal(self, problem: str, param: str, tier: str) -> RequestError:
        """A 400 for what `tier`, the last one that was considered, lacks: it names the setting that would help."""
        lacking, able = self.lacks(tier), [tier for tier in self.ladder if not self.lacks(tier)]
        media = lacking & MODALITIES
        takes = ((tier, self.declared.get(tier, ("anything",))) for tier in self.ladder)
        tiers = "; ".join(f"{tier} takes {_list(sorted(declared))}" for tier, declared in takes)
        known = f"tiers that do, by name: {', '.join(able)}" if able else tiers
        setting = f"modalities: [{', '.join(['text', *sorted(media)])}]" if media else f"{min(lacking)}: true"
        message = f"{problem} ({known}); the configuration declares `{setting}` of a tier whose model does"
        if param == "messages" and not media:
            param = PARAMETERS[min(lacking)]
        return RequestError(message, param, "unsupported_modality" if media else "unsupported_capability")


def _in_message(message: Mapping[str, Any]) -> Iterator[str]:
    """The kinds of everything in a message that is no text."""
    yield from _in_content(message.get("content"))
    for field, kind in BESIDE_CONTENT.items():
        if message.get(field):
            yield kind
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        yield from _in_content(function.get("arguments") if isinstance(function, Mapping) else None)
    if message.get("role") in ("tool", "function") and any(
        map(_MEDIA_RESULT.search, _texts_of(message.get("content")))
    ):
        yield "embedded"


def _texts_of(content: Any) -> Iterator[str]:
    """The texts of a message's content, in whatever it is nested."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for field in _HOLDERS:
            yield from _texts_of(content.get(field))
    elif isinstance(content, Sequence):
        for part in content:
            yield from _texts_of(part)


def _in_content(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        if any(mark in content for mark in _BASE64) and _EMBEDDED.search(content):
            yield "embedded"
    elif isinstance(content, Mapping):
        kind = kind_of(content)
        if kind is not None:
            yield kind
        for field in _HOLDERS:
            yield from _in_content(content.get(field))
    elif isinstance(content, Sequence):
        for part in content:
            yield from _in_content(part)


def _modality(kind: Any) -> str:
    return kind if isinstance(kind, str) and kind in MODALITIES else "unknown"


def _type(value: Any) -> Any:
    return value.get("type") if isinstance(value, Mapping) else None


def _is_on(effort: Any) -> bool:
    """Whether a reasoning effort, or an object that holds one, asks for any."""
    if isinstance(effort, Mapping):
        return (
            effort.get("type") != "disabled" and effort.get("effort") != "none" and effort.get("enabled") is not False
        )
    return effort not in (None, "none", False)


def _named(needs: Collection[str]) -> str:
    return _list([NAMES[need] for need in sorted(needs)])


def _list(names: Sequence[str]) -> str:
    *most, last = names or ("nothing",)
    return f"{', '.join(most)} and {last}" if most else last
