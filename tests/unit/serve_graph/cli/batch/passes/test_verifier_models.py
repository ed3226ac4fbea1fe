"""A verifier model of another server in passes: asked over HTTP as a running graph asks it."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve_graph.engines.echo.engine import prompt_of, question_draw
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.passes.test_asked_signals import ROWS, config_of, elsewhere, requested

Run = Callable[..., Any]
PRICE = {"input_usd_per_mtok": 3, "output_usd_per_mtok": 0}


class Critic:
    """Scores answers as `/classify` of vLLM does; refuses a question that says so for good, or for a moment."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.app = Starlette(routes=[Route("/classify", self.score, methods=["POST"])])

    async def score(self, request: Request) -> Response:
        body = await request.json()
        question = prompt_of({"messages": body["messages"][:-1]})
        self.asked.append(question)
        if "[critic:fail]" in question:
            return JSONResponse({"error": {"message": "no"}}, 400)
        if "[9]" in question and self.asked.count(question) == 1:
            return JSONResponse({"error": {"message": "busy"}}, 503, headers={"retry-after": "0"})
        logit = 3.0 - 6.0 * question_draw(question)
        return JSONResponse({"data": [{"probs": [logit]}], "usage": {"prompt_tokens": 9, "total_tokens": 9}})


@pytest.fixture
def critic(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Critic, dict[str, Any]]]:
    monkeypatch.setenv("API_KEY", "none")
    made = Critic()
    with listening(made.app) as url:
        yield made, {"name": "critic", "engine": "openai", "model": "m", "base_url": url, "api_key_env": "API_KEY"}


def test_a_hosted_verifier_model_is_asked_over_http_with_the_scores_and_bills_of_requests(
    critic: tuple[Critic, dict[str, Any]], in_passes: Run, tmp_path: Path
) -> None:
    made, config = critic
    graph = config_of(tmp_path, "reward", verifiers=[config | {"price": PRICE}])
    summary, rows, _ = in_passes(ROWS, graph)
    in_a_pass = sorted(made.asked)
    wanted = elsewhere(requested(graph))
    assert summary["answered"] == len(ROWS)
    shown = ("tier", "outcome")
    assert [tuple(row[f"serve_graph_{name}"] for name in shown) for row in rows] == [
        tuple(one[name] for name in shown) for one in wanted
    ]
    estimates = [one["p_ok"] and one["p_ok"].p_ok for one in wanted]
    told = [row["serve_graph_p_answer_ok"] for row in rows]
    assert [one and float(one) for one in told] == [one and pytest.approx(one) for one in estimates]
    assert [Decimal(row["serve_graph_cost_usd"]) for row in rows] == [Decimal(one["cost_usd"]) for one in wanted]
    assert {"accepted", "escalated"} <= {row["serve_graph_outcome"] for row in rows}
    assert len(in_a_pass) == len(ROWS) - 3 - 1 + 1, "three are routed to the last tier, one fails, one is asked twice"
    assert set(in_a_pass) == set(made.asked)
