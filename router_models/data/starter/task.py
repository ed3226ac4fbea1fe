"""Tasks: one prompt each, with everything that a program needs to grade an answer to it.

Tasks are data: `to_json` and `from_json` are inverse, so a task set is stored as JSON lines. The id is a hash
of the prompt alone: the same question has the same id in every run and on every machine.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from router_models.types.chat_prompts import chat_of, routed_text

LANGUAGES = ("en", "de", "es")


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
    """Hold one gradable prompt.

    Parameters
    ----------
    id : str
        A hash of the prompt.
    prompt : str
        The question.
    family : str
        The family that drew it.
    difficulty : int
        From 1 (easiest) to 5: the author's estimate within the family, not a measurement.
    language : str
        One of `LANGUAGES`.
    grader : str
        A name in `graders.GRADERS`.
    reference : mapping
        The JSON-serialisable value that the grader needs.
    solution : str
        An answer that the grader accepts; for tests only, never shown to a model.
    max_tokens : int
        The length that an answer needs at most.
    messages : tuple of mapping
        The chat to send, in OpenAI's form, where the prompt is a conversation; `prompt` is then its routed text.
    """

    id: str
    prompt: str
    family: str
    difficulty: int
    language: str
    grader: str
    reference: Mapping[str, object]
    solution: str
    max_tokens: int
    messages: tuple[Mapping[str, object], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the task as a dict of JSON types."""
        return {
            "id": self.id,
            "prompt": [dict(message) for message in self.messages] or self.prompt,
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
        reference = data.get("reference")
        if not isinstance(reference, Mapping):
            raise ValueError(f"task {data.get('id')!r}: 'reference' must be an object")
        prompt = data.get("prompt")
        messages = chat_of(prompt) if isinstance(prompt, str | list) else None
        return cls(
            id=_text(data, "id"),
            prompt=_text(data, "prompt") if messages is None else routed_text(messages),
            family=_text(data, "family"),
            difficulty=_whole(data, "difficulty"),
            language=_text(data, "language"),
            grader=_text(data, "grader"),
            reference={str(key): value for key, value in reference.items()},
            solution=_text(data, "solution"),
            max_tokens=_whole(data, "max_tokens"),
            messages=tuple(messages or ()),
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
