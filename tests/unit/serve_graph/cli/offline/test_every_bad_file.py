"""Every kind of bad file × every offline command that reads one: one sentence, exit 1 or 2, never a traceback."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.types import Outcome, Usage
from router_models.types.exchange import LOGPROB_NAMES
from serve_graph.cli import main
from serve_graph.config.graph import load_config
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from tests.fixtures.found_files import REFUSED, USED

PAIR = ["--weak", "cheap", "--strong", "frontier"]
PRICES = ["--price-weak", "0.1,0.4", "--price-strong", "2,8"]
TRAIN_PAIR = ["--train-weak", "cheap", "--train-strong", "frontier"]
EVALUATE = ["evaluate", "-o", "GOOD", *PAIR, "--router", "surface"]
PLAN = ["plan", *PAIR, "--volume", "9", "--embeddings", "VECTORS"]
SIMULATE = ["simulate", *PAIR, "--rate", "1", "--pattern", "length", "--strong-share", "0.5"]
COLLECT = ["collect", "--config", "GRAPH", "--url", "http://127.0.0.1:9"]
CONFIG: dict[str, Any] = {
    "tiers": [
        {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}},
        {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 8}},
    ],
    "policy": {"version": "none", "safe_tier": "frontier", "epsilon": 0.3},
}
TABLES = {
    "evaluate": ["evaluate", "-o", "F", *PAIR, "--router", "surface"],
    "evaluate --train": [*EVALUATE, "--train", "F", *TRAIN_PAIR],
    "evaluate --cascade": ["evaluate", "-o", "F", *PAIR, "--router", "surface", "--cascade"],
    "plan": [*PLAN, *PRICES, "-o", "F"],
    "simulate": [*SIMULATE, *PRICES, "-o", "F"],
    "train": ["train", "--config", "GRAPH", "-o", "F", "--out", "candidate-of-f"],
    "certify": ["certify", "--config", "GRAPH", "-o", "F", "--candidate", "CANDIDATE", "--engines-as-configured"],
}
OTHER_FILES = {
    "plan --terms": [*PLAN, "-o", "GOOD", "--terms", "F"],
    "simulate --terms": [*SIMULATE, "-o", "GOOD", "--terms", "F"],
    "evaluate --terms": [*EVALUATE, "--terms", "F"],
    "plan --traffic": ["plan", *PAIR, "--volume", "9", "--traffic", "F"],
    "evaluate --embeddings": [*EVALUATE, "--embeddings", "F"],
    "plan --embeddings": ["plan", *PAIR, "--volume", "9", *PRICES, "-o", "GOOD", "--embeddings", "F"],
    "evaluate --train-embeddings": [
        *EVALUATE, "--embeddings", "VECTORS", "--train", "GOOD", *TRAIN_PAIR, "--train-embeddings", "F",
    ],
    "evaluate --all": ["evaluate", "--all", "F"],
    "evaluate --benchmark": ["evaluate", "--benchmark", "routellm", "--data", "F"],
    "simulate --version": [*SIMULATE, *PRICES, "-o", "GOOD", "--version", "F"],
    "train --config": ["train", "--config", "F", "-o", "GOOD", "--out", "candidate-of-f"],
    "certify --config": ["certify", "--config", "F", "-o", "GOOD", "--candidate", "CANDIDATE"],
    "certify --candidate": ["certify", "--config", "GRAPH", "-o", "GOOD", "--candidate", "F"],
    "collect --config": ["collect", "--config", "F", "--tasks", "GOOD"],
    "collect --tasks": [*COLLECT, "--tasks", "F", "--out", "o.parquet"],
    "versions list": ["versions", "list", "--config", "F"],
}  # fmt: skip
CONTENTS: dict[str, bytes | None] = {
    "missing": None,
    "nothing": b"",
    "white space": b" \n\n",
    "a NUL byte": b"tiers: {a\0: 1}\n",
    "bytes": bytes(range(128, 256)),
    "a word": b"word\n",
    "a number": b"5\n",
    "a list": b"[1, 2]\n",
    "an object of something else": b'{"a": {"b": [1]}}\n',
    "an open bracket": b'{"a": [\n',
    "a day that is none": b"day: 2026-13-45\n",
    "nested without end": b"[" * 20_000,
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "parquet cut short": REFUSED["parquet cut short"][1],
    "an array of texts": b"\x93NUMPY\x01\x00v\x00{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }" + b" " * 58
    + b"\nx\x00\x00\x00",
    "an archive": b"PK\x05\x06" + bytes(18),
}  # fmt: skip


def outcomes(n: int) -> list[Outcome]:
    chance, found = random.Random(0), []
    for i in range(n):
        easy = chance.random() < 0.6
        prompt = f"{'What colour is' if easy else 'Add 817 and 222 to'} the cat number {i}?"
        for tier, share in (("cheap", 0.85 if easy else 0.3), ("frontier", 0.95)):
            right = float(chance.random() < share)
            logprobs = dict.fromkeys(LOGPROB_NAMES, -0.1 - (1 - right) * chance.random())
            found.append(Outcome(prompt_id(prompt), prompt, tier, "brown", right, Usage(9, 4), 0.1, "stop", logprobs))
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands need beside the bad file: outcomes, a candidate trained on them, a configuration."""
    folder = tmp_path_factory.mktemp("good")
    places = {
        "GOOD": folder / "outcomes.parquet",
        "VECTORS": folder / "vectors.npy",
        "GRAPH": folder / "graph.yaml",
        "CANDIDATE": folder / "candidate",
    }
    write_outcomes(places["GOOD"], outcomes(200))
    np.save(places["VECTORS"], np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32))
    places["GRAPH"].write_text(yaml.safe_dump(CONFIG | {"state_folder": str(folder / "state")}))
    write_collected_binds(places["GOOD"], tier_binds(load_config(places["GRAPH"])))
    words = ["train", "--config", "GRAPH", "-o", "GOOD", "--out", "CANDIDATE", "--router", "surface", "--verifier"]
    known = {name: str(path) for name, path in places.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["serve-graph", *(known.get(word, word) for word in words), "logprob"])
        main_code()
    return known


