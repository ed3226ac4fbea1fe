"""What a replica loads is what the graph was started with, however its files were changed in between."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from router_models.data.artifacts import seal
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.weights.loaded_files import LoadedFiles, loaded_files
from serve_graph.errors import WeightsError

LONG_AGO_NS = 1_600_000_000_000_000_000
ALONE: dict[str, Any] = {"lora": None, "speculation": None, "engine_kwargs": {}}


@dataclass
class Loading:
    """A tier with an adapter, a draft model and a template, all of them local."""

    root: Path

    def write(self, place: str, text: str = "{}") -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        return path

    def files(self, model: str = "model", **fields: Any) -> LoadedFiles:
        given = {
            "engine": "vllm",
            "name": "cheap",
            "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
            "weights": {"folder": str(self.root / "model")},
            "lora": {"loading_path": str(self.root / "adapters"), "adapter": "a"},
            "speculation": {"method": "draft_model", "model": str(self.root / "draft")},
            "engine_kwargs": {"chat_template": str(self.root / "t.jinja"), "download_dir": str(self.root / "cache")},
        }
        tier = VllmTierConfig.model_validate(given | fields)
        return loaded_files(tier, str(self.root / model), self.root / "state")


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    made = Loading(tmp_path)
    for place in ("model/config.json", "model/tokenizer.json", "adapters/a/adapter_config.json", "draft/config.json",
                  "t.jinja", "cache/blob"):  # fmt: skip
        made.write(place)
    return made


def test_files_that_did_not_change_are_loaded(loading: Loading) -> None:
    files = loading.files()
    assert sorted(Path(place).name for place in (*files.folders, *files.files)) == ["a", "draft", "model", "t.jinja"]
    files.check()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: at.write("model/tokenizer.json", "[]"), "model/tokenizer.json: altered"),
        (lambda at: at.write("model/chat_template.jinja"), "model/chat_template.jinja: added"),
        (lambda at: (at.root / "model/tokenizer.json").unlink(), "model/tokenizer.json: missing"),
        (lambda at: at.write("adapters/a/adapter_config.json", "[]"), "a/adapter_config.json: altered"),
        (lambda at: at.write("draft/modeling.py"), "draft/modeling.py: added"),
        (lambda at: at.write("t.jinja", "[]"), "t.jinja: altered"),
        (lambda at: (at.root / "t.jinja").unlink(), "t.jinja: cannot be read"),
        (lambda at: (at.root / "draft/x").symlink_to(at.root / "t.jinja"), "draft/x: a link that leads out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_changed_after_the_start_is_not_loaded(
    loading: Loading, change: Callable[[Loading], None], said: str
) -> None:
    files = loading.files()
    change(loading)
    with pytest.raises(WeightsError) as caught:
        files.check()
    assert said in str(caught.value)


def test_a_replica_reads_the_bytes_and_trusts_no_note_of_them(loading: Loading) -> None:
    files = loading.files()
    forged = LoadedFiles({place: dict.fromkeys(hashes, "0" * 64) for place, hashes in files.folders.items()})
    with pytest.raises(WeightsError, match="altered"):
        forged.check()


def test_a_converted_folder_is_loaded_by_its_manifest(loading: Loading) -> None:
    seal(loading.write("state/weights/tiny/config.json").parent)
    files = loading.files("state/weights/tiny", weights={"package": "tiny"}, **ALONE)
    files.check()
    loading.write("state/weights/tiny/chat_template.jinja")
    with pytest.raises(WeightsError, match=r"chat_template\.jinja: added"):
        files.check()


def test_a_hub_id_has_no_local_files(loading: Loading) -> None:
    assert loading.files(weights={"hub": "a/b"}, **ALONE) == LoadedFiles()
