import subprocess
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from shutil import which

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_models.types import Call, DecisionRecord, Usage
from serve_graph.records.metrics import RequestMetrics, render_metrics

Records = Callable[..., DecisionRecord]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[(name, frozenset(labels.items()))]


def a_page(a_record: Records) -> str:
    """A page with a sample in every family."""
    metrics = RequestMetrics(
        refused=Counter({400: 2}),
        spilled=Counter({"cheap": 1}),
        uncovered=Counter({"decoding": 1}),
        feedback=Counter({"thumbs": 1}),
        arms=Counter({"candidate": 1}),
        intents=Counter({("refunds", "frontier"): 1}),
    )
    lost = Call("frontier", Usage(), 2.0, Decimal(0), "cancelled", metered=False)
    metrics.add(a_record(distance=0.4, overhead=(lost,)))
    vllm = {"vllm:generation_tokens_total": 5.0, "vllm:num_requests_running": 1.0}
    hosted = {"deployment_calls": 3, "deployment_failures": 1, "deployments_resting": 0}
    gate = {"in_flight": 1, "queued": 2, "refused": 7}
    return render_metrics(
        metrics, 1, {"cheap": vllm | gate, "frontier": hosted}, certificates={"answers": 60.0}, alarms=ALARMS
    )


ALARMS = {"labels": 9.0, "errors": 1.0, "drift": 0.01, "revoked": 0.2}
TYPES = {
    "counter": """requests engine_calls tokens cost_usd unmetered_calls refused spilled records_lost escalation_caps
        uncovered_requests feedback rollout_requests intent_requests engine_generation_tokens""",
    "gauge": """records_spooled records_waiting_seconds records_held certificate_valid certificate_seconds_left
        certificate_revoked alarm_labels alarm_errors alarm_level engine_num_requests_running
        engine_in_flight engine_queued engine_deployments_resting""",
    "histogram": "prompt_distance",
    "unknown": "engine_refused engine_deployment_calls engine_deployment_failures",  # public names without _total
}


def test_every_family_has_help_and_its_type(a_record: Records) -> None:
    families = list(text_string_to_metric_families(a_page(a_record)))
    found = {family.name.removeprefix("serve_graph_"): family.type for family in families}
    assert found == {name: kind for kind, names in TYPES.items() for name in names.split()}
    assert [family.name for family in families if not (family.documentation and family.samples)] == []


def test_nothing_of_the_process_is_on_the_page_and_no_creation_times(a_record: Records) -> None:
    names = [line for line in a_page(a_record).splitlines() if not line.startswith("# HELP serve_graph_")]
    assert all(line.removeprefix("# TYPE ").startswith("serve_graph_") for line in names)
    assert not any("_created" in line for line in names)


