"""What datasets are made of in the field: stores, odd files, files that grow, disks that are full, interruptions."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.cli.batch import running
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.errors import ServeGraphError


def jsonl(path: Path, *prompts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


def prompts(*inputs: str) -> list[str]:
    return [row["prompt"] for row in Dataset.found(inputs).rows()]


def test_globs_of_a_store_match_as_those_of_paths(tmp_path: Path) -> None:
    for name in ("a1.jsonl", "a2.jsonl", "b1.jsonl", "deep/er/a3.jsonl", "a4.txt"):
        jsonl(tmp_path / "data" / name, name)
    base = f"file://{tmp_path}/data"
    for pattern in ("a*.jsonl", "[ab]1.jsonl", "[!a]*.jsonl", "a[^1].jsonl", "**/a*.jsonl", "deep/*/a3.jsonl"):
        assert prompts(f"{base}/{pattern}") == prompts(f"{tmp_path}/data/{pattern}"), pattern
    with pytest.raises(ServeGraphError, match="no file is named"):
        prompts(f"{base}/c*.jsonl")
    with pytest.raises(ServeGraphError, match="cannot be listed"):
        prompts(f"{base}/none/*.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.jsonl", b'{"prompt": ' + b"[" * 100_000, "line 1"),
        ("in.jsonl", '{"prompt": "x"}'.encode("utf-16"), "line 1"),
        ("in.csv", "prompt\nx".encode("utf-16"), "cannot be read"),
        ("in.csv", b'prompt\n"x', "cannot be read"),
        ("in.csv", b"prompt;n\nx;1", "neither `messages` nor text"),
        ("in.jsonl", b'{"prompt": 3}', "neither `messages` nor text"),
        ("in.jsonl", b'{"prompt": "x"}\n{"prompt": "y"', "line 2"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    served: Callable[..., Any], tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    at = served()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ServeGraphError, match=said):
        run_batch(Dataset.found([str(tmp_path / name)]), BatchOptions(at.url, tmp_path / "out.jsonl"), print)
    assert at.sink.records == []


def test_parquet_with_two_columns_of_one_name_is_said(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ServeGraphError, match="two columns 'prompt'"):
        list(Dataset.found([str(tmp_path / "in.parquet")]).rows())


def test_marks_line_ends_and_blank_lines_of_windows_are_read_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "x"}\r\n\r\n   \n{"prompt": "y"}\r\n')
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbfprompt\r\nz\r\n")
    assert prompts(str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")) == ["x", "y", "z"]


def test_rows_that_are_written_while_it_runs_are_the_next_runs(served: Callable[..., Any], tmp_path: Path) -> None:
    at, source = served(), jsonl(tmp_path / "in.jsonl", "a", "b")
    later = jsonl(tmp_path / "late.jsonl", "z")
    served_open = at.service.open

    def growing(*given: Any) -> Any:
        with source.open("a") as file:
            file.write('{"prompt": "new"}\n{"prompt": "half')
        at.service.open = served_open
        return served_open(*given)

    at.service.open = growing
    dataset = Dataset.found([str(source), str(later)])
    told = run_batch(dataset, BatchOptions(at.url, tmp_path / "out.jsonl", concurrency=1), print)
    assert (told["rows"], told["answered"], told["left"], told["written"]) == (3, 3, 0, 3)
    written = [json.loads(line)["prompt"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == ["a", "b", "z"]


def test_an_out_that_is_no_path_of_this_machine_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "in.jsonl", "a")
    done = CliRunner().invoke(app, ["batch", "run", str(source), "--out", "s3://bucket/out.jsonl"])
    assert "must be a path of this machine" in str(done.exception)
    assert not Path("s3:").exists()


FULL = """
import resource, signal, sys
from pathlib import Path
from serve_graph.cli import app, main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["serve-graph", *sys.argv[2:]]
main()
"""


def test_a_disk_that_is_full_is_one_line_and_loses_nothing(served: Callable[..., Any], tmp_path: Path) -> None:
    """The result is longer than a file may be; the journal, which holds each answer once, is not."""
    at = served()
    source = tmp_path / "in.jsonl"
    row = json.dumps({"prompt": "x", "more": "y" * 50_000})
    source.write_text(f"{row}\n" * 40)
    words = ["batch", "run", str(source), "--out", str(tmp_path / "new" / "out.jsonl"), "--url", at.url]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(1_000_000), *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "a file cannot be read or written" in done.stderr
    assert "out.jsonl.journal: run it again" in done.stderr
    assert [path.name for path in (tmp_path / "new").iterdir() if "out.jsonl.journal" not in path.name] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len(at.sink.records) == 1, "what was answered is not asked again"


@pytest.mark.parametrize("phase", ["write_results", "labelled_so_far", "keyed_results"])
def test_interrupted_in_any_phase_the_answers_are_kept(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    at, source, said = served(), jsonl(tmp_path / "in.jsonl", "a", "b"), list[str]()
    dataset, options = Dataset.found([str(source)]), BatchOptions(at.url, tmp_path / "out.jsonl")
    with monkeypatch.context() as broken:

        def interrupted(*_: Any) -> Any:
            raise KeyboardInterrupt

        broken.setattr(running, phase, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_batch(dataset, options, said.append)
    assert "what is answered is kept" in said[-1]
    assert run_batch(dataset, options, said.append)["asked"] == 0
    assert len(at.sink.records) == 2
