"""What a version decides and judges: distance, length, parts, missing estimates, and whose embeddings it asks for."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.encoder import MOST_CHARS
from router_models.estimators.routers import ConstantRouter, RouterModel
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import NonEmptyVerifier, VerifierModel
from router_models.types import Action, Answers, Completion, Decision, Prompts, Query
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import TextCoverage
from router_models.versions.router_version import RouterVersion, Stage
from router_models.versions.sealed.builtin import builtin_version
from router_models.versions.sealed.digest import models_digest
from tests.unit.router_models.versions.made_version import QUERIES, certificate, version


class Measured(ConstantRouter):
    """A router that knows how far a prompt lies from its training data: a hundredth for every character."""

    def distance(self, X: Prompts) -> np.ndarray:
        return np.array([len(text) / 100 for text in X.texts])


def test_a_prompt_beyond_the_certified_distance_goes_to_the_last_tier_without_a_promise() -> None:
    stage = Stage(Measured(0.9), None, NonEmptyVerifier(), None)
    made = replace(version(stage), certificate=certificate(coverage=Coverage(novelty=1.0)))
    near, far = Query.from_prompt("x" * 100), Query.from_prompt("x" * 101)
    assert (made.decide(near).tier, made.decide(near).promised) == ("cheap", True)
    decision = made.decide(far)
    assert (decision.tier, decision.promised) == ("frontier", False)
    assert decision.reason.startswith(
        "novel: the prompt lies 1.01 from the training data, and up to 1.00 was certified"
    )
    assert decision.uncovered is not None
    assert decision.uncovered.reason == "novelty"
    verdict = made.judge(far, Completion(""), decision)
    assert (verdict.action, verdict.promised) == (Action.ACCEPTED, False), "nor is it abstained from"
    routed = replace(made, novel_to_top=False).decide(far)
    assert (routed.tier, routed.promised, routed.uncovered) == ("cheap", True, decision.uncovered), "judged as ever"
    assert routed.reason.startswith("novel: ")


def test_a_tier_without_models_is_not_judged() -> None:
    verdict = version().judge(QUERIES[0], Completion(""), Decision("frontier", "forced"))
    assert verdict.action is Action.ACCEPTED


def test_missing_estimate_reaches_the_verifier_as_not_measured() -> None:
    class Seeing(NonEmptyVerifier):
        seen: float = 0.0

        def predict(self, X):  # type: ignore[no-untyped-def]
            self.seen = float(X.signals["router_score"][0])
            return super().predict(X)

    verifier = Seeing()
    version(Stage(None, None, verifier, None)).judge(QUERIES[0], Completion("x"), Decision("cheap", "forced"))
    assert math.isnan(verifier.seen)


class Lengths:
    """An encoder for tests: a text's embedding is its length; counts its calls."""

    digest = "0" * 64

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[len(text)] for text in texts], dtype=np.float32)


class EmbeddingRouter(ConstantRouter):
    needs_embeddings = True

    def predict(self, X: Prompts) -> NDArray[np.float64]:
        assert X.embeddings is not None
        return super().predict(X)


class EmbeddingVerifier(NonEmptyVerifier):
    """Accepts the more, the longer the prompt's embedding says the prompt is."""

    @property
    def wants_embeddings(self) -> bool:
        return True

    def predict(self, X: Answers) -> NDArray[np.float64]:
        assert X.prompts.embeddings is not None
        return np.asarray(X.prompts.embeddings[:, 0] / 4000, dtype=np.float64)


def test_the_encoder_is_asked_only_by_models_that_want_it_and_once_for_both() -> None:
    def calls(router: RouterModel, verifier: VerifierModel) -> int:
        encoder = Lengths()
        made = version(Stage(router, None, verifier, None), encoder=encoder)
        made.judge(QUERIES[0], Completion("x"), made.decide(QUERIES[0]))
        return encoder.calls

    assert calls(ConstantRouter(0.9), NonEmptyVerifier()) == 0
    assert calls(EmbeddingRouter(0.9), NonEmptyVerifier()) == 1
    assert calls(ConstantRouter(0.9), EmbeddingVerifier()) == 1
    assert calls(EmbeddingRouter(0.9), EmbeddingVerifier()) == 1


def test_an_embedding_that_came_with_a_decision_is_used_for_its_own_text_and_encoder_alone() -> None:
    encoder = Lengths()
    made = version(Stage(EmbeddingRouter(0.9), None, EmbeddingVerifier(), None), encoder=encoder)
    long = made.decide(QUERIES[2])
    assert long.embedding is not None
    of_another_text = made.judge(QUERIES[0], Completion("x"), long)
    assert of_another_text == made.judge(QUERIES[0], Completion("x"), replace(long, embedding=None))
    assert of_another_text != made.judge(QUERIES[2], Completion("x"), long)
    stranger = replace(long.embedding, encoder="1" * 64, vector=np.zeros(1, dtype=np.float32))
    before = encoder.calls
    assert made.judge(QUERIES[2], Completion("x"), replace(long, embedding=stranger)) == made.judge(
        QUERIES[2], Completion("x"), long
    )
    assert encoder.calls == before + 1


def test_a_decision_with_an_embedding_is_the_decision_without_it() -> None:
    made = version(Stage(EmbeddingRouter(0.9), None, NonEmptyVerifier(), None), encoder=Lengths())
    decided = made.decide(QUERIES[0])
    assert decided == replace(decided, embedding=None)
    assert hash(decided) == hash(replace(decided, embedding=None))
    assert "embedding" not in repr(decided)


