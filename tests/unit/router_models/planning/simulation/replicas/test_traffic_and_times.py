from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.planning.simulation.replicas.histogram import DurationHistogram
from router_models.planning.simulation.replicas.scaling import ReplicaScaling, Scaler
from router_models.planning.simulation.replicas.service_time import EngineSpeed, Speculation, token_counts
from router_models.planning.simulation.replicas.traffic import BurstyTraffic, RecordedTraffic, draw_requests
from router_models.types import FloatArray


def times_of(traffic: BurstyTraffic, chunks: int = 6, seed: int = 0) -> FloatArray:
    return np.concatenate(list(islice(traffic.chunks(seed), chunks)))


def dispersion(times: FloatArray, seconds: float) -> float:
    """The variance of counts by their mean: 1 of a Poisson stream."""
    counts = np.bincount((times / seconds).astype(int))[:-1]
    return float(counts.var() / counts.mean())


def test_steady_traffic_is_a_poisson_stream_of_its_rate() -> None:
    times = times_of(BurstyTraffic(50.0))
    assert (np.diff(times) >= 0).all()
    assert len(times) / times[-1] == pytest.approx(50.0, rel=0.01)
    assert dispersion(times, 2.0) == pytest.approx(1.0, abs=0.1)


def test_bursts_keep_the_mean_rate_and_come_in_clumps() -> None:
    times = times_of(BurstyTraffic(50.0, 5.0, 20.0, 60.0), chunks=20)
    assert len(times) / times[-1] == pytest.approx(50.0, rel=0.1)
    assert dispersion(times, 2.0) > 10


def test_a_day_is_quietest_at_its_beginning_and_busiest_at_noon() -> None:
    times = times_of(BurstyTraffic(2.0, daily_swing=0.8), chunks=8)
    hours = np.bincount((times[times < 86_400] / 3600).astype(int), minlength=24)
    assert times[-1] > 86_400
    assert hours[0] / hours[12] == pytest.approx(0.2 / 1.8, rel=0.2)


def test_a_recording_is_read_and_sent_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("# seconds\n0.5\n\n1.5\n1.5\n9\n")
    (times, rows), *more = draw_requests(RecordedTraffic.read(path), 100, 3, 0)
    assert (times.tolist(), more) == ([0.5, 1.5, 1.5, 9.0], [])
    assert set(rows) <= {0, 1, 2}
    ((first, _),) = draw_requests(RecordedTraffic.read(path), 2, 3, 0)
    assert first.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("text", ["", "1\nsoon\n", "2\n1\n", "nan\n", "-1\n"])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"trace\.txt"):
        RecordedTraffic.read(path)


@pytest.mark.parametrize(
    "given", [{"per_s": 0}, {"burst_factor": 0.5}, {"burst_s": 0}, {"calm_s": np.inf}, {"daily_swing": 1.5}]
)
def test_traffic_out_of_range_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"found|need"):
        BurstyTraffic(**({"per_s": 1.0} | given))


def test_requests_end_where_they_should_and_are_the_same_for_a_seed() -> None:
    first, again = ([*draw_requests(BurstyTraffic(10.0), 120_000, 7, 5)] for _ in range(2))
    assert sum(len(times) for times, _ in first) == 120_000
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, again, strict=True))


def test_quantiles_of_a_histogram_are_those_of_all_durations() -> None:
    seconds = np.random.default_rng(0).lognormal(0, 2, 50_000)
    kept = DurationHistogram()
    for part in np.array_split(seconds, 7):
        kept.add(part)
    assert (kept.n, kept.greatest_s) == (50_000, seconds.max())
    assert kept.mean_s == pytest.approx(seconds.mean())
    for share in (0.01, 0.5, 0.95, 0.999, 1.0):
        assert kept.quantile(share) == pytest.approx(np.quantile(seconds, share, method="inverted_cdf"), rel=0.003)
    assert kept.share_above(2.0) == pytest.approx((seconds > 2.0).mean(), abs=0.002)


def test_a_histogram_has_zeros_and_refuses_what_is_no_duration() -> None:
    kept = DurationHistogram()
    assert np.isnan([kept.quantile(0.5), kept.mean_s, kept.share_above(1)]).all()
    kept.add(np.array([0.0, 0.0, 0.0, 5.0, 1e9]))
    assert (kept.quantile(0.5), kept.quantile(1.0), kept.share_above(1.0)) == (0.0, 1e9, 0.4)
    with pytest.raises(DataError, match="negative"):
        kept.add(np.array([1.0, -1.0]))
    with pytest.raises(DataError, match="not a number"):
        kept.add(np.array([np.nan]))


def test_a_speculated_step_yields_what_leviathan_says_and_a_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    accepted = rng.random((200_000, 4)) < 0.7
    drawn = 1 + np.cumprod(accepted, axis=1).sum(axis=1)
    assert Speculation(4, 0.7).tokens_per_step == pytest.approx(drawn.mean(), rel=0.01)
    assert Speculation(4, 1.0).tokens_per_step == 5
    assert Speculation(4, 0.0, 0.1).speedup == pytest.approx(1 / 1.4), "where nothing is accepted it loses"


def test_seconds_of_a_call_by_hand() -> None:
    speed = EngineSpeed(1000.0, 50.0, Speculation(1, 0.5, 0.25), prefix_cached=0.6, before_s=0.1)
    # 400 of 1,000 tokens are computed; 1.5 tokens in 1.25 steps.
    assert speed.seconds(np.array([1000.0]), np.array([60.0])) == pytest.approx([0.1 + 0.4 + 60 / (50 * 1.5 / 1.25)])


def test_token_counts_have_the_mean_and_spread_they_were_asked_for() -> None:
    counts = token_counts(200, 0.8, 20_000, 0)
    assert counts.mean() == pytest.approx(200, rel=0.01)
    assert counts.std() / counts.mean() == pytest.approx(0.8, rel=0.1)
    assert (token_counts(200, 0.0, 5, 0) == 200).all()


@pytest.mark.parametrize(
    "made",
    [
        lambda: Speculation(0, 0.5),
        lambda: Speculation(2, 1.5),
        lambda: EngineSpeed(0, 1),
        lambda: EngineSpeed(1, 1, prefix_cached=2),
        lambda: token_counts(0, 1, 1, 0),
        lambda: ReplicaScaling(2, 1, 1, 0),
        lambda: ReplicaScaling(1, 2, 0, 0),
        lambda: ReplicaScaling(1, 2, 1, -1),
    ],
)
def test_engines_and_rules_out_of_range_are_refused(made: Any) -> None:
    with pytest.raises(DataError):
        made()


def test_replicas_are_added_after_a_delay_and_taken_away_after_a_longer_one() -> None:
    rule = ReplicaScaling(1, 5, 2.0, 0.0, upscale_delay_s=1, downscale_delay_s=3, look_back_s=1)
    scaler = Scaler(rule, 1.0)
    assert [scaler.change(1, 8.0, 0.0) for _ in range(2)] == [0, 3]
    assert [scaler.change(4, 100.0, 0.0) for _ in range(2)] == [0, 1], "never more than its maximum"
    assert [scaler.change(5, 0.0, 0.0) for _ in range(4)] == [0, 0, 0, -4]
    assert Scaler(ReplicaScaling(1, 5, 2.0, 0.0, upscale_delay_s=0), 1.0).change(1, 2.0, 6.0) == 2
    plain = ReplicaScaling(1, 5, 2.0, 0.0, upscale_delay_s=0, anticipate=False)
    assert Scaler(plain, 1.0).change(1, 2.0, 6.0) == 0
