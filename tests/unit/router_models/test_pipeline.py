"""From outcomes to a registered version on a small synthetic world, and what happens when nothing can be promised."""

import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import prompt_id, table_of, write_outcomes
from router_models.errors import ArtifactError, CertificateError, DataError, NotCertifiedError
from router_models.pipeline import certify_next, run_pipeline
from router_models.pricing.prices import Price
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import HARM_RISK
from router_models.training.candidate import Candidate, Settings
from router_models.training.fit import fit_candidate
from router_models.training.splits import split_outcomes
from router_models.types import Action, Completion, Decision, Outcome, Query, Usage
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.policy import Policy
from router_models.versions.registry import RegisteredVersion, find_version
from router_models.versions.review import review_state
from router_models.versions.router_version import RouterVersion
from router_models.versions.workspace import Workspace

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "frontier": Price(Decimal("0.11"), Decimal("0.22"))}
SETTINGS = Settings(
    tiers=("cheap", "frontier"), prices=PRICES, epsilon=0.1, delta=0.1, binds={"cheap.engine": "a" * 64}
)
ANIMALS = ("cat", "dog", "horse", "cow", "fox", "owl", "bee", "ant", "bear", "wolf")


def world(n: int, p_easy: float, seed: int = 0) -> list[Outcome]:
    """Colour questions that the cheap tier can do with probability `p_easy`, and sums that it cannot."""
    rng = random.Random(seed)
    outcomes = []
    for i in range(n):
        easy = rng.random() < 0.5
        animal = rng.choice(ANIMALS)
        prompt = (
            f"What colour is the {animal} number {i}?" if easy else f"Add {i} and {rng.randint(100, 999)} to {animal}."
        )
        right = rng.random() < (p_easy if easy else 0.05)
        lp = -0.05 - 0.2 * rng.random() if right else -0.6 - 2.0 * rng.random()
        summary = dict.fromkeys(LOGPROB_NAMES[:-1], lp) | {"log_tokens": math.log1p(6)}
        for tier, grade, logprobs in (
            ("cheap", float(right), summary),
            ("frontier", float(rng.random() < 0.93), summary | {"lp_mean": -0.1}),
        ):
            outcomes.append(
                Outcome(prompt_id(prompt), prompt, tier, "It is brown.", grade, Usage(20, 6), 0.1, "stop", logprobs)
            )
    return outcomes


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]
) -> tuple[RegisteredVersion, Path]:
    folder = tmp_path_factory.mktemp("pipeline")
    write_outcomes(folder / "outcomes.parquet", world(900, p_easy=0.97))
    uri = new_registry(folder / "mlflow.db")
    version = run_pipeline(
        folder / "outcomes.parquet", SETTINGS, folder / "state", uri, "router", NOW, alias="stable",
        approved_by="first start",
    )  # fmt: skip
    return version, folder


@pytest.fixture(scope="module")
def loaded(made: tuple[RegisteredVersion, Path]) -> RouterVersion:
    return RouterVersion.load(made[0].folder(made[1] / "cache"), made[0].name)


def test_a_version_is_registered_with_its_alias_numbers_and_report(made: tuple[RegisteredVersion, Path]) -> None:
    version, folder = made
    found = find_version(version.uri, "router", "stable")
    assert found is not None
    assert found.name == "router/1"
    promise = found.tags["certificate"]
    assert promise.startswith(f"{HARM_RISK} <= 0.10 and P(abstain) <= 0.05 with 90 % confidence each")
    files = {path.name: path.stat().st_size for path in version.folder(folder / "cache").iterdir()}
    assert {
        "report.md",
        "reliability.png",
        "acceptance.png",
        "deferral.json",
        "deferral.png",
        "certificate.json",
        "manifest.json",
    } <= files.keys()
    assert all(size > 5000 for name, size in files.items() if name.endswith(".png")), "pictures are drawn"


def test_who_approved_it_from_the_start_is_said(made: tuple[RegisteredVersion, Path]) -> None:
    assert review_state(made[0]).text().startswith(f"approved by: first start, {NOW:%Y-%m-%d}")


def test_no_artifact_is_a_pickle(made: tuple[RegisteredVersion, Path]) -> None:
    suffixes = {path.suffix for path in made[0].folder(made[1] / "cache").iterdir()}
    assert suffixes <= {".npz", ".json", ".md", ".png"}


def test_an_easy_question_is_tried_cheap_and_a_sure_answer_accepted(loaded: RouterVersion) -> None:
    easy = Query.from_prompt("What colour is the owl number 345?")
    decision = loaded.decide(easy)
    assert decision.tier == "cheap"
    sure = Completion("It is brown.", token_logprobs=(-0.08,) * 6)
    assert loaded.judge(easy, sure, decision).action is Action.ACCEPTED


def test_an_unsure_answer_is_escalated(loaded: RouterVersion) -> None:
    easy = Query.from_prompt("What colour is the owl number 345?")
    unsure = Completion("It is brown.", token_logprobs=(-2.5,) * 6)
    verdict = loaded.judge(easy, unsure, Decision("cheap", "test", loaded.decide(easy).p_cheap_ok))
    assert verdict.action is Action.ESCALATED


def test_the_certificate_is_void_once_a_price_or_an_engine_changes(loaded: RouterVersion) -> None:
    certificate = loaded.certificate
    assert isinstance(certificate, Certificate)
    good = {**SETTINGS.binds, **loaded.binds(PRICES)}
    certificate.check(good, NOW)
    dearer = PRICES | {"cheap": Price(Decimal("0.02"), Decimal("0.02"))}
    with pytest.raises(CertificateError, match="prices changed"):
        certificate.check({**good, **loaded.binds(dearer)}, NOW)
    with pytest.raises(CertificateError, match=r"cheap\.engine changed"):
        certificate.check({**good, "cheap.engine": "b" * 64}, NOW)
    with pytest.raises(CertificateError, match="expired"):
        certificate.check(good, NOW + timedelta(days=91))


