"""What answers are judged by, where a provider's batch gives them in passes: signals that are asked for, logprobs."""

import json
from decimal import Decimal
from typing import Any

import pytest

from serve_graph.errors import ConfigError, ServeGraphError
from tests.cluster.load.test_pass_kills import by_logprobs
from tests.unit.serve_graph.cli.batch.passes.conftest import Mixed
from tests.unit.serve_graph.cli.batch.passes.mixed_run import HALF, PRICES, costs, shown
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply
from tests.unit.serve_graph.cli.batch.providers.test_provider_run import fitted_verifier, saying


@pytest.mark.parametrize("name", ["p-true", "last-tier-verdict"])
def test_signals_are_lines_of_a_batch_where_the_tier_that_is_asked_is_hosted(
    mixed: Mixed, provider: ProviderServer, name: str
) -> None:
    provider.answer = saying
    verifier = fitted_verifier(name)
    hosted = "cheap" if name == "p-true" else "frontier"
    rows = [{"prompt": f"row {n}"} for n in range(6)]
    summary, found, _ = mixed(rows, (hosted,), verifier=verifier, signals={"timeout_s": 0.001})
    assert [row["serve_graph_tier"] for row in found] == ["cheap", "frontier", *["cheap"] * 4]
    assert provider.sizes == ([6, 6] if hosted == "cheap" else [6, 1])
    assert summary["provider_batches"][hosted]["passes"] == 2
    assert costs(found) == Decimal(summary["total_usd"])
    asked = Decimal(41 * PRICES[hosted]) / 10**6 / 2
    assert Decimal(summary["records"]["signals"]["usd"]) == 6 * asked


def test_a_line_for_a_signal_that_was_billed_without_an_answer_is_on_its_rows_bill(
    mixed: Mixed, provider: ProviderServer
) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        reply = saying(body)
        is_signal = reply["usage"]["total_tokens"] == 41
        return reply | {"choices": []} if is_signal and "row 3" in json.dumps(body["messages"]) else reply

    provider.answer = answer
    rows = [{"prompt": f"row {n}"} for n in range(6)]
    summary, found, _ = mixed(rows, ("cheap",), verifier=fitted_verifier("p-true"))
    assert shown(found[3]) == ("frontier", "escalated"), "without its signal nothing is accepted"
    asked = Decimal(41 * PRICES["cheap"]) / 10**6 / 2
    own = [Decimal(row["serve_graph_cost_usd"]) for row in found if row["serve_graph_tier"] == "cheap"]
    assert set(own) == {HALF["cheap"] + asked}
    assert Decimal(summary["records"]["signals"]["usd"]) == 6 * asked
    assert costs(found) == Decimal(summary["total_usd"])


def with_logprobs(body: dict[str, Any]) -> dict[str, Any]:
    reply = echo_reply(body)
    tokens = [{"token": "a", "logprob": -0.01, "top_logprobs": []} for _ in range(4)]
    reply["choices"][0]["logprobs"] = {"content": tokens}
    return reply


def test_answers_that_come_without_the_logprobs_they_are_judged_by_are_not_judged(
    mixed: Mixed, provider: ProviderServer
) -> None:
    rows = [{"prompt": f"question {n}"} for n in range(8)]
    summary, _, asked = mixed(rows, ("cheap",), verifier=by_logprobs())
    assert "none of 8 replies of a batch of tier 'cheap' has log-probabilities" in summary["stopped"]
    assert "--interactive cheap asks call by call" in summary["stopped"]
    assert (summary["answered"], summary["failed"], summary["left"], asked) == (0, 0, 8, {})
    assert Decimal(summary["total_usd"]) == 8 * HALF["cheap"], "that much is paid, and said"
    provider.answer = with_logprobs
    summary, _, _ = mixed(rows)
    assert summary["stopped"]
    assert provider.sizes == [8], "what was paid is not asked again"
    fresh = [{"prompt": f"another {n}"} for n in range(4)]
    summary, found, _ = mixed(fresh)
    assert {shown(row) for row in found} == {("cheap", "accepted")}


def test_a_tier_that_gives_no_logprobs_is_refused_before_anything_is_asked(
    mixed: Mixed, provider: ProviderServer
) -> None:
    with pytest.raises(
        ServeGraphError, match="judges answers of cheap by their log-probabilities, which that API does"
    ):
        mixed([{"prompt": "a"}], ("cheap",), verifier=by_logprobs(), api={"parameters": {"logprobs": None}})
    assert not provider.files


def test_of_a_tier_that_is_asked_by_its_name_no_logprobs_are_missed(mixed: Mixed, provider: ProviderServer) -> None:
    rows, hosted = [{"prompt": f"question {n}"} for n in range(3)], ("cheap", "frontier")
    for model in hosted:
        summary, found, _ = mixed(
            rows, hosted, verifier=by_logprobs(), model=model, api={"parameters": {"logprobs": None}}
        )
        assert (summary["stopped"], {row["serve_graph_tier"] for row in found}) == (None, {model})
    assert provider.sizes == [3, 3]


def test_without_its_providers_key_no_tier_is_asked(
    mixed: Mixed, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("API_KEY")
    with pytest.raises(ConfigError, match=r"no API key in \$API_KEY"):
        mixed([{"prompt": "a"}])
