"""How much memory a configuration wants, and what doctor makes of it."""

from pathlib import Path
from typing import Any

import pytest

from serve_graph.cli.local import doctor
from serve_graph.cli.local.memory import ENGINE_GIB, GIB, GRAPH_GIB, available_gib, memory_needed
from serve_graph.config.graph import GraphConfig, load_config

ROOT = Path(__file__).parents[5]
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
ECHO = {"engine": "echo", "name": "frontier", "price": PRICE}
PACKAGED = {"package": "smollm2-135m-instruct"}


def context(**tier: Any) -> GraphConfig:
    """One tier as given, `cheap`, below an echo tier."""
    return GraphConfig.model_validate({"tiers": [{"name": "cheap", "price": PRICE} | tier, ECHO]})


@pytest.mark.parametrize(("name", "gib"), [("echo", 2.0), ("cluster", 2.0), ("local", 11.55), ("hosted", 5.25)])
def test_shipped_configurations_want_what_runs_on_this_machine(
    name: str, gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_GRAPH_STORE_URL", "postgresql://graph@store/decisions")
    monkeypatch.setenv("SERVE_GRAPH_REGISTRY_URI", "https://registry")
    assert memory_needed(load_config(ROOT / "configs" / f"{name}.yaml")).gib == pytest.approx(gib)


@pytest.mark.parametrize(
    "tier",
    [
        {"engine": "openai", "model": "m"},
        {"engine": "echo"},
        {"engine": "vllm", "weights": PACKAGED, "accelerator": "gpu", "env": {"VLLM_CPU_KVCACHE_SPACE": "40"}},
        {"engine": "vllm", "weights": {"hub": "a/b"}, "accelerator": "tpu"},
    ],
    ids=lambda tier: f"{tier['engine']} {tier.get('accelerator', '')}",
)
def test_only_cpu_engines_want_memory_of_their_own(tier: dict[str, Any]) -> None:
    found = memory_needed(context(**tier))
    assert (found.gib, found.unknown) == (GRAPH_GIB, ())


def test_weights_cache_and_replicas_of_a_cpu_engine_are_counted(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * GIB // 2)  # sparse
    tier = {"engine": "vllm", "accelerator": "cpu", "weights": {"folder": tmp_path}}
    cache = {"VLLM_CPU_KVCACHE_SPACE": "4"}
    two = {"scaling": {"min_replicas": 2, "max_replicas": 2}}
    assert memory_needed(context(**tier)).parts["cheap"] == ENGINE_GIB + 1.5
    assert memory_needed(context(**tier, env=cache)).parts["cheap"] == ENGINE_GIB + 5.5
    assert (
        memory_needed(context(**tier, engine_kwargs={"kv_cache_memory_bytes": GIB})).parts["cheap"] == ENGINE_GIB + 2.5
    )
    assert memory_needed(context(**tier, **two)).parts["cheap"] == 2 * (ENGINE_GIB + 1.5)


def test_weights_of_a_hub_are_named_as_not_counted() -> None:
    found = memory_needed(context(engine="vllm", accelerator="cpu", weights={"hub": "some/model"}))
    assert found.text() == "about 4 GiB (the graph 2, cheap 2), and the weights of some/model"


@pytest.mark.parametrize(("gib", "ok"), [(4, False), (6, True)])
def test_doctor_asks_for_what_the_tiers_want(
    gib: int, ok: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gib * GIB // 4096}.__getitem__)
    tier = {"engine": "vllm", "accelerator": "cpu", "weights": PACKAGED, "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}
    config = context(**tier).model_copy(update={"state_folder": tmp_path})
    [memory] = [found for found in doctor.examine(config) if found.check == "memory"]
    assert memory.ok is ok
    assert "about 5.25 GiB (the graph 2, cheap 3.25)" in memory.detail


@pytest.mark.parametrize(
    "cache",
    [
        {"engine_kwargs": {"kv_cache_memory_bytes": "2GiB"}},
        {"engine_kwargs": {"kv_cache_memory_bytes": [1]}},
        {"engine_kwargs": {"kv_cache_memory_bytes": -1}},
        {"env": {"VLLM_CPU_KVCACHE_SPACE": "1.5"}},
    ],
    ids=str,
)
def test_a_cache_that_is_no_number_is_a_finding(cache: dict[str, Any], tmp_path: Path) -> None:
    tier = {"engine": "vllm", "accelerator": "cpu", "weights": PACKAGED}
    config = context(**tier, **cache).model_copy(update={"state_folder": tmp_path})
    [memory] = [found for found in doctor.examine(config) if found.check == "memory"]
    assert not memory.ok
    assert "tier 'cheap': " in memory.detail
    assert "is not a number that vLLM takes" in memory.detail


@pytest.mark.parametrize("said", [2 * GIB, 2.0 * GIB, str(2 * GIB)])
def test_a_cache_is_read_however_it_is_written(said: Any) -> None:
    tier = {"engine": "vllm", "accelerator": "cpu", "weights": {"hub": "a/b"}}
    assert (
        memory_needed(context(**tier, engine_kwargs={"kv_cache_memory_bytes": said})).parts["cheap"] == ENGINE_GIB + 2
    )


@pytest.mark.parametrize(
    ("file", "text", "gib"),
    [
        ("memory.max", f"{3 * GIB}\n", 3),
        ("memory.max", "max\n", 8),
        ("memory/memory.limit_in_bytes", f"{3 * GIB}\n", 3),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", 8),
        ("other", "", 8),
    ],
)
def test_a_containers_limit_counts_where_it_is_lower(
    file: str, text: str, gib: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}.__getitem__)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert available_gib(tmp_path) == gib
