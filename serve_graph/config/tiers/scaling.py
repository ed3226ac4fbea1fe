"""How many replicas a deployment has."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serve_graph.config.base import Frozen

ServePolicy = Literal["IngressScaling", "TierScaling"]
"""A class of `cluster.load.scaling_policy`, which only Ray's controller imports."""
LOAD_TOLD = {
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}
"""Environment of Ray: how often replicas and callers tell their load, in seconds; by default it is 10."""


class ScalingConfig(Frozen):
    """Autoscaling of one deployment, in Ray Serve's terms; equal bounds fix the number of replicas."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Least number of replicas."""
    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Largest number of replicas."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 16.0
    """Requests in progress per replica that autoscaling aims at."""
    anticipate: bool = True
    """Whether a tier has room for what the ingress knows: the requests there and waiting now, and those at cheaper
    tiers that will be escalated to it, by the share that was lately; not only for its own of the last `look_back_s`.
    """
    target_kv_cache: Annotated[float, Field(gt=0, le=1)] | None = 0.75
    """Part of a vLLM replica's KV cache that autoscaling aims at, where that asks for more replicas; null: it is not
    looked at.
    """
    look_back_s: Annotated[float, Field(gt=10)] = 30.0
    """Seconds over which requests in progress are averaged."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64
    """Requests that a replica takes at once."""
    max_queued_requests: int = -1
    """Requests that Ray Serve queues per caller; -1: no limit."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    """Seconds that the load must stay high before replicas are added."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds that the load must stay low before replicas are removed."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    """Logical CPUs that Ray reserves per replica."""
    drain_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds that a stopping replica may take to finish its requests."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} > max_replicas {self.max_replicas}")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether the number of replicas never changes."""
        return self.min_replicas == self.max_replicas

    def autoscaling(self, policy: ServePolicy | None = None) -> dict[str, Any]:
        """Return Ray Serve's `autoscaling_config`; `policy`: whose rule decides; None: Ray Serve's own."""
        return ({} if policy is None else {"policy": self._policy(policy)}) | {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.target_ongoing_requests,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
            "look_back_period_s": self.look_back_s,
        }

    def _policy(self, policy: ServePolicy) -> dict[str, Any]:
        arguments = {"anticipate": self.anticipate, "target_kv_cache": self.target_kv_cache}
        function = f"serve_graph.cluster.load.scaling_policy:{policy}"
        return {"policy_function": function, "policy_kwargs": arguments if policy == "TierScaling" else {}}
