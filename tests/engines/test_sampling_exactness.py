"""Experiment 14: tokens that speculation samples have the target's distribution; a sampler that is .02 off is found.

vLLM's rejection sampler with the CPU's kernels, as a tier that speculates has them (mended: `cpu_sampling`), on known
distributions over 50 tokens, 28,000 draws each; requests at two temperatures and greedy ones stand in one batch.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
REPEATS, DRAWS, LEVEL = 6, 28_000, 0.01
Counts = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sampled_tokens.py")), str(REPEATS), str(DRAWS)],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, f"exited {done.returncode}:\n{done.stderr[-3000:]}"
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def drawn(made: dict[str, Any], *, faulty: bool) -> dict[str, Counts]:
    """Counts with the target's probabilities of every repeat, by kind of draft, temperature and place."""
    found: dict[str, Counts] = {}
    for one in made["found"]:
        if one["faulty"] is not faulty:
            continue
        for heat, places in one["counts"].items():
            for place, counts in enumerate(places):
                name = f"{'known' if one['known'] else 'unknown'} drafts, at {heat}, token {place + 1}"
                found.setdefault(name, []).append((np.array(counts), np.array(made["expected"][heat][place])))
    return found


def p_value(samples: Counts) -> float:
    """Of Pearson's chi-squares of several samples together; tokens that are expected less than five times are one."""
    value, freedom = 0.0, 0
    for counts, expected in samples:
        wanted = expected * counts.sum()
        cell = np.where(wanted < 5, 0, np.arange(1, len(wanted) + 1))
        seen, hoped = (np.bincount(cell, of) for of in (counts, wanted))
        there = hoped > 0
        value += float(((seen[there] - hoped[there]) ** 2 / hoped[there]).sum())
        freedom += int(there.sum()) - 1
    return float(chi2.sf(value, freedom))


def test_sampled_tokens_have_the_targets_distribution(made: dict[str, Any]) -> None:
    kinds = drawn(made, faulty=False)
    assert len(kinds) == 8
    for name, samples in kinds.items():
        of_each = {int(counts.sum()) for counts, _ in samples}
        assert of_each == {DRAWS} if name.endswith("token 1") else min(of_each) > 1000, (name, of_each)
    together = {name: p_value(samples) for name, samples in kinds.items()}
    low = sum(p_value([sample]) < LEVEL for samples in kinds.values() for sample in samples)
    print(f"exact: {low} of {8 * REPEATS} below {LEVEL}; { ({name: round(p, 3) for name, p in together.items()}) }")
    assert min(together.values()) > 0.001
    assert low <= 4, "of 48 more than 4 are chance in 1 of 8,000"


def test_a_sampler_that_is_one_in_fifty_off_is_found(made: dict[str, Any]) -> None:
    firsts = [s for name, each in drawn(made, faulty=True).items() if name.endswith("token 1") for s in each]
    off = [float(np.abs(counts / counts.sum() - expected).sum() / 2) for counts, expected in firsts]
    low = sum(p_value([sample]) < LEVEL for sample in firsts)
    print(f"faulty: {low} of {len(firsts)} below {LEVEL}; observed distances {min(off):.3f} to {max(off):.3f}")
    assert low >= 0.9 * len(firsts), "the negative control must be found"


def test_greedy_requests_beside_sampled_ones_get_the_likeliest_tokens(made: dict[str, Any]) -> None:
    assert [one["greedy wrong"] for one in made["found"] if not one["faulty"]] == [0] * (2 * REPEATS)
