"""How many workers of which size each tier may have: Ray's placement bundles and autoscaling bounds as pods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_graph.config.graph import GraphConfig
from serve_graph.config.kubernetes.graph_settings import bundles_of, pipeline_stages, tier_resource
from serve_graph.config.kubernetes.machines import Machine, machine_of
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.config.tiers.scaling import ScalingConfig
from serve_graph.config.tiers.shared_engines import engines_of

SERVING_GROUP = "serving"
"""The group, and its resource, of everything that runs no engine: ingress, router, verifier, hosted tiers."""
PER_REPLICA = 0.001
"""What a replica takes of its group's resource: that it is there is all that it asks."""
RAY_MEMORY_GIB = 2
"""What Ray's own processes take of a pod, beside what bundles reserve."""
ENGINE_REPLICA_CPUS = 1.0
"""What Ray Serve's LLMServer takes beside its engine's bundles."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """One of the RayCluster's worker groups; `cpus`, `gpus` and `resources` are what Ray schedules by.

    The pod's own requests are `pod_cpus` and `pod_memory_gib`. `least` and `most` count pods, `hosts` those of one
    replica that spans several.
    """

    name: str
    least: int
    most: int
    cpus: int
    pod_cpus: int
    pod_memory_gib: int
    gpus: int = 0
    hosts: int = 1
    machine: Machine | None = None
    resources: Mapping[str, int] = field(default_factory=dict)

    @property
    def pods(self) -> int:
        """How many pods it has at most."""
        return self.most * self.hosts


def worker_groups(config: GraphConfig, machines: Mapping[str, str]) -> tuple[WorkerGroup, ...]:
    """The groups of a graph: one for what serves, one for every tier and embedder of vLLM.

    `machines`: tier → name of `MACHINES`, for the size of its pods.

    Raises
    ------
    ValueError
        A machine or a tier is unknown, a tier runs on TPUs, two groups would have one name, or a replica's bundles
        cannot be split evenly over its pipeline stages.
    """
    engines = [tier for tier in engines_of(config.every_tier) if isinstance(tier, VllmTierConfig)]
    if strangers := sorted(set(machines) - {tier.name for tier in engines}):
        raise ValueError(f"no tier of vLLM is called {', '.join(strangers)}")
    names = [SERVING_GROUP, *(group_name(tier.name) for tier in engines)]
    if len(set(names)) < len(names):
        raise ValueError(f"worker groups would share a name, {sorted(names)}: rename a tier")
    return (_serving(config), *(_of_tier(tier, machine_of(tier, machines)) for tier in engines))


def group_name(tier: str) -> str:
    """The name of a tier's worker group: a part of its pods' names, which hold no underscore."""
    return tier.replace("_", "-").strip("-")


def serving_deployments(config: GraphConfig) -> dict[str, ScalingConfig]:
    """The deployments that run no engine, as `build_app` binds them: name → scaling."""
    found = {"ingress": config.http.scaling}
    if config.policy.version != "none" and config.policy.placement == "replicas":
        found |= {"router": config.policy.router_scaling, "verifier": config.policy.verifier_scaling}
    own = engines_of(config.every_tier)
    return found | {tier.name: tier.scaling for tier in own if not isinstance(tier, VllmTierConfig)}


def _serving(config: GraphConfig) -> WorkerGroup:
    """Pods that hold one replica of each deployment."""
    scalings = serving_deployments(config).values()
    return WorkerGroup(
        SERVING_GROUP,
        least=max(1, *(scaling.min_replicas for scaling in scalings)),
        most=max(scaling.max_replicas for scaling in scalings),
        cpus=max(1, math.ceil(math.fsum(scaling.num_cpus for scaling in scalings))),
        pod_cpus=2,
        pod_memory_gib=6,
        resources={SERVING_GROUP: 1},
    )


def _of_tier(tier: VllmTierConfig, machine: Machine) -> WorkerGroup:
    """Pods that hold one replica of a tier, or of a pipeline one stage of it: GPUs of one stage share a node."""
    bundles, hosts = bundles_of(tier), pipeline_stages(tier)
    if len(bundles) % hosts:
        raise ValueError(f"tier {tier.name!r}: {len(bundles)} bundles cannot be split over {hosts} pipeline stages")
    per_pod = [bundles[i::hosts] for i in range(hosts)]
    gpus = max(math.ceil(math.fsum(bundle.get("GPU", 0) for bundle in part)) for part in per_pod)
    asked = max(math.fsum(bundle.get("CPU", 0) for bundle in part) for part in per_pod) + ENGINE_REPLICA_CPUS
    memory = max(math.fsum(bundle.get("memory", 0) for bundle in part) for part in per_pod) / 2**30
    share = max(gpus, 1)
    others = {name for bundle in bundles for name in bundle} - {"CPU", "GPU", "memory"}
    extra = {
        name: max(math.ceil(math.fsum(bundle.get(name, 0) for bundle in part)) for part in per_pod)
        for name in sorted(others)
    }
    if tier.accelerator_type is not None:
        extra[f"accelerator_type:{tier.accelerator_type}"] = 1
    return WorkerGroup(
        group_name(tier.name),
        least=tier.scaling.min_replicas,
        most=tier.scaling.max_replicas,
        cpus=math.ceil(asked),
        pod_cpus=max(machine.cpus * share, math.ceil(asked)),
        pod_memory_gib=max(machine.memory_gib * share, math.ceil(memory) + RAY_MEMORY_GIB),
        gpus=gpus,
        hosts=hosts,
        machine=machine,
        resources={tier_resource(tier.name): math.ceil(len(bundles) / hosts)} | extra,
    )
