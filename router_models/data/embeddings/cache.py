"""What embeds texts, and its embeddings kept in files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import read_array
from router_models.errors import ArtifactError, DataError


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
