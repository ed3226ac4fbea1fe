"""The `openai` client over a real socket, unchanged: upload, create, wait, read, list, cancel, delete."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cluster.batches.batch_graph import OPEN_STATUSES, BatchGraph, jsonl, line


async def test_the_official_client_runs_a_batch(graph: Callable[..., BatchGraph]) -> None:
    at = graph(keys=({"name": "ann"}, {"name": "bob"}))

    def all_of_it(url: str) -> Any:
        with openai.OpenAI(api_key="ann", base_url=f"{url}/v1", max_retries=0, timeout=30) as client:
            content = jsonl(*(line(n) for n in range(5)), line(9, model="nope", messages=[]))
            file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
            assert client.files.retrieve(file.id) == file
            assert client.files.content(file.id).read() == content
            assert [one.id for one in client.files.list(limit=1)] == [file.id]
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
            )
            assert batch.status == "validating"
            while batch.status in OPEN_STATUSES:
                batch = client.batches.retrieve(batch.id)
            assert [one.id for one in client.batches.list(limit=1)] == [batch.id]
            with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
                client.batches.cancel(batch.id)
            with pytest.raises(openai.NotFoundError):
                client.batches.retrieve("batch_none")
            outputs = client.files.content(batch.output_file_id or "").text
            errors = client.files.content(batch.error_file_id or "").text
            assert client.files.delete(file.id).deleted
        with openai.OpenAI(api_key="bob", base_url=f"{url}/v1", max_retries=0, timeout=30) as other:
            with pytest.raises(openai.NotFoundError):
                other.batches.retrieve(batch.id)
            assert list(other.files.list()) == []
        return batch, [[json.loads(one) for one in text.splitlines()] for text in (outputs, errors)]

    async with at.working():
        with listening(at.app) as url:
            batch, (outputs, errors) = await asyncio.to_thread(all_of_it, url)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 1)
    assert [one["custom_id"] for one in outputs] == [f"row-{n}" for n in range(5)]
    answers = [openai.types.chat.ChatCompletion.model_validate(one["response"]["body"]) for one in outputs]
    assert {answer.choices[0].message.content for answer in answers} == {"cheap says"}
    assert errors[0]["response"]["status_code"] in (400, 404)
