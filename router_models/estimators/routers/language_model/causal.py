"""Load a causal language model from a transformers folder: what the families `p-yes` and `probe` read prompts with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from router_models.data.artifacts import file_sha256, files_inside
from router_models.errors import ArtifactError


def causal_model(folder: Path, *, logits: bool = False) -> tuple[Any, Any]:
    """Load a tokenizer and a model; with `logits` the model has its vocabulary head.

    It computes in the precision that its weights are stored in, as engines do: bfloat16 takes a third of the time.
    Raises ArtifactError where the folder holds no model.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder}: no transformers model here (config.json is missing)")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    cls = AutoModelForCausalLM if logits else AutoModel
    return tokenizer, cls.from_pretrained(folder, local_files_only=True, dtype="auto").eval()


def model_digest(folder: Path, *terms: object) -> str:
    """Return the sha256 of every file of a folder, the tokenizer's too, and of further terms.

    Raises ArtifactError where there are no weights.
    """
    files = files_inside(folder, hidden=False, root=Path("/"))  # an installer may link packages to its cache
    if not any(name.endswith((".safetensors", ".bin")) for name in files):
        raise ArtifactError(f"{folder}: no weights here")
    parts = [*(f"{name} {file_sha256(path)}" for name, path in files.items()), *(str(term) for term in terms)]
    return hashlib.sha256(":".join(parts).encode()).hexdigest()
