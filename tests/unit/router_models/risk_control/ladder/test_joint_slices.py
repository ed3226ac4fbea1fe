"""A ladder certified slice by slice: one configuration, every risk inside the slice, and what has no proof."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ANSWERED_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint import CertifiedPolicy, certify_joint
from router_models.risk_control.joint_path import PathBudget, follow, propose
from router_models.risk_control.labels import p_value
from router_models.risk_control.ladder.tuning import predict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIERS = ("small", "medium", "large")
HARD = {"en": -0.5, "fr": 0.0, "de": 3.0}
"""How much harder than it looks every slice is; nobody can do `de`."""


def terms(epsilon: float, delta: float = 0.1, look_index: int = 0) -> CertificateTerms:
    return CertificateTerms(epsilon, delta, "human", NOW, NOW + timedelta(days=30), look_index=look_index)


def ladder(n: int, seed: int, names: tuple[str, ...] = tuple(HARD)) -> CascadeEvidence:
    rng = np.random.default_rng(seed)
    slices = rng.choice(names, n)
    logits = np.array([1.0, 2.2, 3.4]) - rng.normal(0, 1.2, n)[:, None]
    p_ok = 1 / (1 + np.exp(-(logits + rng.normal(0, 0.5, (n, 3)))))
    p_route = 1 / (1 + np.exp(-(logits[:, :2] + rng.normal(0, 0.8, (n, 2)))))
    hard = np.array([HARD[name] for name in slices])[:, None]
    right = rng.random((n, 3)) < 1 / (1 + np.exp(-(logits - hard)))
    return CascadeEvidence.of(TIERS, p_route, p_ok, (1.0, 6.0, 30.0), right).cut(slices.tolist())


@pytest.fixture(scope="module")
def cert() -> CascadeEvidence:
    return ladder(3000, 6)


@pytest.fixture(scope="module")
def made(cert: CascadeEvidence) -> CertifiedPolicy:
    return certify_joint(ladder(900, 5), cert, terms(0.15), abstain_share=0.1)


def test_every_certified_slice_keeps_every_promise_on_its_own_rows_at_its_share_of_delta(made, cert):
    c = made.certificate
    assert [name for name in HARD if c.covers(name)] == ["en", "fr"]
    for name in ("en", "fr"):
        replayed, p = replay_policy(cert.only(name), made.chosen.thresholds), c.slices[name]
        silent = p.also[0]
        assert (p.what, p.level, silent.what) == (ANSWERED_RISK, 0.1 / 3, ABSTAIN_RISK)
        assert (p.trials, p.errors) == (
            (~replayed.abstained).sum(),
            replayed.wrong(cert.only(name).right).sum(),
        )
        assert (silent.trials, silent.errors) == (len(cert.only(name)), replayed.abstained.sum())
        path = made.paths[name]
        j = [x.thresholds for x in path.configurations].index(made.chosen.thresholds)
        tested = max(p_value(p.errors, p.trials, 0.15), p_value(silent.errors, silent.trials, 0.1))
        assert path.p_values[j] == tested, "what was tested is what is promised"
        assert p_value(p.errors, p.trials, 0.15) <= 0.1 / 3
        assert p_value(silent.errors, silent.trials, 0.1) <= 0.1 / 3
    assert c.accepted_n == sum(p.trials for p in c.slices.values())
    assert c.errors == sum(p.errors for p in c.slices.values())


def test_the_slice_nobody_can_do_is_named_with_its_reason_and_promises_nothing(made):
    c = made.certificate
    assert not c.covers("de")
    assert not c.covers("it"), "nothing is known of other slices"
    assert not c.covers(None)
    assert (c.slices["de"].trials, c.slices["de"].certified) == (0, False)
    assert set(made.refused) == {"de"}
    assert "infeasible in slice 'de'" in made.refused["de"]
    assert "2 of 3 slices" in c.summary()
    assert "in each certified slice" in c.summary()


def test_a_sliced_certificate_of_a_ladder_survives_json(made):
    assert Certificate.from_json(made.certificate.to_json()) == made.certificate


def test_what_is_deployed_saves_most_where_it_is_certified(made):
    tune = ladder(900, 5)
    paths = made.paths

    def saved(j: int) -> float:
        held = [name for name, path in paths.items() if path.rejected[j]]
        replayed = {name: replay_policy(tune.only(name), paths[name].configurations[j].thresholds) for name in held}
        return sum(float((30 - replayed[name].cost_usd).sum()) for name in held)

    thresholds = [c.thresholds for c in paths["en"].configurations]
    best = max(saved(j) for j in range(len(thresholds)))
    assert best > 0
    assert saved(thresholds.index(made.chosen.thresholds)) == pytest.approx(best)


def test_a_largest_drop_is_proved_in_every_certified_slice(cert):
    found = certify_joint(ladder(900, 5), cert, terms(0.15), max_drop=0.1).certificate
    for name, promise in found.slices.items():
        assert [p.bound for p in promise.also] == ([0.1] if found.covers(name) else [])
        assert all(p.upper <= 0.1 and p.certified for p in promise.also)
    strict = certify_joint(ladder(900, 5), cert, terms(0.15), max_drop=0.03)
    assert strict.chosen.cost_usd > certify_joint(ladder(900, 5), cert, terms(0.15)).chosen.cost_usd


@pytest.mark.parametrize("where", ["TUNE", "CERT"])
def test_a_slice_that_only_one_sample_has_is_not_certified_and_shares_delta(where):
    with_rare, without = ladder(900, 5), ladder(3000, 6, ("en", "fr"))
    tune, cert = (with_rare, without) if where == "TUNE" else (without, with_rare)
    found = certify_joint(tune, cert, terms(0.15))
    assert not found.certificate.covers("de")
    assert (
        found.refused["de"]
        == f"no {'CERT' if where == 'TUNE' else 'TUNE'} prompts in slice 'de': collect prompts of it"
    )
    assert {p.level for p in found.certificate.slices.values()} == {0.1 / 3}
    assert found.certificate.covers("en")


def test_nothing_certified_names_the_slice_that_came_nearest_and_the_labels_missing():
    with pytest.raises(NotCertifiedError, match=r"none of 3 slices .* nearest came '(en|fr)'") as caught:
        certify_joint(ladder(900, 5), ladder(45, 6), terms(0.15))
    assert "more labels are needed" in caught.value.reason
    assert caught.value.labels_missing > 5


def test_where_no_labels_would_help_in_any_slice_every_reason_is_told():
    with pytest.raises(NotCertifiedError, match="no labels would help") as caught:
        certify_joint(ladder(900, 5), ladder(900, 6), terms(0.001))
    assert all(f"slice '{name}'" in caught.value.reason for name in HARD)
    assert caught.value.labels_missing is None


def test_a_slice_without_prompts_is_no_reason_to_say_that_no_labels_would_help():
    with pytest.raises(NotCertifiedError) as caught:
        certify_joint(ladder(900, 5, ("en",)), ladder(900, 6, ("fr",)), terms(0.15))
    assert caught.value.reason == (
        "none of 2 slices certified: no CERT prompts in slice 'en': collect prompts of it; "
        "no TUNE prompts in slice 'fr': collect prompts of it"
    )
    assert caught.value.labels_missing is None


def test_the_slice_whose_drop_has_no_proof_does_not_come_nearest_by_the_labels_of_a_risk_long_shown():
    with pytest.raises(NotCertifiedError) as caught:
        certify_joint(perfect(300), perfect(300), terms(0.3), max_drop=0.0005)
    assert caught.value.labels_missing is None
    assert all(f"slice '{name}': the most promising changes" in caught.value.reason for name in ("a", "b"))


def perfect(n: int) -> CascadeEvidence:
    """Nobody errs, in two slices."""
    surely = np.full((n, 3), (n + 1) / (n + 2))
    return CascadeEvidence.of(TIERS, surely[:, :2], surely, (1.0, 6.0, 30.0), np.ones((n, 3))).cut(
        ["a", "b"] * (n // 2)
    )


@pytest.mark.parametrize("slice_name", [None, "en", "fr"])
def test_the_labels_of_the_certification_sample_move_neither_the_path_nor_where_it_starts(cert, slice_name):
    tune, budget = ladder(900, 5), PathBudget(0.2, 0.1 / 3, 0.1)
    proposed = propose(tune, 1000, budget)
    if slice_name is not None:
        tune, cert = tune.only(slice_name), cert.only(slice_name)
    as_it_is = follow(proposed, tune, cert, budget, slice_name)
    shuffled = np.random.default_rng(1).permutation(cert.right)
    safe_fail = np.tile([True, True, False], (len(cert), 1))
    for right in (~cert.right, shuffled, np.ones_like(cert.right), safe_fail):
        other = follow(proposed, tune, replace(cert, right=right), budget, slice_name)
        assert (other.configurations, other.anchor) == (as_it_is.configurations, as_it_is.anchor)
        assert (other.p_values != as_it_is.p_values).any(), "the labels are what is tested"


def test_what_is_proposed_to_all_slices_does_not_depend_on_the_labels_of_the_certification_sample(made, cert):
    kinder = replace(cert, right=cert.right | (np.random.default_rng(2).random(cert.right.shape) < 0.3))
    other = certify_joint(ladder(900, 5), kinder, terms(0.15), abstain_share=0.1)
    for name, path in made.paths.items():
        assert [c.thresholds for c in other.paths[name].configurations] == [c.thresholds for c in path.configurations]
        assert other.paths[name].anchor == path.anchor


def test_abstention_is_tested_inside_every_slice(made, cert):
    """Of every configuration, not of the chosen one alone: on riskier ones it is abstention that has no proof."""
    decided = 0
    for name, path in made.paths.items():
        n = len(cert.only(name))
        risk = p_value(path.wrong, path.answered, 0.15)
        silent = p_value(path.abstained, np.full(len(risk), n), 0.1)
        assert (path.p_values == np.maximum(risk, silent)).all()
        decided += int((silent > risk).sum())
    assert decided > 0


def test_a_slice_that_hears_nothing_too_often_is_not_certified_though_no_answer_is_wrong():
    """On the whole one prompt in ten hears nothing, in one slice every fifth."""
    tune = perfect(600)
    far = np.arange(600)[:, None] % 10 == 0
    cert = replace(tune, p_ok=np.where(far, 0.1, tune.p_ok))
    quiet = Thresholds((np.inf, np.inf), (-np.inf,) * 2, (-np.inf, -np.inf, 0.5))
    budget = PathBudget(0.3, 0.05, abstain_share=0.15)
    held = {}
    for name in ("a", "b"):
        path = follow([predict(tune, quiet)], tune.only(name), cert.only(name), budget, name)
        assert path.wrong.sum() == 0
        held[name] = bool(path.rejected.any())
    assert held == {"a": False, "b": True}


def test_slice_names_that_do_not_fit_are_refused(cert):
    with pytest.raises(DataError, match="both TUNE and CERT"):
        certify_joint(ladder(900, 5), replace(cert, slices=None), terms(0.15))
    with pytest.raises(DataError, match="3000 prompts but 1"):
        cert.cut(["en"])
    with pytest.raises(DataError, match="no slice names"):
        replace(cert, slices=None).only("en")


probability = st.floats(0, 1, width=16)


@given(
    st.lists(st.tuples(*[probability] * 5, st.booleans()), min_size=1, max_size=8),
    st.tuples(probability, probability),
    st.tuples(*[st.one_of(probability, st.just(-np.inf))] * 3),
)
def test_what_is_not_covered_goes_to_the_top_unjudged_and_the_rest_is_played_as_ever(rows, route_at, below):
    data = CascadeEvidence.of(TIERS, [r[:2] for r in rows], [r[2:5] for r in rows], (1.0, 6.0, 30.0))
    thresholds = Thresholds(route_at, (max(below[0], 0.5), max(below[1], 0.5)), below)
    covered = np.array([r[5] for r in rows])
    plain, sliced = replay_policy(data, thresholds), replay_policy(data, thresholds, covered)
    assert (sliced.answered_by == np.where(covered, plain.answered_by, 2)).all()
    assert (sliced.cost_usd == np.where(covered, plain.cost_usd, 30.0)).all()
