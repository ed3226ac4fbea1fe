import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from router_models.data.artifacts import seal
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights import resolve as module
from serve_graph.engines.weights.resolve import (
    PACKAGED,
    PackagedModel,
    check_folder,
    converted_digest,
    remove_leftovers,
    resolve_weights,
    weights_digest,
)
from serve_graph.errors import WeightsError

PARTS = {"part1.bin": b"first half, ", "part2.bin": b"second half"}
WHOLE = b"".join(PARTS.values())
TINY = WeightsConfig(package="tiny")
Convert = Callable[[Path, Path], None]


def convert(gguf: Path, out: Path) -> None:
    """Stands in for the real conversion, which takes a minute and is tested with the engines."""
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(gguf.read_bytes())


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packaged model in two parts, known as `tiny`; returns the package's folder."""
    package = tmp_path / "site" / "tiny_weights_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('weights packages are never imported')")
    for name, data in PARTS.items():
        (package / name).write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    parts = tuple(("tiny_weights_package", name) for name in PARTS)
    model = PackagedModel(parts, hashlib.sha256(WHOLE).hexdigest(), "Apache-2.0")
    monkeypatch.setattr(module, "PACKAGED", {"tiny": model})
    monkeypatch.setattr(module, "gguf_to_folder", convert)
    return package


