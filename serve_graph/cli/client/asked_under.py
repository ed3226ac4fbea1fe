"""`--system-prompt` and `--decoding`: under what else tasks are asked, one way for each, drawn by hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from router_models.data.formats.text_files import read_text
from router_models.data.starter import Task
from router_models.data.starter.task import REQUEST_FIELDS
from router_models.errors import DataError
from router_models.types.chat_prompts import routed_text
from router_models.types.conditions import SYSTEM_ROLES
from serve_graph.cli.client.task_requests import check_decoding
from serve_graph.errors import ServeGraphError

NO_SYSTEM_PROMPT = "none"
TIERS_OWN = "default"


def read_system_prompts(given: Sequence[str]) -> list[str | None]:
    """Read `--system-prompt`: files of text, or `none`; line breaks at a file's end are not part of it."""
    found: list[str | None] = []
    for name in given:
        if name == NO_SYSTEM_PROMPT:
            found.append(None)
            continue
        try:
            text = read_text(Path(name)).rstrip("\r\n")
        except DataError as error:
            raise ServeGraphError(f"--system-prompt: {error}") from error
        if not text.strip():
            raise ServeGraphError(f"--system-prompt: {name} holds no text; `--system-prompt none` asks without one")
        found.append(text)
    return _each_once(found, "--system-prompt")


def read_decodings(given: Sequence[str]) -> list[dict[str, Any]]:
    """Read `--decoding`: `name=value,…`, a JSON object, or `default` for none."""
    found = []
    for text in given:
        try:
            settings = {} if text.strip() == TIERS_OWN else _settings(text)
            check_decoding(settings)
        except ValueError as error:
            raise ServeGraphError(f"--decoding {text!r}: {' '.join(str(error).split())}") from error
        found.append(settings)
    return _each_once(found, "--decoding")


def asked_under(
    tasks: Sequence[Task], system_prompts: Sequence[str | None], decodings: Sequence[Mapping[str, Any]]
) -> list[Task]:
    """Give every task one combination of a system prompt and a decoding, drawn by the hash of its prompt id.

    The draw is the same in every run, in whatever order tasks come. What a task brings itself, it keeps.
    """
    ways = list(product(system_prompts or [None], decodings or [{}]))
    return [_asked(task, *ways[_drawn(task.prompt_id, len(ways))]) for task in tasks]


def _asked(task: Task, system_prompt: str | None, decoding: Mapping[str, Any]) -> Task:
    if system_prompt is not None and not any(message["role"] in SYSTEM_ROLES for message in task.chat):
        chat = [{"role": "system", "content": system_prompt}, *task.chat]
        task = replace(task, messages=tuple(chat), prompt=routed_text(chat))
    if decoding and set(task.parameters) <= set(REQUEST_FIELDS):
        task = replace(task, parameters={**task.parameters, **decoding})
    return task


def _drawn(key: str, n: int) -> int:
    return int.from_bytes(hashlib.sha256(f"asked under:{key}".encode()).digest()[:8], "big") % n


def _settings(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        found = json.loads(text)
        return dict(found)
    settings: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value:
            raise ValueError(
                f"{part.strip()!r} is not name=value; several are separated by commas, and values that hold commas "
                'need JSON: {"stop": ["a", "b"]}'
            )
        if name in settings:
            raise ValueError(f"{name!r} stands twice")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _each_once(found: list[Any], option: str) -> list[Any]:
    for i, one in enumerate(found):
        if one in found[:i]:
            raise ServeGraphError(f"{option}: {i + 1} values, and two are the same: every one needs to be another")
    return found
