"""A rollout over fakes."""

from __future__ import annotations

import pytest

from tests.unit.serve_graph.cluster.controllers import Cluster
from tests.unit.serve_graph.cluster.rollouts.trial import Trial


@pytest.fixture
async def trial(cluster: Cluster) -> Trial:
    return Trial(cluster)
