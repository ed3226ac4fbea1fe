"""A new model: what carries over from other models' grades, what is measured of it before use, and a candidate."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.pricing.prices import Price
from router_models.training.candidate import Settings, load_candidate, save_candidate
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.labelling.given_stages import GivenStages
from router_models.training.labelling.new_model import METHODS, described, frozen_side, measure_transfer, side_rows
from router_models.training.labelling.replacement import (
    beside_others,
    routed_shares,
    transfer_json,
    transfer_words,
)
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.router_version import RouterVersion
from tests.contract.test_every_router_is_served import WORDS, WordCounts

TIERS = ("new", "frontier")
LADDER = ("cheap", "new", "frontier")
USD = {"cheap": 0.01, "new": 0.05, "frontier": 0.2, "old": 0.04}
PRICES = {tier: Price(Decimal(str(usd)), Decimal(str(2 * usd))) for tier, usd in USD.items()}
SETTINGS = Settings(TIERS, PRICES, epsilon=0.3, delta=0.2, abstain_share=0.0, verifier="logprob")
NOW = datetime(2026, 1, 5, tzinfo=UTC)
N, GRADED = 600, 300


def outcomes(seed: int = 0, chance_alone: bool = False) -> OutcomeTable:
    """N prompts graded for three models; on the first `GRADED` also the new one, which does what `old` does."""
    rng = np.random.default_rng(seed)
    texts = [f"{i}: " + " ".join(rng.choice(WORDS, 4)) + " x" * rng.integers(0, 60) for i in range(N)]
    easy = np.array([("sum" in text) or ("poem" in text) for text in texts], dtype=float)
    level = {
        "cheap": 0.1 + 0.7 * easy,
        "old": 0.15 + 0.75 * easy,
        "new": 0.15 + 0.75 * easy,
        "frontier": 0.9 + 0 * easy,
    }
    if chance_alone:
        level["new"] = np.full(N, 0.5)
    columns: dict[str, Any] = {"prompt": texts, "user": [f"u{i // 2}" for i in range(N)]}
    for tier, p in level.items():
        right = (rng.random(N) < p).astype(float)
        told = np.where(right > 0, -0.1, -1.2) - 0.2 * rng.random(N)
        right[GRADED:] = np.nan if tier == "new" else right[GRADED:]
        columns |= {tier: right, f"{tier}_prompt_tokens": 20, f"{tier}_completion_tokens": 5}
        columns |= {f"{tier}|{name}": told for name in LOGPROB_NAMES}
    return table_of(parse_columns(pd.DataFrame(columns))).with_embeddings(WordCounts())


@pytest.fixture(scope="module")
def whole() -> OutcomeTable:
    return outcomes()


def parted(whole: OutcomeTable, tiers: tuple[str, ...] = TIERS, group_by: str | None = None) -> LabelledSplits:
    return split_outcomes(whole, tiers, 0, group_by, last_ungraded=True).with_embeddings(WordCounts())


@pytest.mark.parametrize("method", METHODS)
def test_the_prompt_side_stays_as_it_is_and_is_worth_more_than_length(whole: OutcomeTable, method: str) -> None:
    splits = parted(whole)
    side = whole.take(side_rows(whole, splits))
    frozen = frozen_side(method, side, ("cheap", "old", "frontier"), 0)
    before = {name: np.array(array) for name, array in frozen.state().arrays.items()}
    described(frozen, "new", splits.train.prompts, splits.train.grade("new"))
    for name, array in frozen.state().arrays.items():
        np.testing.assert_array_equal(array, before[name])
    found = measure_transfer("new", side, splits.train, methods=(method,), last="frontier")
    assert found.choice.best.auc > 0.62
    assert found.fault is None
    assert (found.choice.best.low > 0) == (found.doubt is None)
    assert found.choice.router.family == method
    assert found.choice.best.apgr is not None
    assert set(found.side_models) == {"cheap", "old", "frontier"}


def test_no_prompt_that_tunes_or_certifies_teaches_the_prompt_side(whole: OutcomeTable) -> None:
    for group_by in (None, "user"):
        splits = parted(whole, group_by=group_by)
        side = whole.take(side_rows(whole, splits))
        held = splits.table.take(~np.isin(splits.table.groups, splits.train.groups))
        assert len(side) > N / 2
        assert not set(side.prompts.texts) & set(held.prompts.texts)
        if group_by:
            assert not set(side.column("user")) & set(held.column("user"))


def test_no_prompt_is_scored_by_a_side_that_saw_other_models_answer_it() -> None:
    """How hard a prompt is, is chance, and all models agree on it: nothing of it carries over to other prompts."""
    rng, n = np.random.default_rng(2), 240
    texts = [f"{i}: " + " ".join(rng.choice(WORDS, 6)) for i in range(n)]
    hard = rng.random(n) < 0.5
    columns: dict[str, Any] = {"prompt": texts, "cheap": hard, "old": hard, "frontier": hard, "new": hard}
    table = table_of(parse_columns(pd.DataFrame(columns)))
    vectors = rng.normal(size=(n, 384)).astype(np.float32)
    prompts = replace(table.prompts, embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    table = replace(table, prompts=prompts)
    found = measure_transfer("new", table, table.take(np.arange(120)), methods=("matrix-factorisation",))
    assert found.choice.best.auc < 0.65


def test_what_carries_nothing_over_is_said_with_its_numbers() -> None:
    """The new model's right answers have nothing to do with the prompt."""
    whole = outcomes(5, chance_alone=True)
    splits = parted(whole)
    found = measure_transfer("new", whole.take(side_rows(whole, splits)), splits.train)
    assert found.choice.best.low <= 0
    assert (found.fault or found.doubt) is not None
    assert "new" in (found.fault or found.doubt or "")


