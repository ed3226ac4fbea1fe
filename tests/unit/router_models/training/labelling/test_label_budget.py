"""Labels are known by their prompts: nothing else about a table makes them fresh; what TUNE refuses spends nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import ArtifactError, DataError, NotCertifiedError
from router_models.pipeline import certify_next
from router_models.pricing.prices import Price
from router_models.risk_control.sequence import spent_delta
from router_models.training.candidate import Settings
from router_models.training.fit import fit_candidate
from router_models.training.labelling.label_budget import (
    LabelBudget,
    choices_on,
    labels_read,
    note_choice,
    prompt_labels,
)
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.workspace import Workspace

TIERS = ("cheap", "frontier")
NOW = datetime(2026, 1, 5, tzinfo=UTC)
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "frontier": Price(Decimal("0.2"), Decimal("0.4"))}


def frame(n: int = 60) -> pd.DataFrame:
    columns = {"prompt": [f"What is {i} plus {i}?" for i in range(n)], "user": [f"u{i // 3}" for i in range(n)]}
    for k, tier in enumerate(TIERS):
        columns |= {tier: (np.arange(n) + k) % 2, f"{tier}_answer": [f"{tier} says {i}" for i in range(n)]}
        columns |= {f"{tier}_latency_s": 0.25 * np.ones(n)}
    return pd.DataFrame(columns)


def table(given: pd.DataFrame, tiers: tuple[str, str] = TIERS) -> OutcomeTable:
    return table_of(parse_columns(given.copy(), tiers))


def read(
    given: pd.DataFrame, seed: int = 0, tiers: tuple[str, str] = TIERS, group_by: str | None = None
) -> frozenset[str]:
    return labels_read(split_outcomes(table(given, tiers), tiers, seed, group_by))


def test_rows_that_are_added_leave_the_labels_as_they_were() -> None:
    grown = frame(90).assign(domain="sums", words=7).sample(frac=1.0, random_state=0)
    assert read(frame()) < read(grown)
    assert 0 < len(read(frame())) < 60


def test_other_prompts_are_other_labels() -> None:
    assert read(frame(60)).isdisjoint(read(frame(120).tail(60)))


RENAMED = {f"{tier}{end}": f"{tier[0].upper()}{end}" for tier in TIERS for end in ("", "_answer", "_latency_s")}


@pytest.mark.parametrize(
    "other",
    [
        frame().drop(columns=[f"{tier}_latency_s" for tier in TIERS]),
        frame().assign(cheap_answer=lambda f: f["cheap_answer"] + " "),
        frame().assign(cheap=0, frontier=1, cheap_answer="asked again", cheap_latency_s=0.3),
        frame().assign(prompt=lambda f: "  " + f["prompt"].str.upper()),
        frame().assign(extra="a new column"),
        pd.concat([frame(), frame()]),
    ],
    ids=["no latencies", "a blank in the answers", "collected again", "spelt otherwise", "a column more", "twice"],
)
def test_nothing_but_other_prompts_makes_labels_fresh(other: pd.DataFrame) -> None:
    assert read(other) == read(frame())


def test_renamed_tiers_make_no_label_fresh() -> None:
    assert read(frame().rename(columns=RENAMED), tiers=("C", "F")) == read(frame())


def test_a_group_is_known_by_every_prompt_in_it_and_by_its_name() -> None:
    by_user = read(frame(), group_by="user")
    assert not by_user.isdisjoint(read(frame()))
    elsewhere = frame().assign(prompt=lambda f: "Tell me of " + f["prompt"])
    assert not by_user.isdisjoint(read(elsewhere, group_by="user")), "the same users with other prompts"


def test_another_seed_still_reads_some_of_the_same_labels() -> None:
    assert not read(frame()).isdisjoint(read(frame(), seed=1))


def test_a_comparison_is_noted_once_and_counts_where_it_shares_a_prompt(tmp_path: Path) -> None:
    mine, others = prompt_labels(table(frame(60))), prompt_labels(table(frame(120).tail(60)))
    for _ in range(2):
        note_choice(tmp_path, mine, "plan", ["surface"])
    assert choices_on(tmp_path, read(frame())) == ["plan"]
    note_choice(tmp_path, mine, "evaluate", ["surface", "knn"])
    assert choices_on(tmp_path, read(frame())) == ["evaluate", "plan"]
    assert choices_on(tmp_path, others) == []


@pytest.mark.parametrize("damage", ["", "[]", '{"labels": 7}', "[" * 100_000])
def test_a_look_that_cannot_be_read_is_named_and_not_passed_over(tmp_path: Path, damage: str) -> None:
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "plan-1.json").write_text(damage)
    with pytest.raises(ArtifactError, match=r"plan-1\.json"):
        choices_on(tmp_path, frozenset())


class Given(Encoder):
    """No model: every prompt has the same vector."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


def world(n: int = 500) -> pd.DataFrame:
    """A verifier's signal that says which cheap answers are right."""
    rng = np.random.default_rng(0)
    right = rng.random(n) < 0.7
    columns = {"prompt": [f"Question {i} about {i * i}" for i in range(n)], "cheap": right, "frontier": True}
    told = np.where(right, -0.1, -1.0) - 0.1 * rng.random(n)
    columns |= {f"{tier}|{name}": told for tier in TIERS for name in LOGPROB_NAMES}
    for tier in TIERS:
        columns |= {f"{tier}_prompt_tokens": 20, f"{tier}_completion_tokens": 5}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def splits() -> LabelledSplits:
    given = world().assign(frontier=lambda f: np.arange(len(f)) % 10 > 0)
    return split_outcomes(table(given), TIERS, 0).with_embeddings(Given())


SETTINGS = Settings(TIERS, PRICES, router="surface", verifier="logprob", abstain_share=0.0, promise="accepted")


