"""Ladders from outcomes to a certified policy and its page: what is promised, proved together, and refused."""

import json
import math
import random
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.errors import DataError, NotCertifiedError
from router_models.pricing.prices import Price
from router_models.reports.report import write_report
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ACCEPTED_RISK, ANSWERED_RISK
from router_models.risk_control.evidence import Thresholds, replay_policy
from router_models.training.candidate import Candidate, Settings, load_candidate, save_candidate
from router_models.training.certify import Certified, certify_candidate
from router_models.training.evidence import replay_version
from router_models.training.fit import fit_candidate
from router_models.training.selection.model_selection import Scored
from router_models.training.splits import split_outcomes
from router_models.types import Completion, OperatingPoint, Outcome, Query, Usage
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.policy import Policy

pytestmark = pytest.mark.usefixtures("pictures_undrawn")
NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("small", "medium", "large")
PRICES = {tier: Price(Decimal(str(p)), Decimal(str(2 * p))) for tier, p in zip(TIERS, (0.01, 0.05, 0.5), strict=True)}
LADDER = Settings(tiers=TIERS, prices=PRICES, epsilon=0.12, abstain_share=0.08, promise="answered")
PAIR = replace(LADDER, tiers=("small", "large"), epsilon=0.1, router="surface", verifier="logprob", promise="accepted")
DROP = "quality drop against always-frontier"


def world(n: int, seed: int = 0) -> OutcomeTable:
    """Colours anyone knows, sums the medium tier can do, riddles only the largest mostly can; confidences tell."""
    rng = random.Random(seed)
    kinds = {
        "colours": ("What colour is the cat number {i}?", (0.97, 0.98, 0.99)),
        "sums": ("Add {i} and {j} and give the sum.", (0.15, 0.95, 0.97)),
        "riddles": ("Riddle {i}: who walks {j} miles and why does it never arrive?", (0.05, 0.3, 0.8)),
    }
    outcomes = []
    for i in range(n):
        kind = rng.choices(list(kinds), (5, 3, 2))[0]
        text, chances = kinds[kind]
        prompt = text.format(i=i, j=rng.randint(100, 999))
        for tier, chance in zip(TIERS, chances, strict=True):
            right = rng.random() < chance
            lp = -0.05 - 0.3 * rng.random() if right else -0.4 - 2.0 * rng.random()
            summary = dict.fromkeys(LOGPROB_NAMES[:-1], lp) | {"log_tokens": math.log1p(6)}
            outcomes.append(
                Outcome(
                    prompt_id(prompt), prompt, tier, "So it is.", float(right), Usage(20, 6), 0.1, "stop", summary,
                    {"domain": kind},
                )
            )  # fmt: skip
    return table_of(parse_columns(outcomes_to_frame(outcomes)))


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return world(1500).with_embeddings(Given())


def made(table: OutcomeTable, settings: Settings) -> tuple[Candidate, Certified]:
    """Fit and certify on the same splits."""
    splits = split_outcomes(table, settings.tiers, settings.seed)
    candidate = fit_candidate(splits, settings, Given())
    return candidate, certify_candidate(candidate, splits, settings, NOW)


