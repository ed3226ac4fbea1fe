"""Thresholds proved one after the other on labels that come one by one: what is asked next, and when it is enough."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import NotCertifiedError
from router_models.risk_control.labels import labels_needed
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.streaming import (
    STEPS,
    StreamCertifier,
    follow_stream,
    labels_streamed,
    place_stream,
    proof_after,
)

EPSILON, LEVEL = 0.2, 0.1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1), max_size=120))
def test_a_proof_comes_with_the_first_label_at_which_the_wealth_is_enough(labels):
    n = proof_after(labels, EPSILON, LEVEL)
    certified = [StreamCertifier(EPSILON).update(labels[:k]).certified(LEVEL) for k in range(len(labels) + 1)]
    assert n == (certified.index(True) if any(certified) else None)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), gaps=st.floats(0, 0.6), thresholds=st.lists(st.floats(0, 1), min_size=1, unique=True)
)
def test_each_threshold_reads_its_rows_in_order_up_to_the_first_gap_and_waits_for_the_stricter_ones(
    seed, gaps, thresholds
):
    rng, descending = np.random.default_rng(seed), sorted(thresholds, reverse=True)
    scores, marks = rng.random(150), (rng.random(150) < 0.05).astype(float)
    marks[rng.random(150) < gaps] = np.nan
    found = follow_stream(descending, scores, marks, epsilon=EPSILON, level=LEVEL)
    assert [step.threshold for step in found.steps] == descending[: len(found.steps)]
    assert all(step.proved for step in found.steps[:-1])
    for step in found.steps:
        read = marks[scores >= step.threshold][: step.state.n]
        assert step.state.errors == read.sum(), "no label after a gap is read"
    if found.next_row is not None:
        last = found.steps[-1]
        assert not last.proved
        assert np.isnan(marks[found.next_row])
        assert scores[found.next_row] >= last.threshold
        assert int((scores[: found.next_row] >= last.threshold).sum()) == last.state.n


def test_labels_of_a_stricter_threshold_are_used_again():
    scores = np.tile([0.9, 0.5], 60)
    marks = np.where(scores > 0.7, 0.0, np.nan)
    found = follow_stream((0.8, 0.4), scores, marks, epsilon=EPSILON, level=LEVEL)
    assert [step.proved for step in found.steps] == [True, False]
    assert (found.next_row, found.steps[1].state.n) == (1, 1), "the next label is of the first row between both"
    marks[:] = 0.0
    every = follow_stream((0.8, 0.4), scores, marks, epsilon=EPSILON, level=LEVEL)
    assert every.proved is not None
    assert (every.proved.threshold, every.next_row) == (0.4, None)


def test_thresholds_are_placed_on_tune_where_the_rows_that_are_there_are_likely_to_prove_them():
    rng = np.random.default_rng(3)
    tuned = rng.random(600)
    tune = Labelled.of(tuned, rng.random(600) > np.sqrt(tuned))
    placed = place_stream(tune, rng.random(2000), epsilon=EPSILON, level=LEVEL)
    assert 2 <= len(placed) <= STEPS
    assert list(placed) == sorted(placed, reverse=True)
    risks = [float(tune.wrong[tuned >= t].mean()) for t in placed]
    assert max(risks) < EPSILON
    assert place_stream(tune, rng.random(500), epsilon=EPSILON, level=LEVEL)[-1] > placed[-1], "fewer rows, stricter"
    with pytest.raises(NotCertifiedError, match="no threshold is likely to be proved"):
        place_stream(tune, rng.random(10), epsilon=EPSILON, level=LEVEL)
    with pytest.raises(NotCertifiedError, match=r"count against ε = 0\.2"):
        place_stream(Labelled.of(tuned, rng.random(600) < 0.5), rng.random(500), epsilon=EPSILON, level=LEVEL)


def test_a_judges_harsh_labels_on_tune_do_not_keep_people_from_being_asked():
    rng = np.random.default_rng(5)
    tune = Labelled.of(rng.random(600), rng.random(600) < 0.25)
    with pytest.raises(NotCertifiedError):
        place_stream(tune, rng.random(500), epsilon=EPSILON, level=LEVEL)
    placed = place_stream(tune, rng.random(500), epsilon=EPSILON, level=LEVEL, doubted=True)
    assert placed[0] > 0.8, "the strictest with answers enough comes first"
    hopeless = Labelled.of(rng.random(600), rng.random(600) < 0.9)
    with pytest.raises(NotCertifiedError):
        place_stream(hopeless, rng.random(500), epsilon=EPSILON, level=LEVEL, doubted=True)


def test_how_many_more_are_foretold_by_what_people_found_where_tune_was_too_harsh():
    scores = np.tile([0.9, 0.5], 100)
    marks = np.where(scores > 0.7, 0.0, np.nan)
    found = follow_stream((0.8, 0.4), scores, marks, epsilon=EPSILON, level=LEVEL)
    harsh, fair = found.foretold(LEVEL, (0.15, 0.25)), found.foretold(LEVEL, (0.15, 0.02))
    assert harsh is not None
    assert fair is not None
    assert fair <= harsh < 60
    begun = follow_stream((0.8, 0.4), scores, np.full(200, np.nan), epsilon=EPSILON, level=LEVEL)
    assert begun.foretold(LEVEL, (0.25, 0.3)) is None, "nothing is known better yet"


def test_labels_to_go_fall_with_every_right_answer_and_none_are_named_where_none_would_do():
    state, told = StreamCertifier(EPSILON), []
    while not state.certified(LEVEL):
        told.append(state.labels_to_go(LEVEL, 0.02))
        state = state.update(0)
    assert told == sorted(told, reverse=True)
    assert told[0] is not None
    assert math.isclose(told[0], len(told), rel_tol=0.6)
    assert state.labels_to_go(LEVEL, 0.02) == 0
    assert StreamCertifier(EPSILON).labels_to_go(LEVEL, 0.25) is None


def test_a_stream_takes_fewer_labels_than_a_fixed_number_most_of_the_time():
    known = labels_streamed(0.1, 500, 10_000, 0.06)
    assert known is not None
    half, most = known
    fixed = labels_needed(0.1, 0.05, 0.06)
    assert fixed is not None
    assert half < 0.75 * fixed < fixed < most
    assert labels_streamed(0.1, 100, 1000, 0.06) is None, "a risk of ε itself"
    assert labels_streamed(0.1, 500, 10_000, 0.06) == known, "the same every time"
