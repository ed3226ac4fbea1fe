"""A new version tried beside the served one: what a rollout is, how it moves, and where it is kept."""

from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.policy.rollout.transitions import RolloutEvent, next_state

__all__ = ["Rollout", "RolloutEvent", "RolloutState", "RolloutTable", "next_state"]
