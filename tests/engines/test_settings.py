"""What Ray makes of a vLLM tier's settings. Here rather than among the unit tests: Ray's own class imports vLLM."""

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from serve_graph.cluster.batches.passes.vllm_stage import USUAL_STEP_TOKENS
from serve_graph.config.records import TracingConfig
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.vllm.settings import llm_config
from tests.unit.serve_graph.engines.telemetry.collector import collecting


def test_ray_takes_the_adapter_settings_as_its_own() -> None:
    tier = VllmTierConfig.model_validate(
        {
            "engine": "vllm",
            "name": "cheap",
            "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
            "weights": {"hub": "a/b"},
            "lora": {"loading_path": "s3://bucket/adapters/", "adapter": "support-v3", "max_adapters_per_replica": 4},
        }
    )
    made = llm_config(tier, "a/b")
    assert made.lora_config.dynamic_lora_loading_path == "s3://bucket/adapters"
    assert made.multiplex_config().max_num_models_per_replica == 4


ONE_SPAN = """
import sys, time
from opentelemetry import trace
from serve_graph.engines.telemetry.call_context import CALL, CallContext
from serve_graph.engines.vllm.deployment import traced_request
from vllm.tracing import SpanKind, extract_trace_context, extract_trace_headers, init_tracer, instrument_manual

url, traceparent = sys.argv[1:]
init_tracer("vllm.llm_engine", url)
for given in (traceparent, None):
    CALL.set(None if given is None else CallContext("dec-1", given))
    headers = traced_request({"otlp_traces_endpoint": url}).to_starlette_request().headers
    context = extract_trace_context(extract_trace_headers(headers))
    began = time.time_ns()
    instrument_manual(
        span_name="llm_request", start_time=began, end_time=began + 10, attributes={"n": 1}, context=context,
        kind=SpanKind.SERVER,
    )
trace.get_tracer_provider().shutdown()
"""


def test_an_engines_span_is_sent_to_the_graphs_collector_below_the_span_of_the_call() -> None:
    """vLLM's own tracing, without an engine: what it is told, what it reads of a request, and what is sent."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    tier = {
        "engine": "vllm",
        "name": "cheap",
        "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
        "weights": {"hub": "a/b"},
    }
    with collecting() as collector:
        tracing = TracingConfig(otlp_endpoint=collector.url)
        made = llm_config(VllmTierConfig.model_validate(tier), "a/b", tracing=tracing)
        url, env = made.engine_kwargs["otlp_traces_endpoint"], made.runtime_env["env_vars"]
        command = [sys.executable, "-c", ONE_SPAN, url, f"00-{trace}-{span}-01"]
        subprocess.run(command, env=os.environ | env, check=True, capture_output=True, timeout=300)
    [sent] = collector.spans
    assert (sent.name, sent.trace, sent.parent) == ("llm_request", trace, span)
    assert (sent.resource["service.name"], sent.resource["serve_graph.tier"]) == ("serve-graph", "cheap")


@pytest.mark.filterwarnings("ignore")  # LLMServer.__del__ is a coroutine
async def test_first_requests_for_an_adapter_have_it_loaded_once() -> None:
    """Ray has each of them load it, and vLLM refuses all loads but one."""
    from ray.serve import context

    from serve_graph.engines.vllm.deployment import VllmDeployment

    class Engine:
        def __init__(self) -> None:
            self.loaded, self.loading = False, False

        async def resolve_lora(self, found: object) -> None:
            if self.loaded:
                return
            if self.loading:
                raise ValueError("The lora adapter is being loaded")
            self.loading = True
            await asyncio.sleep(0.01)
            self.loaded, self.loading = True, False

    async def load(name: str) -> str:
        return name

    replica = VllmDeployment.__new__(VllmDeployment)
    replica._loads_adapter, replica.engine, replica._load_model = asyncio.Lock(), Engine(), load
    replica._llm_config = SimpleNamespace(lora_config=object())
    asked = context._RequestContext(multiplexed_model_id="general:legal")
    token = context._serve_request_context.set(asked)
    try:
        await asyncio.gather(*(replica._maybe_resolve_lora_from_multiplex() for _ in range(4)))
    finally:
        context._serve_request_context.reset(token)
    assert replica.engine.loaded


def test_vllms_usual_tokens_of_a_step_are_those_that_passes_count_on() -> None:
    from vllm.config import SchedulerConfig

    assert SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS == USUAL_STEP_TOKENS
    with pytest.raises(ValidationError, match="must be greater than or equal to max_num_seqs"):
        SchedulerConfig(max_model_len=512, is_encoder_decoder=False, max_num_seqs=USUAL_STEP_TOKENS + 1)
