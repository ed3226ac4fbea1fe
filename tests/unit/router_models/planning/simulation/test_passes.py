"""The time of batches in passes: what arithmetic says where there is no chance, and what chance adds."""

from dataclasses import replace

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.planning.simulation.passes import AskedPass, BatchWorkload, EngineRate, pass_seconds, plan_batch

CHEAP = EngineRate(1000.0, 100.0, 50.0, 5.0, gpus=1, load_s=10.0)  # a tenth of a second a row
LAST = EngineRate(500.0, 50.0, 50.0, 5.0, gpus=4, load_s=20.0)  # a fifth
WORK = BatchWorkload(
    256 * 80, CHEAP, LAST, tried=0.5, accepted=0.5, decided_per_s=64.0, cores_per_gpu=1.0, spread=0.0,
    usd_per_gpu_hour=3600.0,
)  # fmt: skip


def test_without_chance_it_is_arithmetic() -> None:
    ways = {one.way: one for one in plan_batch(WORK, 8, seeds=2)}
    passes, cheap, last = ways.values()
    rows = 256 * 80
    assert cheap.hours * 3600 == pytest.approx(10 + rows * 0.1 / 8)
    assert last.hours * 3600 == pytest.approx(20 + rows * 0.2 / 2)
    routed_s = rows / (64 * 8)
    assert passes.hours * 3600 == pytest.approx(routed_s + 10 + rows / 2 * 0.1 / 8 + 20 + rows * 0.75 * 0.2 / 2)
    assert passes.usd == pytest.approx(passes.hours * 8 * 3600)
    assert passes.tokens == (rows * 1.25 * 50, rows * 1.25 * 5)
    assert (last.hours_low, last.hours_high) == (last.hours, last.hours)


def test_verdicts_that_are_slower_than_the_engine_hold_the_pass_up() -> None:
    slow = replace(WORK, decided_per_s=1.0)
    seconds = plan_batch(slow, 8, seeds=1)[0].hours * 3600
    decided_s = 256 * 80 / 8
    assert seconds == pytest.approx(decided_s + decided_s / 2 + 20 + 256 * 60 * 0.2 / 2)


def test_calls_for_signals_take_passes_of_their_own() -> None:
    about = replace(CHEAP, prompt_tokens=70.0, completion_tokens=1.0)  # .08 s a row
    word = replace(LAST, prompt_tokens=60.0, completion_tokens=1.0)  # .14 s
    api = EngineRate(100_000.0, 1.0, 55.0, 0.0, gpus=0, load_s=0.0, input_usd_per_mtok=2.0)
    asked = (
        AskedPass(("p_true",), "cheap", about),
        AskedPass(("last_tier_verdict",), "last", word),
        AskedPass(("reward:critic",), "critic", api),
    )
    rows, tried = 256 * 80, 256 * 40
    plain, found = (plan_batch(replace(WORK, asked=passes), 8, seeds=1)[0] for passes in ((), asked))
    more_s = 10 + tried * 0.08 / 8 + 20 + tried * 0.14 / 2 + tried * 55 / 100_000
    # What judges (20 s of it) works beside the last of them, which takes 5.6 s, and no longer beside the cheap tier.
    judged_s = rows / (64 * 8) / 2 - tried * 55 / 100_000
    assert (found.hours - plain.hours) * 3600 == pytest.approx(more_s + judged_s)
    assert found.signal_tokens == (tried * (70 + 60 + 55), tried * 2)
    assert found.tokens == tuple(a + b for a, b in zip(plain.tokens, found.signal_tokens, strict=True))
    assert found.usd - found.hours * 8 * 3600 == pytest.approx(tried * 55 * 2e-6)
    cheap_alone = plan_batch(replace(WORK, asked=asked), 8, seeds=1)[1]
    assert plain.signal_tokens == cheap_alone.signal_tokens == (0, 0)


def test_what_is_asked_before_routing_is_asked_of_every_row_while_the_router_works() -> None:
    first = AskedPass(("p_yes",), "cheap", replace(CHEAP, prompt_tokens=100.0, completion_tokens=1.0), before=True)
    rows = 256 * 80
    plain, found = (plan_batch(replace(WORK, asked=passes), 8, seeds=1)[0] for passes in ((), (first,)))
    assert (found.hours - plain.hours) * 3600 == pytest.approx(10 + rows * 0.11 / 8 - rows / (64 * 8))
    assert found.signal_tokens == (rows * 100, rows)


def test_chance_and_failures_cost_time() -> None:
    draw = np.random.default_rng(0)
    still = pass_seconds(CHEAP, 10_000, 4, 0.0, float("inf"), draw)
    uneven = pass_seconds(CHEAP, 10_000, 4, 2.0, float("inf"), draw)
    failing = pass_seconds(CHEAP, 10_000, 4, 0.0, 0.02, draw)
    assert uneven != still
    assert uneven == pytest.approx(still, rel=0.3)
    assert failing > still * 1.2
    assert pass_seconds(CHEAP, 0, 4, 1.0, 1.0, draw) == 0.0


@pytest.mark.parametrize(
    ("work", "gpus", "said"),
    [
        (replace(WORK, tried=1.5), 8, "tried is a share"),
        (replace(WORK, accepted=-0.1), 8, "accepted is a share"),
        (WORK, 3, "a replica needs 4 GPUs"),
        (replace(WORK, cheap=replace(CHEAP, gpus=-1)), 8, "0 GPUs"),
        (replace(WORK, asked=(AskedPass(("p_true",), "x", replace(LAST, gpus=9)),)), 8, "a replica needs 9 GPUs"),
    ],
)
def test_what_cannot_be_planned_is_said(work: BatchWorkload, gpus: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        plan_batch(work, gpus)
