"""Certified with a catalogue of intents: what is counted is what is served, and the promise is bound to the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.estimators.catalogue.intents import catalogue_of
from router_models.estimators.catalogue.nearest_example import CatalogueIndex
from router_models.training.certify import Certified, certify_candidate
from router_models.training.evidence import evidence_of, replay_version
from router_models.training.fit import fit_candidate
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Query
from router_models.versions.covering.covered_rows import uncovered_rows
from router_models.versions.router_version import RouterVersion
from tests.unit.router_models.training.test_certify_coverage import NOW, PAIR, PRICES, world

INTENTS = {
    "intents": [
        {"name": "sums", "tier": "cheap", "examples": ["What is 1 + 1?"]},
        {"name": "reasons", "tier": "top", "examples": ["Why does 1 matter?"]},
    ]
}
CATALOGUE = catalogue_of(INTENTS, PAIR.tiers)


class LastDigit:
    """Embeds a text as what it asks, unless its first number ends in 5 or more: then as nothing known."""

    digest = "c" * 64

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = np.zeros((len(texts), 3), dtype=np.float32)
        for row, text in enumerate(texts):
            number = next((word for word in text.replace("?", " ").split() if word.isdigit()), "9")
            found[row, 2 if int(number[-1]) >= 5 else 0 if text.startswith("Why") else 1] = 1
        return found

    def reads_whole(self, text: str) -> bool:
        return True


@pytest.fixture(scope="module")
def parts() -> LabelledSplits:
    return split_outcomes(world(900), PAIR.tiers, 0)


@pytest.fixture(scope="module")
def made(parts: LabelledSplits) -> Certified:
    encoder: Any = LastDigit()
    candidate = fit_candidate(parts, PAIR, encoder)
    index = CatalogueIndex.of(CATALOGUE, encoder)
    beside = replace(candidate, version=replace(candidate.version, encoder=encoder, catalogue=index))
    return certify_candidate(beside, parts, PAIR, NOW)


def test_every_row_is_counted_as_it_is_served(made: Certified, parts: LabelledSplits) -> None:
    version, cert = made.version, parts.cert
    assert version.certificate is not None
    coverage = version.certificate.coverage
    seen = evidence_of(version, cert, PRICES)
    replayed, why = replay_version(version, seen), uncovered_rows(coverage, version, cert)
    sent = {"sums": 0, "reasons": 0}
    for row, text in enumerate(cert.prompts.texts):
        decision = version.decide(Query.from_prompt(text))
        assert decision.intent is not None
        if decision.intent.intent == "reasons":
            sent["reasons"] += 1
            assert decision.tier == "top"
            assert why[row] is not None, "taken from the router, so no evidence of what it is promised for"
        elif why[row] is None:
            sent["sums"] += decision.intent.intent == "sums"
            assert (decision.tier == "cheap") == (replayed.tried[row] == 0), text
            assert decision.moved is None
    assert min(sent.values()) >= 20
    reasons = [one.reason for one in why if one is not None]
    assert min(dict(coverage.left_out)["intent"], reasons.count("intent")) >= 20
    assert "beside the catalogue of intents" in coverage.summary()


def test_the_promise_is_bound_to_the_catalogue(made: Certified, tmp_path: Path) -> None:
    version = made.version
    version.save(tmp_path / "version")
    loaded = RouterVersion.load(tmp_path / "version")
    assert loaded.catalogue is None, "the file is the server's, not the version's"
    assert loaded.certificate is not None
    assert loaded.certificate.coverage.catalogue == CATALOGUE.binding
    encoder: Any = LastDigit()
    other = {"intents": [{**INTENTS["intents"][0], "examples": ["What is 2 + 2?"]}]}
    edited = CatalogueIndex.of(catalogue_of(other, PAIR.tiers), encoder)
    for beside, holds in ((version.catalogue, True), (edited, False), (None, False)):
        served = replace(loaded, encoder=encoder, catalogue=beside)
        intent = served.decide(Query.from_prompt("What is 7 + 12?")).intent
        assert (intent is None or intent.not_promised is None) is holds


def test_the_others_bound_is_another_one_where_rows_are_taken_out(made: Certified, parts: LabelledSplits) -> None:
    """The reason for all this: what is left of the accepted answers errs more often than all of them together."""
    version = replace(made.version, catalogue=None)
    assert version.certificate is not None
    seen = evidence_of(replace(version, certificate=None), parts.cert, PRICES)
    replayed = replay_version(replace(version, certificate=None), seen)
    kept = (replayed.tried == 0) & ~replayed.escalated
    wrong = 1 - seen.grades[:, 0]
    sums = np.array([text.startswith("What") for text in parts.cert.prompts.texts])
    assert 0 < (kept & ~sums).sum() < kept.sum()
    assert wrong[kept & ~sums].mean() > 1.5 * wrong[kept].mean()
