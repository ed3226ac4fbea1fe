"""Experiment 19: what is promised of delivered answers where something else than the certified policy had a say.

A model with known risks: a prompt is more or less hard, router and verifier see that dimly, easy ones are answered
at length. The threshold is where 9 % of the accepted answers of routed prompts are wrong (ε = 10 %), on all rows that
there are, so that nothing is left to chance but what is delivered. Each scene is a way in which a server departs from
that. Where an answer is promised the risk keeps within ε; the negative control repeats the version's promise in the
record of every answer, and must break ε in every scene.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import binom

from router_models.types import PREFIX_FINISH, Action, Completion, Decision, OperatingPoint, PrefixPoint, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.fakes import fake_context
from serve_graph.cascade.next_step import advance
from serve_graph.cascade.steps import (
    Answered,
    BudgetSpent,
    CascadeEvent,
    Decided,
    FirstPiece,
    Judged,
    PolicyFailed,
    PrefixReady,
    RequestState,
    Rules,
    Started,
    StreamMode,
    StreamTerms,
)
from serve_graph.errors import PolicyUnavailableError
from serve_graph.gateway.promise import CertifiedShares, RequestFacts, answer_promise, set_apart
from serve_graph.policy.labels import LabelRule

EPSILON, RISK = 0.10, 0.09
POINT = OperatingPoint(0.0, 0.5)
POLICY = Policy(("cheap", "frontier"), {"cheap": POINT}, {"cheap": PrefixPoint(8, 0.5)})
SILENT = Policy(("cheap", "frontier"), {"cheap": POINT, "frontier": OperatingPoint(0.0, 0.5, 0.2)})
ACCEPTED = CertifiedShares(1 - EPSILON, prefixes={"cheap": 1 - EPSILON})
TOGETHER = CertifiedShares(1 - EPSILON, joint=True)
PLAIN = RequestFacts()


def way(*events: CascadeEvent, terms: StreamTerms | None = None, safe: str = "frontier") -> RequestState:
    """Where the cascade's own steps lead."""
    state = RequestState()
    for event in (Started(Rules(POLICY, "frontier", False, safe, stream=terms)), *events):
        advance(state, event)
    assert state.completion is not None
    return state


CHEAP, SAID, DOWN = (
    Decided(Decision("cheap", "so")),
    Answered(Completion("so")),
    PolicyFailed(PolicyUnavailableError("down")),
)
ACCEPT, ESCALATE = (Judged([Verdict(action, "so", 0.5)]) for action in (Action.ACCEPTED, Action.ESCALATED))
PREFIX, ROUTE = StreamTerms(StreamMode.PREFIX), StreamTerms(StreamMode.ROUTE)
COMMIT = StreamTerms(StreamMode.VERIFY, 0.2, "commit")
JUDGED = way(CHEAP, SAID, ACCEPT)
EARLY = way(CHEAP, PrefixReady(Completion("s", PREFIX_FINISH)), ACCEPT, SAID, terms=PREFIX)
SHORT = way(CHEAP, SAID, ACCEPT, terms=PREFIX)
UNJUDGED = (
    way(CHEAP, FirstPiece(), SAID, terms=ROUTE),
    way(CHEAP, BudgetSpent(has_pieces=True), SAID, terms=COMMIT),
    way(CHEAP, SAID, DOWN, safe="cheap"),
    way(DOWN, SAID, safe="cheap"),
)


@dataclass(frozen=True)
class Rows:
    """Prompts with a cheap answer each, all (n,): tried or not, the verifier's score, wrong or not, its length."""

    hard: np.ndarray
    routed: np.ndarray
    score: np.ndarray
    wrong: np.ndarray
    length: np.ndarray


def draw(rng, n: int, harder: float = 0.0, hard: np.ndarray | None = None) -> Rows:
    hard = rng.normal(harder, 1.0, n) if hard is None else hard
    wrong = rng.random(n) < 1 / (1 + np.exp(1.2 - 1.5 * hard))
    length = np.exp(2.5 - 0.6 * hard + rng.normal(0, 0.5, n))
    return Rows(hard, rng.normal(-hard, 1.0) >= 0, rng.normal(-hard, 1.0), wrong, length)


def threshold(score: np.ndarray, wrong: np.ndarray) -> float:
    """The most lenient one at which a share RISK of the accepted answers is wrong."""
    order = np.argsort(-score)
    risks = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    return float(score[order][np.flatnonzero(risks <= RISK)[-1]])


