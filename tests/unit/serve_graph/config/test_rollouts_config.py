from router_models.monitoring.canary import CanaryLimits
from serve_graph.config.rollouts import RolloutsConfig


def test_the_limits_of_rollouts_are_those_of_their_tests_stated_once() -> None:
    assert RolloutsConfig().limits() == CanaryLimits()
    assert set(CanaryLimits.__dataclass_fields__) == set(RolloutsConfig.model_fields) - {"settles_s", "capacity_share"}
    stated = RolloutsConfig(margin=0.07, slices=("en",), settles_s=5.0).limits()
    assert (stated.margin, stated.slices) == (0.07, ("en",))
