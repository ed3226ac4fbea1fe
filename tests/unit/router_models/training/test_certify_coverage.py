"""A certificate is proved on the rows that it covers, and says which; no label decides what is covered."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.errors import DataError, NotCertifiedError
from router_models.planning.simulation.itineraries import version_itineraries
from router_models.pricing.prices import Price
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import Certified, certify_candidate
from router_models.training.certify_overload import with_overload
from router_models.training.certify_prefix import with_prefix
from router_models.training.evidence import replay_version
from router_models.training.fit import fit_candidate
from router_models.training.labelling.plan import new_task, task_of
from router_models.training.prefix import routed_to
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Outcome, Query
from router_models.types.conditions import PLAIN, Conditions
from router_models.types.exchange import Usage, logprob_summary
from router_models.versions.covering.covered_conditions import LEAST_ROWS
from router_models.versions.covering.covered_rows import uncovered_rows

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "top": Price(Decimal("0.5"), Decimal(1))}
PAIR = Settings(("cheap", "top"), PRICES, epsilon=0.2, delta=0.2, router="surface", verifier="logprob")
WARM, HOT = (Conditions(decoding=f'{{"temperature":{t}}}') for t in (0.7, 1.9))
TOLD = Conditions(system_prompt="ab" * 32)


def world(n: int) -> OutcomeTable:
    """Questions under two decodings and two system prompts; a few were asked at temperature 1.9."""
    rng, outcomes = random.Random(1), []
    for i in range(n):
        asked = rng.choices((PLAIN, WARM, TOLD, HOT), (62, 18, 18, 2))[0]
        easy = rng.random() < 0.6
        text = f"What is {i} + {rng.randint(10, 99)}?" if easy else f"Why does {i} matter? " + "Explain it. " * 4
        for tier, chance in (("cheap", 0.95 if easy else 0.3), ("top", 0.97)):
            right = rng.random() < chance
            tokens = [-0.05 - rng.random() * (0.5 if right else 1.2)] * 6
            outcomes.append(
                Outcome(
                    prompt_id(text), text, tier, "So it is.", float(right), Usage(20, 6), 0.1, "stop",
                    logprob_summary(tokens), asked.columns(), (" so",) * 6, tuple(tokens),
                )
            )  # fmt: skip
    return table_of(parse_columns(outcomes_to_frame(outcomes)))


class Given(Encoder):
    """No encoder: nothing reads vectors."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def parts() -> LabelledSplits:
    return split_outcomes(world(1000), PAIR.tiers, 0)


@pytest.fixture(scope="module")
def candidate(parts: LabelledSplits) -> Candidate:
    return fit_candidate(parts, PAIR, Given())


@pytest.fixture(scope="module")
def made(candidate: Candidate, parts: LabelledSplits) -> Certified:
    return certify_candidate(candidate, parts, PAIR, NOW)


def test_rare_conditions_and_novel_prompts_are_neither_covered_nor_counted(
    made: Certified, parts: LabelledSplits
) -> None:
    certificate = made.version.certificate
    assert certificate is not None
    coverage, asked = certificate.coverage, conditions_of_table(parts.cert)
    assert 0 < asked.count(HOT) < LEAST_ROWS
    assert coverage.decodings == ("", WARM.decoding)
    assert coverage.system_prompts == ("", TOLD.system_prompt)
    far = made.version.distance(parts.cert.prompts)
    assert far is not None
    assert coverage.novelty is not None
    texts, read = parts.cert.prompts.texts, coverage.text
    models, down = made.version.text_models, made.version.sent_down(parts.cert.prompts)
    strange = models.unfamiliar(texts, read.part_chars)
    assert strange is not None
    windows = models.below_of_windows(parts.cert.prompts, texts, read.part_chars)
    pieces = models.below_of_pieces(parts.cert.prompts, texts, read.part_chars)
    assert read.sent_down
    assert read.attacked is not None
    assert down.any()
    below = np.where(down[:, None], np.column_stack([windows, pieces]), 0.0)
    usual = [
        read.uncovered(drop, *spelled, cut, shortfall=short, cut_shortfall=cut_short) is None
        for spelled, (drop, short, cut, cut_short) in zip(strange, below, strict=True)
    ]
    expected = [one != HOT and at <= coverage.novelty and ok for one, at, ok in zip(asked, far, usual, strict=True)]
    assert made.evidence.covered is not None
    assert made.evidence.covered.tolist() == expected
    assert coverage.n == sum(expected) == len(made.evidence.counted())
    assert certificate.n <= coverage.n
    assert dict(coverage.left_out)["decoding"] == asked.count(HOT)
    certificate.check(made.version.binds(PRICES), NOW)


def test_a_certificate_says_since_when_the_answers_were_made_that_count(
    candidate: Candidate, parts: LabelledSplits, made: Certified
) -> None:
    """Of rows that are not counted, one under a decoding that is not covered, no time counts either."""
    certificate = made.version.certificate
    assert certificate is not None
    assert certificate.collected == {}, "the table does not say"
    hot = np.array([one == HOT for one in conditions_of_table(parts.cert)])
    times = np.where(hot, "", "2026-01-03T00:00:00+00:00").tolist()
    second = [*times]
    second[int(np.flatnonzero(made.evidence.rows_counted)[0])] = ""
    told = replace(parts, cert=replace(parts.cert, collected_at={"cheap": tuple(times), "top": tuple(second)}))
    again = certify_candidate(candidate, told, PAIR, NOW).version.certificate
    assert again is not None
    assert again.collected == {"cheap": datetime(2026, 1, 3, tzinfo=UTC)}, "of `top` one does not say"


