"""A causal language model from a transformers folder, and its next token: what a reader of prompts is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import file_sha256, files_inside
from router_models.errors import ArtifactError
from router_models.types.chat_prompts import whole_characters


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


class NextTokenEncoder:
    """Ask a local causal language model for one token: text → (a number read off its distribution,) float32.

    The question is put by the model's own chat template where it has one. Nothing is loaded before the first `encode`.

    Parameters
    ----------
    folder : Path
        A transformers model folder.
    max_tokens : int
        Prompts are cut to so many tokens, or to what the model's positions leave beside the question.
    """

    keeps_end: ClassVar[bool] = False
    """Whether the last tokens of a long prompt are kept, instead of the first."""
    terms: ClassVar[tuple[object, ...]] = ()
    """What the number depends on besides model and cut: part of the digest."""

    def __init__(self, folder: Path, max_tokens: int = 512) -> None:
        self.folder, self.max_tokens = folder, max_tokens

    def question(self, text: str) -> str:
        """Return what is put to the model for a prompt."""
        raise NotImplementedError

    def read(self, logprobs: Any) -> float:
        """Return the number that a vocabulary's logprobs (a torch tensor of doubles) say."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the numbers of n texts, (n, 1) float32; one prompt at a time, so that padding has no effect."""
        import torch

        _, model = self._loaded
        rows = np.empty((len(texts), 1), dtype=np.float32)
        with torch.inference_mode():
            for row, text in zip(rows, texts, strict=True):
                ids = torch.tensor([self._ids(text)])
                row[0] = self.read(model(input_ids=ids, logits_to_keep=1).logits[0, -1].double().log_softmax(-1))
        return rows

    def _ids(self, text: str) -> list[int]:
        tokenizer, _ = self._loaded
        text = whole_characters(text)
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        if len(tokens) > self._room:
            text = tokenizer.decode(tokens[-self._room :] if self.keeps_end else tokens[: self._room])
        return self._asked(self.question(text))

    def _asked(self, question: str) -> list[int]:
        tokenizer, _ = self._loaded
        if tokenizer.chat_template is None:  # of no token at all no model has a next one
            return list(tokenizer(question).input_ids or tokenizer("?").input_ids)
        messages = [{"role": "user", "content": question}]
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])

    @cached_property
    def _room(self) -> int:
        """The tokens of a prompt that are read."""
        _, model = self._loaded
        positions = getattr(model.config, "max_position_embeddings", None)
        beside = len(self._asked(self.question("")))
        return self.max_tokens if positions is None else max(1, min(self.max_tokens, positions - beside))

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return causal_model(self.folder, logits=True)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the model's files, the question and the cut."""
        return model_digest(self.folder, *self.terms, self.max_tokens)