@dataclass(frozen=True)
class Scene:
    """Delivered answers: `parts` are (facts of the request, its end, whether each answer delivered is wrong)."""

    name: str
    parts: list[tuple[RequestFacts, RequestState, np.ndarray]]
    shares: CertifiedShares = ACCEPTED
    policy: Policy = POLICY

    def risks(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each answer is wrong: of those that something is promised of, and of all."""
        promised = [
            wrong
            for facts, end, wrong in self.parts
            if answer_promise(
                self.shares,
                replace(
                    fake_context(), policy=self.policy, set_apart=set_apart(facts, self.shares.joint, self.policy)
                ),
                end,
            ).share
        ]
        return np.concatenate([*promised, np.empty(0)]), np.concatenate([wrong for *_, wrong in self.parts])


def scenes(rng, n: int) -> Iterator[Scene]:
    seen = draw(rng, n)
    at = threshold(seen.score[seen.routed], seen.wrong[seen.routed])
    kept = seen.routed & (seen.score >= at)

    four = [draw(rng, n, hard=seen.hard) for _ in range(4)]
    all_pass = seen.routed & np.all([rows.score >= at for rows in four], axis=0)
    any_wrong = np.any([rows.wrong for rows in four], axis=0)
    yield Scene("four choices, all of which pass", [(replace(PLAIN, choices=4), JUDGED, any_wrong[all_pass])])

    later = draw(rng, n, harder=0.8)
    held = later.score >= at
    yield Scene("a tool loop is held", [(replace(PLAIN, tool_loop="cheap"), JUDGED, later.wrong[held])])
    stays = later.routed & held & (later.hard > 0)  # easy ones were answered by the last tier, and stay there
    yield Scene("a conversation goes on", [(replace(PLAIN, is_continued=True), JUDGED, later.wrong[stays])])

    in_time = seen.wrong[kept & (seen.length <= np.median(seen.length[kept]))]
    for name, facts in (
        ("a deadline", replace(PLAIN, has_own_deadline=True)),
        ("a configured deadline", replace(PLAIN, deadline_s=5.0, whole_try_s=60.0)),
        ("a latency budget", replace(PLAIN, has_latency_budget=True)),
        ("a first token in time", replace(PLAIN, stream=StreamTerms(first_token_s=1.0))),
    ):
        yield Scene(f"{name} takes out slow answers", [(facts, JUDGED, in_time)])

    long = seen.length > 8
    prefix = rng.normal(seen.score, 0.5)
    by_prefix = seen.routed & long & (prefix >= threshold(prefix[seen.routed & long], seen.wrong[seen.routed & long]))
    yield Scene("short answers in a prefix stream", [(replace(PLAIN, stream=PREFIX), SHORT, seen.wrong[kept & ~long])])
    early = (replace(PLAIN, stream=PREFIX), EARLY, seen.wrong[by_prefix])
    late = (replace(PLAIN, stream=PREFIX), SHORT, np.repeat(seen.wrong[kept & ~long], 9))  # most answers are short
    yield Scene("a prefix stream, most answers short", [early, late])

    for end in UNJUDGED:
        yield Scene(f"unjudged: {end.action}, {'; '.join(end.notes)}", [(PLAIN, end, seen.wrong[seen.routed])])
    yield Scene("asked for by name", [(replace(PLAIN, forced="cheap"), JUDGED, seen.wrong)])

    lenient = threshold(seen.score[seen.hard < 0], seen.wrong[seen.hard < 0])  # of the slice of easy questions
    said = LabelRule("user_tier", stated=True).unproven({"user_tier": "easy"})
    misnamed = seen.wrong[(seen.hard >= 0) & (seen.score >= lenient)]
    yield Scene("a slice that the caller names", [(replace(PLAIN, unproven_label=said), JUDGED, misnamed)])

    last = draw(rng, n, hard=seen.hard - 1.0)
    answer_score, wrong = np.where(kept, np.inf, last.score), np.where(kept, seen.wrong, last.wrong)
    silent_below = threshold(answer_score + rng.random(n) * 1e-9, wrong)
    loud = [(kept, JUDGED), (~kept, way(CHEAP, SAID, ESCALATE, SAID))]
    assert wrong[answer_score >= silent_below].mean() <= EPSILON
    parts = [(replace(PLAIN, stream=StreamTerms()), end, wrong[rows]) for rows, end in loud]
    yield Scene("a stream without the abstentions that were counted on", parts, TOGETHER, SILENT)


def most(n: int) -> int:
    """The wrong answers among n that ε and chance (1 in 1000) allow."""
    return int(binom.ppf(0.999, n, EPSILON))


def test_what_is_promised_of_delivered_answers_holds_in_every_scene(size, measured):
    for scene in scenes(np.random.default_rng(19), size(20_000, 400_000)):
        promised, everything = scene.risks()
        told = f"{promised.mean():.3f} of {len(promised)}" if len(promised) else "nothing promised"
        measured(f"{scene.name}: wrong among promised {told}; among all {everything.mean():.3f} of {len(everything)}")
        assert promised.sum() <= most(len(promised)), scene.name
        assert everything.sum() > most(len(everything)), f"{scene.name}: the negative control must fail"


def test_what_departs_from_nothing_keeps_its_promise(size, measured):
    """The floor of usefulness: ordinary requests, streams, a deadline that leaves all the time there is."""
    rows = draw(np.random.default_rng(20), size(20_000, 400_000))
    kept = rows.routed & (rows.score >= threshold(rows.score[rows.routed], rows.wrong[rows.routed]))
    for facts in (
        PLAIN,
        replace(PLAIN, stream=StreamTerms()),
        replace(PLAIN, deadline_s=90.0, whole_try_s=60.0, reserve_s=20.0),
    ):
        promised, _ = Scene("as certified", [(facts, JUDGED, rows.wrong[kept])]).risks()
        measured(f"as certified: wrong {promised.mean():.3f} of {len(promised)}, {kept.mean():.2f} of all")
        assert len(promised) == kept.sum() > 0.1 * len(kept)
        assert promised.mean() <= EPSILON


@pytest.mark.parametrize("gone", [0.2, 0.5])
def test_taking_answers_out_breaks_a_promise_by_no_more_than_their_share(size, measured, gone):
    """Why nothing is promised of what is left: the bound is met, and is of use to nobody."""
    rows = draw(np.random.default_rng(21), size(20_000, 400_000))
    kept = rows.routed & (rows.score >= threshold(rows.score[rows.routed], rows.wrong[rows.routed]))
    wrong = np.sort(rows.wrong[kept])[::-1]  # right ones are taken out first
    left = wrong[: int(np.ceil(len(wrong) * (1 - gone)))]
    measured(f"{gone:.0%} taken out: risk {left.mean():.3f}, bound {EPSILON / (1 - gone):.3f}")
    assert EPSILON < left.mean() <= EPSILON / (1 - gone)
