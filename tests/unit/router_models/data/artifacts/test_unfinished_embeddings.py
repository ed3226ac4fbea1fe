"""A run that is cut short while it embeds thousands of prompts goes on where it was."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.data.embeddings.cache import BLOCK, cached_embeddings
from router_models.data.embeddings.encoder import Encoder
from router_models.errors import ArtifactError

TEXTS = [f"{i} " + "x" * (37 * i % 501) for i in range(3 * BLOCK + 20)]


class InterruptedRunError(Exception):
    pass


class LengthEncoder:
    """Encodes a text as its length and first number; fails after some blocks, as a killed process would."""

    digest = "0" * 64

    def __init__(self, blocks: int = 100) -> None:
        self.blocks, self.read = blocks, list[str]()

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        if self.blocks == 0:
            raise InterruptedRunError
        self.blocks -= 1
        self.read += texts
        return np.array([[len(text), float(text.split()[0])] for text in texts], dtype=np.float32)


def test_what_was_embedded_before_a_run_was_cut_short_is_not_embedded_again(tmp_path: Path) -> None:
    first = LengthEncoder(blocks=2)
    with pytest.raises(InterruptedRunError):
        cached_embeddings(first, TEXTS, tmp_path)
    second = LengthEncoder()
    found = cached_embeddings(second, TEXTS, tmp_path)
    assert sorted(first.read + second.read) == sorted(TEXTS)  # each once
    np.testing.assert_array_equal(found, LengthEncoder().encode(TEXTS))  # in the order of the texts
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]  # the blocks are gone
    third = LengthEncoder(blocks=0)
    np.testing.assert_array_equal(cached_embeddings(third, TEXTS, tmp_path), found)


def test_texts_are_embedded_beside_those_of_similar_length() -> None:
    encoder = LengthEncoder()
    cached_embeddings(encoder, TEXTS, None)
    lengths = [len(text) for text in encoder.read]
    assert lengths == sorted(lengths)


def test_a_damaged_block_is_embedded_again(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        cached_embeddings(LengthEncoder(blocks=2), TEXTS, tmp_path)
    first, second = sorted(next(tmp_path.glob("*.blocks")).iterdir())
    first.write_bytes(b"\x93NUMPY half")
    np.save(second, np.zeros((3, 2), dtype=np.float32))
    found = cached_embeddings(LengthEncoder(), TEXTS, tmp_path)
    np.testing.assert_array_equal(found, LengthEncoder().encode(TEXTS))


def test_a_damaged_file_of_all_embeddings_is_made_again(tmp_path: Path) -> None:
    """As a block is: a full disk or a copy that was cut short leaves either."""
    whole = cached_embeddings(LengthEncoder(), TEXTS, tmp_path)
    [file] = tmp_path.iterdir()
    for damaged in (file.read_bytes()[:500], b""):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(cached_embeddings(LengthEncoder(), TEXTS, tmp_path), whole)
    np.save(file, whole[:-1])
    np.testing.assert_array_equal(cached_embeddings(LengthEncoder(), TEXTS, tmp_path), whole)


def test_several_that_embed_the_same_at_once_all_come_to_their_end(tmp_path: Path) -> None:
    """The first to end clears the blocks away that the others are writing."""
    whole = LengthEncoder().encode(TEXTS)
    for trial in range(10):
        with ThreadPoolExecutor(4) as pool:
            ways = [pool.submit(cached_embeddings, LengthEncoder(), TEXTS, tmp_path / str(trial)) for _ in range(4)]
        for one in ways:
            np.testing.assert_array_equal(one.result(), whole)


def test_blocks_of_other_weights_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        cached_embeddings(LengthEncoder(blocks=2), TEXTS, tmp_path)
    other = LengthEncoder()
    other.digest = "1" * 64
    cached_embeddings(other, TEXTS, tmp_path)
    assert len(other.read) == len(TEXTS)


def test_a_bar_grows_with_the_text_that_is_done() -> None:
    said: list[str] = []
    cached_embeddings(LengthEncoder(), TEXTS, None, said.append)
    assert len(said) == 4
    assert [line.count("#") for line in said] == sorted(line.count("#") for line in said)
    assert said[0].startswith(f"embedding [##..................] {BLOCK} of {len(TEXTS)} prompts, 1")
    assert said[-1] == f"embedding [{'#' * 20}] {len(TEXTS)} of {len(TEXTS)} prompts, 100% of the text"
    cached_embeddings(LengthEncoder(), TEXTS[:BLOCK], None, said.append)
    assert len(said) == 4  # few prompts need none


def test_blocks_change_no_embedding() -> None:
    """Batches are the same as without blocks, so that stored embeddings and served ones stay as they were."""
    encoder, texts = Encoder(), [f"question {i}" + " more" * (i % 7) for i in range(BLOCK + 33)]
    try:
        whole = encoder.encode(texts)
    except ArtifactError as error:
        pytest.skip(f"the encoder's packages are not installed: {error}")
    np.testing.assert_array_equal(cached_embeddings(encoder, texts, None), whole)
