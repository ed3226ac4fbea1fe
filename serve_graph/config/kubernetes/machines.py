"""Nodes by the name of their GPU: what one GPU's share of such a node leaves for the engine that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serve_graph.config.tiers.kinds import VllmTierConfig


@dataclass(frozen=True, slots=True)
class Machine:
    """One GPU with its share of a node; `products` are the values of the label `nvidia.com/gpu.product`.

    CPUs and memory are what is left of the smallest of the named machines once the node's own pods have theirs.
    """

    name: str
    gpu_memory_gb: int
    cpus: int
    memory_gib: int
    products: tuple[str, ...]
    fits: str


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        machine.name: machine
        for machine in (
            Machine("l4", 24, 6, 24, ("NVIDIA-L4",), "g2-standard-8 (Google), g6.2xlarge (AWS)"),
            Machine("l40s", 48, 6, 48, ("NVIDIA-L40S",), "g6e.2xlarge (AWS)"),
            Machine("a100-40gb", 40, 10, 70, ("NVIDIA-A100-SXM4-40GB",), "a2-highgpu (Google), p4d (AWS)"),
            Machine(
                "a100-80gb", 80, 10, 120, ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"),
                "a2-ultragpu (Google), p4de (AWS), NC A100 v4 (Azure)",
            ),
            Machine("h100-80gb", 80, 20, 190, ("NVIDIA-H100-80GB-HBM3",), "a3-highgpu-8g (Google), p5 (AWS)"),
        )
    }
)  # fmt: skip
"""By the names that `serve-graph manifests --machine TIER=NAME` takes."""
ANY_GPU = Machine("gpu", 0, 4, 24, (), "any node with a GPU of NVIDIA's")
CPU_NODE = Machine("cpu", 0, 4, 10, (), "any node with four CPUs free")
"""An engine on the CPU: here all CPUs and memory are the engine's, not one GPU's share."""
BY_ACCELERATOR: Mapping[str, str] = MappingProxyType(
    {"L4": "l4", "L40S": "l40s", "A100-40G": "a100-40gb", "A100-80G": "a100-80gb", "H100": "h100-80gb"}
)
"""Ray's accelerator types of which one machine is meant; `A100` may be either size."""


def machine_of(tier: VllmTierConfig, chosen: Mapping[str, str]) -> Machine:
    """The machine of a tier: as `chosen` says by the tier's name, else by its `accelerator_type`.

    Raises ValueError for a name that no machine has, for a GPU that is chosen for a tier on CPUs, and for TPUs.
    """
    if tier.accelerator == "tpu":
        raise ValueError(f"tier {tier.name!r} runs on TPUs, for which no manifests are made")
    name = chosen.get(tier.name)
    if name is not None and name not in MACHINES:
        raise ValueError(f"no machine is called {name!r}; there are {', '.join(MACHINES)}")
    if tier.accelerator == "cpu":
        if name is not None:
            raise ValueError(f"tier {tier.name!r} runs on CPUs: no machine can be chosen for it")
        return CPU_NODE
    if name is None:
        name = BY_ACCELERATOR.get(tier.accelerator_type or "")
    return ANY_GPU if name is None else MACHINES[name]
