"""Files and datasets in a store that speaks S3 (moto's server), by pyarrow's client as batches use it."""

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import openai
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from serve_graph.cli.batch.command import app
from serve_graph.cli.local.launch import free_port
from serve_graph.records.batches.file_storage import FileStorage, pieces_of
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cluster.batches.batch_graph import OPEN_STATUSES, BatchGraph, jsonl, line

BUCKET = "bucket"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass(frozen=True)
class Store:
    """The server, as a test looks into it."""

    port: int
    objects: Any

    def uri(self, path: str, bucket: str = BUCKET) -> str:
        where = quote(f"127.0.0.1:{self.port}")
        return f"s3://{bucket}/{path}?scheme=http&region=us-east-1&endpoint_override={where}"

    def names(self, folder: str) -> list[str]:
        chosen = pafs.FileSelector(f"{BUCKET}/{folder}", recursive=True, allow_not_found=True)
        return sorted(found.base_name for found in self.objects.get_file_info(chosen) if found.is_file)

    def put(self, path: str, content: bytes) -> None:
        with self.objects.open_output_stream(f"{BUCKET}/{path}") as file:
            file.write(content)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    port = free_port()
    with (tmp_path_factory.mktemp("s3") / "server.log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=os.environ | CREDENTIALS)
        try:
            until_it_answers(server, f"http://127.0.0.1:{port}", Path(log.name))
            at = f"127.0.0.1:{port}"
            objects = pafs.S3FileSystem(
                endpoint_override=at, scheme="http", region="us-east-1", allow_bucket_creation=True
            )
            objects.create_dir(BUCKET)
            yield Store(port, objects)
        finally:
            server.terminate()
            server.wait(30)


def until_it_answers(server: subprocess.Popen[Any], url: str, log: Path, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while True:
        assert server.poll() is None, log.read_text()
        try:
            httpx.get(url, timeout=5)
        except httpx.HTTPError:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        else:
            return


@pytest.fixture
async def batches(
    s3: Store, tmp_path: Path, new_store: Callable[[Path], str]
) -> AsyncIterator[Callable[..., BatchGraph]]:
    """Make a graph whose callers' files are in the store; keywords are those of `batches` in its configuration."""
    made: list[BatchGraph] = []

    def make(files: str, **settings: Any) -> BatchGraph:
        keys = ({"name": "ann"}, {"name": "bob"})
        made.append(BatchGraph(tmp_path, new_store(tmp_path / "decisions.db"), keys, {"files": files, **settings}))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def by_client(at: BatchGraph, asked: Callable[[openai.OpenAI], Any], key: str = "ann") -> Any:
    """What the official client makes of a graph while its batches are worked on."""

    def ask(url: str) -> Any:
        with openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0, timeout=60) as client:
            return asked(client)

    async with at.working():
        with listening(at.app) as url:
            return await asyncio.to_thread(ask, url)


async def test_files_of_callers_and_results_of_batches_are_objects(
    s3: Store, batches: Callable[..., BatchGraph]
) -> None:
    at = batches(s3.uri("callers/files"))
    content = jsonl(*(line(n) for n in range(5)), line(9, model="nope", messages=[]))

    def all_of_it(client: openai.OpenAI) -> Any:
        file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
        assert s3.names("callers/files") == [file.id]
        assert client.files.content(file.id).read() == content
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while batch.status in OPEN_STATUSES:
            batch = client.batches.retrieve(batch.id)
        results = [batch.output_file_id or "", batch.error_file_id or ""]
        assert s3.names("callers/files") == sorted([file.id, *results])
        texts = [client.files.content(one).text for one in results]
        for one in (file.id, *results):
            assert client.files.delete(one).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(file.id)
        return batch, [[json.loads(one) for one in text.splitlines()] for text in texts]

    batch, (outputs, errors) = await by_client(at, all_of_it)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 1)
    assert [one["custom_id"] for one in outputs] == [f"row-{n}" for n in range(5)]
    assert [one["custom_id"] for one in errors] == ["row-9"]
    assert s3.names("callers/files") == []


