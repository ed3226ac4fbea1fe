"""What is embedded to compare a prompt's parts: of prompts sent down alone, and of a short one every sentence once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.base import RouterModel
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint, Prompts, Query
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import TextCoverage
from router_models.versions.covering.text_checks import TextModels
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

EASY, HARD = "What is one and one, and what is two and two?", "Prove that all even numbers are sums of two primes."
PADDED = f"{EASY} {HARD} {EASY}"
LIMITS = TextCoverage(60, drop=1.0, cut_drop=1.0, sent_down=True, averaged=True)


class Told:
    """Embeds a text as the share of its words that are those of the easy question; keeps what it was asked."""

    digest = "told"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        easy = [np.mean([word in EASY.split() for word in text.split()]) for text in texts]
        rows = np.zeros((len(texts), 384), dtype=np.float32)
        rows[:, 0], rows[:, 1] = easy, 1 - np.array(easy)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def reads_whole(self, text: str) -> bool:
        return True


class Easy(ROUTERS["constant"]):  # type: ignore[misc]
    """As sure as a prompt's vector is easy."""

    needs_embeddings = True

    def predict(self, X: Prompts) -> np.ndarray:
        assert X.embeddings is not None
        return np.asarray(X.embeddings[:, 0] ** 2, dtype=np.float64)


def models() -> tuple[TextModels, Told]:
    encoder, router = Told(), Easy(0.0)
    assert isinstance(router, RouterModel)
    return TextModels({"cheap": Stage(router, None, NonEmptyVerifier(), None)}, encoder), encoder


def asked(text: TextCoverage, texts: Sequence[str], down: Sequence[bool] | None) -> tuple[list[str | None], list[str]]:
    found, encoder = models()
    prompts = Prompts(tuple(texts), encoder.encode(texts))
    encoder.asked.clear()
    why = found.unlike(Coverage(text=text), prompts, texts, None if down is None else np.array(down))
    return [one and one.reason for one in why], encoder.asked


def test_nothing_is_embedded_of_a_prompt_that_goes_to_the_last_tier_anyway() -> None:
    reasons, embedded = asked(LIMITS, [PADDED, PADDED.lower()], [False, True])
    assert reasons == [None, "parts"]
    assert embedded
    assert all(text == text.lower() for text in embedded)
    assert asked(LIMITS, [PADDED], [False])[1] == []


def test_a_certificate_that_does_not_say_so_compares_every_prompt_whoever_answers_it() -> None:
    for before in (replace(LIMITS, sent_down=False), replace(LIMITS, sent_down=False, averaged=False)):
        assert asked(before, [PADDED], [False])[0] == ["parts"]


def test_a_short_prompt_costs_as_many_vectors_as_it_has_sentences_and_windows() -> None:
    """Embedding the pieces themselves takes their number; both see the hard question without the easy ones."""
    only_cuts = replace(LIMITS, drop=None)
    sentences = f"{EASY} {HARD} {HARD} {HARD} {EASY}"
    reasons, embedded = asked(only_cuts, [sentences], [True])
    assert (reasons, sorted(set(embedded))) == (["parts"], sorted((EASY, HARD)))
    reasons, embedded = asked(replace(only_cuts, averaged=False), [sentences], [True])
    assert reasons == ["parts"]
    assert len(embedded) > 2 * len(sentences.split("?"))


def test_a_request_that_is_sent_up_is_decided_without_its_parts() -> None:
    found, encoder = models()
    certificate = type("Certificate", (), {"coverage": Coverage(text=LIMITS), "joint": False})()
    version = RouterVersion(
        Policy(("cheap", "top"), {"cheap": OperatingPoint(0.4, 0.5)}),
        found.stages,
        certificate,
        encoder=encoder,  # type: ignore[arg-type]
    )
    up = version.decide(Query.from_prompt(f"{HARD} {HARD}"))
    assert (up.tier, up.uncovered, len(encoder.asked)) == ("top", None, 1)
    down = version.decide(Query.from_prompt(PADDED))
    assert down.uncovered is not None
    assert (down.tier, down.uncovered.reason) == ("top", "parts")
    assert len(encoder.asked) > 2


def test_the_parts_of_a_prompt_that_comes_again_are_not_embedded_again() -> None:
    found, encoder = models()
    certificate = type("Certificate", (), {"coverage": Coverage(text=LIMITS), "joint": False})()
    policy = Policy(("cheap", "top"), {"cheap": OperatingPoint(0.4, 0.5)})
    version = RouterVersion(policy, found.stages, certificate, encoder=encoder)  # type: ignore[arg-type]
    first = version.decide(Query.from_prompt(PADDED))
    parts = len(encoder.asked) - 1
    assert parts > 1
    assert replace(version.decide(Query.from_prompt(PADDED)), embedding=None) == replace(first, embedding=None)
    assert encoder.asked[parts + 1 :] == [PADDED], "the prompt itself"
