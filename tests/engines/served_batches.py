"""Batches at a running graph by the official client, and what its store says of them."""

import io
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai


def batch_line(name: str, prompt: str, model: str = "auto", most: int = 24) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": most, "temperature": 0}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def begun(client: openai.OpenAI, *lines: dict[str, Any] | str) -> openai.types.Batch:
    content = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines).encode()
    file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def reached(client: openai.OpenAI, batch: openai.types.Batch, done: Callable[[Any], bool]) -> openai.types.Batch:
    give_up = time.monotonic() + 240
    while not done(batch):
        assert time.monotonic() < give_up, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def has_ended(batch: openai.types.Batch) -> bool:
    return batch.status in ("completed", "failed", "cancelled", "expired")


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(one) for one in client.files.content(file_id or "").text.splitlines()]


def window_over(state: Path, batch: str) -> None:
    """Have a batch's 24 hours be over now: OpenAI's API has no shorter window."""
    with sqlite3.connect(state / "decisions.db", timeout=30) as db:
        changed = db.execute("update batches set expires_ms = ? where id = ?", (time.time_ns() // 1_000_000, batch))
        assert changed.rowcount == 1


def recorded(state: Path, decisions: list[str]) -> dict[str, tuple[str, str]]:
    """The tier and outcome of decisions in the store, once all are there."""
    give_up, marks = time.monotonic() + 20, ", ".join("?" * len(decisions))
    while True:
        with sqlite3.connect(state / "decisions.db", timeout=30) as db:
            rows = db.execute(f"select id, tier, outcome from decisions where id in ({marks})", decisions).fetchall()
        if len(rows) == len(decisions):
            return {name: (tier, outcome) for name, tier, outcome in rows}
        assert time.monotonic() < give_up, f"{len(rows)} of {len(decisions)} decisions were recorded"
        time.sleep(0.2)