async def test_a_file_of_many_pieces_comes_back_as_it_went_and_to_its_owner_alone(
    s3: Store, batches: Callable[..., BatchGraph]
) -> None:
    at = batches(s3.uri("large"))
    content = b"".join(b"%08d %s\n" % (n, b"x" * 1000) for n in range(12_000))  # more than S3 takes in one part

    def own(client: openai.OpenAI) -> str:
        file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
        assert (file.bytes, client.files.content(file.id).read()) == (len(content), content)
        return file.id

    def foreign(client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            client.files.content(kept)

    kept = await by_client(at, own)
    await by_client(at, foreign, "bob")
    assert s3.names("large") == [kept]


async def test_a_store_that_refuses_is_503_and_keeps_no_file(s3: Store, batches: Callable[..., BatchGraph]) -> None:
    at = batches(s3.uri("files", bucket="there-is-none"))

    def refused(client: openai.OpenAI) -> list[Any]:
        with pytest.raises(openai.InternalServerError) as raised:
            client.files.create(file=("in.jsonl", io.BytesIO(jsonl(line(1)))), purpose="batch")
        assert raised.value.status_code == 503
        return list(client.files.list())

    assert await by_client(at, refused) == []


def test_a_write_that_breaks_off_leaves_no_object_and_one_that_ends_takes_the_others_place(s3: Store) -> None:
    storage = FileStorage(s3.uri("broken"))

    def pieces() -> Iterator[bytes]:
        yield b"x" * (6 << 20)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        storage.write("a", pieces())
    assert s3.names("broken") == []
    for content in (b"one", b"another"):
        storage.write("a", [content])
    with storage.reading("a") as file:
        assert b"".join(pieces_of(file)) == b"another"
    storage.delete("a")
    storage.delete("a")
    with pytest.raises(FileNotFoundError), storage.reading("a"):
        pass


def test_a_dataset_is_read_where_it_is_and_its_next_rows_are_asked_alone(
    s3: Store, served: Callable[..., Any], tmp_path: Path
) -> None:
    for name, prompts in {"rows/a/1": ("one", "two"), "rows/b/2": ("three",), "others/3": ("never",)}.items():
        s3.put(f"{name}.jsonl", b"".join(json.dumps({"prompt": text}).encode() + b"\n" for text in prompts))
    for name, text, write in (
        ("more.parquet", "four", pq.write_table), ("more.csv", "five", pyarrow.csv.write_csv),
    ):  # fmt: skip
        made = io.BytesIO()
        write(pa.table({"prompt": [text]}), made)
        s3.put(name, made.getvalue())
    out = tmp_path / "out.parquet"
    inputs = [s3.uri("rows/**/*.jsonl"), s3.uri("more.parquet"), s3.uri("more.csv")]
    words = ["run", *inputs, "--url", served().url, "--json", "--out"]

    def asked() -> int:
        done = CliRunner().invoke(app, [*words, str(out)])
        assert done.exit_code == 0, done.exception
        return int(json.loads(done.stdout)["asked"])

    assert asked() == 5
    s3.put("rows/a/later.jsonl", b'{"prompt": "six"}\n')
    assert asked() == 1
    s3.put("results/out.parquet", out.read_bytes())
    with s3.objects.open_input_file(f"{BUCKET}/results/out.parquet") as file:
        rows = pq.read_table(file).to_pylist()
    assert [row["prompt"] for row in rows] == ["one", "two", "six", "three", "four", "five"]
    assert {row["answer"] for row in rows} == {"cheap says"}
    refused = CliRunner().invoke(app, [*words, s3.uri("results/out.jsonl")])
    assert "must be a path of this machine (its journal lies beside it): copy it then" in str(refused.exception)
    gone = CliRunner().invoke(app, ["run", s3.uri("nothing/*.jsonl"), "--out", str(out)])
    assert f"s3://{BUCKET}/nothing cannot be listed" in str(gone.exception)