def test_builtin_version_routes_by_length_and_promises_nothing(tmp_path: Path) -> None:
    folder = builtin_version(("cheap", "frontier"), tmp_path)
    loaded = RouterVersion.load(folder)
    assert loaded.certificate is None
    assert "uncertified" in loaded.name
    assert loaded.decide(Query.from_prompt("x" * 800)).tier == "cheap"
    assert loaded.decide(Query.from_prompt("x" * 801)).tier == "frontier"
    assert loaded.judge(QUERIES[0], Completion(" "), Decision("cheap", "")).action is Action.ESCALATED
    assert builtin_version(("cheap", "frontier"), tmp_path) == folder


def test_of_a_prompt_that_is_not_read_to_its_end_nothing_is_promised() -> None:
    made, long = version(), Query.from_prompt("an easy question " * MOST_CHARS)
    decision = made.decide(long)
    assert decision.tier == "frontier"
    assert not decision.promised
    assert decision.uncovered is not None
    assert decision.uncovered.reason == "length"
    routed = replace(made, novel_to_top=False).decide(long)
    assert routed.uncovered == decision.uncovered
    assert routed.p_cheap_ok is not None
    assert replace(made, certificate=None).decide(long).uncovered is None
    assert made.decide(Query.from_prompt("x" * MOST_CHARS)).uncovered is None


class Easy(ConstantRouter):
    """A router that scores the share of words that are "easy"."""

    def predict(self, X: Prompts) -> np.ndarray:
        return np.array([text.count("easy") / max(len(text.split()), 1) for text in X.texts])


def test_an_easy_text_around_a_hard_part_goes_to_the_last_tier_without_a_promise() -> None:
    stage = Stage(Easy(0.0), None, NonEmptyVerifier(), None)
    read = TextCoverage(60, drop=0.5)
    made = replace(version(stage), certificate=certificate(coverage=Coverage(text=read)))
    easy, hard = "easy " * 40, "hard " * 12
    assert made.decide(Query.from_prompt(easy)).tier == "cheap"
    for text in (easy + hard, hard + easy, easy + hard + easy):
        decision = made.decide(Query.from_prompt(text))
        assert (decision.tier, decision.promised) == ("frontier", False)
        assert decision.uncovered is not None
        assert decision.uncovered.reason == "parts"
    routed = replace(made, novel_to_top=False).decide(Query.from_prompt(easy + hard))
    assert (routed.tier, routed.uncovered is not None) == ("cheap", True), (
        "the router decides, and nothing is promised"
    )


def test_a_hard_question_that_is_split_around_an_easy_one_goes_to_the_last_tier_without_a_promise() -> None:
    stage = Stage(Easy(0.0), None, NonEmptyVerifier(), None)
    text = f"{'hard ' * 4}\n{'easy ' * 30}.\n{'hard ' * 4}"
    for read, tier in ((TextCoverage(60, drop=9.0), "cheap"), (TextCoverage(60, 9.0, cut_drop=0.5), "frontier")):
        made = replace(version(stage), certificate=certificate(coverage=Coverage(text=read)))
        decision = made.decide(Query.from_prompt(text))
        assert (decision.tier, decision.promised) == (tier, tier == "cheap")
        assert decision.uncovered is None or decision.uncovered.reason == "parts"


def test_how_the_training_prompts_are_spelled_is_stored_and_bound(tmp_path: Path) -> None:
    plain = "What is the capital of France, and how far is it from the sea?"
    coverage = Coverage(text=TextCoverage(60, unfamiliar=0.2))
    made = replace(version(), certificate=certificate(coverage=coverage), spelling=Spelling().fit([plain]))
    made.save(tmp_path / "v")
    loaded = RouterVersion.load(tmp_path / "v")
    for one in (made, loaded):
        assert one.decide(Query.from_prompt(plain)).uncovered is None
        found = one.decide(Query.from_prompt(plain[::-1])).uncovered
        assert found is not None
        assert found.reason == "spelling"
    assert models_digest(loaded) == models_digest(made) != models_digest(version())


class Labelled(ConstantRouter):
    """A router that notes the columns that it is shown, and estimates by a text's length."""

    shown: list[tuple[tuple[str, ...], int]]

    def distance(self, X: Prompts) -> np.ndarray:
        return np.array([len(text) / 100 for text in X.texts])

    def predict(self, X: Prompts) -> np.ndarray:
        self.shown.append((tuple(sorted(X.metadata)), len(X)))
        return np.array([1 / (1 + len(text) / 40) for text in X.texts])


def test_prompts_that_are_decided_together_are_decided_as_alone() -> None:
    router = Labelled(0.5)
    router.shown = []
    spelling = Spelling().fit(["what colour is the horse", "how old is the house", "why is the sea so blue"])
    read = TextCoverage(64, drop=0.1, unfamiliar=0.5, unfamiliar_part=0.5)
    made = replace(
        version(Stage(router, None, NonEmptyVerifier(), None), spelling=spelling),
        certificate=certificate(coverage=Coverage(novelty=1.0, text=read)),
    )
    texts = ["what is the sea", "zqxv wkjh qqzz", "why " * 20, "x" * 200, "x" * (MOST_CHARS + 1), "how old", ""]
    texts += ["why is the sea so blue and how old is the horse? " * 2 + "Tell me that, and no more than that."]
    queries = [Query.from_prompt(text, **({"task": "a"} if i % 2 else {})) for i, text in enumerate(texts)]
    alone = [made.decide(query) for query in queries]
    router.shown = []
    assert made.decide_all(queries, [None] * len(queries)) == alone
    assert {one.layer for one in alone} == {"router", "coverage"}
    assert len({one.uncovered.reason for one in alone if one.uncovered is not None}) >= 3
    whole = [shown for shown in router.shown if shown[1] >= 3]
    assert [columns for columns, _ in whole[:1] + whole[-1:]] == [("turns",), ("task", "turns")], "by their columns"
