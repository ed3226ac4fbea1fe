"""Engines of vLLM send spans of their own to the graph's collector, below the span of the call that they work for."""

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve_graph.config.records import TracingConfig
from serve_graph.engines.telemetry.call_context import UNTRACED
from serve_graph.engines.vllm.settings import engine_arguments, llm_settings
from tests.unit.serve_graph.engines.test_vllm_settings import lora_tier

TRACING = TracingConfig(otlp_endpoint="http://collector:4318", service_name="answers")


def test_an_engine_is_told_the_graphs_collector_and_over_which_protocol() -> None:
    made = llm_settings(lora_tier(), "a/b", tracing=TRACING)
    assert made["engine_kwargs"]["otlp_traces_endpoint"] == "http://collector:4318/v1/traces"
    env = made["runtime_env"]["env_vars"]
    assert env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf", "vLLM's default is gRPC, at another port"
    assert (env["OTEL_SERVICE_NAME"], env["OTEL_RESOURCE_ATTRIBUTES"]) == ("answers", "serve_graph.tier=cheap")


def test_an_engines_own_settings_stand_above() -> None:
    given = {"engine_kwargs": {"otlp_traces_endpoint": "grpc://mine:4317"}, "env": {"OTEL_SERVICE_NAME": "mine"}}
    tier = lora_tier().model_copy(update=given)
    made = llm_settings(tier, "a/b", tracing=TRACING)
    assert made["engine_kwargs"]["otlp_traces_endpoint"] == "grpc://mine:4317"
    assert made["runtime_env"]["env_vars"]["OTEL_SERVICE_NAME"] == "mine"


def test_without_tracing_the_engine_is_as_it_was_and_certificates_are_bound_to_none_of_it() -> None:
    tier = lora_tier()
    off, on = llm_settings(tier, "a/b"), llm_settings(tier, "a/b", tracing=TRACING)
    assert "otlp_traces_endpoint" not in off["engine_kwargs"]
    assert off["runtime_env"]["env_vars"] == dict(tier.env)
    assert on["engine_kwargs"] == off["engine_kwargs"] | {"otlp_traces_endpoint": TRACING.traces_url}
    assert "otlp_traces_endpoint" not in engine_arguments(tier)


def test_a_call_that_belongs_to_no_traced_request_is_no_new_trace() -> None:
    context = trace.get_current_span(TraceContextTextMapPropagator().extract(UNTRACED)).get_span_context()
    assert context.is_valid
    assert context.is_remote
    assert not context.trace_flags.sampled
