"""A judge of live answers over fakes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cascade.fakes import PRICES, FakeEngine
from serve_graph.config.judge import JudgeConfig
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeTiers
from serve_graph.learning.judging.live_judge import LiveJudge
from tests.unit.serve_graph.learning.judging.judged import SOURCE, Critic, Judged


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Judged]:
    def make(critic: FakeEngine | None = None, *, tiers: Mapping[str, Any] | None = None, **settings: Any) -> Judged:
        critic, frontier, labels = critic or Critic(), FakeEngine("four"), []  # type: ignore[var-annotated]
        config = JudgeConfig.model_validate({"tier": "critic", "rate": 1.0, **settings})
        engines = {"critic": critic, "frontier": frontier}
        known = JudgeTiers(engines, {**PRICES, "critic": PRICES["cheap"]}, **(tiers or {}))
        budget = JudgeBudget(tmp_path / "judge.json", config.budget_usd_per_day)
        return Judged(LiveJudge(config, SOURCE, known, labels.append, budget, after_s=0.0), critic, frontier, labels)

    return make
