"""What embeds texts, and its embeddings kept in files, so that a run that is cut short goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import read_array
from router_models.data.embeddings.encoder import MOST_CHARS
from router_models.errors import ArtifactError, DataError
from router_models.types import IntArray, Progress

BLOCK = 256
"""Texts that are embedded and stored at once: what a run that is cut short loses is less than that."""
BAR = 20


class TextEncoder(Protocol):
    """Embed n texts as (n, d) float32 rows, and identify the weights that do it; `Encoder` implements it."""

    @property
    def digest(self) -> str: ...
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def cached_embeddings(
    encoder: TextEncoder, texts: Sequence[str], folder: Path | None, progress: Progress = lambda _: None
) -> NDArray[np.float32]:
    """Embed texts, or read the embeddings that were stored before.

    More than `BLOCK` texts are embedded in blocks of similar length, shortest first. Each is stored as soon as it is
    made, and read by the next call for the same texts where this one does not come to its end.

    Parameters
    ----------
    encoder : TextEncoder
        What embeds the texts.
    texts : sequence of str
        n texts.
    folder : Path, optional
        Holds one .npy file per batch, named by the hash of the encoder's weights and the texts, and unfinished
        batches' blocks; what is damaged of them is made again. None = no cache.
    progress : callable
        Receives a bar after each block: how many prompts, and which share of their characters, are done.

    Returns
    -------
    array of float32, (n, d)
    """
    if folder is None:
        return _in_blocks(encoder, texts, None, progress)
    key = hashlib.sha256(encoder.digest.encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    file = folder / f"{key.hexdigest()[:32]}.npy"
    if (stored := _stored_block(file, len(texts))) is not None:
        return stored
    folder.mkdir(parents=True, exist_ok=True)
    blocks = file.with_suffix(".blocks")
    vectors = _in_blocks(encoder, texts, blocks, progress)
    _store(file, vectors)
    shutil.rmtree(blocks, ignore_errors=True)
    return vectors


def _in_blocks(
    encoder: TextEncoder, texts: Sequence[str], folder: Path | None, progress: Progress
) -> NDArray[np.float32]:
    """Embed texts, by blocks of similar length that are kept in a folder until all are made."""
    if len(texts) <= BLOCK:
        return encoder.encode(texts)
    lengths = np.array([min(len(text), MOST_CHARS) for text in texts], dtype=np.int64)
    order, made, done = np.argsort(lengths, kind="stable"), [], 0
    for start in range(0, len(texts), BLOCK):
        rows = order[start : start + BLOCK]
        file = None if folder is None else folder / f"{start:09d}.npy"
        vectors = None if file is None else _stored_block(file, len(rows))
        if vectors is None:
            vectors = encoder.encode([texts[i] for i in rows])
            if file is not None:
                with contextlib.suppress(
                    FileNotFoundError, FileExistsError
                ):  # whoever embedded the same cleared up meanwhile
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _store(file, vectors)
        made.append(vectors)
        done += len(rows)
        progress(_bar(done, lengths, order))
    out = np.empty((len(texts), made[0].shape[1]), dtype=np.float32)
    out[order] = np.concatenate(made)
    return out


def _bar(done: int, lengths: IntArray, order: IntArray) -> str:
    """Return a bar by characters: long texts come last and take longest."""
    share = float(lengths[order[:done]].sum()) / max(float(lengths.sum()), 1.0)
    full = int(BAR * share)
    return f"embedding [{'#' * full}{'.' * (BAR - full)}] {done:,} of {len(order):,} prompts, {share:.0%} of the text"


def _stored_block(file: Path, rows: int) -> NDArray[np.float32] | None:
    """Return a block stored by a run that was cut short, or all of them; None where there is none that is whole."""
    try:
        vectors = load_embeddings(file) if file.is_file() else None
    except (DataError, FileNotFoundError):
        return None  # it is embedded and written again
    return vectors if vectors is not None and vectors.ndim == 2 and len(vectors) == rows else None


def _store(file: Path, vectors: NDArray[np.float32]) -> None:
    partial = file.with_suffix(f".{secrets.token_hex(8)}.partial.npy")
    np.save(partial, vectors)
    partial.replace(file)


def load_embeddings(path: Path) -> NDArray[np.float32]:
    """Read an array of embeddings from a .npy file (never a pickle); DataError where it cannot be read."""
    try:
        return np.asarray(read_array(path), dtype=np.float32)
    except (ArtifactError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as one array of numbers ({error})") from error
