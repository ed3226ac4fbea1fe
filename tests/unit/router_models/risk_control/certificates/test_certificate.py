"""A certificate says what it promises, and is void as soon as anything it rests on has changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import ArtifactError, CertificateError, DataError
from router_models.risk_control.certificates.binding import binding_hashes
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ACCEPTED_RISK, ANSWERED_RISK
from router_models.types.coverage import Coverage
from router_models.types.label_sources import LabelSource
from router_models.types.text_coverage import Attacked, TextCoverage

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BINDS = binding_hashes({"weights.cheap": b"\x00\x01", "prices": {"cheap": "0.1"}, "engine_flags": ["--spec", "ngram"]})


@pytest.fixture
def certificate():
    return Certificate(
        what=ACCEPTED_RISK, epsilon=0.10, delta=0.10, level=0.10, n=612, accepted_n=301, errors=17, upper=0.08,
        threshold=0.81, label_source=LabelSource.PROGRAMMATIC, made_at=NOW, expires_at=NOW + timedelta(days=90),
        binds=BINDS,
    )  # fmt: skip


def test_the_summary_is_the_banner_line(certificate):
    assert certificate.summary() == (
        "P(wrong | cheap accepted) <= 0.10 with 90 % confidence "
        "(n=612, accepted 301, 17 wrong, programmatic labels, "
        "all of δ 0.1 in one look at these labels, expires 2027-02-20)"
    )


def test_the_banner_line_says_where_rewritten_prompts_are_not_held(certificate):
    for high, prompts, said in ((0.09, 400, None), (0.11, 400, "up to +11.0%"), (1.0, 0, "nothing was simulated")):
        text = TextCoverage(75, attacked=Attacked(prompts, 0.1, "junk before", 0.05, high, 0.2))
        line = replace(certificate, coverage=Coverage(text=text)).summary()
        assert line == certificate.summary() if said is None else "; NOT HELD within 0.1" in line and said in line


def test_the_summary_of_judge_labels_says_what_they_certify(certificate):
    assert "judge labels (agreement with the judge)" in replace(certificate, label_source=LabelSource.JUDGE).summary()


def test_the_summary_counts_slices_and_names_further_promises(certificate):
    held, open_ = Promise("x", 0.1, 0.05, 50, 1, 0.09, 0.7), Promise("x", 0.1, 0.05, 0, 0, 1.0)
    also = Promise(ABSTAIN_RISK, 0.05, 0.1, 612, 10, 0.03, 0.2)
    line = replace(certificate, slices={"de": held, "fr": open_}, also=(also,)).summary()
    assert "1 of 2 slices" in line
    assert "P(abstain) <= 0.05" in line


@pytest.mark.parametrize(
    ("epsilon", "bound", "said"),
    [(0.1, 0.05, "<= 0.10 and P(abstain) <= 0.05"), (0.005, 0.125, "<= 0.005 and P(abstain) <= 0.125")],
)
def test_no_bound_is_rounded(certificate: Certificate, epsilon: float, bound: float, said: str) -> None:
    also = Promise(ABSTAIN_RISK, bound, 0.1, 100, 0, 0.02)
    assert said in replace(certificate, epsilon=epsilon, also=(also,)).summary()


def test_unchanged_and_unexpired_passes(certificate):
    certificate.check(dict(BINDS), NOW + timedelta(days=89))


def test_each_kind_of_change_is_named_with_old_and_new_hash(certificate):
    changed = binding_hashes({"prices": {"cheap": "0.2"}})["prices"]
    with pytest.raises(CertificateError) as caught:
        certificate.check({**BINDS, "prices": changed}, NOW)
    message = str(caught.value)
    assert "prices changed" in message
    assert BINDS["prices"][:12] in message
    assert changed[:12] in message
    assert "engine_flags" not in message
    with pytest.raises(CertificateError, match=r"weights\.cheap is no longer there"):
        certificate.check({k: v for k, v in BINDS.items() if k != "weights.cheap"}, NOW)
    with pytest.raises(CertificateError, match="new_filter was not part"):
        certificate.check({**BINDS, "new_filter": "0" * 64}, NOW)


def test_expiry_is_refused_at_the_very_moment(certificate):
    with pytest.raises(CertificateError, match="expired at 2027-02-20"):
        certificate.check(BINDS, certificate.expires_at)


def test_times_without_a_zone_and_lives_that_end_before_they_begin_are_refused(certificate):
    with pytest.raises(DataError, match="no time zone"):
        replace(certificate, made_at=datetime(2026, 1, 1))
    with pytest.raises(DataError, match="expire"):
        replace(certificate, expires_at=NOW)
    with pytest.raises(DataError, match="epsilon"):
        replace(certificate, epsilon=0.0)


def test_a_query_of_an_uncertified_or_unknown_slice_is_never_accepted(certificate):
    held, open_ = Promise("x", 0.1, 0.05, 50, 1, 0.09, 0.7), Promise("x", 0.1, 0.05, 0, 0, 1.0)
    sliced = replace(certificate, slices={"de": held, "fr": open_}, threshold=None)
    assert sliced.threshold_for("de") == 0.7
    assert sliced.threshold_for("fr") == sliced.threshold_for("it") == sliced.threshold_for(None) == float("inf")
    assert certificate.threshold_for() == 0.81


def test_a_joint_policy_has_no_single_threshold_and_covers_the_slices_that_are_certified(certificate):
    held, open_ = Promise("x", 0.1, 0.05, 50, 1, 0.09, float("-inf")), Promise("x", 0.1, 0.05, 0, 0, 1.0)
    sliced = replace(certificate, what=ANSWERED_RISK, slices={"de": held, "fr": open_}, threshold=None)
    assert sliced.joint
    assert [sliced.covers(name) for name in ("de", "fr", "it", None)] == [True, False, False, False]
    assert sliced.threshold_for("de") == float("inf"), "nothing may be accepted by one score alone"
    assert "in each certified slice" in sliced.summary()
    whole = replace(sliced, slices={})
    assert whole.covers("de")
    assert whole.covers(None)
    assert "slice" not in whole.summary()
    assert "in each" not in replace(certificate, slices=sliced.slices).summary()


@pytest.mark.parametrize("former", [1, 2])
def test_certificates_from_before_one_row_a_group_counted_are_refused_by_name(certificate, former):
    with pytest.raises(
        CertificateError, match=f"certificate format {former}: made when every copy of a prompt counted"
    ):
        Certificate.from_json({**certificate.to_json(), "format": former})


def test_certificates_without_coverage_are_refused_by_name(certificate):
    data = certificate.to_json()
    without = {name: value for name, value in data.items() if name != "coverage"}
    for former in ({**data, "format": 3}, without):
        with pytest.raises(
            CertificateError, match=rf"certificate format {former['format']}: made without its coverage"
        ):
            Certificate.from_json(former)
    with pytest.raises(ArtifactError, match="coverage cannot be read"):
        Certificate.from_json({**data, "coverage": {"turns": 1}})


def test_the_coverage_is_kept(certificate):
    covering = replace(
        certificate, coverage=Coverage(decodings=("", '{"temperature":0.7}'), turns=2, novelty=0.9, n=80)
    )
    assert Certificate.from_json(json.loads(json.dumps(covering.to_json()))) == covering


def test_a_certificate_says_of_what_one_row_counted(certificate):
    by_user = replace(certificate, one_row_per="user")
    assert Certificate.from_json(by_user.to_json()) == by_user
    assert f"n={by_user.n} (one per user)" in by_user.summary()
    assert "one per" not in certificate.summary()


def test_promises_written_before_slices_had_several_are_read(certificate):
    sliced = replace(certificate, slices={"de": Promise("x", 0.1, 0.05, 50, 1, 0.09, 0.7)})
    data = sliced.to_json()
    assert "also" not in data["slices"]["de"]
    assert Certificate.from_json(data) == sliced


finite = st.floats(0.001, 0.999)
thresholds = st.one_of(st.floats(-50, 50), st.sampled_from([float("inf"), float("-inf")]))
fields = (st.text(max_size=8), finite, finite, st.integers(0, 10**6), st.integers(0, 10**6), finite, thresholds)
promises = st.builds(Promise, *fields, st.lists(st.builds(Promise, *fields), max_size=2).map(tuple))


@given(
    st.builds(
        Certificate,
        what=st.text(max_size=20),
        epsilon=finite,
        delta=finite,
        level=finite,
        n=st.integers(0, 10**6),
        accepted_n=st.integers(0, 10**6),
        errors=st.integers(0, 10**6),
        upper=finite,
        threshold=st.none() | thresholds,
        label_source=st.sampled_from(LabelSource),
        made_at=st.just(NOW),
        expires_at=st.timedeltas(timedelta(seconds=1), timedelta(days=1000)).map(lambda d: NOW + d),
        binds=st.dictionaries(st.text(max_size=8), st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3),
        look_index=st.integers(0, 9),
        slices=st.dictionaries(st.text(max_size=8), promises, max_size=3),
        also=st.lists(promises, max_size=2).map(tuple),
        settings=st.dictionaries(st.text(max_size=8), thresholds, max_size=3),
        collected=st.dictionaries(st.text(max_size=8), st.datetimes(timezones=st.just(UTC)), max_size=3),
    )
)
def test_json_round_trips_exactly(certificate):
    text = json.dumps(certificate.to_json(), allow_nan=False)
    assert Certificate.from_json(json.loads(text)) == certificate


def test_a_certificate_of_before_does_not_say_when_its_answers_were_made(certificate):
    data = certificate.to_json()
    del data["collected"]
    assert Certificate.from_json(data).collected == {}
    with pytest.raises(ArtifactError, match="no time zone"):
        Certificate.from_json({**data, "collected": {"cheap": "2026-01-01T00:00:00"}})


@pytest.mark.parametrize("damage", [{"threshold": "high"}, {"made_at": "yesterday"}, {"format": 99}, {"binds": None}])
def test_damaged_json_is_an_artifact_error(certificate, damage):
    with pytest.raises(ArtifactError):
        Certificate.from_json({**certificate.to_json(), **damage})
    with pytest.raises(ArtifactError):
        Certificate.from_json({k: v for k, v in certificate.to_json().items() if k not in damage})
