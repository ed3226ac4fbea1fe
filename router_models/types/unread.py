"""What of a conversation's messages models may read and no router does: it makes a request one that is not covered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types.chat_prompts import TEXT_PARTS, TOOL_ROLES
from router_models.types.declared import is_cache_hint

READ_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "function_call"})
"""What of a message is a condition of its own, or read by routers and verifiers."""
READ_OF_TEXT = frozenset({"type", "text"})
"""What of a part that is text is read."""
READ_OF_CALL = frozenset({"id", "type", "function", "custom"})
"""What of a call of a tool is read, or names the call."""
READ_OF_FUNCTION = frozenset({"name", "arguments", "input"})
MOST_CALLS = 10_000
"""The largest `index` that is the place of a call, and no message in digits."""
MEDIA_FIELDS = frozenset({"image", "images", "audio", "video", "videos", "file", "files", "attachments"})
"""What of a message is no text: which tier takes it, and that nothing is promised of it, is said elsewhere."""
UNREAD_PARTS = frozenset(
    {"refusal", "thinking", "redacted_thinking", "reasoning", "reasoning_text"}
    | {"tool_use", "tool_result", "function_call", "function_call_output"}
)
"""Types of parts that models read and routers do not: reasoning, and another API's calls and results."""
CALL_ID = re.compile(r"[\w.:|/+=-]{0,64}", re.ASCII)
MOST_WORDS, LONGEST_WORD = 6, 24
"""Words, and letters of each, that all ids of a conversation may hold beside functions' names (`call`, `toolu`,
`chatcmpl`, `tool`): more are a sentence.
"""
_WORD = re.compile(r"(?<![^\W_])[A-Za-z]{3,}(?![^\W_])")


def unread_of(sent: Sequence[Mapping[str, Any]]) -> str:
    """Name the first field of a message, of its text or of a call, or type of a part, that no router reads.

    Parameters
    ----------
    sent : sequence of mapping
        The messages in OpenAI's form. Fields without a value (null, empty) do not count.

    Returns
    -------
    str
        Empty: there is none.
    """
    ids: _Ids | None = None
    for message in sent:
        if not READ_FIELDS.issuperset(message):
            read = READ_FIELDS | MEDIA_FIELDS
            if message.get("role") in TOOL_ROLES:
                read |= {"name"}
            if found := _other(message, read):
                return found
        if "tool_calls" in message or "tool_call_id" in message or "function_call" in message:
            ids = ids or _Ids()
            if found := _of_calls(message, ids):
                return found
        content = message.get("content")
        if isinstance(content, list | tuple):
            for part in content:
                if isinstance(part, Mapping) and (found := _of_part(part)):
                    return found
    return ""


def _of_part(part: Mapping[str, Any]) -> str:
    kind = part.get("type") or "text"
    if kind in UNREAD_PARTS:
        return str(kind)
    if kind not in TEXT_PARTS or READ_OF_TEXT.issuperset(part):
        return ""
    return _other(part, READ_OF_TEXT)


def _other(members: Mapping[str, Any], read: frozenset[str]) -> str:
    """Name the first member that holds something that is not read and may change an answer; empty: none does."""
    return next(
        (str(name) for name, value in members.items() if name not in read and value and _says(name, value)), ""
    )


def _says(name: str, value: object) -> bool:
    if name == "cache_control":
        return not is_cache_hint(value)
    return not (name == "index" and isinstance(value, int) and 0 <= value <= MOST_CALLS)


class _Ids:
    """The ids of a conversation's calls: engines make them of random digits, a word or two and the function's name."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.words: set[str] = set()

    def say_nothing(self, given: object, function: str = "") -> bool:
        """Whether an id, taken together with those before, says nothing that a model could follow."""
        if given is None:
            return True
        if not isinstance(given, str) or CALL_ID.fullmatch(given) is None:
            return False
        if given in self.known:
            return True
        self.known.add(given)
        self.words.update(map(str.lower, _WORD.findall(given.replace(function, "", 1) if function else given)))
        return len(self.words) <= MOST_WORDS and all(len(word) <= LONGEST_WORD for word in self.words)


def _of_calls(message: Mapping[str, Any], ids: _Ids) -> str:
    calls, former = message.get("tool_calls") or (), message.get("function_call")
    if not isinstance(calls, list | tuple):
        return "tool_calls"
    for call in (*calls, *([{"function": former}] if former else ())):
        made = call.get("function") or call.get("custom") or {} if isinstance(call, Mapping) else None
        if not isinstance(made, Mapping):
            return "tool_calls"
        if call.get("function") and call.get("custom"):
            return "custom"
        if found := _other(call, READ_OF_CALL) or _other(made, READ_OF_FUNCTION):
            return found
        if not ids.say_nothing(call.get("id"), str(made.get("name") or "")) or not ids.say_nothing(call.get("type")):
            return "the id of a call"
    return "" if ids.say_nothing(message.get("tool_call_id")) else "tool_call_id"
