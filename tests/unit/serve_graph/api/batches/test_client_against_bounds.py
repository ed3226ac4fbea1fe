"""The `openai` client, unchanged, on every endpoint of a batch, and against everything that bounds one."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from serve_graph.cascade.fakes import FakeEmbedder, FakeEngine
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, OPEN_STATUSES, BatchGraph, jsonl, line

Graphs = Callable[..., BatchGraph]
ENDPOINTS: dict[str, tuple[dict[str, Any], type[Any]]] = {
    CHAT: ({"messages": [{"role": "user", "content": "x"}]}, ChatCompletion),
    "/v1/completions": ({"prompt": "x"}, Completion),
    "/v1/responses": ({"input": "x"}, Response),
    "/v1/embeddings": ({"input": ["x", "y"]}, CreateEmbeddingResponse),
}


async def over_a_socket(at: BatchGraph, use: Callable[[Callable[[str], openai.OpenAI]], Any]) -> Any:
    """Run what uses clients, each with its key, in a thread beside the graph and its worker."""

    def whole(url: str) -> Any:
        made: list[openai.OpenAI] = []

        def client(key: str) -> openai.OpenAI:
            made.append(openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0, timeout=30))
            return made[-1]

        try:
            return use(client)
        finally:
            for one in made:
                one.close()

    async with at.working():
        with listening(at.app) as url:
            return await asyncio.to_thread(whole, url)


def begun(client: openai.OpenAI, content: bytes, endpoint: Any = CHAT) -> Any:
    file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")


def ended(client: openai.OpenAI, batch: Any) -> Any:
    while batch.status in OPEN_STATUSES:
        batch = client.batches.retrieve(batch.id)
    return batch


def lines_of(client: openai.OpenAI, file: str | None) -> list[dict[str, Any]]:
    return [] if file is None else [json.loads(text) for text in client.files.content(file).text.splitlines()]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_endpoint_answers_in_the_clients_own_types(graph: Graphs, endpoint: str) -> None:
    asked, shape = ENDPOINTS[endpoint]
    at = graph(keys=({"name": "ann"},), fakes={"embedder": FakeEmbedder()})
    given = [line(1, endpoint, model="auto", **asked), line(2, endpoint, model="auto"), line(3, endpoint, stream=True)]

    def use(clients: Callable[[str], openai.OpenAI]) -> Any:
        batch = ended(client := clients("ann"), begun(clients("ann"), jsonl(*given), endpoint))
        return batch, lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)

    batch, outputs, errors = await over_a_socket(at, use)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 2)
    assert shape.model_validate(outputs[0]["response"]["body"])
    assert {one["custom_id"]: one["response"]["status_code"] for one in errors} == {"row-2": 400, "row-3": 400}
    assert all(one["response"]["body"]["error"]["message"] for one in errors)


async def test_what_is_too_much_empty_or_twice_fails_with_its_code(graph: Graphs) -> None:
    at = graph(keys=({"name": "ann"},), batches={"max_lines": 3, "max_file_bytes": 4096})
    twice = jsonl(line(1), {**line(2), "custom_id": "row-1"})
    files = {
        "empty_file": b"",
        "too_many_tasks": jsonl(*(line(n) for n in range(4))),
        "duplicate_custom_id": twice,
        "invalid_json_line": jsonl(line(1)) + b"{nonsense",
        "url_mismatch": jsonl(line(1, "/v1/embeddings", model="auto", input="x")),
    }

    def use(clients: Callable[[str], openai.OpenAI]) -> dict[str, Any]:
        client = clients("ann")
        with pytest.raises(openai.APIStatusError) as large:
            begun(client, b"x" * 5000)
        assert large.value.status_code == 413
        with pytest.raises(openai.BadRequestError):
            begun(client, jsonl(line(1)), "/v1/moderations")
        return {code: ended(client, begun(client, content)) for code, content in files.items()}

    for code, batch in (await over_a_socket(at, use)).items():
        assert (batch.status, batch.output_file_id) == ("failed", None), code
        assert [error.code for error in batch.errors.data] == [code]
    assert at.sink.records == []


async def test_others_files_and_batches_are_not_there(graph: Graphs) -> None:
    at = graph(keys=({"name": "ann"}, {"name": "eve"}), fakes={"cheap": FakeEngine("x", slow_s=0.02)})

    def use(clients: Callable[[str], openai.OpenAI]) -> None:
        ann, eve = clients("ann"), clients("eve")
        batch = begun(ann, jsonl(*(line(n) for n in range(20))))
        attempts: list[Callable[[], Any]] = [
            lambda: eve.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"),
            lambda: eve.batches.cancel(batch.id),
            lambda: eve.batches.retrieve(batch.id),
            lambda: eve.batches.list(after=batch.id),
            lambda: eve.files.content(batch.input_file_id),
            lambda: eve.files.delete(batch.input_file_id),
            lambda: eve.files.list(after=batch.input_file_id),
        ]
        for attempt in attempts:
            with pytest.raises(openai.NotFoundError):
                attempt()
        batch = ended(ann, batch)
        with pytest.raises(openai.NotFoundError):
            eve.files.content(batch.output_file_id)
        assert batch.request_counts.completed == 20
        assert list(eve.batches.list()) == list(eve.files.list()) == []

    await over_a_socket(at, use)


async def test_a_cancelled_batch_has_what_was_done_and_a_file_in_use_stays(graph: Graphs) -> None:
    at = graph(
        keys=({"name": "ann"},), batches={"concurrency": 1, "beside": 1}, fakes={"cheap": FakeEngine("x", slow_s=0.05)}
    )

    def use(clients: Callable[[str], openai.OpenAI]) -> None:
        client = clients("ann")
        batch = begun(client, jsonl(*(line(n) for n in range(30))))
        while not batch.request_counts or not batch.request_counts.completed:
            batch = client.batches.retrieve(batch.id)
        with pytest.raises(openai.BadRequestError, match="is read by"):
            client.files.delete(batch.input_file_id)
        batch = ended(client, client.batches.cancel(batch.id))
        done, left = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
        assert (batch.status, len(done) + len(left)) == ("cancelled", 30)
        assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
        assert client.files.delete(batch.input_file_id).deleted

    await over_a_socket(at, use)
