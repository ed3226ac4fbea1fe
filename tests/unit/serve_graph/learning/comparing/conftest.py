"""A comparer over fakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cascade.fakes import PRICES, FakeEngine
from serve_graph.config.judge import JudgeConfig
from serve_graph.config.rollouts import ComparisonsConfig
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeTiers
from serve_graph.records.comparisons import Comparison
from tests.unit.serve_graph.learning.comparing.compared import Critic, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., Rig]:
    def make(
        critic: FakeEngine | None = None,
        tiers: Any = None,
        engines: Any = None,
        gives_way: Callable[[], bool] = lambda: False,
        **settings: Any,
    ) -> Rig:
        named = {"cheap": FakeEngine("cheap says"), "frontier": FakeEngine("frontier says"), **(engines or {})}
        named["critic"] = critic or Critic()
        known = JudgeTiers(named, {**PRICES, "middle": PRICES["cheap"], "critic": PRICES["cheap"]}, **(tiers or {}))
        config, rows = ComparisonsConfig.model_validate({"within_s": 0.4} | settings), list[Comparison]()
        budget = JudgeBudget(tmp_path / f"{len(settings)}.json", config.budget_usd_per_day)
        grading = JudgeConfig(tier="critic", mode="pairwise", timeout_s=0.2)
        made = Comparer(
            config,
            grading,
            "judge:critic/m",
            known,
            rows.append,
            budget,
            gives_way=gives_way,
            after_s=0.0,
            busy_loop_s=10.0,
        )
        return Rig(made, named["critic"], named, rows)

    return make
