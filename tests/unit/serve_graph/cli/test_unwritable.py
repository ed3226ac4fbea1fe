"""What a command cannot write is said in one line, and exit 1, before the work is done. Never a traceback."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_graph.cli import main, output
from serve_graph.errors import ServeGraphError

PAIR = ["--weak", "cheap", "--strong", "frontier"]
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
TIERS = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
INTO_A_FILE = {
    "collect": ["collect", "--config", "GRAPH", "--out", "FILE/o.parquet"],
    "train": ["train", "--config", "GRAPH", "-o", "none.parquet", "--out", "FILE/candidate"],
    "train, state": ["train", "--config", "STATE", "-o", "none.parquet", "--out", "candidate"],
    "certify, state": ["certify", "--config", "STATE", "-o", "none.parquet", "--candidate", "candidate"],
    "evaluate": ["evaluate", "-o", "none.parquet", *PAIR, "--out", "FILE/page"],
    "evaluate, a folder": ["evaluate", "-o", "none.parquet", *PAIR, "--out", "FILE"],
    "evaluate, all": ["evaluate", "--all", "sets", "--out", "FILE/page.md"],
    "plan": ["plan", "-o", "none.parquet", *PAIR, "--volume", "1", "--out", "FILE/plan.md"],
    "plan, a file": ["plan", "-o", "none.parquet", *PAIR, "--volume", "1", "--out", "FOLDER"],
    "simulate": ["simulate", "-o", "none.parquet", *PAIR, "--rate", "1", "--trace", "FILE/trace.json"],
    "decisions": ["decisions", "export", "--config", "GRAPH", "--out", "FILE/decisions.jsonl"],
    "keys": ["keys", "new", "a", "--config", "STATE"],
    "keys, taken back": ["keys", "revoke", "a", "--config", "STATE"],
}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; the one line it ends with. FILE is a file, FOLDER a folder, STATE keeps its state below FILE."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    names = {"FILE": str(file), "FOLDER": str(folder)}
    for name, state in (("GRAPH", folder / "state"), ("STATE", file / "state")):
        config = {"tiers": TIERS, "policy": {"version": "none"}, "state_folder": str(state)}
        names[name] = str(tmp_path / f"{name}.yaml")
        Path(names[name]).write_text(yaml.safe_dump(config))

    def run(*words: str) -> str:
        for name, path in names.items():
            words = tuple(word.replace(name, path) for word in words)
        monkeypatch.setattr(sys, "argv", ["serve-graph", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        assert file.read_text() == "mine"
        [line] = shown.splitlines()
        return line

    return run


@pytest.mark.parametrize("words", INTO_A_FILE.values(), ids=INTO_A_FILE)
def test_a_path_that_cannot_be_written_is_named_before_anything_is_read(refused: Any, words: list[str]) -> None:
    said = refused(*words)
    assert said.startswith("serve-graph: /")
    assert "is a f" in said
    assert "none.parquet" not in said


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.os, "access", lambda *_: False)  # whoever runs the tests may be allowed everything
    with pytest.raises(ServeGraphError, match="no permission to write to"):
        output.check_out(tmp_path / "a" / "plan.md")


def test_a_path_that_can_be_written_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("")
    output.check_out(tmp_path / "old.md")
    output.check_out(tmp_path / "a" / "b" / "plan.md")
    output.check_out(tmp_path, folder=True)
    output.check_out(tmp_path / "a" / "b", folder=True)
    output.check_out(None)


def test_whatever_else_the_system_refuses_is_one_line_too(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_graph.cli.setup.keys.check_out", lambda *_, **__: None)
    assert refused("keys", "new", "a", "--config", "STATE").endswith("file/state: Not a directory")


def test_a_candidate_that_is_not_there_is_not_called_incomplete(refused: Any) -> None:
    said = refused("certify", "--config", "GRAPH", "-o", "none.parquet", "--candidate", "FOLDER/candidate")
    assert said.endswith("folder/candidate does not exist")
