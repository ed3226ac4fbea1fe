"""Load a causal language model from a transformers folder: what the families `p-yes` and `probe` read prompts with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from router_models.data.artifacts import file_sha256
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
    """Return the sha256 of a folder's weight files and of further terms; ArtifactError where there are no weights."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if not files:
        raise ArtifactError(f"{folder}: no weights here")
    parts = [*(file_sha256(file) for file in files), *(str(term) for term in terms)]
    return hashlib.sha256(":".join(parts).encode()).hexdigest()
