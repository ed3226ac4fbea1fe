"""What an intent makes of a router's decision, and what is still promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.estimators.catalogue.intents import Catalogue, catalogue_of
from router_models.estimators.catalogue.nearest_example import CatalogueIndex
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Action, Completion, Decision, OperatingPoint, Prompts, Query
from router_models.types.coverage import Coverage
from router_models.versions.covering.routed_by_intent import NOT_CERTIFIED_WITH, NOT_IN_FORCE, by_intent
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from tests.unit.router_models.versions.made_version import certificate, version

TIERS = ("cheap", "frontier")
WORDS = ("cheap", "hard", "label", "other")


class Words:
    """Embeds a text as which of four words it begins with; counts the calls."""

    digest = "words"

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[float(text.startswith(word)) for word in WORDS] for text in texts], dtype=np.float32)


class Estimated(ConstantRouter):
    """.9 of what ends in "easy", .1 of the others; what ends in "far" is novel."""

    def predict(self, X: Prompts) -> NDArray[np.float64]:
        return np.array([0.9 if text.endswith("easy") else 0.1 for text in X.texts])

    def distance(self, X: Prompts) -> NDArray[np.float64]:
        return np.array([2.0 if "far" in text else 0.1 for text in X.texts])


CATALOGUE = catalogue_of(
    {
        "intents": [
            {"name": "chat", "tier": "cheap", "examples": ["cheap"]},
            {"name": "noted", "tier": None, "examples": ["label"]},
        ],
        "known_hard": {"examples": ["hard"]},
    },
    TIERS,
)


def made(catalogue: Catalogue | None = CATALOGUE, bound: str = CATALOGUE.binding, **fields: Any) -> RouterVersion:
    encoder: Any = Words()
    stage = Stage(Estimated(0.9), None, NonEmptyVerifier(), None)
    index = None if catalogue is None else CatalogueIndex.of(catalogue, encoder)
    encoder.calls = 0
    fields = {"novelty": 1.0, **fields}
    found = version(stage, encoder=encoder, catalogue=index)
    return replace(found, certificate=certificate(coverage=Coverage(catalogue=bound, **fields)))


def decide(version: RouterVersion, text: str) -> Decision:
    return version.decide(Query.from_prompt(text))


def test_an_intent_decides_before_the_router_with_one_embedding() -> None:
    both = made()
    hard, chat = decide(both, "hard but easy"), decide(both, "cheap and difficult")
    assert both.encoder.calls == 2, "one each"  # type: ignore[attr-defined]
    assert (hard.tier, chat.tier) == ("frontier", "cheap"), "the router would have it the other way round"
    assert hard.intent is not None
    assert (hard.intent.layer, hard.intent.intent, hard.intent.cosine) == ("known-hard", "known_hard", 1.0)
    assert hard.reason.startswith("known-hard: intent known_hard, cosine 1.00 ≥ 0.88: frontier; the router: estimated")
    assert (chat.p_cheap_ok, chat.embedding is not None) == (0.1, True)
    assert both.judge(Query.from_prompt("cheap"), Completion("x"), chat).action is Action.ACCEPTED, "judged as ever"


def test_what_has_no_intent_or_one_of_no_tier_is_the_routers() -> None:
    plain = made(None, "")
    for text in ("other easy", "other", "label easy", "label"):
        found, alone = decide(made(), text), decide(plain, text)
        assert (found.tier, found.p_cheap_ok, found.promised) == (alone.tier, alone.p_cheap_ok, True), text
        assert found.moved is None
    labelled, other = decide(made(), "label easy").intent, decide(made(), "other").intent
    assert labelled is not None
    assert other is not None
    assert (labelled.intent, labelled.tier, other.intent, other.layer) == ("noted", None, None, "router")


@pytest.mark.parametrize(
    ("catalogue", "bound", "why"),
    [
        (CATALOGUE, CATALOGUE.binding, None),
        (CATALOGUE, "", NOT_CERTIFIED_WITH),
        (CATALOGUE, "ab", NOT_CERTIFIED_WITH),
        (None, "ab", NOT_IN_FORCE),
    ],
)
def test_a_promise_holds_beside_the_very_catalogue_that_it_was_certified_with(
    catalogue: Catalogue | None, bound: str, why: str | None
) -> None:
    version = made(catalogue, bound)
    for text in ("other easy", "cheap easy", "hard easy"):
        found = decide(version, text)
        assert (None if found.intent is None else found.intent.not_promised) == why, text
    if catalogue is not None:
        # certified with it, a prompt sent to the cheapest tier is one that was tried there; any other left the router
        assert decide(version, "cheap").moved == (None if why is None else "the intent chat")
        assert decide(version, "hard").moved == "the intent known_hard"


def test_intents_without_a_tier_void_nothing() -> None:
    labels = catalogue_of({"intents": [{"name": "noted", "tier": None, "examples": ["label"]}]}, TIERS)
    found = decide(made(labels, ""), "label easy")
    assert found.intent is not None
    assert (found.intent.not_promised, found.moved, found.tier) == (None, None, "cheap")


def test_of_what_is_not_covered_an_intent_decides_only_on_what_is_novel() -> None:
    novel = decide(made(), "cheap far")
    assert (novel.tier, novel.promised) == ("cheap", True), "and is judged"
    assert novel.uncovered is not None
    assert novel.uncovered.reason == "novelty"
    long = decide(made(), "cheap " + "x" * 30_000)
    assert (long.tier, long.promised) == ("frontier", False), "whose end nobody reads"
    assert decide(made(), "hard far").tier == "frontier"
    assert decide(made(), "other far").tier == "frontier"


def test_an_uncertified_version_follows_its_catalogue_too() -> None:
    bare = replace(made(), certificate=None)
    assert (decide(bare, "hard easy").tier, decide(bare, "cheap").tier) == ("frontier", "cheap")


@pytest.mark.parametrize(
    ("tier", "estimates", "then"),
    [
        ("cheap", {"cheap": 0.1, "medium": 0.9}, (("medium", 0.9),)),
        ("cheap", {"cheap": 0.9, "medium": 0.9}, (("medium", 0.9),)),
        ("medium", {"cheap": 0.9, "medium": 0.9}, ()),
        ("frontier", {"cheap": 0.9, "medium": 0.9}, ()),
        ("cheap", {"cheap": 0.1, "medium": 0.1}, ()),
    ],
)
def test_what_an_intent_sends_to_a_link_goes_on_along_the_chain_behind_it(
    tier: str, estimates: dict[str, float], then: tuple[tuple[str, float], ...]
) -> None:
    """Every link once, and as the certified rows had it: the router's estimates say where a rejected answer goes."""
    ladder = ("cheap", "medium", "frontier")
    policy = Policy(ladder, dict.fromkeys(ladder[:2], OperatingPoint(0.5, 0.5)), chain=True)
    intents = {"intents": [{"name": "sent", "tier": tier, "examples": ["other"]}]}
    index = CatalogueIndex.of(catalogue_of(intents, ladder), Words())  # type: ignore[arg-type]
    chain = replace(made(), policy=policy, catalogue=index)
    prompts = Prompts(("other",), np.array([[0.0, 0.0, 0.0, 1.0]], dtype=np.float32))
    sent = by_intent(chain, policy.decide(estimates), prompts)
    assert (sent.tier, sent.then) == (tier, then)
    jump = replace(chain, policy=replace(policy, chain=False))
    assert by_intent(jump, jump.policy.decide(estimates), prompts).then == ()