@pytest.mark.skipif(which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
def test_promtool_reads_the_page(a_record: Records) -> None:
    checked = subprocess.run(["promtool", "check", "metrics"], input=a_page(a_record), capture_output=True, text=True)
    assert "error while linting" not in checked.stderr, checked.stderr


def test_several_tiers_share_an_engine_counters_family() -> None:
    page = render_metrics(RequestMetrics(), 0, {"cheap": {"in_flight": 1}, "frontier": {"in_flight": 2}})
    assert page.count("# TYPE serve_graph_engine_in_flight gauge\n") == 1
    assert value(samples(page), "serve_graph_engine_in_flight", tier="frontier") == 2


def test_records_add_up(a_record: Records) -> None:
    metrics = RequestMetrics()
    for i in range(5):
        metrics.add(a_record(f"dec-{i}"))
    metrics.add(a_record("dec-6", status=503, calls=()))
    found = samples(render_metrics(metrics, 3, {}))
    labels = {"tier": "frontier", "outcome": "escalated", "version": "serve-graph-router/1"}
    assert value(found, "serve_graph_requests_total", **labels, status="200") == 5
    assert value(found, "serve_graph_requests_total", **labels, status="503") == 1
    assert value(found, "serve_graph_engine_calls_total", tier="cheap") == 5
    assert value(found, "serve_graph_tokens_total", tier="cheap", kind="prompt") == 50
    assert value(found, "serve_graph_tokens_total", tier="frontier", kind="completion") == 35
    assert value(found, "serve_graph_records_spooled") == 3
    assert metrics.cost_usd == {"cheap": Decimal("0.000010"), "frontier": Decimal("0.00130")}
    assert value(found, "serve_graph_cost_usd_total", tier="frontier") == 0.0013


def test_calls_whose_tokens_nobody_counted_are_counted_themselves(a_record: Records) -> None:
    metrics = RequestMetrics()
    lost = Call("frontier", Usage(), 2.0, Decimal(0), "cancelled", metered=False)
    metrics.add(a_record())
    for _ in range(2):
        metrics.add(a_record(overhead=(lost, Call("router", Usage(), 0.0, Decimal(0), "routing"))))
    found = samples(render_metrics(metrics, 0, {}))
    assert value(found, "serve_graph_unmetered_calls_total", tier="frontier", what="cancelled") == 2
    assert [labels for name, labels in found if name == "serve_graph_unmetered_calls_total"] == [
        frozenset({("tier", "frontier"), ("what", "cancelled")})
    ]


def test_nothing_yet_is_valid_text() -> None:
    names = (
        "records_spooled",
        "records_waiting_seconds",
        "records_held",
        "records_lost_total",
        "escalation_caps_total",
    )
    assert samples(render_metrics(RequestMetrics(), 0, {})) == {(f"serve_graph_{n}", frozenset()): 0.0 for n in names}


def test_refused_requests_and_records_out_of_place_are_shown() -> None:
    metrics = RequestMetrics(refused=Counter({400: 2, 404: 1}), unrecorded=1)
    found = samples(render_metrics(metrics, 5, {}, held=4, lost=2))
    assert value(found, "serve_graph_refused_total", code="400") == 2
    assert value(found, "serve_graph_refused_total", code="404") == 1
    assert value(found, "serve_graph_records_held") == 4
    assert value(found, "serve_graph_records_lost_total") == 3


def test_tiny_and_zero_amounts_are_valid_text(a_record: Records) -> None:
    metrics = RequestMetrics()
    metrics.add(a_record(calls=()))
    metrics.cost_usd = {"cheap": Decimal("1E-12"), "frontier": Decimal(0) * Decimal("0.000001")}
    found = samples(render_metrics(metrics, 0, {}))
    assert value(found, "serve_graph_cost_usd_total", tier="cheap") == 1e-12
    assert value(found, "serve_graph_cost_usd_total", tier="frontier") == 0


def test_engine_counters_keep_their_digits() -> None:
    counters = {"vllm:generation_tokens_total": 1_234_567_890.0, "vllm:kv_cache_usage_perc": 0.123456789}
    found = samples(render_metrics(RequestMetrics(), 0, {"cheap": counters}))
    assert value(found, "serve_graph_engine_generation_tokens_total", tier="cheap") == 1_234_567_890
    assert value(found, "serve_graph_engine_kv_cache_usage_perc", tier="cheap") == 0.123456789


def test_speculations_acceptance_is_given_by_position() -> None:
    counters = {"vllm:spec_decode_num_accepted_tokens_per_pos_total[2]": 7.0}
    found = samples(render_metrics(RequestMetrics(), 0, {"cheap": counters}))
    name = "serve_graph_engine_spec_decode_num_accepted_tokens_per_pos_total"
    assert value(found, name, tier="cheap", position="2") == 7


def test_a_tier_that_is_down_has_no_counters() -> None:
    metrics = RequestMetrics()
    assert samples(render_metrics(metrics, 0, {"cheap": {}})) == samples(render_metrics(metrics, 0, {}))


def test_odd_version_names_are_escaped(a_record: Records) -> None:
    metrics = RequestMetrics()
    odd = 'a "quoted"\\name\nwith lines'
    metrics.add(a_record(version=odd))
    [labels] = [dict(key[1]) for key in samples(render_metrics(metrics, 0, {})) if key[0].endswith("requests_total")]
    assert labels["version"] == odd


def test_no_text_or_user_is_a_label(a_record: Records) -> None:
    metrics = RequestMetrics()
    metrics.add(a_record(metadata={"user": "alice"}, route_reason="secret reason"))
    text = render_metrics(metrics, 0, {})
    assert "alice" not in text
    assert "secret" not in text


def test_distances_are_a_histogram_per_version(a_record: Records) -> None:
    metrics = RequestMetrics()
    for distance in (0.0, 0.25, 0.9, 1.5, 100.0, None):
        metrics.add(a_record(distance=distance, version="v"))
    found = samples(render_metrics(metrics, 0, {}))
    name = "serve_graph_prompt_distance"
    counts = {"0.25": 2, "0.5": 2, "1": 3, "2": 4, "4": 4, "+Inf": 5}
    assert {le: value(found, f"{name}_bucket", version="v", le=le) for le in counts} == counts
    assert value(found, f"{name}_count", version="v") == 5
    assert value(found, f"{name}_sum", version="v") == 102.65
