"""A prefix point: made from outcomes with tokens, at its own threshold, or refused; saved, loaded and bound."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.data.prefixes import prefix_of
from router_models.errors import ArtifactError, CertificateError, DataError, NotCertifiedError
from router_models.pricing.prices import Price
from router_models.reports.prefix import prefix_section
from router_models.training.candidate import Settings
from router_models.training.certify import Certified, certify_candidate
from router_models.training.certify_prefix import check_prefix, with_prefix
from router_models.training.fit import fit_candidate
from router_models.training.prefix import certify_prefix, labelled_prefixes, routed_to
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Action, Decision, Outcome, Query, Usage
from router_models.types.exchange import logprob_summary
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.policy_file import PREFIX_TOKENS

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "top": Price(Decimal("0.5"), Decimal(1))}
SETTINGS = Settings(("cheap", "top"), PRICES, epsilon=0.15, router="surface", verifier="logprob", promise="accepted")


class Given(Encoder):
    """No encoder: the families here need none."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


def world(n: int, seed: int = 0, *, tells: float = 1.0) -> OutcomeTable:
    """Answers of 2 to 20 tokens; from the first token on, the certain ones are mostly right. `tells` 0: nothing is."""
    rng, outcomes = random.Random(seed), []
    for i in range(n):
        prompt = f"What colour is the cat number {i} of {rng.randint(1, 999)}?"
        right = rng.random() < 0.7
        looks_right = right if rng.random() < tells else rng.random() < 0.7
        count = rng.randint(2, 20)
        lps = tuple(-0.02 - (0.2 if looks_right else 1.5) * rng.random() for _ in range(count))
        words = tuple(f" w{j}" for j in range(count - 1))
        for tier, grade, kept in (("cheap", float(right), True), ("top", float(rng.random() < 0.95), False)):
            outcomes.append(
                Outcome(
                    prompt_id(prompt), prompt, tier, "".join(words), grade, Usage(20, count), 0.1, "stop",
                    logprob_summary(lps), {}, (*words, "<end>") if kept else (), lps if kept else (),
                )
            )  # fmt: skip
    return table_of(parse_columns(outcomes_to_frame(outcomes)))


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return world(900)


def parts(table: OutcomeTable) -> LabelledSplits:
    return split_outcomes(table, SETTINGS.tiers, SETTINGS.seed)


def certified(table: OutcomeTable) -> Certified:
    splits = parts(table)
    return certify_candidate(fit_candidate(splits, SETTINGS, Given()), splits, SETTINGS, NOW)


@pytest.fixture(scope="module")
def plain(table: OutcomeTable) -> Certified:
    return certified(table)


@pytest.fixture(scope="module")
def made(table: OutcomeTable, plain: Certified) -> RouterVersion:
    return with_prefix(plain, parts(table), SETTINGS, [6], NOW).version


def begun(logprob: float, tokens: int = 6):  # type: ignore[no-untyped-def]
    return prefix_of([" w"] * (tokens + 1), [logprob] * (tokens + 1), tokens)


def test_a_beginning_is_accepted_at_its_own_certified_threshold(made: RouterVersion) -> None:
    point, proof = made.policy.prefixes["cheap"], made.prefix_certificates["cheap"]
    assert point.tokens == 6
    assert point.accept_at == proof.threshold_for()
    assert proof.what == "P(wrong | cheap accepted by its first 6 tokens)"
    assert proof.errors <= 0.15 * proof.accepted_n
    verdicts = [
        made.judge(Query.from_prompt("Why?"), begun(lp), Decision("cheap", "test", 0.9)) for lp in (-0.1, -1.4)
    ]
    assert [verdict.action for verdict in verdicts] == [Action.ACCEPTED, Action.ESCALATED]
    assert "first 6 tokens" in verdicts[0].reason


def test_only_answers_that_go_on_after_n_tokens_are_evidence(table: OutcomeTable, made: RouterVersion) -> None:
    proof = made.prefix_certificates["cheap"]
    assert proof.n < made.certificate.n  # type: ignore[union-attr]
    scored = labelled_prefixes(made.prefix_stages["cheap"], "cheap", 6, table)
    assert len(scored) == sum(len(texts) > 6 for texts in table.tokens["cheap"].texts)


def test_answers_of_a_declared_shape_are_no_evidence_for_they_are_judged_whole(
    table: OutcomeTable, plain: Certified
) -> None:
    version = replace(plain.version, certificate=None)
    all_rows = len(routed_to(version, "cheap", table))
    shapes = [("tools", "true"), ("response_format", "json_object"), ("response_format", "")]
    for (name, value), left in zip(shapes, (0, 0, all_rows), strict=True):
        asked = {**table.prompts.metadata, name: (value,) * len(table)}
        shaped = replace(table, prompts=replace(table.prompts, metadata=asked))
        assert len(routed_to(version, "cheap", shaped)) == left


def test_the_main_certificate_keeps_its_promise_and_its_delta(plain: Certified, made: RouterVersion) -> None:
    before, after = plain.version.certificate, made.certificate
    assert before is not None
    assert after is not None
    assert replace(after, binds={}) == replace(before, binds={})
    assert made.policy.points == plain.version.policy.points


