from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from router_models.errors import DataError
from router_models.planning.simulation.sizing.inputs import SizingFile, read_sizing
from router_models.planning.simulation.sizing.needs import draw_prompts, needs_of
from router_models.planning.simulation.sizing.page import amount, sizing_page
from router_models.planning.simulation.sizing.simulated import simulate_busiest

ENGINE = {"prefill_tokens_per_s": 1000, "decode_tokens_per_s": 50}
GIVEN: dict[str, Any] = {
    "requests_per_day": [86_400, 864_000],
    "traffic": {},
    "tiers": [
        {"name": "cheap", "first": 0.8, "sent_on": 0.25, "judged": True, "engine": ENGINE,
         "tokens": {"prompt": 500, "answer": 75}, "replicas": {"places": 4, "usd_per_hour": 2.0, "start_s": 10}},
        {"name": "frontier", "first": 0.2, "tokens": {"prompt": 1000, "answer": 100},
         "engine": ENGINE | {"prefix_cached": 0.5},
         "hosted": {"input_usd_per_mtok": 2.0, "output_usd_per_mtok": 10.0, "cached_input_usd_per_mtok": 0.5}},
    ],
    "gateway": {"ingress_cpu_ms": 6, "router_cpu_ms": 12, "verifier_cpu_ms": 3, "beside_cpu_ms": 0,
                "busy_share": 0.5, "usd_per_core_hour": 0.1},
    "store": {"bytes_per_record": 2000, "sqlite_cpu_ms": 0.2, "postgresql_cpu_ms": 0.05, "keep_days": 10,
              "usd_per_gb_month": 3.0},
}  # fmt: skip


def given(**changes: Any) -> SizingFile:
    return SizingFile.model_validate(GIVEN | changes)


def test_needs_by_hand() -> None:
    """10 requests a second, no bursts: cheap calls take 0.5 + 75/50 = 2 s, the hosted ones 0.5 + 2 = 2.5 s."""
    sizing = given()
    drawn = draw_prompts(sizing)
    needs = needs_of(sizing, drawn, 864_000)
    cheap, frontier = needs.tiers
    assert (needs.mean_per_s, needs.busiest_per_s) == (10.0, 10.0)
    assert cheap.calls == pytest.approx(0.8, abs=0.01)
    assert frontier.calls == pytest.approx(0.2 + 0.8 * 0.25, abs=0.01)
    assert (cheap.call_s, frontier.call_s) == pytest.approx((2.0, 2.5))
    assert cheap.at_once == pytest.approx(10 * cheap.calls * 2.0)
    assert cheap.replicas == 5, "16 at once, of 4 places 90 % taken"
    assert cheap.usd_fixed == pytest.approx(5 * 24 * 2.0)
    assert frontier.replicas is None
    each = (500 * 2.0 + 500 * 0.5 + 100 * 10.0) / 1e6
    assert frontier.usd_fixed == pytest.approx(864_000 * frontier.calls * each)
    assert (needs.gateway.ingress, needs.gateway.router, needs.gateway.verifier) == (1, 1, 1)
    assert needs.store.gb_per_day == pytest.approx(1.728)
    assert needs.store.usd == pytest.approx(1.728)
    assert needs.store.postgresql_cores == pytest.approx(0.0005)


def test_bursts_and_days_are_carried_at_their_busiest_but_paid_by_the_hour() -> None:
    steady, swinging = given(), given(traffic={"daily_swing": 0.5, "burst_factor": 3, "burst_s": 60, "calm_s": 60})
    drawn = draw_prompts(steady)
    calm, busy = (needs_of(sizing, drawn, 8_640_000) for sizing in (steady, swinging))
    assert busy.busiest_per_s == pytest.approx(100 / 2 * 3 * 1.5)
    assert busy.tiers[0].at_once == pytest.approx(2.25 * calm.tiers[0].at_once)
    assert busy.tiers[0].usd_fixed > 2 * calm.tiers[0].usd_fixed
    assert busy.tiers[0].usd_scaled == pytest.approx(calm.tiers[0].usd_scaled, rel=0.05)
    assert busy.gateway.ingress == pytest.approx(225 * 0.006 / 0.5, abs=1)


def test_what_was_worked_out_carries_the_traffic_and_less_does_not() -> None:
    """The simulator on the needs: nobody waits long; with a tenth of the replicas everybody does."""
    sizing = given(tiers=[GIVEN["tiers"][0] | {"first": 1.0, "sent_on": 0.0}])
    drawn = draw_prompts(sizing, n=2000)
    needs = needs_of(sizing, drawn, 8_640_000)
    run = simulate_busiest(sizing, drawn, needs, 20_000)
    assert run.served == 20_000
    assert run.tiers["cheap"].waits.quantile(0.95) < 1.0
    few = needs_of(sizing, drawn, 864_000)
    starved = simulate_busiest(sizing, drawn, replace(needs, tiers=few.tiers), 5_000)
    assert starved.tiers["cheap"].waits.quantile(0.5) > 10.0


def test_a_day_with_fewer_requests_is_simulated_whole() -> None:
    sizing = given()
    drawn = draw_prompts(sizing, n=500)
    run = simulate_busiest(sizing, drawn, needs_of(sizing, drawn, 3_000), 10_000)
    assert run.requests == 3_000
    assert run.duration_s == pytest.approx(86_400, rel=0.1)


def test_the_page_says_what_is_needed_assumed_and_simulated() -> None:
    sizing = given()
    drawn = draw_prompts(sizing, n=500)
    needs = needs_of(sizing, drawn, 86_400)
    bare = sizing_page(sizing, [(needs, None)], "by hand")
    page = sizing_page(sizing, [(needs, simulate_busiest(sizing, drawn, needs, 500))], "by hand")
    assert "# What 86.4k requests a day need" in page
    assert "| frontier: tokens, $ a day |" in page
    assert "## Simulated" in page
    assert "## Simulated" not in bare
    assert [amount(n) for n in (500, 10_000, 1e6, 1e8)] == ["500", "10k", "1M", "100M"]


def test_the_prompts_of_a_seed_are_the_same() -> None:
    first, again, other = (draw_prompts(given(), seed, 200) for seed in (1, 1, 2))
    assert first.itineraries == again.itineraries != other.itineraries
    assert (first.seconds["cheap"] == again.seconds["cheap"]).all()


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("tiers", 0, "first"), 0.5, "sum to 1"),
        (("tiers", 1, "sent_on"), 0.5, "last tier"),
        (("tiers", 1, "name"), "cheap", "one name"),
        (("tiers", 1, "hosted"), None, "either replicas or hosted"),
        (("tiers", 0, "engine", "decode_tokens_per_s"), 0, r"tiers\.0\.engine\.decode_tokens_per_s"),
        (("tiers", 0, "replicas", "place"), 3, r"replicas\.place"),
        (("traffic", "daily_swing"), 2, "daily_swing"),
        (("requests_per_day",), [], "requests_per_day"),
        (("gateway", "ingress_cpu_ms"), np.inf, "ingress_cpu_ms"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_its_key(
    tmp_path: Path, where: tuple[Any, ...], value: Any, said: str
) -> None:
    data = deepcopy(GIVEN)
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path = tmp_path / "sizing.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DataError, match=said) as raised:
        read_sizing(path)
    assert "sizing.yaml" in str(raised.value)


def test_the_documented_file_is_read() -> None:
    assert read_sizing(Path(__file__).parents[6] / "docs/results/plans/capacity.yaml").requests_per_day[-1] == 1e8
