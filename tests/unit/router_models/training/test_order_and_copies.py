"""A certificate does not depend on the order of the file, nor on rows that stand in it twice; a group counts once."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.groups import evidence_rows, grouped_by, in_hash_order
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.data.splits import assert_disjoint
from router_models.errors import DataError
from router_models.planning.labels import labels_table
from router_models.planning.patterns import RiskBudget, operate, patterns_of
from router_models.planning.workload import workload_of
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts
from router_models.training.candidate import Settings
from router_models.training.certify import certify_candidate
from router_models.training.certify_overload import with_overload
from router_models.training.certify_prefix import with_prefix
from router_models.training.fit import fit_candidate
from router_models.training.splits import split_outcomes
from router_models.types import Outcome
from router_models.types.exchange import Usage, logprob_summary

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("cheap", "top")
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "top": Price(Decimal("0.5"), Decimal(1))}
PAIR = Settings(TIERS, PRICES, epsilon=0.25, delta=0.2, router="surface", verifier="logprob", promise="accepted")


class Given(Encoder):
    """No encoder: the families here need none."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


def world(n: int = 400, seed: int = 0) -> OutcomeTable:
    """Two languages, sorted; users of three requests each; the first tokens tell which cheap answers are right."""
    rng, outcomes = random.Random(seed), []
    for i in range(n):
        language = "de" if i < n // 2 else "en"
        prompt = f"What colour is the {language} cat number {i} of {rng.randint(1, 999)}?"
        right = rng.random() < 0.7
        looks_right = right if rng.random() < 0.6 else rng.random() < 0.7
        count = rng.randint(4, 12)
        lps = tuple(-0.02 - (0.2 if looks_right else 1.5) * rng.random() for _ in range(count))
        words = tuple(f" w{j}" for j in range(count - 1))
        for tier, grade, kept in (("cheap", float(right), True), ("top", float(rng.random() < 0.9), False)):
            outcomes.append(
                Outcome(
                    prompt_id(prompt), prompt, tier, "".join(words), grade, Usage(20, count), 0.1, "stop",
                    logprob_summary(lps), {"language": language, "user": f"u{i // 3}"},
                    (*words, "<end>") if kept else (), lps if kept else (),
                )
            )  # fmt: skip
    return table_of(parse_columns(outcomes_to_frame(outcomes)))


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return world()


def certificates(table: OutcomeTable, kind: str) -> dict[str, Any]:
    """Everything that is promised, as JSON; what it is bound to included."""
    chosen = {
        "largest drop": replace(PAIR, max_drop=0.3),
        "joint": replace(PAIR, promise="answered"),
        "joint with a largest drop": replace(PAIR, promise="answered", max_drop=0.3),
        "slices": replace(PAIR, slicer="language", epsilon=0.3),
        "users": replace(PAIR, group_by="user", epsilon=0.35),
    }.get(kind, PAIR)
    splits = split_outcomes(table, TIERS, 0, chosen.group_by).with_embeddings(Given())
    made = certify_candidate(fit_candidate(splits, chosen, Given()), splits, chosen, NOW)
    if kind == "prefix":
        made = with_prefix(made, splits, chosen, [3], NOW)
    if kind == "overload":
        made = with_overload(made, splits, chosen, 0.98, 0.2, NOW)
    version = made.version
    assert version.certificate is not None
    found = {"version": version.certificate.to_json()}
    found |= {f"prefix {tier}": proof.to_json() for tier, proof in version.prefix_certificates.items()}
    return found | {f"overload {tier}": proof.to_json() for tier, proof in version.overload_certificates.items()}


def planned(table: OutcomeTable, kind: str) -> dict[str, Any]:
    """What a plan certifies and recommends."""
    terms = {tier: TierCosts(price=price) for tier, price in PRICES.items()}
    work = workload_of(table, *TIERS, terms, routers=("surface",), verifiers=("logprob",))
    budget = RiskBudget(0.25, 0.2, 0.3)
    found = operate(work, patterns_of(work, budget, None), budget, NOW)
    assert any(operated.certified for operated in found)
    certified = {o.pattern.name: (o.route_at, o.accept_at, o.certified, o.why) for o in found}
    return {**certified, "labels": labels_table(work, found[-1].pattern, (0.25,), RiskBudget(0.25, 0.2))}


Result = Callable[[OutcomeTable, str], dict[str, Any]]
KINDS: list[tuple[str, Result]] = [
    *((kind, certificates) for kind in ("accepted", "largest drop", "joint", "joint with a largest drop", "slices")),
    *((kind, certificates) for kind in ("users", "prefix", "overload")),
    ("plan", planned),
]


@pytest.mark.sampled("result", one_in=3)
@pytest.mark.parametrize(("kind", "result"), KINDS, ids=[kind for kind, _ in KINDS])
def test_neither_order_nor_rows_appended_again_change_what_is_promised(
    table: OutcomeTable, kind: str, result: Result
) -> None:
    expected = result(table, kind)
    rows = np.random.default_rng(len(kind)).permutation(len(table))
    assert result(table.take(np.concatenate([rows, rows[: len(rows) // 2]])), kind) == expected


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.randoms(use_true_random=False), copies=st.lists(st.integers(0, 59), max_size=40), seed=st.integers(0, 9)
)
def test_the_rows_that_count_are_the_same_for_every_order_and_any_copies(
    table: OutcomeTable, order: random.Random, copies: list[int], seed: int
) -> None:
    small = grouped_by(table.take(np.arange(60)), "user")
    rows = [*range(60), *copies]
    order.shuffle(rows)
    other = small.take(rows)
    counted, again = small.take(evidence_rows(small, seed)), other.take(evidence_rows(other, seed))
    assert again.prompt_ids == counted.prompt_ids
    assert len(counted) == len(set(small.groups.tolist())) == 20
    assert in_hash_order(other, seed).prompt_ids == in_hash_order(small, seed).prompt_ids


def test_another_seed_draws_other_rows(table: OutcomeTable) -> None:
    by_user = grouped_by(table, "user")
    assert set(evidence_rows(by_user, 0).tolist()) != set(evidence_rows(by_user, 1).tolist())


def test_groups_are_on_one_side_of_every_split(table: OutcomeTable) -> None:
    splits = split_outcomes(table, TIERS, 0, "user")
    assert_disjoint({"train": splits.train, "tune": splits.tune, "cert": splits.cert})
    users = [set(part.column("user")) for part in (splits.train, splits.tune, splits.cert)]
    assert not users[0] & users[1] | users[1] & users[2] | users[0] & users[2]
    assert len(splits.cert) == len(users[2]), "one row a user"


def test_users_who_share_a_prompt_are_one_group_and_rows_without_a_user_their_prompts(table: OutcomeTable) -> None:
    texts = ("a?", "b?", "A", "c?", "d?", "c")
    users = ("ann", "ann", "bob", "bob", "", "")
    small = table.take(np.arange(6))
    small = replace(small, prompts=replace(small.prompts, texts=texts, metadata={"user": users}))
    with pytest.raises(DataError, match="joins 5 of 6 rows into one group"):
        grouped_by(small, "user")
    apart = replace(small, prompts=replace(small.prompts, texts=("a?", "b?", "e", "c?", "d?", "c")))
    groups = grouped_by(apart, "user").groups.tolist()
    assert groups[0] == groups[1] != groups[2] == groups[3] == groups[5] != groups[4] != groups[0]


def test_an_unknown_column_of_groups_is_refused(table: OutcomeTable) -> None:
    with pytest.raises(DataError, match="no column 'session'"):
        split_outcomes(table, TIERS, 0, "session")
