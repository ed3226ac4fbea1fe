import importlib
import pickle
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from router_models.types import Query
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.vllm.settings import PREFIX_ROUTER, llm_settings
from serve_graph.protocol.requests import engine_body

TIER = {
    "name": "cheap",
    "engine": "vllm",
    "weights": {"hub": "someone/model"},
    "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1},
}


@pytest.mark.parametrize("how", ["load", "prefix"])
def test_the_prefix_router_is_set_where_it_is_asked_for(how: str) -> None:
    settings = llm_settings(VllmTierConfig.model_validate({**TIER, "request_router": how}), "someone/model")
    found = settings["deployment_config"].get("request_router_config")
    assert (found is not None) is (how == "prefix")
    if found is not None:
        assert found.get_request_router_class().__name__ == "PrefixCacheAffinityRouter"
        assert found.request_router_kwargs == {"imbalanced_threshold": 16.0}


def test_the_ingress_need_not_import_vllm_to_route_by_prefix() -> None:
    program = f"import sys, {PREFIX_ROUTER.rpartition('.')[0]}; print('vllm' in sys.modules, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]


def test_it_is_the_class_that_ray_shows_and_finds_the_prompt_in_what_a_tier_is_sent() -> None:
    """One test: what Ray shows takes six seconds to import, in every process of tests that does."""
    router: Any = pytest.importorskip("ray.serve.llm.request_router").PrefixCacheAffinityRouter
    module, _, name = PREFIX_ROUTER.rpartition(".")
    assert issubclass(router, getattr(importlib.import_module(module), name))
    body = engine_body(Query.from_prompt("hello there"), "cheap", {})
    body |= {"stream": True}
    for sent in (body, pickle.loads(pickle.dumps(body))):
        request = SimpleNamespace(args=[sent])
        assert router._extract_text_from_request(object.__new__(router), request) == "hello there"
