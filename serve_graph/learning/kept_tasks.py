"""Kept prompts of decision records as tasks, with what they were asked under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from router_models.data.starter import Task
from router_models.data.starter.task import UNGRADED
from router_models.types import DecisionRecord
from router_models.types.chat_prompts import chat_of, routed_text

LABELS = ("domain", "category", "task", "family", "qset")
"""Metadata that says what a request is about: the first that is there becomes the task's `family`."""


def replayed_task(record: DecisionRecord, said: Counter[str]) -> Task | None:
    """The request of a record; None, and why, where it cannot be asked again."""
    asked: Mapping[str, Any] = record.evidence.get("asked") or {}
    if why := asked.get("not_kept"):
        said[f"left out, as the request was not kept whole ({why})"] += 1
        return None
    if not asked:
        said["of an earlier release, asked as one message without their conditions"] += 1
    parameters = dict(asked.get("parameters") or {})
    limit = parameters.pop("max_tokens", None)
    try:
        messages = chat_of(asked.get("messages") or [{"role": "user", "content": record.prompt or ""}]) or []
    except ValueError as error:
        said[f"left out ({error})"] += 1
        return None
    alone = len(messages) == 1 and messages[0] == {"role": "user", "content": routed_text(messages)}
    return Task(
        id=record.id,
        prompt=routed_text(messages),
        family=next((record.metadata[name] for name in LABELS if record.metadata.get(name)), ""),
        difficulty=0,
        language=record.metadata.get("language", ""),
        grader=UNGRADED,
        reference={},
        solution="",
        max_tokens=limit if isinstance(limit, int) else None,
        messages=() if alone else tuple(messages),
        parameters=parameters,
    )