def test_only_a_look_at_cert_labels_spends_of_delta(
    splits: LabelledSplits, tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    said: list[str] = []
    work = Workspace(tmp_path, f"sqlite:///{tmp_path / 'm.db'}", "router", said.append)
    settings = replace(SETTINGS, epsilon=0.4)
    candidate = fit_candidate(splits, settings, Given())
    with pytest.raises(NotCertifiedError, match=r"infeasible|too few"):
        certify_next(candidate, splits, replace(settings, epsilon=0.001), NOW, work)
    assert not (tmp_path / "m.db").exists(), "a refusal on TUNE alone notes no look"
    new_registry(tmp_path / "m.db")
    wrong = replace(splits.cert, grades={tier: 0 * grades for tier, grades in splits.cert.grades.items()})
    with pytest.raises(NotCertifiedError, match="accepted CERT answers are wrong"):
        certify_next(candidate, replace(splits, cert=wrong), settings, NOW, work)
    note_choice(tmp_path, prompt_labels(splits.table), "plan", ["auto"])
    certified, looked = certify_next(candidate, splits, settings, NOW, work)
    assert certified.version.certificate is not None
    assert certified.version.certificate.look_index == looked.look_index == 3, "CERT's refusal, the plan, and this"
    assert "look 3 at these labels, after plan chose on them" in said[-1]


def test_the_only_look_spends_all_of_delta_and_no_other_is_let_through(
    splits: LabelledSplits, tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    said: list[str] = []
    work = Workspace(tmp_path, new_registry(tmp_path / "m.db"), "router", said.append)
    settings = replace(SETTINGS, epsilon=0.4)
    candidate = fit_candidate(splits, settings, Given())
    certified, looked = certify_next(candidate, splits, settings, NOW, work, only_look=True)
    made = certified.version.certificate
    assert made is not None
    assert made.level == looked.level == settings.delta, "six tenths of it where another look may follow"
    assert any("all of δ 0.1" in line for line in said)
    for only in (False, True):
        with pytest.raises(DataError, match="spent the whole δ of these labels"):
            certify_next(candidate, splits, settings, NOW, work, only_look=only)


def test_a_second_look_cannot_be_the_only_one(
    splits: LabelledSplits, tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    work = Workspace(tmp_path, new_registry(tmp_path / "m.db"), "router", lambda _: None)
    settings = replace(SETTINGS, epsilon=0.4)
    candidate = fit_candidate(splits, settings, Given())
    first, _ = certify_next(candidate, splits, settings, NOW, work)
    assert first.version.certificate is not None
    assert "look 1 at these labels (δ 0.0608 of 0.1)" in first.version.certificate.summary()
    with pytest.raises(DataError, match="this is look 2"):
        certify_next(candidate, splits, settings, NOW, work, only_look=True)
    _, looked = certify_next(candidate, splits, settings, NOW, work)
    assert looked.look_index == 2, "what was refused was no look"


def test_a_comparison_on_the_labels_leaves_no_only_look(
    splits: LabelledSplits, tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    work = Workspace(tmp_path, new_registry(tmp_path / "m.db"), "router", lambda _: None)
    settings = replace(SETTINGS, epsilon=0.4)
    candidate = fit_candidate(splits, settings, Given())
    note_choice(tmp_path, labels_read(splits), "plan", ["surface"])
    with pytest.raises(DataError, match=r"this is look 2 \(plan chose on them\)"):
        certify_next(candidate, splits, settings, NOW, work, only_look=True)


def budget_of(tmp_path: Path, **columns: str) -> LabelBudget:
    work = Workspace(tmp_path, f"sqlite:///{tmp_path / 'm.db'}", "router", print)
    return LabelBudget(split_outcomes(table(frame(90).assign(**columns)), TIERS, 0, None), SETTINGS, work)


def test_a_draw_that_was_chosen_of_several_spends_its_part_of_every_look(tmp_path: Path) -> None:
    plain, chosen = budget_of(tmp_path), budget_of(tmp_path, drawn="yes", draws_tried="3")
    assert (plain.foreseen().look_index, chosen.foreseen().look_index) == (1, 2)
    assert chosen.foreseen().level <= plain.foreseen().level / 3
    assert [chosen.look().look_index for _ in range(4)] == [2, 4, 6, 7], "every look at it, foreseen or not"


def test_a_draw_that_was_chosen_of_several_leaves_no_only_look(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, drawn="yes", draws_tried="3")
    budget._only = True
    with pytest.raises(DataError, match=r"this is look 2 \(they are one of 3 samples that were tried\)"):
        budget.foreseen()


def test_an_only_look_that_is_noted_between_a_look_and_its_note_is_still_the_only_one(tmp_path: Path) -> None:
    """Both find no earlier look; whichever is noted last must not spend of a δ that is spent."""
    late, only = budget_of(tmp_path), budget_of(tmp_path)
    only._only, only._noted = True, {**only._noted, "only_look": "true"}
    foreseen, settled = late.foreseen, list[Settings]()

    def meanwhile() -> Settings:
        found = foreseen()
        if not settled:
            settled.append(only.look())
        return found

    late.foreseen = meanwhile  # type: ignore[method-assign]
    with pytest.raises(DataError, match="spent the whole δ"):
        late.look()
    assert [one.level for one in settled] == [SETTINGS.delta]


@pytest.mark.parametrize("draws", range(1, 8))
def test_all_looks_at_all_draws_that_were_tried_spend_delta_together(tmp_path: Path, draws: int) -> None:
    budget = budget_of(tmp_path, draws_tried=str(draws))
    spent = sum(spent_delta(0.1, budget._counts_as(look)) for look in range(1, 20_000))
    assert draws * spent <= 0.1