class Given(Encoder):
    """No encoder: vectors were given, or are not needed."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


class Unasked(Encoder):
    """An encoder that nobody may ask: vectors come before anything is fitted."""

    def encode(self, texts: object) -> np.ndarray:
        pytest.fail("prompts were embedded")


@pytest.fixture(scope="module")
def ladder(table: OutcomeTable) -> tuple[Candidate, Certified, float]:
    settings = replace(LADDER, router="surface", verifier="logprob")
    splits = split_outcomes(table, TIERS, settings.seed)
    candidate = fit_candidate(splits, settings, Given())
    started = time.process_time()
    certified = certify_candidate(candidate, splits, settings, NOW)
    return candidate, certified, time.process_time() - started


def test_three_tiers_are_fitted_with_a_router_each_below_the_last(ladder: tuple[Candidate, Certified, float]) -> None:
    candidate = ladder[0]
    assert [tier for tier, stage in candidate.version.stages.items() if stage.router is not None] == [
        "small",
        "medium",
    ]
    assert set(candidate.verifiers) == set(TIERS)
    assert all(scored.out_of_domain_auc is not None for scored in candidate.routers["small"])


def test_a_three_tier_certificate_covers_the_whole_system(ladder: tuple[Candidate, Certified, float]) -> None:
    certified = ladder[1]
    certificate = certified.version.certificate
    assert certificate is not None
    assert certificate.what == ANSWERED_RISK
    assert [p.what for p in certificate.also] == [ABSTAIN_RISK]
    thresholds = Thresholds.from_named(certificate.settings, TIERS)
    assert certified.version.policy.points == thresholds.points(TIERS)
    replayed = replay_policy(certified.evidence, thresholds)
    assert len({*replayed.answered_by.tolist()} - {-1}) >= 2, "more than one tier answers"
    assert replayed.cost_usd.mean() < 0.8 * certified.evidence.cost_usd[:, -1].mean()
    certificate.check(certified.version.binds(PRICES), NOW)


def test_certifying_three_tiers_takes_less_than_ten_seconds_of_cpu(
    ladder: tuple[Candidate, Certified, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\ncertifying {len(TIERS)} tiers on 1500 prompts: {ladder[2]:.2f} s of CPU")
    assert ladder[2] < 10


def test_batch_and_served_estimates_of_a_ladder_agree(
    table: OutcomeTable, ladder: tuple[Candidate, Certified, float]
) -> None:
    """What CERT was scored with is what a server computes for the same prompt and answer."""
    version, data = ladder[1].version, ladder[1].evidence
    row = 700  # the numbers in most prompts have three digits
    text = table.prompts.texts[row]
    decision = version.decide(Query.from_prompt(text, domain=table.column("domain")[row]))
    lp = float(table.answers_of(decision.tier).signals["lp_mean"][row])
    verdict = version.judge(Query.from_prompt(text), Completion("So it is.", token_logprobs=(lp,) * 6), decision)
    assert verdict.p_ok is not None
    i = TIERS.index(decision.tier)
    assert np.abs(data.p_ok[:, i] - verdict.p_ok).min() < 0.02


def test_the_ladders_page_shows_path_thresholds_slices_and_unseen_domains(
    ladder: tuple[Candidate, Certified, float], tmp_path: Path
) -> None:
    candidate, certified, _ = ladder
    numbers = write_report(tmp_path, candidate, certified, LADDER)
    text = (tmp_path / "report.md").read_text()
    for words in ("small → medium → large", "**deployed**", "| domain |", "riddles", "AUC, unseen domains", "anchor"):
        assert words in text
    assert "no domains recorded" not in text
    figure = r"\| 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) "
    for estimate in ("router: medium will be right", "verifier: large was right"):
        assert re.search(rf"\| {estimate} {figure}{figure}\| 0\.\d{{3}} {figure}\|", text)
    assert 0.2 < numbers["saving_vs_always_frontier"] < 1
    assert numbers["answered_risk"] <= LADDER.epsilon


def test_the_largest_drop_is_proved_together_with_the_risk(table: OutcomeTable) -> None:
    generous = replace(LADDER, router="surface", verifier="logprob", max_drop=0.1)
    candidate, certified = made(table, generous)
    certificate = certified.version.certificate
    assert certificate is not None
    drop = certificate.also[-1]
    assert (drop.what, drop.certified, drop.bound) == (DROP, True, 0.1)
    assert drop.upper <= 0.1
    with pytest.raises(NotCertifiedError):
        certify_candidate(candidate, split_outcomes(table, TIERS, 0), replace(generous, max_drop=0.001), NOW)


def test_two_tiers_can_promise_either_risk_with_a_largest_drop(table: OutcomeTable, tmp_path: Path) -> None:
    accepted = replace(PAIR, max_drop=0.08)
    candidate, certified = made(table, accepted)
    certificate = certified.version.certificate
    assert certificate is not None
    assert certificate.what == ACCEPTED_RISK
    assert DROP in [p.what for p in certificate.also]
    write_report(tmp_path, candidate, certified, accepted)
    page = (tmp_path / "report.md").read_text()
    assert DROP in page
    assert "| domain |" in page
    whole = replace(PAIR, promise="answered", epsilon=0.15)
    other = made(table, whole)[1].version.certificate
    assert other is not None
    assert other.what == ANSWERED_RISK


def test_certified_slices_have_their_share_of_delta_in_the_page(table: OutcomeTable, tmp_path: Path) -> None:
    sliced = replace(PAIR, slicer="domain")
    candidate, certified = made(table, sliced)
    certificate = certified.version.certificate
    assert certificate is not None
    assert {p.level for p in certificate.slices.values()} == {sliced.delta / len(certificate.slices)}
    write_report(tmp_path, candidate, certified, sliced)
    page = (tmp_path / "report.md").read_text()
    assert "| certified slice |" in page
    assert any(f"| {name} |" in page for name in certificate.slices)


def test_slices_of_three_tiers_are_certified_shown_and_served(
    table: OutcomeTable, ladder: tuple[Candidate, Certified, float], tmp_path: Path
) -> None:
    """The largest tier errs on a fifth of the riddles, more than is allowed: nothing can be promised of them."""
    sliced = replace(LADDER, router="surface", verifier="logprob", slicer="domain")
    candidate = ladder[0]
    certified = certify_candidate(candidate, split_outcomes(table, TIERS, 0), sliced, NOW)
    version, certificate = certified.version, certified.version.certificate
    assert certificate is not None
    assert set(certificate.slices) == {"colours", "sums", "riddles"}
    assert certificate.covers("colours")
    assert not certificate.covers("riddles")
    assert set(certified.refused) == {name for name in certificate.slices if not certificate.covers(name)}
    riddle = Query.from_prompt("What colour is the cat number 777?", domain="riddles")
    assert version.decide(riddle).tier == "large"
    assert version.decide(Query.from_prompt("What colour is the cat number 777?", domain="colours")).tier != "large"
    numbers = write_report(tmp_path, candidate, certified, sliced)
    page = (tmp_path / "report.md").read_text()
    for words in ("in each certified slice", "Not certified:\n\n- riddles: ", "| riddles | – |", "| ended in (p) |"):
        assert words in page
    assert "none: always the last tier" in page
    assert page.count("**deployed**") == 1
    names = np.array(certified.slices["domain"])
    replayed = replay_policy(certified.evidence, Thresholds.from_named(certificate.settings, TIERS))
    cost = np.where(np.isin(names, list(certified.refused)), certified.evidence.cost_usd[:, -1], replayed.cost_usd)
    assert numbers["saving_vs_always_frontier"] == pytest.approx(
        1 - cost.sum() / certified.evidence.cost_usd[:, -1].sum()
    )
    assert version.binds(PRICES) != replace(version, slicer=None).binds(PRICES)


def test_a_largest_drop_is_promised_in_every_certified_slice(
    table: OutcomeTable, ladder: tuple[Candidate, Certified, float], tmp_path: Path
) -> None:
    sliced = replace(LADDER, router="surface", verifier="logprob", slicer="domain", max_drop=0.15)
    certified = certify_candidate(ladder[0], split_outcomes(table, TIERS, 0), sliced, NOW)
    certificate = certified.version.certificate
    assert certificate is not None
    assert [p.what for p in certificate.slices["colours"].also] == [ABSTAIN_RISK, DROP]
    write_report(tmp_path, ladder[0], certified, sliced)
    page = (tmp_path / "report.md").read_text()
    assert f"| {ABSTAIN_RISK} | {DROP} | level δ/G |" in page
    assert "≤ 0.12 and ≤ 0.08 and ≤ 0.15" in page


def test_two_tiers_can_promise_the_whole_risk_slice_by_slice(table: OutcomeTable) -> None:
    sliced = replace(PAIR, promise="answered", epsilon=0.15, slicer="domain")
    certified = made(table, sliced)[1]
    certificate = certified.version.certificate
    assert certificate is not None
    assert certificate.what == ANSWERED_RISK
    assert certificate.covers("colours")


def test_silence_counts_as_not_right_in_the_page_of_two_tiers(table: OutcomeTable, tmp_path: Path) -> None:
    candidate, certified = made(table, PAIR)
    seen, policy = certified.evidence, certified.version.policy
    below = float(np.median(seen.p_ok[:, 1]))
    silent = Policy(policy.tiers, {**policy.points, "large": OperatingPoint(math.inf, -math.inf, below)})
    quiet = replace(certified, version=replace(certified.version, policy=silent))
    accuracy = {}
    for name, one in (("loud", certified), ("quiet", quiet)):
        accuracy[name] = write_report(tmp_path / name, candidate, one, PAIR)["accuracy"]
    lost = (seen.p_ok[:, 1] < below) & ~replay_version(certified.version, seen).accepted & seen.covered
    assert lost.any()
    assert accuracy["quiet"] == pytest.approx(accuracy["loud"] - float((lost * seen.grades[:, 1]).mean()))


def test_a_candidate_is_stored_with_its_promise_and_every_tiers_choice(
    ladder: tuple[Candidate, Certified, float], tmp_path: Path
) -> None:
    save_candidate(ladder[0], LADDER, tmp_path / "c")
    loaded, settings = load_candidate(tmp_path / "c", replace(LADDER, seed=9), Given())
    assert (settings.seed, settings.promise) == (0, "answered")
    assert loaded.routers.keys() == ladder[0].routers.keys()
    assert loaded.routers["small"][0].out_of_domain_auc == ladder[0].routers["small"][0].out_of_domain_auc


def test_bounds_that_are_not_known_are_stored_as_json_that_every_parser_reads(
    ladder: tuple[Candidate, Certified, float], tmp_path: Path
) -> None:
    """Resamples without a single wrong answer leave a bound open: -inf, for which JSON has no number."""
    open_ = Scored("surface", np.empty(0), 0.7, 0.1, -math.inf, math.inf)
    candidate = replace(ladder[0], routers={"small": (open_,)})
    save_candidate(candidate, LADDER, tmp_path / "c")

    def no(literal: str) -> float:
        raise AssertionError(f"{literal} is not JSON")

    json.loads((tmp_path / "c" / "candidate.json").read_text(), parse_constant=no)
    loaded = load_candidate(tmp_path / "c", LADDER, Given())[0].routers["small"][0]
    assert (loaded.low, loaded.high, loaded.out_of_domain_auc) == (-math.inf, math.inf, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"promise": "accepted"}, "3 tiers are certified together"),
        (
            {"tiers": ("small", "large"), "slicer": "domain", "max_drop": 0.1, "promise": "accepted"},
            "`harm` or `answered`",
        ),
        ({"tiers": ("small",)}, "two tiers or more"),
        ({"prices": dict.fromkeys(TIERS, Price(Decimal(0), Decimal(0)))}, "costs nothing"),
        ({"prices": PRICES | {"medium": Price(Decimal(9), Decimal(9))}}, "dearer and no better"),
        ({"tiers": ("large", "small")}, "Name the tiers the other way round"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_is_fitted(change: dict[str, object], message: str) -> None:
    settings = replace(LADDER, **change)  # type: ignore[arg-type]
    splits = split_outcomes(world(300), settings.tiers, 0)
    with pytest.raises(DataError, match=message):
        fit_candidate(splits, settings, Unasked())


def test_a_top_tier_that_is_dearer_and_worse_is_refused(table: OutcomeTable) -> None:
    """Sold at the large tier's price, the small one's answers are no frontier."""
    swapped = replace(table.only("medium", "small"), prompts=table.prompts)
    prices = {"medium": PRICES["medium"], "small": PRICES["large"]}
    settings = replace(LADDER, tiers=("medium", "small"), prices=prices)
    splits = split_outcomes(swapped, settings.tiers, 0)
    with pytest.raises(DataError, match=r"'small' is dearer than 'medium' .* worse .*: serve 'medium' alone"):
        fit_candidate(splits, settings, Given())


def test_too_few_prompts_are_counted(table: OutcomeTable) -> None:
    with pytest.raises(DataError, match=r"40 prompts .* at least 60"):
        fit_candidate(split_outcomes(table.take(range(40)), TIERS, 0), LADDER, Given())


def test_a_candidate_is_not_certified_for_other_tiers(
    table: OutcomeTable, ladder: tuple[Candidate, Certified, float]
) -> None:
    with pytest.raises(DataError, match="fitted for the tiers"):
        certify_candidate(ladder[0], split_outcomes(table, PAIR.tiers, 0), PAIR, NOW)


def test_a_policy_of_three_tiers_survives_its_folder(
    ladder: tuple[Candidate, Certified, float], tmp_path: Path
) -> None:
    version = ladder[1].version
    version.save(tmp_path / "v")
    loaded = type(version).load(tmp_path / "v")
    assert isinstance(loaded.policy, Policy)
    assert loaded.policy == version.policy
    assert loaded.certificate == version.certificate
    assert loaded.binds(PRICES) == version.binds(PRICES)
