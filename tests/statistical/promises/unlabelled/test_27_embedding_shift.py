"""Experiment 27: shifts of embeddings. Where prompts stay what they were one is reported as rarely as is said.

The same bound holds with all figures of traffic together. Negative control: blocks in five copies, as turns of
conversations are.
"""

import numpy as np

from router_models.monitoring.embedding_shift import BLOCKS, FEATURES, embedding_shift, random_features
from router_models.monitoring.traffic_changes import compare_traffic
from tests.statistical.promises.unlabelled.test_25_traffic_changes import window

N, LEVEL, DIMENSIONS, TOPICS = 500, 0.01, 96, 30


class Prompts:
    """Embeddings of prompts on so many topics; a share `moved` of them is on the first one."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        centres = rng.normal(size=(TOPICS, DIMENSIONS))
        self.centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def blocks(self, moved: float = 0.0) -> np.ndarray:
        """A window's blocks."""
        topics = np.where(self.rng.random(N) < moved, 0, self.rng.integers(0, TOPICS, N))
        made = self.centres[topics] + self.rng.normal(size=(N, DIMENSIONS)) * 0.05
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return random_features(made, "an encoder").reshape(BLOCKS, -1, FEATURES).mean(axis=1)


def test_where_prompts_stay_what_they_were_no_more_is_reported_than_is_said(size, allowed, measured):
    runs = size(20, 2000)
    rng = np.random.default_rng(27)
    reported = alone = turns = 0
    for _ in range(runs):
        prompts = Prompts(rng)
        both = prompts.blocks(), prompts.blocks()
        reported += any(c.is_reported for c in compare_traffic(window(rng, N), window(rng, N), embeddings=both))
        alone += embedding_shift(*both).p_value <= 0.05
        copies = [np.repeat(rows, 5, axis=0) for rows in both]
        turns += embedding_shift(*copies).p_value <= 0.05
    measured(f"a change reported in {reported} of {runs} windows; alone at .05 in {alone}, of five copies in {turns}")
    assert reported <= allowed(runs, LEVEL)
    assert alone <= allowed(runs, 0.05)
    assert turns > allowed(runs, 0.05), "the negative control: turns are no requests of their own"


def test_a_fifth_of_prompts_on_another_topic_is_found_in_one_window_whatever_scores_say(size, measured):
    runs = size(12, 300)
    rng = np.random.default_rng(28)
    found = 0
    for _ in range(runs):
        prompts = Prompts(rng)
        both = prompts.blocks(), prompts.blocks(moved=0.2)
        changes = compare_traffic(window(rng, N), window(rng, N), embeddings=both)
        found += {c.figure for c in changes if c.is_reported} == {"embedding"}
    measured(f"found in {found} of {runs} windows of {N}, by no other figure")
    assert found >= 0.9 * runs