def test_a_request_is_compared_as_its_row_was(made: Certified, parts: LabelledSplits) -> None:
    """Text by text: what offline is left out, online is not promised, for the same reason."""
    certificate, rows = made.version.certificate, parts.cert
    assert certificate is not None
    offline = uncovered_rows(
        replace(certificate.coverage, decodings=("", WARM.decoding, HOT.decoding)), made.version, rows
    )
    online = [made.version.decide(Query.from_prompt(text)).uncovered for text in rows.prompts.texts]
    assert [why and why.reason for why in online] == [why and why.reason for why in offline]
    assert "novelty" in {why.reason for why in offline if why is not None}


def test_about_a_twentieth_of_the_prompts_is_novel(made: Certified, parts: LabelledSplits) -> None:
    certificate = made.version.certificate
    assert certificate is not None
    assert 0 < dict(certificate.coverage.left_out)["novelty"] < 0.12 * len(parts.cert)


def test_the_labels_of_rows_that_are_left_out_change_no_certificate(
    candidate: Candidate, made: Certified, parts: LabelledSplits
) -> None:
    assert made.evidence.covered is not None
    flipped = {t: np.where(made.evidence.covered, g, 1 - g) for t, g in parts.cert.grades.items()}
    other = replace(parts, cert=replace(parts.cert, grades=flipped))
    assert certify_candidate(candidate, other, PAIR, NOW).version.certificate == made.version.certificate


def test_what_is_not_covered_is_replayed_as_the_last_tier_answers_it(made: Certified) -> None:
    replayed, covered = replay_version(made.version, made.evidence), made.evidence.covered
    assert covered is not None
    assert replayed.accepted[covered].any()
    assert set(replayed.answered_by[~covered].tolist()) == {1}
    assert replayed.cost_usd[~covered].tolist() == made.evidence.cost_usd[~covered, 1].tolist()
    everywhere = replay_version(made.version, replace(made.evidence, covered=None))
    assert everywhere.cost_usd.sum() < replayed.cost_usd.sum(), "rows that are not covered would have been accepted"


def test_a_simulation_sends_what_is_not_covered_to_the_last_tier(made: Certified, parts: LabelledSplits) -> None:
    ways, replayed = version_itineraries(made.version, parts.cert), replay_version(made.version, made.evidence)
    assert [way.answered_by for way in ways] == [None if i < 0 else PAIR.tiers[i] for i in replayed.answered_by]


def test_the_promises_beside_it_are_proved_on_the_same_rows_and_carry_the_coverage(
    candidate: Candidate, parts: LabelledSplits
) -> None:
    """Certified strictly: of what a version rejects that accepts all it may, hardly an answer is right."""
    strict = certify_candidate(candidate, parts, replace(PAIR, epsilon=0.17), NOW)
    loose = replace(PAIR, epsilon=0.3)
    both = with_overload(with_prefix(strict, parts, loose, [3], NOW), parts, loose, 0.95, 0.2, NOW).version
    assert both.certificate is not None
    for beside in (both.prefix_certificates["cheap"], both.overload_certificates["cheap"]):
        assert beside.coverage == both.certificate.coverage
        beside.check(both.binds(PRICES), NOW)
    assert strict.evidence.covered is not None
    assert strict.evidence.covered[routed_to(strict.version, "cheap", parts.cert)].all()


def test_prompts_that_no_cheaper_tier_has_room_for_are_no_evidence(
    candidate: Candidate, parts: LabelledSplits, made: Certified
) -> None:
    assert made.version.longest_prompt is None
    most = 40  # bytes: questions with an explanation are longer
    short = certify_candidate(candidate, parts, replace(PAIR, longest_prompt=most), NOW)
    assert short.version.longest_prompt is not None
    assert short.version.longest_prompt <= most
    sizes = np.array([len(text) for text in parts.cert.prompts.texts])
    assert short.evidence.covered is not None
    assert not short.evidence.covered[sizes > most].any()
    assert short.evidence.covered[sizes <= most].any()


def test_conditions_that_nobody_shares_certify_nothing(candidate: Candidate, parts: LabelledSplits) -> None:
    alone = tuple(f'{{"temperature":1.{i:04d}1}}' for i in range(len(parts.cert)))
    prompts = replace(parts.cert.prompts, metadata={**parts.cert.prompts.metadata, "decoding": alone})
    with pytest.raises(NotCertifiedError, match=f"no {LEAST_ROWS} of the {len(alone)} prompts that certify"):
        certify_candidate(candidate, replace(parts, cert=replace(parts.cert, prompts=prompts)), PAIR, NOW)


def test_reports_cut_prompts_by_what_they_were_asked_under(made: Certified, parts: LabelledSplits) -> None:
    assert set(made.slices["decoding"]) == {"the tiers' own", WARM.decoding, HOT.decoding}
    assert set(made.slices["system_prompt"]) == {"none", TOLD.system_prompt[:12]}
    assert len(made.slices["decoding"]) == len(parts.cert)
    assert "turns" not in made.slices


def test_labels_are_asked_only_of_prompts_that_count(candidate: Candidate, parts: LabelledSplits) -> None:
    most = 40
    short = replace(PAIR, longest_prompt=most)
    asked, every = (new_task(candidate, parts, settings, NOW, "human") for settings in (short, PAIR))
    assert max(len(row.prompt.encode()) for row in every.questions) > most
    assert max(len(row.prompt.encode()) for row in asked.questions) <= most
    assert task_of(asked.plan, candidate, parts, most).questions == asked.questions
    with pytest.raises(DataError, match="not those that the labels were given for"):
        task_of(asked.plan, candidate, parts)