def main_code() -> int:
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def call(
    good: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str], Path], tuple[int, list[str]]]:
    """Run a command on a file; its exit code, and the sentences that it ends with."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str], file: Path) -> tuple[int, list[str]]:
        places = good | {"F": str(file)}
        monkeypatch.setattr(sys, "argv", ["serve-graph", *(places.get(word, word) for word in words)])
        code = main_code()
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        errors = [line for line in shown.splitlines() if line.startswith(("serve-graph: ", "Error", "│"))]
        return code, [line for line in errors if not line.startswith("serve-graph: warning")]

    return run


@pytest.mark.sampled("command")
@pytest.mark.parametrize("command", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_every_command_refuses_a_table_in_the_same_sentence(
    call: Any, tmp_path: Path, command: list[str], name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    code, said = call(command, tmp_path / name)
    assert (code, len(said)) == (1, 1)
    assert said[0].startswith(f"serve-graph: {tmp_path / name}: ")
    assert message in said[0]


@pytest.mark.sampled("command")
@pytest.mark.parametrize("command", [words for name, words in TABLES.items() if name != "certify"])
@pytest.mark.parametrize(("name", "content"), USED.values(), ids=USED)
def test_every_command_reads_a_table_however_it_is_written(
    call: Any, tmp_path: Path, command: list[str], name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    code, said = call(command, tmp_path / name)
    assert code == len(said)  # two prompts are too few for most: that is said, and nothing about the file
    assert not any(one.startswith(f"serve-graph: {tmp_path / name}: ") for one in said)


@pytest.mark.sampled("command")
@pytest.mark.parametrize("command", OTHER_FILES.values(), ids=OTHER_FILES)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_every_other_file_that_is_none_is_refused_by_name(
    call: Any, tmp_path: Path, command: list[str], content: bytes | None
) -> None:
    file = tmp_path / "some-file"
    if content is not None:
        file.write_bytes(content)
    code, said = call(command, file)
    assert code in (1, 2)
    assert len(said) == 1
    assert "some-file" in said[0]


@pytest.mark.parametrize("command", OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_folder_where_a_file_is_meant_is_refused(call: Any, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "some-file").mkdir()
    code, said = call(command, tmp_path / "some-file")
    assert code in (1, 2)
    assert len(said) == 1