def test_a_tampered_version_is_refused_by_name(made: tuple[RegisteredVersion, Path], tmp_path: Path) -> None:
    folder = made[0].folder(tmp_path)
    policy = folder / "policy.json"
    policy.write_text(policy.read_text().replace("cheap", "cheep", 1))
    with pytest.raises(ArtifactError, match=r"policy\.json: altered"):
        RouterVersion.load(folder)


def test_nothing_certified_says_why_and_what_is_missing(tmp_path: Path, new_registry: Callable[[Path], str]) -> None:
    new_registry(tmp_path / "m.db")
    write_outcomes(tmp_path / "o.parquet", world(300, p_easy=0.55))
    strict = replace(SETTINGS, epsilon=0.01, promise="accepted", router="surface", verifier="logprob")
    with pytest.raises(NotCertifiedError) as refused:
        run_pipeline(tmp_path / "o.parquet", strict, tmp_path, f"sqlite:///{tmp_path / 'm.db'}", "router", NOW)
    assert "0.01" in refused.value.reason
    assert refused.value.labels_missing is not None
    said = re.search(
        r"about ([\d,]+) more prompts: 40% of them certify, and (\d+)% of those are routed to cheap, and (\d+)%",
        refused.value.reason,
    )
    assert said is not None
    prompts, routed, covered = int(said[1].replace(",", "")), int(said[2]) / 100, int(said[3]) / 100
    assert prompts * 0.4 * routed * covered == pytest.approx(refused.value.labels_missing, rel=0.03)
    assert find_version(f"sqlite:///{tmp_path / 'm.db'}", "router", "stable") is None


def test_every_look_at_the_same_labels_spends_its_part_of_delta(
    tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    """Other seeds, budgets and names are looks as well; a refusal on TUNE alone reads no label and spends nothing."""
    table = table_of(parse_columns(outcomes_to_frame(world(520, p_easy=0.995))))
    encoder, uri, said = Encoder(), new_registry(tmp_path / "m.db"), list[str]()
    known = replace(SETTINGS, router="surface", verifier="logprob")
    fitted: list[Candidate] = []

    def look(name: str, prompts: int = 500, **changes: float) -> Certificate | None:
        settings, work = replace(known, **changes), Workspace(tmp_path, uri, name, said.append)
        splits = split_outcomes(table.take(range(prompts)), settings.tiers, settings.seed)
        splits = splits.with_embeddings(encoder, work.embeddings)
        if not fitted:  # one candidate for all: what it learned from does not change how looks are counted
            fitted.append(fit_candidate(splits, settings, encoder))
        return certify_next(fitted[0], splits, settings, NOW, work)[0].version.certificate

    first = look("router")
    with pytest.raises(NotCertifiedError):
        look("router", epsilon=0.0001)
    second, third = look("router", delta=0.2), look("another", seed=1)
    assert second is not None
    assert first is not None
    assert third is not None
    assert (first.look_index, third.look_index) == (1, 3)
    assert first.level == pytest.approx(0.6079 * 0.1, rel=1e-3)
    assert third.level == pytest.approx(first.level / 9)
    assert all(promise.level == third.level for promise in third.also)
    assert "look 3 at these labels" in third.summary()
    looks = [line for line in said if line.startswith("look ")]
    assert [line.split(" at ")[0] for line in looks] == ["look 1", "look 2", "look 3"]
    assert "0.0827 spent of 0.1" in looks[2]
    grown = look("router", prompts=520)
    assert grown is not None
    assert grown.look_index == 4  # the labels that were read before are among those of the larger table


def test_what_is_refused_unseen_is_no_look(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    table = table_of(parse_columns(outcomes_to_frame(world(100, p_easy=0.9))))
    version = RouterVersion(Policy(("small", "large"), {}), {})
    work, splits = Workspace(tmp_path, uri, "router"), split_outcomes(table, SETTINGS.tiers, 0)
    with pytest.raises(DataError, match="fitted for the tiers"):
        certify_next(Candidate(version, "", {}, {}), splits, SETTINGS, NOW, work)
    assert not (tmp_path / "m.db").exists()


@pytest.mark.parametrize(
    "budget",
    [{"epsilon": 0.0}, {"delta": 1.0}, {"max_drop": 2.0}, {"abstain_share": math.nan}, {"slicer": "mood"}],
    ids=str,
)
def test_a_budget_that_is_none_is_refused_before_anything_is_read(budget: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(budget)) if "slicer" not in budget else "slicing"):
        replace(SETTINGS, **budget)


def test_one_class_only_is_a_clear_error(tmp_path: Path) -> None:
    always = [replace(o, grade=1.0) for o in world(120, p_easy=1.0)]
    write_outcomes(tmp_path / "o.parquet", always)
    with pytest.raises(DataError, match="every grade of tier 'cheap' is 1"):
        run_pipeline(tmp_path / "o.parquet", SETTINGS, tmp_path, f"sqlite:///{tmp_path / 'm.db'}", "router", NOW)


def test_versions_that_are_made_of_the_same_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    work, names = Workspace(tmp_path, f"sqlite:///{tmp_path / 'm.db'}", "router"), []
    for made_at in (NOW, NOW, None, NOW, None):
        folder = work.version_folder("abc", made_at)
        folder.mkdir(parents=True)
        names.append(folder.name)
    at = f"version-abc-{NOW:%Y%m%d%H%M%S}"
    assert names == [at, f"{at}-2", "version-abc-uncertified", f"{at}-3", "version-abc-uncertified-2"]
