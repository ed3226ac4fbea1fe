"""Embeddings that are brought along beside a version, a catalogue or other prompts must be of the same encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.embeddings.encoder import Encoder
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint, Prompts
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli import app

N = 60
TEXTS = [f"{'Add' if i % 2 else 'Translate'} number {i} of the list, please" for i in range(N)]
RIGHT = np.array([float(i % 2) for i in range(N)])
NAMES = ["--weak", "cheap", "--strong", "frontier", "--price-weak", "0.1,0.4", "--price-strong", "2,8,1"]
FILES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another encoder's": (
        "another encoder's, or of other prompts",
        lambda v: np.random.default_rng(0).normal(size=v.shape),
    ),
    "of other numbers": (r"of 8 numbers, and .* makes 384", lambda v: v[:, :8]),
    "in another order": ("another order", lambda v: np.roll(v, 1, axis=0)),
    "of floats": ("another make of the same model", lambda v: Encoder(products="floats").encode(TEXTS)),
    "of fewer prompts": (r"\(59, 384\) for 60 prompts", lambda v: v[:-1]),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with outcomes, a version that reads embeddings, and the embeddings that it makes."""
    folder = tmp_path_factory.mktemp("whose")
    frame: dict[str, Any] = {"prompt": TEXTS, "cheap": RIGHT, "frontier": np.ones(N)}
    for tier in ("cheap", "frontier"):
        frame |= {
            f"{tier}_prompt_tokens": [20] * N,
            f"{tier}_completion_tokens": [5] * N,
            f"{tier}_latency_s": [0.1] * N,
        }
    pd.DataFrame(frame).to_parquet(folder / "outcomes.parquet")
    frame["prompt"] = [
        f"Something else, {i}: {word}" for i, word in enumerate("lorem ipsum dolor sit amet".split() * 12)
    ]
    pd.DataFrame(frame).to_parquet(folder / "others.parquet")
    vectors = Encoder().encode(TEXTS)
    np.save(folder / "right.npy", vectors)
    np.save(folder / "half.npy", vectors.astype(np.float16))
    for name, (_, change) in FILES.items():
        np.save(folder / f"{name}.npy", change(vectors).astype(np.float32))
    router = ROUTERS["ridge"]().fit(Prompts(tuple(TEXTS), vectors), RIGHT)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    RouterVersion(policy, {"cheap": Stage(router, None, NonEmptyVerifier(), None)}, encoder=Encoder()).save(
        folder / "v"
    )
    intents = [{"name": "sums", "tier": "cheap", "floor": 0.5, "examples": ["Add two numbers"]}]
    (folder / "intents.yaml").write_text(yaml.safe_dump({"intents": intents}))
    return folder


def command(name: str, folder: Path, file: Path) -> list[str]:
    outcomes = ["-o", str(folder / "outcomes.parquet"), *NAMES]
    train = ["--train", str(folder / "others.parquet"), "--train-weak", "cheap", "--train-strong", "frontier"]
    words = {
        "simulate": ["--rate", "2", "--requests", "50", "--repeats", "1", "--version", str(folder / "v")],
        "plan": ["--volume", "1000", "--router", "surface", "--capacity", "5", "--version", str(folder / "v")],
        "evaluate --catalogue": ["--router", "ridge", "--folds", "2", "--catalogue", str(folder / "intents.yaml")],
        "evaluate --train": ["--router", "ridge", *train, "--cache", str(folder / "cache")],
    }[name]
    return [name.split(" ")[0], *outcomes, *words, "--embeddings", str(file)]


COMMANDS = ["simulate", "plan", "evaluate --catalogue", "evaluate --train"]


ALWAYS = [pytest.param(name, marks=pytest.mark.always) if name == "another encoder's" else name for name in FILES]
"""Every command went on with those once, with wrong estimates."""


@pytest.mark.sampled
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("file", ALWAYS)
def test_embeddings_that_the_encoder_did_not_make_are_refused(made: Path, name: str, file: str) -> None:
    done = CliRunner().invoke(app, command(name, made, made / f"{file}.npy"))
    if file == "of floats" and name.startswith("evaluate"):
        assert done.exit_code == 0, done.output
        assert "another make of the same model" in done.stderr
        return
    assert isinstance(done.exception, DataError), done.output
    with pytest.raises(DataError, match=FILES[file][0]):
        raise done.exception
    assert f"{file}.npy" in str(done.exception)


@pytest.mark.sampled
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("file", ["right", "half"])
def test_those_that_it_made_are_taken_also_at_half_precision(made: Path, name: str, file: str) -> None:
    done = CliRunner().invoke(app, command(name, made, made / f"{file}.npy"))
    assert done.exit_code == 0, done.output


def test_prompts_to_train_on_are_held_to_what_embeds_the_tested_ones(made: Path) -> None:
    words = command("evaluate --train", made, made / "right.npy")[:-2]
    for file, why in (("right", "of other prompts"), ("of other numbers", "of 8 numbers")):
        done = CliRunner().invoke(app, [*words, "--train-embeddings", str(made / f"{file}.npy")])
        with pytest.raises(DataError, match=why):
            raise done.exception or AssertionError(done.output)
    both = [*words, "--embeddings", str(made / "right.npy"), "--train-embeddings", str(made / "of other numbers.npy")]
    with pytest.raises(DataError, match="of 8 numbers to train on and of 384 to test on"):
        raise CliRunner().invoke(app, both).exception or AssertionError


def test_a_version_that_embeds_nothing_takes_any(made: Path) -> None:
    stages = {"cheap": Stage(ROUTERS["length"](), None, NonEmptyVerifier(), None)}
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    RouterVersion(policy, stages).save(made / "by-length")
    words = command("simulate", made, made / "of other numbers.npy")
    words[words.index(str(made / "v"))] = str(made / "by-length")
    assert CliRunner().invoke(app, words).exit_code == 0
