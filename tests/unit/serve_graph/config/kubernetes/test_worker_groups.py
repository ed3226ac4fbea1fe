import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_graph.config.graph import GraphConfig
from serve_graph.config.kubernetes.machines import MACHINES
from serve_graph.config.kubernetes.worker_groups import SERVING_GROUP, WorkerGroup, worker_groups

RESERVED = {"auto", "router", "verifier", "ingress", "frontier", "serving"}
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
VLLM: dict[str, Any] = {"name": "cheap", "engine": "vllm", "weights": {"hub": "a/b"}, "price": PRICE}
LAST: dict[str, Any] = {"name": "frontier", "engine": "echo", "price": PRICE}


def groups(*tiers: dict[str, Any], machines: dict[str, str] | None = None, **more: Any) -> dict[str, WorkerGroup]:
    config = GraphConfig.model_validate({"tiers": [*tiers, LAST], **more})
    return {group.name: group for group in worker_groups(config, machines or {})}


def test_a_tier_on_four_gpus_is_one_pod_a_replica_of_the_machine_that_is_named() -> None:
    scaling = {"min_replicas": 1, "max_replicas": 4}
    tier = VLLM | {"engine_kwargs": {"tensor_parallel_size": 4}, "scaling": scaling}
    group = groups(tier, machines={"cheap": "a100-80gb"})["cheap"]
    assert (group.least, group.most, group.hosts, group.gpus) == (1, 4, 1, 4)
    assert (group.pod_cpus, group.pod_memory_gib) == (40, 480)
    assert group.machine == MACHINES["a100-80gb"]


def test_a_pipeline_has_a_pod_for_each_stage() -> None:
    tier = VLLM | {"engine_kwargs": {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}}
    group = groups(tier)["cheap"]
    assert (group.gpus, group.hosts, group.pods) == (8, 2, 2)
    assert group.resources == {"tier-cheap": 8}


def test_bundles_that_no_number_of_stages_divides_are_refused() -> None:
    tier = VLLM | {"engine_kwargs": {"pipeline_parallel_size": 2}, "placement_bundles": [{"GPU": 1}] * 3}
    with pytest.raises(ValueError, match="3 bundles cannot be split over 2"):
        groups(tier)


def test_a_tier_that_may_sleep_has_no_worker_at_least() -> None:
    assert groups(VLLM | {"scaling": {"min_replicas": 0, "max_replicas": 2}})["cheap"].least == 0


def test_a_tier_on_cpus_has_no_gpu_and_takes_no_machine() -> None:
    tier = VLLM | {"accelerator": "cpu"}
    assert groups(tier)["cheap"].gpus == 0
    assert groups(tier)["cheap"].cpus == 2, "half a CPU of the engine and one of its replica"
    with pytest.raises(ValueError, match="runs on CPUs"):
        groups(tier, machines={"cheap": "l4"})


def test_a_tier_on_tpus_is_refused() -> None:
    with pytest.raises(ValueError, match="'cheap' runs on TPUs"):
        groups(VLLM | {"accelerator": "tpu"})


def test_memory_that_bundles_reserve_is_within_the_pods() -> None:
    tier = VLLM | {"placement_bundles": [{"GPU": 1, "memory": 100 * 2**30}]}
    assert groups(tier)["cheap"].pod_memory_gib == 102


def test_the_accelerator_type_chooses_the_machine_and_is_offered_before_there_is_a_node() -> None:
    group = groups(VLLM | {"accelerator_type": "L4"})["cheap"]
    assert group.machine == MACHINES["l4"]
    assert group.resources["accelerator_type:L4"] == 1


@pytest.mark.parametrize(
    ("machines", "why"), [({"cheap": "l5"}, "no machine is called 'l5'"), ({"other": "l4"}, "no tier of vLLM")]
)
def test_an_unknown_machine_or_tier_is_refused(machines: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        groups(VLLM, machines=machines)


def test_what_runs_no_engine_shares_pods_as_many_as_its_largest_deployment_needs() -> None:
    hosted = {"name": "api", "engine": "openai", "model": "m", "price": PRICE, "scaling": {"max_replicas": 5}}
    group = groups(hosted, http={"scaling": {"min_replicas": 2, "max_replicas": 3}})[SERVING_GROUP]
    assert (group.least, group.most, group.gpus) == (2, 5, 0)


@settings(max_examples=20)
@given(st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True).filter(lambda name: name not in RESERVED))
def test_a_group_may_be_part_of_a_pods_name_whatever_its_tier_is_called(name: str) -> None:
    found = groups(VLLM | {"name": name})
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", group) for group in found)


@pytest.mark.parametrize("names", [("a_b", "a-b"), ("serving", "x")])
def test_two_tiers_whose_groups_would_share_a_name_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="rename a tier"):
        groups(*(VLLM | {"name": name} for name in names))


def test_an_embedder_has_workers_of_its_own() -> None:
    found = groups(VLLM, embedders=[VLLM | {"name": "minilm", "accelerator": "cpu"}])
    assert set(found) == {SERVING_GROUP, "cheap", "minilm"}


@settings(max_examples=40)
@given(
    tensor=st.integers(1, 8),
    stages=st.integers(1, 4),
    cpus=st.floats(0, 16),
    most=st.integers(1, 9),
    replicas=st.lists(st.tuples(st.integers(1, 9), st.floats(0, 2)), min_size=1, max_size=4),
)
def test_every_replica_that_may_be_has_a_place(
    tensor: int, stages: int, cpus: float, most: int, replicas: list[tuple[int, float]]
) -> None:
    """What Ray may be asked for at once, by autoscaling's own bounds, is never more than the pods have."""
    engine = {"tensor_parallel_size": tensor, "pipeline_parallel_size": stages}
    bundles = [{"GPU": 1, "CPU": cpus}] * (tensor * stages)
    tier = VLLM | {"engine_kwargs": engine, "placement_bundles": bundles, "scaling": {"max_replicas": most}}
    hosted = [
        {"name": f"api{i}", "engine": "openai", "model": "m", "price": PRICE}
        | {"scaling": {"max_replicas": number, "num_cpus": share}}
        for i, (number, share) in enumerate(replicas)
    ]
    found = groups(tier, *hosted)
    group = found["cheap"]
    assert group.pods * group.gpus >= most * tensor * stages
    assert group.cpus >= tensor * cpus + 1
    assert group.pod_cpus >= group.cpus
    serving = found[SERVING_GROUP]
    asked = math.fsum(number * share for number, share in replicas)
    assert serving.most * serving.cpus >= asked
