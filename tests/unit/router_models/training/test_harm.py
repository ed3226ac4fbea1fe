"""Harm from outcomes to a version: what nobody graded, prefixes, answers on overload, what goes with what."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.risk_control.certificates.risks import HARM, HARM_RISK
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified, certify_candidate, check_candidate
from router_models.training.certify_overload import OVERLOAD_HARM, check_overload, with_overload
from router_models.training.certify_prefix import SHORT_WRONG, check_prefix, with_prefix
from router_models.training.evidence import replay_version
from router_models.training.fit import fit_candidate
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.training.together import statements
from router_models.types import Outcome, Usage
from router_models.types.exchange import logprob_summary

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "top": Price(Decimal("0.5"), Decimal(1))}
SETTINGS = Settings(("cheap", "top"), PRICES, epsilon=0.15, router="surface", verifier="logprob", promise="harm")
LADDER = replace(SETTINGS, tiers=("cheap", "middle", "top"), prices=PRICES | {"middle": PRICES["cheap"]})


class Given(Encoder):
    """No encoder: the families here need none."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


def world(n: int) -> OutcomeTable:
    """Answers of 2 to 20 tokens; the certain ones are mostly right; one in nine last answers is not graded."""
    rng, outcomes = random.Random(0), []
    for i in range(n):
        prompt = f"What colour is the cat number {i} of {rng.randint(1, 999)}?"
        right, count = rng.random() < 0.7, rng.randint(2, 20)
        lps = tuple(-0.02 - (0.3 if right == (rng.random() < 0.9) else 1.5) * rng.random() for _ in range(count))
        words = tuple(f" w{j}" for j in range(count - 1))
        last = float("nan") if i % 9 == 0 else float(rng.random() < 0.8)
        for tier, grade, kept in (("cheap", float(right), True), ("top", last, False)):
            outcomes.append(
                Outcome(
                    prompt_id(prompt), prompt, tier, "".join(words), grade, Usage(20, count), 0.1, "stop",
                    logprob_summary(lps), {}, (*words, "<end>") if kept else (), lps if kept else (),
                )
            )  # fmt: skip
    return table_of(parse_columns(outcomes_to_frame(outcomes)))


@pytest.fixture(scope="module")
def splits() -> LabelledSplits:
    return split_outcomes(world(1400), SETTINGS.tiers, SETTINGS.seed, last_ungraded=True)


@pytest.fixture(scope="module")
def candidate(splits: LabelledSplits) -> Candidate:
    return fit_candidate(splits, SETTINGS, Given())


@pytest.fixture(scope="module")
def certified(candidate: Candidate, splits: LabelledSplits) -> Certified:
    return certify_candidate(candidate, splits, SETTINGS, NOW)


def test_last_answers_that_nobody_graded_certify_as_right_and_are_not_learned_from(
    splits: LabelledSplits, certified: Certified
) -> None:
    missing = {name: int(np.isnan(getattr(splits, name).grade("top")).sum()) for name in ("train", "tune", "cert")}
    assert (missing["train"], missing["tune"]) == (0, 0)
    seen, made = certified.evidence, certified.version.certificate
    assert made is not None
    assert seen.ungraded is not None
    assert (len(seen), int(seen.ungraded.sum())) == (len(splits.cert), missing["cert"])
    replayed = replay_version(certified.version, seen)
    assert (made.what, made.errors) == (HARM_RISK, int(seen.harm[replayed.accepted, 0].sum()))


def test_other_promises_are_made_of_the_same_parts_without_them(splits: LabelledSplits) -> None:
    graded = split_outcomes(world(1400), SETTINGS.tiers, SETTINGS.seed)
    assert set(graded.cert.prompt_ids) < set(splits.cert.prompt_ids)
    assert graded.train.prompt_ids == splits.train.prompt_ids
    assert np.isfinite(graded.cert.grade("top")).all()


def test_beginnings_promise_harm_as_well(splits: LabelledSplits, certified: Certified) -> None:
    made = with_prefix(certified, splits, SETTINGS, [6], NOW).version.prefix_certificates["cheap"]
    assert made.what == f"P({HARM} | cheap accepted by its first 6 tokens)"
    seen, point = certified.evidence, certified.version.policy.points["cheap"]
    short = np.array([len(texts) <= 6 for texts in splits.cert.tokens["cheap"].texts])
    kept = short & (seen.p_route[:, 0] >= point.route_at) & (seen.p_ok[:, 0] >= point.accept_at)
    assert made.settings[SHORT_WRONG] == seen.harm[kept, 0].sum()


def test_what_is_served_on_overload_promises_harm_as_well(splits: LabelledSplits, certified: Certified) -> None:
    made = with_overload(certified, splits, SETTINGS, 0.95, 0.05, NOW).version.overload_certificates["cheap"]
    assert (made.what, made.harm) == (OVERLOAD_HARM, True)


def test_what_has_no_meaning_beside_harm_is_refused_in_a_sentence(candidate: Candidate) -> None:
    with pytest.raises(
        DataError, match="overload fallback is certified beside the promise `harm` or `accepted` of two"
    ):
        check_overload(LADDER, 0.3)
    with pytest.raises(DataError, match="prefix verdict is certified for the promise `harm` or `accepted` of two"):
        check_prefix(world(10), LADDER, [6])
    bare = replace(candidate, version=replace(candidate.version, policy=replace(candidate.version.policy, points={})))
    with pytest.raises(DataError, match="train again for `harm`"):
        check_candidate(bare, SETTINGS)


def test_tiers_that_different_graders_graded_are_refused_by_name(splits: LabelledSplits, candidate: Candidate) -> None:
    """An ungraded last answer has no grader: whoever graded the others may have graded the cheap one."""
    n = len(splits.cert)
    missing = np.isnan(splits.cert.grade("top"))
    alike = replace(
        splits.cert,
        label_sources={"cheap": ("human",) * n, "top": tuple("programmatic" if m else "human" for m in missing)},
    )
    certify_candidate(candidate, replace(splits, cert=alike), SETTINGS, NOW)
    apart = replace(alike, label_sources={"cheap": ("human",) * n, "top": ("programmatic",) * n})
    with pytest.raises(DataError, match=r"\d+ prompts .* \(for example human and programmatic\)"):
        certify_candidate(candidate, replace(splits, cert=apart), SETTINGS, NOW)
    unnamed = replace(alike, label_sources={"cheap": ("human",) * n, "top": ("",) * n})
    with pytest.raises(DataError, match="for example human and nobody who is named"):
        certify_candidate(candidate, replace(splits, cert=unnamed), SETTINGS, NOW)


@pytest.mark.parametrize(("settings", "joint", "tests", "share"), [
    (SETTINGS, False, 2, 0.05),
    (replace(SETTINGS, max_drop=0.05), False, 2, 0.05),
    (replace(SETTINGS, slicer="language"), False, 2, 0.05),
    (replace(SETTINGS, slicer="language", max_drop=0.05), True, 1, 0.05),
    (LADDER, True, 1, 0.0),
    (replace(LADDER, promise="answered"), True, 1, 0.05),
])  # fmt: skip
def test_which_thresholds_are_tested_together(settings: Settings, joint: bool, tests: int, share: float) -> None:
    assert (settings.joint, statements(settings)) == (joint, tests)
    assert (settings.guarantee.joint, settings.guarantee.abstain_share) == (joint, share)
