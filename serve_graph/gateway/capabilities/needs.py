"""What a request needs of a tier beyond text: read from every message, part and option. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from router_models.types import Query

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
        return f"router and verifier see nothing of {named_needs(self.unseen)}"

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


def named_needs(needs: Collection[str]) -> str:
    """Name what a request needs, for a sentence."""
    return in_words([NAMES[need] for need in sorted(needs)])


def in_words(names: Sequence[str]) -> str:
    """Return a list as a sentence has it: `a, b and c`."""
    *most, last = names or ("nothing",)
    return f"{', '.join(most)} and {last}" if most else last