def refusal(weights: WeightsConfig, state: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        resolve_weights(weights, state)
    return str(caught.value)


def test_packaged_model_is_joined_converted_and_sealed(tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = Path(resolve_weights(TINY, tmp_path, said.append))
    assert (folder / "model.safetensors").read_bytes() == WHOLE
    assert folder == tmp_path / "weights" / "tiny"
    assert any("converting" in line for line in said)
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_second_start_checks_and_does_not_convert_again(tiny: Path, tmp_path: Path) -> None:
    resolve_weights(TINY, tmp_path)
    said: list[str] = []
    resolve_weights(TINY, tmp_path, said.append)
    assert said == ["tiny: checking hashes"]


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "generation_config.json", "m.py", "m.bin"])
def test_a_file_that_was_added_is_refused_and_sealed_again_it_is_another_model(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(resolve_weights(TINY, tmp_path))
    before = weights_digest(TINY, tmp_path)
    (folder / name).write_text("{}")
    assert f"{folder / name}: added after" in refusal(TINY, tmp_path)
    seal(folder)
    resolve_weights(TINY, tmp_path)
    assert weights_digest(TINY, tmp_path) != before


def test_what_a_model_was_converted_to_is_bound_but_not_the_librarys_version(tiny: Path, tmp_path: Path) -> None:
    def digest(settings: str) -> str:
        (folder / "config.json").write_text(settings)
        seal(folder)
        return weights_digest(TINY, tmp_path)

    folder = Path(resolve_weights(TINY, tmp_path))
    first = digest('{"eos_token_id": 2, "transformers_version": "5.24.0"}')
    assert digest('{"transformers_version": "5.25.0", "eos_token_id": 2}') == first
    assert digest('{"transformers_version": "5.24.0", "eos_token_id": 3}') != first


def test_a_packaged_model_has_the_same_digest_before_and_after_it_is_converted_as_expected(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(resolve_weights(TINY, tmp_path))
    converted = weights_digest(TINY, tmp_path)
    known = replace(module.PACKAGED["tiny"], contents=converted_digest(folder))
    monkeypatch.setattr(module, "PACKAGED", {"tiny": known})
    assert weights_digest(TINY, tmp_path) == weights_digest(TINY, tmp_path / "another") == converted


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
@pytest.mark.parametrize("harm", ["alter", "cut", "remove"])
def test_damaged_folder_is_named_with_its_file_and_the_remedy(
    tiny: Path, tmp_path: Path, name: str, harm: str
) -> None:
    file = Path(resolve_weights(TINY, tmp_path)) / name
    if harm == "remove":
        file.unlink()
    else:
        data = file.read_bytes()
        file.write_bytes(data[:-1] if harm == "cut" else bytes([data[0] ^ 1]) + data[1:])
    message = refusal(TINY, tmp_path)
    assert "model 'tiny' is damaged" in message
    assert "Remove " in message
    assert name in message or name == "manifest.json"


def test_half_written_folder_without_a_manifest_is_never_taken_for_a_model(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WHOLE)
    assert "incomplete" in refusal(TINY, tmp_path)


def test_missing_package_says_what_to_install(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = PackagedModel((("no_such_weights_package", "x.bin"),), "0" * 64, "Apache-2.0")
    monkeypatch.setattr(module, "PACKAGED", {"tiny": gone})
    message = refusal(TINY, tmp_path)
    assert "no-such-weights-package is not installed" in message
    assert "serve-graph[local-models]" in message


def test_package_without_its_file_is_named(tiny: Path, tmp_path: Path) -> None:
    (tiny / "part2.bin").unlink()
    assert "tiny_weights_package holds no part2.bin" in refusal(TINY, tmp_path)


def test_joined_parts_of_the_wrong_hash_are_refused(tiny: Path, tmp_path: Path) -> None:
    (tiny / "part2.bin").write_bytes(b"something else")
    message = refusal(TINY, tmp_path)
    assert "sha256" in message
    assert "reinstall the packages" in message
    assert not (tmp_path / "weights" / "tiny").exists()


def test_unknown_package_lists_the_known_ones(tmp_path: Path) -> None:
    message = refusal(WeightsConfig(package="nothing"), tmp_path)
    assert all(name in message for name in PACKAGED)


def test_failed_conversion_leaves_no_model_and_no_litter(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(gguf: Path, out: Path) -> None:
        convert(gguf, out)
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "gguf_to_folder", fail)
    with pytest.raises(OSError, match="no space"):
        resolve_weights(TINY, tmp_path)
    assert list((tmp_path / "weights").iterdir()) == []
    monkeypatch.setattr(module, "gguf_to_folder", convert)
    resolve_weights(TINY, tmp_path)


def test_killed_conversion_leaves_no_model_and_the_next_start_cleans_up(tiny: Path, tmp_path: Path) -> None:
    parts, digest = tuple(("tiny_weights_package", name) for name in PARTS), hashlib.sha256(WHOLE).hexdigest()
    script = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(tiny.parent)!r})
from serve_graph.config.tiers.kinds import WeightsConfig
from serve_graph.engines.weights import resolve as module

def killed(gguf, out):
    out.mkdir()
    (out / "config.json").write_text("{{}}")
    os.kill(os.getpid(), signal.SIGKILL)

module.gguf_to_folder = killed
module.PACKAGED = {{"tiny": module.PackagedModel({parts!r}, {digest!r}, "x")}}
module.resolve_weights(WeightsConfig(package="tiny"), Path({str(tmp_path)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, timeout=120, env=os.environ | {"PYTHONPATH": ""}
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights" / "tiny").exists()
    assert len(remove_leftovers(tmp_path)) == 1
    assert list((tmp_path / "weights").iterdir()) == []
    resolve_weights(TINY, tmp_path)
    assert remove_leftovers(tmp_path) == []


def test_another_process_may_finish_first(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raced(gguf: Path, out: Path) -> None:
        convert(gguf, out)
        winner = tmp_path / "weights" / "tiny"
        convert(gguf, winner)
        seal(winner)

    monkeypatch.setattr(module, "gguf_to_folder", raced)
    resolve_weights(TINY, tmp_path)
    assert [p.name for p in (tmp_path / "weights").iterdir()] == ["tiny"]


def test_hub_id_is_passed_through_untouched(tmp_path: Path) -> None:
    assert resolve_weights(WeightsConfig(hub="org/model"), tmp_path) == "org/model"
    assert list(tmp_path.iterdir()) == []


def test_folder_is_passed_through_where_it_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_weights(WeightsConfig(folder=tmp_path), tmp_path / "state") == str(tmp_path)


def test_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    assert "config.json" in refusal(WeightsConfig(folder=tmp_path), tmp_path)
    assert "config.json" in refusal(WeightsConfig(folder=tmp_path / "nowhere"), tmp_path)


def test_hub_id_that_may_change_its_meaning_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    for weights in (
        WeightsConfig(hub="org/model"),
        WeightsConfig(hub="org/model@main"),
        WeightsConfig(hub=f"org/model@{'a' * 40}"),
    ):
        assert resolve_weights(weights, tmp_path, said.append) == "org/model"
    assert ["no revision" in said[0], "revision 'main'" in said[1], len(said)] == [True, True, 2]


def test_a_second_start_leaves_a_running_conversion_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = f"""
import sys
from pathlib import Path
from serve_graph.engines.weights.resolve import remove_leftovers
print(remove_leftovers(Path({str(tmp_path)!r})))
"""

    def interrupted(gguf: Path, out: Path) -> None:
        subprocess.run([sys.executable, "-c", second], check=True, timeout=120, env=os.environ | {"PYTHONPATH": ""})
        assert gguf.is_file()
        convert(gguf, out)

    monkeypatch.setattr(module, "gguf_to_folder", interrupted)
    resolve_weights(TINY, tmp_path)
    assert [p.name for p in (tmp_path / "weights").iterdir()] == ["tiny"]


def test_a_start_that_waited_for_a_conversion_does_not_convert_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def slowly(gguf: Path, out: Path) -> None:
        made.append(out)
        time.sleep(0.3)
        convert(gguf, out)

    monkeypatch.setattr(module, "gguf_to_folder", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: resolve_weights(TINY, tmp_path), range(2)))
    assert len(made) == 1


def test_nothing_to_clean_is_no_error(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path) == []


def test_digest_changes_with_the_weights(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    folder = WeightsConfig(folder=tmp_path / "m")
    before = weights_digest(folder, tmp_path)
    (tmp_path / "m" / "config.json").write_text('{"a": 1}')
    found = {
        before,
        weights_digest(folder, tmp_path),
        weights_digest(WeightsConfig(hub="a/b"), tmp_path),
        weights_digest(WeightsConfig(hub="a/c"), tmp_path),
        weights_digest(WeightsConfig(hub="a/c", revision="1"), tmp_path),
        weights_digest(WeightsConfig(hub="a/c@2"), tmp_path),
        weights_digest(WeightsConfig(package="smollm2-135m-instruct"), tmp_path),
    }
    assert len(found) == 7


def test_shipped_models_name_their_hash_and_licence() -> None:
    for name, model in PACKAGED.items():
        assert len(model.sha256) == 64, name
        assert model.licence == "Apache-2.0", name
        assert model.parts, name
        assert len(model.contents) == 64, name


def test_check_folder_returns_the_manifests_hash(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    digest = seal(tmp_path)
    assert check_folder("x", tmp_path) == digest
    assert json.loads((tmp_path / "manifest.json").read_text()).keys() == {"config.json"}
