"""`collect` writes what tiers answer, goes on where it was, and knows which engines answered."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from router_models.data.outcomes import read_outcomes
from router_models.types.drawn import oldest
from serve_graph.cli import app
from serve_graph.cli.client.collect import binds_behind, collect_outcomes
from serve_graph.cli.client.unfinished import claim, failures_of, other_tiers, partial_of, refuse_finished
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.errors import EngineError, ServeGraphError
from serve_graph.policy.bindings import binds_digest, collected_binds, tier_binds
from tests.unit.serve_graph.cli.client.collecting import (
    BINDS,
    ROOT,
    TASKS,
    TIERS,
    Api,
    client_of,
    run,
)


async def test_a_table_is_written_with_its_engines_and_nothing_partial_is_left(tmp_path: Path) -> None:
    api, out = Api(), tmp_path / "o.parquet"
    outcomes = await run(api, out)
    assert len(api.asked) == len(outcomes) == 8
    assert {o.grade for o in outcomes} == {1.0}
    assert len(read_outcomes(out)) == 4
    assert collected_binds(out) == BINDS
    assert {p.name for p in tmp_path.iterdir()} == {"o.parquet", "o.parquet.binds.json"}


async def test_a_failing_tier_is_an_error_and_the_next_run_asks_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" and "number 2" in prompt else 200)
    with pytest.raises(EngineError, match=r"1 task\(s\) got no answer .*first: frontier answered 503"):
        await run(api, out)
    assert not out.exists()
    (failed,) = map(json.loads, failures_of(out).read_text().splitlines())
    assert (failed["task"], failed["tier"]) == ("t2", "frontier")
    assert "answered 503" in failed["reason"]
    again = Api()
    assert len(await run(again, out)) == 8
    assert again.asked == [("frontier", TASKS[2].prompt)]
    assert not failures_of(out).exists()


async def test_a_line_cut_short_is_asked_again(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    partial = partial_of(out)
    partial.write_text(partial.read_text()[:-30])
    again = Api()
    outcomes = await run(again, out)
    assert len(outcomes) == len({(o.prompt_id, o.tier) for o in outcomes}) == 8
    assert sum(tier == "cheap" for tier, _ in again.asked) == 1


async def test_answers_with_line_separators_of_unicode_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    partial = partial_of(out)
    partial.write_text(partial.read_text().replace('"answer": "', '"answer": "\u2028'))
    again = Api()
    await run(again, out)
    assert not any(tier == "cheap" for tier, _ in again.asked)


async def test_what_was_collected_is_graded_again_by_the_grader_of_today(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    partial = partial_of(out)
    partial.write_text(partial.read_text().replace('"grade": 1.0', '"grade": 0.0'))
    api = Api()
    assert {o.grade for o in await run(api, out)} == {1.0}


async def test_a_run_begun_with_other_engines_is_not_finished_with_these(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    api = Api()
    for other in (BINDS | {"cheap.engine": "c" * 64}, None):
        with pytest.raises(ServeGraphError, match=r"begun with other engines: cheap\.engine.* differ"):
            await run(api, out, other)
    assert api.asked == []


async def test_unknown_engines_are_noted_as_unknown_even_where_an_older_table_knew_its_own(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api()
    await run(api, out)
    await run(api, out, None)
    assert collected_binds(out) is None


def test_a_finished_table_is_refused_and_one_under_way_is_not(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "o.parquet"
    refuse_finished(out)
    claim(out, BINDS)
    out.touch()
    refuse_finished(out)
    partial_of(out).unlink()
    with pytest.raises(ServeGraphError, match="is complete; --overwrite"):
        refuse_finished(out)


@pytest.fixture
def context() -> GraphConfig:
    return load_config(ROOT / "configs" / "echo.yaml")


def endpoint_says(monkeypatch: pytest.MonkeyPatch, reply: httpx.Response) -> None:
    monkeypatch.setattr(httpx, "get", lambda *_, **__: reply)


def test_an_endpoint_is_believed_when_it_runs_the_same_engines(
    context: GraphConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_says(monkeypatch, httpx.Response(200, json={"binds": binds_digest(context)}))
    assert binds_behind("http://x", context) == tier_binds(context)


def test_an_endpoint_with_other_engines_is_refused(context: GraphConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint_says(monkeypatch, httpx.Response(200, json={"binds": "f" * 64}))
    with pytest.raises(ServeGraphError, match="runs other engines"):
        binds_behind("http://x", context)


@pytest.mark.parametrize(
    "reply", [httpx.Response(404, text="?"), httpx.Response(200, text="ok"), httpx.Response(200, json=[1])]
)
def test_a_foreign_endpoint_claims_no_engines(
    reply: httpx.Response, context: GraphConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_says(monkeypatch, reply)
    assert binds_behind("http://x", context) is None


def test_an_endpoint_that_is_down_is_one_clear_error(context: GraphConfig) -> None:
    with pytest.raises(ServeGraphError, match="does not answer"):
        binds_behind("http://127.0.0.1:9", context)


async def test_tokens_are_kept_and_cut_short_runs_keep_them_too(tmp_path: Path) -> None:
    api = Api(lambda tier, prompt, n: 400 if "number 3" in prompt and tier == "frontier" else 200)
    out = tmp_path / "o.parquet"
    with pytest.raises(EngineError):
        await run(api, out)
    api = Api()
    await run(api, out)
    kept = read_outcomes(out).tokens["cheap"]
    assert kept.texts == (("It", " is", " brown.", "<end>"),) * 4
    assert kept.logprobs[0] == pytest.approx((-0.1,) * 4, rel=1 / 4096)


def test_a_tier_that_the_configuration_lacks_is_refused(tmp_path: Path) -> None:
    words = ["collect", "--config", str(ROOT / "configs" / "echo.yaml"), "--tier", "chepa", "--out"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "o.parquet")])
    assert result.exit_code == 1
    assert "it has cheap, frontier" in str(result.exception)


async def test_one_tier_is_collected_again_and_the_other_rows_are_kept(tmp_path: Path) -> None:
    api = Api()
    out = tmp_path / "o.parquet"
    await run(api, out)
    api = Api()
    beside = [
        replace(row, metadata={**row.metadata, "collected_at": "2026-03-01T12:00:00+00:00"})
        for row in other_tiers(out, ["cheap"], BINDS)
    ]
    await collect_outcomes(
        "http://test", ["cheap"], TASKS, out, binds=BINDS, beside=beside, http_client=client_of(api)
    )
    assert {tier for tier, _ in api.asked} == {"cheap"}
    table = read_outcomes(out)
    assert (len(table), set(table.tiers)) == (4, set(TIERS))
    assert set(table.collected_at["frontier"]) == {"2026-03-01T12:00:00+00:00"}
    since = oldest(table.collected_at["cheap"], datetime.now(UTC))
    assert since is not None
    assert datetime.now(UTC) - since < timedelta(minutes=5), "when each was asked"


async def test_rows_of_other_engines_do_not_stay(tmp_path: Path) -> None:
    api = Api()
    await run(api, tmp_path / "o.parquet")
    with pytest.raises(ServeGraphError, match="of other engines"):
        other_tiers(tmp_path / "o.parquet", ["cheap"], {"cheap.engine": "c" * 64})
    assert other_tiers(tmp_path / "o.parquet", TIERS, {"cheap.engine": "c" * 64}) == []
    assert other_tiers(tmp_path / "none.parquet", ["cheap"], BINDS) == []
