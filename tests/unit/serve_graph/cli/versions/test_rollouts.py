"""`versions canary`, `shadow` and what a person does to a rollout; the graph does the rest (cluster/rollouts)."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.monitoring.canary import ArmOutcome, CanaryEvidence, CanaryLimits, PairedRequest
from router_models.types import Call, DecisionRecord, Usage
from router_models.versions.registry import find_version, set_alias, set_review
from router_models.versions.review import review_tags
from serve_graph.cli import app
from serve_graph.cli.versions.rollouts import duration_s, of_rollouts
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.learning.comparing.tally import tallied
from serve_graph.policy.rollout import RolloutTable
from serve_graph.policy.rollout.outcomes import pairs_settle_after_s, settles_after_s
from serve_graph.records.comparisons import Comparison, ComparisonsTable
from tests.fixtures.registry import echo_graph_file, registered_version

NOW = datetime.now(UTC)
STABLE, CANDIDATE = "serve-graph-router/1", "serve-graph-router/2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Path:
    """A configuration whose registry holds a stable version, an approved one, and one that nobody has approved."""
    folder = tmp_path_factory.mktemp("graph")
    new_registry(folder / "state" / "mlflow.db")
    path = echo_graph_file(folder, {"cheap": (1, 2), "frontier": (1, 2)})
    graph = load_config(path)
    for n, alias in ((1, "stable"), (2, None), (3, None)):
        last = registered_version(graph, folder / str(n), NOW, 0.5 + n / 10, alias)
    set_review(last, {"review": "proposed"})
    return path


@pytest.fixture
def config(made: Path) -> Path:
    """The same with an empty store."""
    for path in (made.parent / "state").glob("decisions.db*"):
        path.unlink()
    return made


def versions(config: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["versions", *words, "--config", str(config)])


def told(config: Path, *words: str) -> dict[str, Any]:
    done = versions(config, *words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(config: Path, *words: str) -> str:
    found = versions(config, *words).exception
    assert isinstance(found, ServeGraphError), found
    return str(found)


def test_a_canary_is_begun_moved_by_a_person_and_aborted_and_all_of_it_is_audited(config: Path) -> None:
    assert versions(config, "rollout").exit_code == 1
    begun = told(config, "canary", "2", "--steps", "1,25", "--pause", "10m", "--minimum", "20", "--reason", "a try")
    names = ("stable", "candidate", "kind", "state", "weight", "steps", "pause_s", "minimum", "rate")
    assert [begun[name] for name in names] == [STABLE, CANDIDATE, "canary", "Progressing", 0.01, [1, 25], 600, 20, 0.1]
    assert told(config, "set-weight", "10", "--reason", "slower")["weight"] == 0.1
    assert told(config, "resume")["weight"] == 0.25
    assert told(config, "pause", "--reason", "lunch")["state"] == "Paused"
    shown = versions(config, "rollout").stdout
    assert f"canary of {CANDIDATE} beside {STABLE}: Paused, 25 % of traffic, step 2 of 2: lunch" in shown
    assert "no evidence yet" in shown
    assert told(config, "abort", "--reason", "callers complain")["state"] == "Aborted"
    assert told(config, "rollout")["reason"] == "callers complain"
    assert "no rollout" in refused(config, "resume")
    audit = json.loads(CliRunner().invoke(app, ["audit", "--config", str(config), "--json"]).stdout)
    actions = [(entry["action"], entry["target"], entry["reason"]) for entry in reversed(audit)]
    assert actions == [
        ("versions.canary", CANDIDATE, "a try"),
        ("versions.setweight", CANDIDATE, "slower"),
        ("versions.resume", CANDIDATE, None),
        ("versions.pause", CANDIDATE, "lunch"),
        ("versions.abort", CANDIDATE, "callers complain"),
    ]
    assert {entry["actor"].partition(":")[0] for entry in audit} == {"os"}
    assert audit[0]["detail"]["weight"] == [0.25, 0.0]


def test_a_canary_under_way_is_promoted_by_a_person_with_a_reason_and_the_graph_moves_the_alias(config: Path) -> None:
    told(config, "canary", "2")
    assert "say with --reason" in refused(config, "promote", "2")
    done = versions(config, "promote", "2", "--reason", "enough seen")
    assert "Promoting" in done.stdout
    assert told(config, "rollout")["state"] == "Promoting"
    graph = load_config(config)
    named = find_version(graph.registry_uri, graph.policy.model_name, "stable")
    assert named is not None
    assert named.name == STABLE, "the alias is the controller's to move: it finds the canary where it left it"
    assert "rollback" in refused(config, "abort")


def test_promote_and_rollback_move_the_alias_that_the_graph_follows(config: Path) -> None:
    graph, live = load_config(config), config.with_name("live.yaml")
    live.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"policy": {"version": "live"}}))
    set_alias(graph.registry_uri, graph.policy.model_name, "live", "1")
    assert f"live → {CANDIDATE} (was {STABLE})" in versions(live, "promote", "2").stdout
    assert (found(config, "live").name, found(config, "stable").name) == (CANDIDATE, STABLE)
    assert f"live → {STABLE} (was {CANDIDATE})" in versions(live, "rollback").stdout
    assert (found(config, "live").name, found(config, "stable").name) == (STABLE, STABLE)
    for named in ("2", "none", "latest"):
        live.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"policy": {"version": named}}))
        assert f"stable → {STABLE} (was {STABLE})" in versions(live, "promote", "1").stdout, named


def test_a_shadow_needs_no_approval_and_has_no_share(config: Path) -> None:
    assert (told(config, "shadow", "3")["kind"], told(config, "rollout")["weight"]) == ("shadow", 0)
    assert "shadow, which has no share" in refused(config, "set-weight", "5")
    set_review(found(config, "3"), review_tags("rejected", "anna", NOW, "no"))
    told(config, "abort")
    assert "is rejected" in refused(config, "shadow", "3")
    set_review(found(config, "3"), {"review": "proposed"})


def found(config: Path, number: str) -> Any:
    graph = load_config(config)
    return find_version(graph.registry_uri, graph.policy.model_name, number)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("canary", "3"), "is proposed"),
        (("canary", "1"), "is the stable version"),
        (("shadow", "stable"), "is the stable version"),
        (("canary", "7"), "no version '7'"),
        (("canary", "2", "--steps", "5,1"), "must rise"),
        (("canary", "2", "--steps", "a few"), "give percents"),
        (("canary", "2", "--steps", "0,10"), "above 0"),
        (("canary", "2", "--pause", "soon"), "is no duration"),
        (("canary", "2", "--rate", "0", "--minimum", "3"), "rate 0"),
        (("shadow", "2", "--rate", "0"), "would do nothing"),
        (("pause",), "no rollout of serve-graph-router is under way"),
    ],
)
def test_what_could_not_go_on_is_refused_in_a_sentence(config: Path, words: tuple[str, ...], said: str) -> None:
    assert said in refused(config, *words)
    graph = load_config(config)
    assert of_rollouts(graph, lambda table: table.latest(graph.policy.model_name)) == []


def test_every_test_of_the_evidence_is_shown_against_its_limit(config: Path) -> None:
    told(config, "canary", "2", "--steps", "10,50")
    graph = load_config(config)
    worse = PairedRequest(False, 1.0, 0.0, False, True, 0.001, 0.001)
    evidence = CanaryEvidence.of([worse] * 300, [ArmOutcome("stable", 0.1, False, 1.0, 0.001)], CanaryLimits())

    async def note(table: RolloutTable) -> bool:
        rollout = await table.active(graph.policy.model_name)
        assert rollout is not None
        told = {"offered": 10, "compared": 6, "ungraded": {"tie": 2}, "shed": {"budget": 3}, "replica": "a"}
        comparing = tallied({}, [{**told, "spent_usd": "0.98", "budget_usd": "1"}])
        held = f"an alarm stands against {STABLE}"
        return await table.note_evidence(
            rollout, evidence.to_json() | {"held": held, "comparing": comparing, "step_pairs": 7}
        )

    assert of_rollouts(graph, note)
    shown = versions(config, "rollout").stdout
    assert f"held: an alarm stands against {STABLE}" in shown
    assert "10 % of requests; in this step so far: 7 of 30" in shown
    assert "offered to be compared: 10 requests; compared: 6 (2 not graded: 2 tie); waiting: 1; shed: 3" in shown
    assert "spent on comparing today: $0.98 of $1" in shown
    assert "comparisons.budget_usd_per_day is spent" in shown
    assert "evidence: roll_back; 300 requests decided by both, of 0 the difference in quality is not known" in shown
    assert "1 sessions, keys or prompts answered by one" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith(("quality", "harm", "errors"))}
    assert rows["quality_worse"].split()[4:] == ["reached", "300", "-1", "against", "it"]
    assert "reached" not in rows["quality"]
    assert rows["quality"].endswith("for it")
    assert told(config, "rollout")["evidence"]["findings"] == evidence.to_json()["findings"]


def test_pairs_that_are_still_settling_are_said_while_the_rollout_goes_on(config: Path) -> None:
    told(config, "canary", "2", "--steps", "10,50")
    graph = load_config(config)

    async def note(table: RolloutTable) -> bool:
        rollout = await table.active(graph.policy.model_name)
        assert rollout is not None
        counts = {"offered": 50, "compared": 41, "ungraded": {}, "shed": {}, "replica": "a"}
        comparing = tallied({}, [{**counts, "spent_usd": "0", "budget_usd": "1"}])
        evidence = CanaryEvidence.of([PairedRequest(True, None, None, None, None, 0.1, 0.1)] * 12, [], CanaryLimits())
        return await table.note_evidence(rollout, evidence.to_json() | {"comparing": comparing})

    assert of_rollouts(graph, note)
    after = pairs_settle_after_s(graph)
    assert told(config, "rollout")["settles"] == {
        "pairs": after, "outcomes": settles_after_s(graph), "waiting": 41 - 12
    }  # fmt: skip
    assert (
        f"still settling: 29 of those compared; a pair counts {after:g} s after" in versions(config, "rollout").stdout
    )
    versions(config, "abort", "--reason", "enough")
    assert "still settling" not in versions(config, "rollout").stdout
    assert told(config, "rollout")["settles"]["waiting"] == 0


def test_a_step_needs_thirty_requests_decided_by_both_unless_none_are_compared(config: Path) -> None:
    assert told(config, "canary", "2")["minimum"] == 30
    told(config, "abort")
    assert told(config, "canary", "2", "--rate", "0")["minimum"] == 0


def test_a_canary_and_a_promotion_say_what_the_tiers_could_not_carry(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    """Of 30 requests in 29 s one took the last tier 100 s; the candidate would have all of them take it."""
    rollout = told(config, "canary", "2")["id"]
    told(config, "abort")
    graph = load_config(config)

    def record(n: int) -> DecisionRecord:
        lines = [Call("cheap" if n else "frontier", Usage(1, 1), 1.0 if n else 100.0, Decimal(0))]
        came = (datetime.now(UTC) - timedelta(seconds=29 - n)).isoformat(timespec="milliseconds")
        return a_record(f"dec-{n}", created_at=came, calls=tuple(lines), version=STABLE)

    def row(n: int) -> Comparison:
        detail = {"calls": {"stable": ["cheap"], "candidate": ["frontier"]}}
        tiers = ("cheap", "frontier", "accepted", "routed")
        usd = (Decimal(0), Decimal(0))
        return Comparison(
            rollout, f"dec-{n}", "now", "stable", 0.1, "u", 1.0, False, False, *tiers, *usd, detail=detail
        )

    async def keep(table: RolloutTable) -> None:
        await table.store.write_many([record(n) for n in range(30)])
        await ComparisonsTable(table.store).write([row(n) for n in range(30)])

    of_rollouts(graph, keep)
    said = versions(config, "canary", "2")
    assert "it will be paused before it has all traffic, as things are: tier 'frontier' would have" in said.stderr
    said = versions(config, "promote", "2", "--reason", "enough seen")
    assert "a running graph pauses it instead, as things are: tier 'frontier' would have" in said.stdout
    assert "and takes 64" in said.stdout


def test_a_second_rollout_is_refused_while_one_is_under_way(config: Path) -> None:
    told(config, "canary", "2")
    assert f"the canary of {CANDIDATE} beside {STABLE}: Progressing" in refused(config, "shadow", "3")


@pytest.mark.parametrize(
    ("policy", "said"),
    [({"version": 1}, "follow an alias"), ({"version": "none"}, "follow an alias"), ({"follow_s": None}, "follow_s")],
)
def test_a_graph_that_follows_no_alias_tries_no_version(config: Path, policy: dict[str, Any], said: str) -> None:
    other = config.with_name("other.yaml")
    other.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"policy": policy}))
    for words in (("canary", "2"), ("shadow", "2")):
        assert said in refused(other, *words)


def test_durations_are_read_with_their_unit() -> None:
    assert [duration_s(text) for text in ("90s", "10m", "1.5h", "2d", "600")] == [90, 600, 5400, 172_800, 600]
    for text in ("", "-5s", "m", "nan", "1w"):
        with pytest.raises(ServeGraphError, match="no duration"):
            duration_s(text)
