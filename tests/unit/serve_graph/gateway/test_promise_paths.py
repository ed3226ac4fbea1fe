"""Every path of the cascade's state machine has a row here that says what is promised at its end."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings

from router_models.types import OperatingPoint, PrefixPoint
from router_models.versions.policy import OverloadPoint, Policy
from serve_graph.cascade.fakes import fake_context
from serve_graph.cascade.steps import Do, RequestState, Rules, StreamMode, StreamTerms
from serve_graph.gateway.promise import AnswerPromise, CertifiedShares, answer_promise
from tests.fixtures.cascade_paths import every_path, rules

ACCEPTED, PREFIX, OVERLOAD = "accepted cheap answers", "cheap answers accepted by their first tokens", "on overload"
Way = tuple[str, str, str, str, str]
TABLE: Mapping[Way, tuple[str, str]] = {
    # tier, outcome, decision, verdict, how it was shown → promised of two tiers, of all answers; - = nothing
    ("cheap", "accepted", "cheap", "accepted", ""): ("accepted", "answers"),
    ("cheap", "accepted", "cheap", "accepted", "by_prefix"): ("prefix", "-"),
    ("cheap", "fallback", "cheap", "escalated", "served_on_overload"): ("overload", "-"),
    ("frontier", "routed", "frontier", "none", ""): ("-", "answers"),
    ("frontier", "escalated", "cheap", "escalated", ""): ("-", "answers"),
    # nothing is promised of what follows
    ("cheap", "accepted", "cheap", "accepted, no promise", ""): ("-", "-"),  # a call; an answer short of its prefix
    ("cheap", "accepted", "cheap", "accepted, no promise", "by_prefix"): ("-", "-"),
    ("cheap", "abstained", "cheap", "abstained", ""): ("-", "-"),
    ("cheap", "abstained", "cheap", "abstained, no promise", ""): ("-", "-"),
    ("cheap", "routed", "cheap", "none", ""): ("-", "-"),  # streamed or committed unjudged
    ("cheap", "routed", "cheap, no promise", "none", ""): ("-", "-"),
    ("cheap", "fallback", "cheap", "none", ""): ("-", "-"),  # no verifier
    ("cheap", "fallback", "none", "none", ""): ("-", "-"),  # no router
    ("cheap", "fallback", "frontier", "none", ""): ("-", "-"),
    ("cheap", "fallback", "frontier, no promise", "none", ""): ("-", "-"),
    ("cheap", "fallback", "cheap", "escalated, no promise", "served_on_overload"): ("-", "-"),
    ("cheap", "forced", "none", "none", ""): ("-", "-"),
    ("frontier", "forced", "none", "none", ""): ("-", "-"),
    ("frontier", "abstained", "cheap", "abstained", ""): ("-", "-"),
    ("frontier", "abstained", "frontier", "abstained", ""): ("-", "-"),
    ("frontier", "routed", "frontier", "none", "unjudged"): ("-", "-"),
    ("frontier", "routed", "frontier, no promise", "none", ""): ("-", "-"),
    ("frontier", "escalated", "cheap", "escalated", "unjudged"): ("-", "-"),
    ("frontier", "escalated", "cheap", "none", ""): ("-", "-"),  # its time was spent
    ("frontier", "escalated", "cheap", "escalated, no promise", ""): ("-", "-"),
    ("frontier", "escalated", "cheap", "escalated, no promise", "unjudged"): ("-", "-"),
    ("frontier", "fallback", "cheap", "none", ""): ("-", "-"),
    ("frontier", "fallback", "cheap, no promise", "none", ""): ("-", "-"),
    ("frontier", "fallback", "none", "none", ""): ("-", "-"),
}
# an abstaining prefix verdict sends on like any rejection; thresholds certified together have no prefix verdicts
BY_PREFIX_ALONE = ("frontier", "escalated", "cheap", "abstained", "")
SHARES = {"accepted": 0.9, "answers": 0.9, "prefix": 0.8, "overload": 0.7}
TWO_TIERS, TOGETHER = CertifiedShares(0.9, prefixes={"cheap": 0.8}), CertifiedShares(0.9, joint=True)


def way_of(end: RequestState) -> Way:
    """What tells one path's end from another's, as far as a promise depends on it."""
    decision, verdict = end.decision, end.verdict
    unpromised = ", no promise"
    return (
        end.tier,
        str(end.action),
        "none" if decision is None else decision.tier + unpromised * (not decision.promised),
        "none" if verdict is None else str(verdict.action) + unpromised * (not verdict.promised),
        " ".join(name for name in ("by_prefix", "unjudged", "served_on_overload") if getattr(end, name)),
    )


def kinds_of_requests() -> Iterator[Rules]:
    """Two tiers: every stream mode with and without a budget, either safe tier, a floor, a last tier that abstains."""
    streams = [None, *(StreamTerms(mode, *budget) for mode in StreamMode for budget in ((), (0.2,), (0.2, "commit")))]
    for stream, safe, floor, judges_top in product(streams, ("cheap", "frontier"), (False, True), (False, True)):
        if not (floor and safe == "cheap"):
            yield rules_for(stream, safe, floor=floor, judges_top=judges_top)
    for forced in ("cheap", "frontier"):
        yield replace(rules_for(None, "frontier"), forced=forced)


def rules_for(stream: StreamTerms | None, safe: str, *, floor: bool = False, judges_top: bool = False) -> Rules:
    point = OperatingPoint(0.5, 0.5, 0.1)
    points = {"cheap": point} | ({"frontier": point} if judges_top else {})
    overload = {"cheap": OverloadPoint(0.3, 1 - SHARES["overload"])}
    policy = Policy(("cheap", "frontier"), points, {"cheap": PrefixPoint(3, 0.5)}, overload)
    return Rules(policy, "frontier", judges_top, safe, stream=stream, asks_quality=floor)


def promise_at(end: RequestState, asked: Rules, shares: CertifiedShares) -> AnswerPromise:
    return answer_promise(shares, replace(fake_context(), policy=asked.policy), end)


def test_every_path_is_promised_what_its_row_says() -> None:
    reached = set()
    for asked in kinds_of_requests():
        for steps, end in every_path(asked):
            if steps[-1].do is not Do.REPLY:
                assert promise_at(end, asked, TWO_TIERS).share is None, "no answer was given"
                continue
            way = way_of(end)
            if way == BY_PREFIX_ALONE:
                assert promise_at(end, asked, TWO_TIERS).share is None
                continue
            reached.add(way)
            for shares, said in zip((TWO_TIERS, TOGETHER), TABLE[way], strict=True):
                found = promise_at(end, asked, shares)
                assert (found.share is None) is (found.why_not is not None)
                expected = None if said == "-" else SHARES[said]
                assert found.share == (None if expected is None else pytest.approx(expected)), way
                assert said != "prefix" or found.of == PREFIX
                assert said != "accepted" or found.of == ACCEPTED
                assert said != "overload" or OVERLOAD in found.of
    assert reached == TABLE.keys(), "a row that no path reaches"


def test_the_table_in_the_documentation_names_tests_that_exist() -> None:
    root = Path(__file__).parents[4]
    page = (root / "docs/concepts/certificate.md").read_text()
    table = page.partition("## What is promised of a delivered answer")[2].partition("\n## ")[0]
    tests = [*(root / "tests/unit/serve_graph").rglob("test_*.py"), *(root / "tests/statistical").rglob("test_*.py")]
    defined = {name for test in tests for name in re.findall(r"def (test_\w+)", test.read_text())}
    assert len(named := set(re.findall(r"(?<![/\w])(test_\w+)", table))) > 10
    assert named - defined == set()


PRE_ROUTED_TABLE: Mapping[Way, str] = {
    ("cheap", "routed", "cheap", "none", ""): "answers of prompts routed to a cheap tier",
}
"""What is promised of two tiers that are pre-routed: of every other way nothing is."""


def test_of_what_is_pre_routed_every_answer_of_its_tier_is_promised_and_nothing_else() -> None:
    reached = set()
    shares = CertifiedShares(0.9, pre_routed=True)
    for asked in kinds_of_requests():
        for shaped in (False, True):
            policy = Policy(asked.policy.tiers, {"cheap": OperatingPoint(0.5, -math.inf)})
            pre_routed = replace(asked, policy=policy, judges_top=False, shaped=shaped)
            for steps, end in every_path(pre_routed):
                found = promise_at(end, pre_routed, shares)
                way = way_of(end) if steps[-1].do is Do.REPLY else None
                expected = None if way is None else PRE_ROUTED_TABLE.get(way)
                assert (found.share, found.share and found.of) == (expected and 0.9, expected), way
                reached.add(way)
    assert reached > PRE_ROUTED_TABLE.keys()
    assert ("frontier", "escalated", "cheap", "escalated", "") in reached, "a broken shape"


@settings(max_examples=40, deadline=None)
@given(rules())
def test_whoever_has_a_quality_floor_is_shown_nothing_below_the_last_tier_without_a_promise(asked: Rules) -> None:
    """Whatever the ladder, the mode and the failures; the safe tier of such a request is the last one."""
    for shares in (replace(TWO_TIERS, prefixes=dict.fromkeys(asked.policy.tiers, 0.8)), TOGETHER):
        if shares.joint and asked.policy.prefixes:
            continue  # thresholds certified together have none
        strict = replace(asked, asks_quality=True, safe_tier=asked.top, forced=None)
        for steps, end in every_path(strict):
            if steps[-1].do is Do.REPLY and end.tier != asked.top and not end.served_on_overload:
                withheld = str(end.action) == "abstained"
                assert withheld or promise_at(end, strict, shares).share is not None, way_of(end)


@settings(max_examples=40, deadline=None)
@given(rules())
def test_a_promise_is_of_an_answer_that_the_router_chose_and_the_verifier_accepted(asked: Rules) -> None:
    for steps, end in every_path(asked):
        if promise_at(end, asked, TWO_TIERS).share is None:
            continue
        done = [step.do for step in steps]
        assert (done[0], done[-1]) == (Do.ASK_ROUTER, Do.REPLY)
        assert end.decision is not None
        links = [name for name, _ in end.decision.then]
        if asked.policy.pre_routes(end.tier) and end.tier in links:
            assert end.verdict is not None
            assert (end.action, end.verdict.action) == ("escalated", "escalated"), "a link that accepts everything"
            continue
        if asked.policy.pre_routes(end.tier):
            assert (end.tier, end.action, end.verdict) == (end.decision.tier, "routed", None)
            continue
        assert Do.JUDGE in done
        assert end.verdict is not None
        assert end.decision.promised
        assert end.verdict.promised
        assert end.tier in (end.decision.tier, *links)
        assert end.tier != asked.top
