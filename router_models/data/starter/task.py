"""Tasks: one request each, with everything that a program needs to grade an answer to it.

Tasks are data: `to_json` and `from_json` are inverse, so a task set is stored as JSON lines. A generated task's id is
the hash of its question alone: the same question has the same id in every run and on every machine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router_models.data.splits import prompt_id
from router_models.types import Query
from router_models.types.chat_prompts import chat_of, plain_text, read_message, routed_text

LANGUAGES = ("en", "de", "es")
REQUEST_FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
"""What a task may carry of a request beside its messages and `decoding`, under the request's own names."""
ID_VERSION = 1
"""How `Task.prompt_id` is made. Collected tables, and runs that go on, know their rows by it: ids of another make have
to begin with their version and a colon, so that both can be read.
"""
UNGRADED = ""
"""The grader of a task whose answers people or a judge are to label."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Hold what a family draws: a question, how to grade it, and an answer known to be right."""

    prompt: str
    grader: str
    reference: Mapping[str, object]
    solution: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Task:
    """Hold one request whose answers can be graded.

    Parameters
    ----------
    id : str
        Names the task in messages; of generated ones a hash of the question.
    prompt : str
        The question; of a conversation its routed text.
    family : str
        The family that drew it.
    difficulty : int
        From 1 (easiest) to 5: the author's estimate within the family, not a measurement.
    language : str
        One of `LANGUAGES`.
    grader : str
        A name in `graders.GRADERS`, or `UNGRADED`.
    reference : mapping
        The JSON-serialisable value that the grader needs.
    solution : str
        An answer that the grader accepts; for tests only, never shown to a model.
    max_tokens : int, optional
        The length that an answer needs at most; None: what the tier permits.
    messages : tuple of mapping
        The chat to send, in OpenAI's form, where the prompt is a conversation; `prompt` is then its routed text.
    parameters : mapping
        What the request carries besides, in OpenAI's names: `REQUEST_FIELDS` and the sampling settings.
    """

    id: str
    prompt: str
    family: str
    difficulty: int
    language: str
    grader: str
    reference: Mapping[str, object]
    solution: str
    max_tokens: int | None
    messages: tuple[Mapping[str, Any], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chat(self) -> list[dict[str, Any]]:
        """Return the messages to send."""
        return [dict(message) for message in self.messages] or [{"role": "user", "content": self.prompt}]

    @property
    def question(self) -> str:
        """Return what is asked last: the text of the last user message, or the prompt where there is none."""
        asked = [plain_text(one.get("content")) for one in self.messages if one.get("role") == "user"]
        return asked[-1] if asked else self.prompt

    @property
    def query(self) -> Query:
        """Return the request as the endpoint reads it."""
        return Query(tuple(map(read_message, self.chat)), {}, {**self.carried, "messages": self.chat})

    @property
    def carried(self) -> dict[str, Any]:
        """Return all that the request carries beside its messages."""
        limit = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return {**self.parameters, **limit}

    @property
    def prompt_id(self) -> str:
        """Return the identifier of the request: the prompt's own where it is one user message and nothing else.

        Otherwise the messages' roles and texts count (case, white space and Unicode form do not matter but in system
        prompts), and all that the request carries but its length. The order of members does not (`ID_VERSION` 1), also
        inside schemas, where it decides what engines write: what tells such requests apart on rows, and for a
        certificate, are the conditions that they were asked under (`types.declared`), which have it.
        """
        plain = not self.messages or (len(self.messages) == 1 and set(self.messages[0]) <= {"role", "content"})
        if plain and not self.parameters and self.chat[0]["role"] == "user":
            return prompt_id(self.prompt)
        asked = json.dumps([_identified(self.chat), dict(self.parameters)], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, object]:
        """Return the task as a dict of JSON types."""
        said = {"messages": self.chat} if self.messages else {"prompt": self.prompt}
        carried = {name: value for name, value in self.parameters.items() if name in REQUEST_FIELDS}
        decoding = {name: value for name, value in self.parameters.items() if name not in REQUEST_FIELDS}
        return {
            "id": self.id,
            **said,
            **carried,
            **({"decoding": decoding} if decoding else {}),
            "family": self.family,
            "difficulty": self.difficulty,
            "language": self.language,
            "grader": self.grader,
            "reference": dict(self.reference),
            "solution": self.solution,
            "max_tokens": self.max_tokens,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "Task":
        """Rebuild a task from `to_json`; raise ValueError when a field is missing or of the wrong type."""
        return cls(
            id=_text(data, "id"),
            **_asked(data),
            **_graded(data),
            family=_text(data, "family"),
            difficulty=_whole(data, "difficulty"),
            language=_text(data, "language"),
            max_tokens=None if data.get("max_tokens") is None else _whole(data, "max_tokens"),
        )


def task_id(prompt: str) -> str:
    """Return the 16 hex digits that name a prompt."""
    return hashlib.sha256(prompt.encode("utf-8")).hexdigest()[:16]


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise ValueError(f"task {data.get('id')!r}: {key!r} must be a string, got {value!r}")
    return value


def _whole(data: Mapping[str, object], key: str) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"task {data.get('id')!r}: {key!r} must be an integer, got {value!r}")
    return value


def _asked(data: Mapping[str, object]) -> dict[str, Any]:
    """Read what is asked: `prompt` or `messages`, and what the request carries."""
    if "messages" in data and "prompt" in data:
        raise ValueError("give 'prompt' or 'messages', not both")
    prompt = data.get("messages", data.get("prompt"))
    if "messages" in data and not isinstance(prompt, list):
        raise ValueError(f"'messages' must be a list of chat messages, got {prompt!r:.60}")
    messages = chat_of(prompt) if isinstance(prompt, str | list) else None
    decoding = data.get("decoding") or {}
    if not isinstance(decoding, Mapping):
        raise ValueError(f"'decoding' must be an object such as {{\"temperature\": 0.7}}, got {decoding!r:.60}")
    carried = {name: data[name] for name in REQUEST_FIELDS if data.get(name) is not None}
    return {
        "prompt": _text(data, "prompt") if messages is None else routed_text(messages),
        "messages": tuple(messages or ()),
        "parameters": {**carried, **{str(key): value for key, value in decoding.items() if value is not None}},
    }


def _graded(data: Mapping[str, object]) -> dict[str, Any]:
    """Read how answers are graded; without a grader and a reference they are not."""
    reference = data.get("reference")
    if data.get("grader") in (None, UNGRADED):
        if reference:
            raise ValueError(f"task {data.get('id')!r}: a 'reference' needs a 'grader' that reads it")
        return {"grader": UNGRADED, "reference": {}, "solution": ""}
    if not isinstance(reference, Mapping):
        raise ValueError(f"task {data.get('id')!r}: 'reference' must be an object")
    return {
        "grader": _text(data, "grader"),
        "reference": {str(key): value for key, value in reference.items()},
        "solution": _text(data, "solution"),
    }


def _identified(chat: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with what tells two requests apart: system prompts to the letter, other texts by their ids."""
    return [
        {name: value for name, value in one.items() if name != "content"}
        | {"content": text if one["role"] in ("system", "developer") else prompt_id(text)}
        for one in chat
        for text in [plain_text(one.get("content"))]
    ]
