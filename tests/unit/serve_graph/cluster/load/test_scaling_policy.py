from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_graph.cluster.load import load_board
from serve_graph.cluster.load.load_board import SAID_WITHIN_S, LoadBoard
from serve_graph.cluster.load.scaling_policy import IngressScaling, TierScaling
from serve_graph.config.tiers.scaling import ScalingConfig


@pytest.fixture(autouse=True)
def board(monkeypatch: pytest.MonkeyPatch) -> LoadBoard:
    board = LoadBoard()
    monkeypatch.setattr(load_board, "BOARD", board)
    return board


def context(deployment: str, requests: float, replicas: int = 1, now: float = 100.0, **metrics: list[float]) -> Any:
    """`metrics`: for each statistic, what each replica said last."""
    raw = {
        name.replace("expected_", "expected:"): {
            f"replica {i}": [
                SimpleNamespace(timestamp=now - 9, value=-1.0),
                SimpleNamespace(timestamp=now, value=value),
            ]
            for i, value in enumerate(values)
        }
        for name, values in metrics.items()
    }
    config = AutoscalingConfig(min_replicas=0, max_replicas=10, target_ongoing_requests=4)
    return AutoscalingContext(
        deployment_id=None,
        deployment_name=deployment,
        app_name="serve-graph",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics=raw,
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=10,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now,
        config=config,
    )


def test_a_tier_without_any_signal_of_ours_is_scaled_as_ray_serve_does() -> None:
    assert TierScaling()(context("frontier", 10.0, replicas=2))[0] == pytest.approx(10 / 4)
    assert TierScaling()(context("frontier", 0.0, replicas=0))[0] == 0.0


def test_what_the_ingress_expects_counts_before_it_arrives() -> None:
    IngressScaling()(context("ingress", 30.0, expected_cheap=[0.0, 1.0], expected_frontier=[6.0, 8.0]))
    assert TierScaling()(context("frontier", 2.0))[0] == pytest.approx(14 / 4)
    assert TierScaling()(context("cheap", 20.0))[0] == pytest.approx(20 / 4), "it had more of late"
    assert TierScaling(anticipate=False)(context("frontier", 2.0))[0] == pytest.approx(2 / 4)


def test_what_the_ingress_expects_is_averaged_over_its_last_seconds() -> None:
    asked = context("ingress", 1.0, expected_frontier=[6.0])
    moments = [(96.0, 90.0), (98.5, 20.0), (99.0, 0.0), (99.5, 6.0), (100.0, 6.0)]
    said = [SimpleNamespace(timestamp=at, value=value) for at, value in moments]
    asked._raw_metrics_value = {"expected:frontier": {"replica": said}}
    IngressScaling()(asked)
    assert TierScaling()(context("frontier", 0.0))[0] == pytest.approx(4 / 4)


def test_a_sleeping_tier_is_woken_by_what_is_expected_of_it() -> None:
    IngressScaling()(context("ingress", 30.0, expected_frontier=[3.0]))
    assert TierScaling()(context("frontier", 0.0, replicas=0))[0] == pytest.approx(3 / 4)


def test_an_ingress_that_is_gone_expects_nothing(board: LoadBoard) -> None:
    IngressScaling()(context("ingress", 1.0, now=100.0, expected_frontier=[40.0]))
    assert TierScaling()(context("frontier", 0.0, now=100.0 + SAID_WITHIN_S))[0] == pytest.approx(10.0)
    assert TierScaling()(context("frontier", 0.0, now=100.1 + SAID_WITHIN_S))[0] == 0.0
    assert board.expected("another application", "frontier", 100.0) == 0.0


def test_the_ingress_itself_is_scaled_by_its_requests() -> None:
    assert IngressScaling()(context("ingress", 6.0, expected_cheap=[900.0]))[0] == pytest.approx(6 / 4)


@pytest.mark.parametrize(
    ("target", "used", "needed"),
    [(0.75, [0.9, 0.9], 1.8 / 0.75), (0.75, [0.1, 0.1], 2 / 4), (None, [1.0, 1.0], 2 / 4), (0.75, [], 2 / 4)],
)
def test_a_full_kv_cache_asks_for_replicas_however_few_the_requests(
    target: float | None, used: list[float], needed: float
) -> None:
    found = TierScaling(target_kv_cache=target)(context("cheap", 2.0, replicas=2, kv_cache_use=used))[0]
    assert found == pytest.approx(needed)


def test_statistics_that_are_not_there_yet_raise_nothing() -> None:
    """An exception would end the scaling of every deployment."""
    for policy in (IngressScaling(), TierScaling()):
        for requests in (0.0, 7.0):
            bare = context("cheap", requests)
            bare._raw_metrics_value = None
            assert policy(bare)[0] == pytest.approx(requests / 4)
    empty = context("cheap", 0.0)
    empty._raw_metrics_value = {"kv_cache_use": {"replica": []}, "expected:cheap": {"replica": []}}
    assert IngressScaling()(empty)[0] == TierScaling()(empty)[0] == 0.0


@pytest.mark.parametrize("policy", ["IngressScaling", "TierScaling"])
def test_ray_serve_takes_the_policy_as_the_configuration_writes_it(policy: Any) -> None:
    """By value, as Ray sends it: what a policy reads from others' processes must still be one board."""
    scaling = ScalingConfig(min_replicas=1, max_replicas=3, target_ongoing_requests=5, anticipate=False)
    config = AutoscalingConfig(**scaling.autoscaling(policy))
    assert (config.max_replicas, config.target_ongoing_requests, config.look_back_period_s) == (3, 5, 30.0)
    made = cloudpickle.loads(config.policy.get_serialized_policy_def())(**config.policy.policy_kwargs)
    IngressScaling()(context("ingress", 0.0, expected_frontier=[8.0]))
    asked = context("frontier", 4.0)
    assert made(asked)[0] == pytest.approx(1.0)
    if policy == "TierScaling":
        assert not made.anticipate
        assert type(made)(anticipate=True)(asked)[0] == pytest.approx(2.0)
