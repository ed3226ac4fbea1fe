"""Votes beside grades: what a file may hold, what votes teach, and what they may never touch."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.formats.preference_votes import VoteTable, read_votes
from router_models.data.outcomes import table_of
from router_models.errors import DataError
from router_models.estimators.routers.combined.voted import VotedRouter, log_odds_within, mixed, mixing_weights
from router_models.estimators.routers.embedding.preferences import PreferenceRouter, strengths_of
from router_models.pricing.prices import Price
from router_models.training.candidate import Settings, load_candidate, save_candidate
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.labelling.preferences import LEAST_VOTES, VotesToLearnFrom, learned_words
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import FloatArray, Prompts
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.router_version import RouterVersion
from tests.contract.test_every_router_is_served import WORDS, WordCounts

TIERS = ("cheap", "frontier")
PRICE = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "frontier": Price(Decimal("0.2"), Decimal("0.4"))}
SETTINGS = Settings(TIERS, PRICE, epsilon=0.3, delta=0.2, abstain_share=0.0, router="surface", verifier="logprob")
EASY = ("sum", "poem")
SKILL = {"tiny": 0.2, "cheap": 0.35, "middle": 0.6, "frontier": 0.95}
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{seed}.{i}: " + " ".join(rng.choice(WORDS, 4)) for i in range(n)]


def is_easy(asked: list[str] | tuple[str, ...]) -> FloatArray:
    return np.array([any(word in text for word in EASY) for text in asked], dtype=np.float64)


def voted(n: int, seed: int, models: tuple[str, ...] = tuple(SKILL), asked: list[str] | None = None) -> VoteTable:
    """Votes on any two models: on easy prompts chance decides, on others the one of more skill wins."""
    rng, asked = np.random.default_rng(seed), asked or texts(n, seed)
    left, right, winners = [], [], []
    for easy in is_easy(asked):
        a, b = rng.choice(models, 2, replace=False)
        lead = (SKILL[a] - SKILL[b]) * (0.0 if easy else 3.0)
        tie = rng.random() < 0.3
        winners.append(rng.choice(["tie", "both-bad"]) if tie else "a" if rng.random() < 0.5 + lead / 2 else "b")
        left.append(str(a))
        right.append(str(b))
    empty = ("",) * len(asked)
    found = VoteTable(Prompts(tuple(asked)), tuple(left), tuple(right), tuple(map(str, winners)), empty, empty)
    return found.with_embeddings(WordCounts())


def graded(n: int = 300) -> LabelledSplits:
    rng, asked = np.random.default_rng(0), texts(n, 0)
    right = rng.random(n) < 0.2 + 0.7 * is_easy(asked)
    told = np.where(right, -0.1, -1.2) - 0.2 * rng.random(n)
    columns = {"prompt": asked, "cheap": right, "frontier": rng.random(n) < 0.95}
    columns |= {f"{tier}|{name}": told for tier in TIERS for name in LOGPROB_NAMES}
    columns |= {f"{tier}_prompt_tokens": 20 for tier in TIERS} | {f"{tier}_completion_tokens": 5 for tier in TIERS}
    columns |= {"user": [f"u{i % 100}" for i in range(n)]}
    return split_outcomes(table_of(parse_columns(pd.DataFrame(columns), TIERS)), TIERS, 0).with_embeddings(
        WordCounts()
    )


@pytest.fixture(scope="module")
def splits() -> LabelledSplits:
    return graded()


ROW = '{"prompt": "What is 2+2?", "model_a": "x", "model_b": "y", "winner": "a"}'


def written(folder: Path, *lines: str) -> Path:
    path = folder / "votes.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_a_file_of_votes_is_read_in_every_format_and_spelling(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "prompt": ["one", "two", "three", "four"],
            "model_a": ["x", "y", "x", "z"],
            "model_b": ["y", "x", "z", "y"],
            "winner": ["model_a", "B", "tie", "tie (bothbad)"],
            "judge": ["ann", "ann", "", "bob"],
            "group": ["u1", "u1", "u2", ""],
        }
    )
    frame.to_parquet(tmp_path / "v.parquet")
    frame.to_csv(tmp_path / "v.csv", index=False)
    frame.to_json(tmp_path / "v.jsonl", orient="records", lines=True)
    found = [read_votes(tmp_path / f"v.{kind}") for kind in ("parquet", "csv", "jsonl")]
    for one in found:
        assert one.winners == ("a", "b", "tie", "both-bad")
        assert one.voters == ("ann", "ann", "", "bob")
        assert one.groups == ("u1", "u1", "u2", "")
        np.testing.assert_array_equal(one.results, [1, 0, 0.5, 0.5])
    assert len({one.content_hash for one in found}) == 1
    assert found[0].take(np.array([3, 2, 1, 0])).content_hash == found[0].content_hash, "order is nothing"
    assert found[0].take(np.array([0, 1, 2])).content_hash != found[0].content_hash


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (ROW.replace('"a"', '"x"'), r"column 'winner', line 3: 'x' is no winner: a, b, tie or both-bad"),
        (ROW.replace('"y"', '"x"'), "line 3: 'x' is voted on against itself"),
        (ROW.replace('"x"', '""'), "column 'model_a', line 3: no model: every vote names both"),
        (ROW.replace("What is 2+2?", " "), "column 'prompt', line 3: no text"),
        (ROW.replace('"winner": "a"', '"winner": null'), "column 'winner', line 3"),
        (ROW[:-3], "line 3: not JSON"),
    ],
    ids=["winner", "itself", "model", "prompt", "no winner", "cut"],
)
def test_what_is_no_vote_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_votes(written(tmp_path, ROW, ROW, line))


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column\(s\) model_b, winner"):
        read_votes(written(tmp_path, '{"prompt": "x", "model_a": "y"}'))


@pytest.mark.parametrize(
    "models", [TIERS, ("tiny", "middle", "frontier"), tuple(SKILL)], ids=["pair", "others", "all"]
)
def test_votes_on_any_models_teach_which_prompts_need_the_stronger_one(models: tuple[str, ...]) -> None:
    votes = voted(700, 3, models)
    router = PreferenceRouter().fit_votes(votes.prompts, votes.left, votes.right, votes.results)
    fresh = texts(300, 9)
    scores = router.predict(voted(300, 9, asked=fresh).prompts)
    easy = is_easy(fresh) == 1
    assert scores[easy].min() > scores[~easy].max() - 0.15
    assert scores[easy].mean() > scores[~easy].mean() + 0.15
    assert abs(float(scores[easy].mean()) - 0.5) < 0.12, "where any model does, the cheaper wins half of the votes"


def test_strength_is_what_orders_the_models_and_a_prompt_that_the_weak_win_is_no_noise() -> None:
    votes = voted(3000, 4)
    strengths = strengths_of(votes.left, votes.right, votes.results)
    assert sorted(strengths, key=strengths.__getitem__) == list(SKILL)
    alike = ("cheap",) * len(votes), ("frontier",) * len(votes)
    pair = PreferenceRouter().fit_votes(votes.prompts, *alike, is_easy(votes.prompts.texts))
    assert abs(pair.strengths_["cheap"] - pair.strengths_["frontier"]) < 2
    easy = is_easy(votes.prompts.texts) == 1
    assert pair.predict(votes.prompts)[easy].min() > 0.6 > 0.4 > pair.predict(votes.prompts)[~easy].max()


def test_votes_on_models_of_one_strength_are_refused() -> None:
    votes = voted(100, 5, ("tiny", "middle"))
    with pytest.raises(DataError, match="equally strong"):
        PreferenceRouter().fit_votes(votes.prompts, votes.left, votes.right, np.full(100, 0.5))


def test_both_parts_count_alike_in_units_of_their_spread_and_keep_the_level() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.3).astype(float)
    wide = np.clip(0.3 + 0.4 * (y - 0.3) + 0.1 * rng.normal(size=600), 0.01, 0.99)
    narrow = 0.5 + 0.1 * (wide - wide.mean())
    level, graded_weight, votes_weight = mixing_weights(wide, narrow, y)
    spread = [float(log_odds_within(part).std()) for part in (wide, narrow)]
    assert graded_weight * spread[0] == pytest.approx(votes_weight * spread[1])
    assert abs(float(mixed(np.array([level, graded_weight, votes_weight]), wide, narrow).mean()) - 0.3) < 0.06
    turned = mixing_weights(1 - wide, 1 - narrow, y)
    assert (turned[1:] > 0).all(), "a router never counts against itself"
    assert abs(float(mixed(turned, 1 - wide, 1 - narrow).mean()) - 0.3) < 0.15


def test_a_candidate_learns_from_both_says_so_and_keeps_it_through_its_certificate(
    splits: LabelledSplits, tmp_path: Path
) -> None:
    said: list[str] = []
    candidate = fit_candidate(splits, SETTINGS, WordCounts(), said.append, VotesToLearnFrom(voted(700, 3)))
    router = candidate.version.stages["cheap"].router
    assert isinstance(router, VotedRouter)
    assert router.learned_from["grades"] == len(splits.train)
    tried = {scored.family: scored for scored in candidate.routers["cheap"]}
    assert tried["voted"].auc > tried["surface"].auc + 0.1, "the surface does not show which words are easy"
    assert any("over surface without them" in line for line in said)
    words = learned_words(candidate.version)
    assert "votes and" in words
    assert "Votes certify nothing" in words

    save_candidate(candidate, SETTINGS, tmp_path / "candidate")
    again, loaded = load_candidate(tmp_path / "candidate", SETTINGS, WordCounts())
    made = certify_candidate(again, splits, loaded, NOW).version
    made.save(tmp_path / "version")
    served = replace(RouterVersion.load(tmp_path / "version"), encoder=WordCounts())
    assert learned_words(served) == words
    assert made.certificate is not None
    assert made.certificate.n <= len(splits.cert), "no vote is evidence"
    unlike = replace(served, stages={tier: stage for tier, stage in served.stages.items() if tier != "cheap"})
    assert learned_words(unlike) == ""


def test_votes_alone_are_not_changed_by_grades(splits: LabelledSplits) -> None:
    votes = VotesToLearnFrom(voted(700, 3))
    alone = replace(SETTINGS, router="preferences")
    first = fit_candidate(splits, alone, WordCounts(), votes=votes).version
    router = first.stages["cheap"].router
    assert isinstance(router, PreferenceRouter)
    assert router.votes_ > 400
    turned = replace(splits.train, grades={**splits.train.grades, "cheap": 1 - splits.train.grade("cheap")})
    second = fit_candidate(replace(splits, train=turned), alone, WordCounts(), votes=votes).version.stages["cheap"]
    assert second.router is not None
    np.testing.assert_array_equal(second.router.predict(splits.cert.prompts), router.predict(splits.cert.prompts))
    assert "and from no grades" in learned_words(first)


def test_votes_that_mislead_are_left_out(splits: LabelledSplits) -> None:
    """Voters who want the skilled model where anyone would do, and the other one where skill decides."""
    votes = voted(700, 3)
    said: list[str] = []
    turned = replace(votes, left=("cheap",) * len(votes), right=("frontier",) * len(votes))
    turned = replace(turned, winners=tuple("b" if easy else "a" for easy in is_easy(votes.prompts.texts)))
    plain = fit_candidate(splits, SETTINGS, WordCounts())
    made = fit_candidate(splits, SETTINGS, WordCounts(), said.append, VotesToLearnFrom(turned))
    assert any("left out, they order the graded prompts worse" in line for line in said)
    assert made.version.stages["cheap"].router is not None
    assert made.version.stages["cheap"].router.family == "surface"
    assert learned_words(made.version) == learned_words(plain.version) == ""


def test_no_vote_on_a_prompt_that_tunes_or_certifies_trains(splits: LabelledSplits) -> None:
    """Case and spaces hide no prompt; votes of a user whose other rows certify are left out where users are groups."""
    train, rest = (list(part.prompts.texts) for part in (splits.train, splits.cert))
    asked = [*train[:60], *(text.upper().replace(" ", "  ") for text in rest), *splits.tune.prompts.texts]
    votes = VotesToLearnFrom(voted(0, 1, asked=asked))
    kept, unused = votes.apart_from(splits)
    assert set(kept.table.prompts.texts) == set(train[:60])
    assert unused == len(asked) - 60

    by_user = split_outcomes(splits.table, TIERS, 0, "user").with_embeddings(WordCounts())
    fresh = voted(200, 6)
    held = sorted(set(by_user.cert.column("user")))[0]
    mine = replace(fresh, groups=(held,) * 100 + ("nobody",) * 100)
    kept, unused = VotesToLearnFrom(mine).apart_from(by_user)
    assert (len(kept.table), unused) == (100, 100)
    with pytest.raises(DataError, match=f"0 of 100 votes may train.*at least {LEAST_VOTES}"):
        VotesToLearnFrom(mine.take(np.arange(100))).apart_from(by_user)


def test_tiers_may_have_other_names_among_the_votes() -> None:
    votes = voted(400, 3, TIERS)
    renamed = replace(
        votes,
        left=tuple(f"org/{name}" for name in votes.left),
        right=tuple(f"org/{name}" for name in votes.right),
    )
    named = VotesToLearnFrom(renamed, {tier: f"org/{tier}" for tier in TIERS}).fitted("cheap", "frontier", 0)
    plain = VotesToLearnFrom(votes).fitted("cheap", "frontier", 0)
    np.testing.assert_allclose(named.predict(votes.prompts), plain.predict(votes.prompts))