def test_both_certificates_are_void_once_the_verifier_of_beginnings_is_another(made: RouterVersion) -> None:
    binds = {**SETTINGS.binds, **made.binds(PRICES)}
    for proof in (made.certificate, made.prefix_certificates["cheap"]):
        assert proof is not None
        proof.check(binds, NOW)
        with pytest.raises(CertificateError, match="models changed"):
            proof.check({**SETTINGS.binds, **replace(made, prefix_stages=made.stages).binds(PRICES)}, NOW)


def test_a_saved_prefix_point_is_loaded_with_its_models_and_certificate(made: RouterVersion, tmp_path: Path) -> None:
    made.save(tmp_path / "v")
    loaded = RouterVersion.load(tmp_path / "v")
    assert (loaded.policy, loaded.prefix_certificates) == (made.policy, made.prefix_certificates)
    loaded.prefix_certificates["cheap"].check({**SETTINGS.binds, **loaded.binds(PRICES)}, NOW)
    ask = Query.from_prompt("Why?"), begun(-0.3), Decision("cheap", "test", 0.9)
    assert loaded.judge(*ask) == made.judge(*ask)
    (tmp_path / "v" / "cheap.prefix.verifier.npz").unlink()
    with pytest.raises(ArtifactError):
        RouterVersion.load(tmp_path / "v")


def test_without_a_prefix_point_a_beginning_is_never_accepted(plain: Certified) -> None:
    assert plain.version.judge(Query.from_prompt("?"), begun(-0.01), Decision("cheap", "t")).action is Action.ESCALATED


def test_beginnings_that_tell_nothing_are_not_certified_and_the_reason_names_every_length(plain: Certified) -> None:
    with pytest.raises(NotCertifiedError) as refused:
        with_prefix(plain, parts(world(900, tells=0.0)), SETTINGS, [4, 8], NOW)
    assert "first 4 tokens:" in refused.value.reason
    assert "first 8 tokens:" in refused.value.reason


def test_too_few_labels_say_how_many_are_missing(table: OutcomeTable, plain: Certified) -> None:
    strict = replace(SETTINGS, epsilon=0.03, look_index=9)
    with pytest.raises(NotCertifiedError) as refused:
        with_prefix(plain, parts(table), strict, [6], NOW)
    assert refused.value.labels_missing is not None


def test_several_lengths_share_delta_and_the_first_that_certifies_is_taken(
    table: OutcomeTable, plain: Certified
) -> None:
    proof = with_prefix(plain, parts(table), SETTINGS, [19, 6, 4], NOW).version.prefix_certificates["cheap"]
    assert proof.settings[PREFIX_TOKENS] == 6
    assert proof.level == pytest.approx(SETTINGS.delta / 3)
    assert proof.delta == SETTINGS.delta


def test_the_report_says_what_is_promised_and_what_is_not(plain: Certified, made: RouterVersion) -> None:
    text = " ".join(prefix_section(made).split())
    assert made.prefix_certificates["cheap"].summary() in text
    assert "of 6 tokens or fewer, judged whole" in text
    assert "δ of its own (0.1 of 0.1 in this look)" in text
    assert "certify --prefix N" in prefix_section(plain.version)


def test_rows_whose_tokens_were_not_kept_are_not_passed_over(table: OutcomeTable) -> None:
    kept = table.tokens["cheap"]
    some = replace(kept, texts=((), *kept.texts[1:]), logprobs=((), *kept.logprobs[1:]))
    with pytest.raises(DataError, match="the tokens of 1 of 900 answers of tier 'cheap' were not kept"):
        check_prefix(replace(table, tokens={"cheap": some}), SETTINGS, [6])


@pytest.mark.parametrize(
    ("lengths", "changed", "message"),
    [
        ([0], {}, "after 1 token or more, got 0"),
        ([20], {}, "no answer of tier 'cheap' is longer than 20 tokens"),
        ([], {}, "each once"),
        ([6, 6], {}, "each once"),
        ([6], {"promise": "answered"}, "for the promise `harm` or `accepted`"),
        ([6], {"promise": "answered", "slicer": "domain"}, "for the promise `harm` or `accepted`"),
        ([6], {"slicer": "length"}, "for all slices together"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    table: OutcomeTable, lengths: list[int], changed: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check_prefix(table, replace(SETTINGS, **changed), lengths)  # type: ignore[arg-type]


def test_a_table_without_tokens_is_refused_with_the_way_out(table: OutcomeTable) -> None:
    with pytest.raises(DataError, match="collect --tier cheap"):
        check_prefix(replace(table, tokens={}), SETTINGS, [6])


@pytest.mark.parametrize("tier", ["top", "nobody"])
def test_only_a_tier_below_the_last_has_beginnings_to_judge(plain: Certified, table: OutcomeTable, tier: str) -> None:
    splits = parts(table)
    with pytest.raises(DataError, match="a tier below the last"):
        certify_prefix(plain.version, tier, [6], splits, SETTINGS.terms(NOW, splits.labels_used))
