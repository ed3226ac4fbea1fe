"""The time of batches in passes: what arithmetic says where there is no chance, and what chance adds."""

from dataclasses import replace

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.planning.simulation.passes import BatchWorkload, EngineRate, pass_seconds, plan_batch

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
    ],
)
def test_what_cannot_be_planned_is_said(work: BatchWorkload, gpus: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        plan_batch(work, gpus)