def test_a_router_that_prompt_length_beats_has_a_fault_that_says_so(whole: OutcomeTable) -> None:
    train = parted(whole).train
    lengths = np.array([len(text) for text in train.prompts.texts])
    by_length = replace(train, grades={**train.grades, "new": (lengths < np.median(lengths)).astype(float)})
    found = measure_transfer("new", whole, by_length)
    assert found.fault is not None
    assert "no better than" in found.fault
    assert found.doubt is None


@pytest.mark.parametrize(
    ("tiers", "rows", "message"),
    [
        (("new",), N, "no grades of another model than 'new'"),
        (("new", "cheap"), 60, "60 prompts with grades of other models: at least 100"),
    ],
    ids=["no other", "few prompts"],
)
def test_too_little_to_carry_over_is_refused(
    whole: OutcomeTable, tiers: tuple[str, ...], rows: int, message: str
) -> None:
    side = replace(whole.take(np.arange(rows)), tiers=tiers)
    with pytest.raises(DataError, match=message):
        measure_transfer("new", side, parted(whole).train)


def test_grades_that_are_all_alike_teach_nothing(whole: OutcomeTable) -> None:
    train = parted(whole).train
    alike = replace(train, grades={**train.grades, "new": np.ones(len(train))})
    with pytest.raises(DataError, match="grades of 'new' to learn from are alike"):
        measure_transfer("new", whole, alike)


def test_a_candidate_with_a_new_model_keeps_the_other_tiers_models_and_is_certified(
    whole: OutcomeTable, tmp_path: Path
) -> None:
    before = replace(SETTINGS, tiers=("cheap", "frontier"), router="surface")
    old = fit_candidate(parted(whole, before.tiers), before, WordCounts())
    settings = replace(SETTINGS, tiers=LADDER)
    splits = parted(whole, LADDER)
    transfer = measure_transfer("new", whole.take(side_rows(whole, splits)), splits.train, last="frontier")
    given = GivenStages({"cheap": old.version.stages["cheap"]}, {"new": transfer.choice})
    made = fit_candidate(splits, settings, WordCounts(), given=given)
    assert made.version.stages["cheap"] is old.version.stages["cheap"], "nothing of it was trained again"
    assert made.version.stages["new"].router is transfer.choice.router
    assert [one.family for one in made.routers["cheap"]] == ["length", "surface"]
    save_candidate(made, settings, tmp_path / "candidate")
    again, loaded = load_candidate(tmp_path / "candidate", settings, WordCounts())
    version = certify_candidate(again, splits, loaded, NOW).version
    version.save(tmp_path / "version")
    served = replace(RouterVersion.load(tmp_path / "version"), encoder=WordCounts())
    assert served.policy.tiers == LADDER
    assert served.certificate is not None
    np.testing.assert_allclose(
        served.stages["new"].estimate_route(splits.cert.prompts),
        made.version.stages["new"].estimate_route(splits.cert.prompts),
    )


def test_what_it_could_replace_is_said_beside_its_cost(whole: OutcomeTable) -> None:
    splits = parted(whole)
    transfer = measure_transfer("new", whole.take(side_rows(whole, splits)), splits.train, last="frontier")
    beside = {
        one.model: one for one in beside_others(whole, "new", {"new": PRICES["new"], "frontier": PRICES["frontier"]})
    }
    assert beside["frontier"].prompts == GRADED
    assert beside["frontier"].verdict == "no: it is worse"
    assert beside["frontier"].usd_new is not None
    assert beside["frontier"].usd == pytest.approx(4 * beside["frontier"].usd_new)
    assert beside["cheap"].verdict == "yes by quality; costs are not known"
    same = beside_others(whole, "new", PRICES)
    assert next(one for one in same if one.model == "old").verdict in (
        "yes by quality, and dearer",
        "not known: too few prompts to tell them apart",
    )
    shares = routed_shares(transfer, splits.train, "frontier", PRICES)
    assert [one.share for one in shares] == [0, 0.25, 0.5, 0.75, 1]
    assert shares[2].right > shares[2].by_chance + 0.03, "the hardest half is sent on"
    assert shares[0].right == pytest.approx(shares[0].by_chance)
    assert [one.usd or 0 for one in shares] == sorted(one.usd or 0 for one in shares)
    lines = transfer_words(transfer, tuple(beside.values()), shares, "frontier")
    assert any(line.startswith("beside frontier, 300 prompts: right") for line in lines)
    said = transfer_json(transfer, tuple(beside.values()), shares, "frontier")
    assert said["beside"][0]["verdict"]
    assert said["over_length"]["low"] <= said["over_length"]["value"] <= said["over_length"]["high"]


def test_methods_are_families_of_routers() -> None:
    assert set(METHODS) <= set(ROUTERS)
