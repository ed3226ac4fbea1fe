"""Parts of a prompt that are about different matters give an attack away where estimates do not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint, Prompts
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import TextCoverage
from router_models.versions.covering.attack_limits import LIKE, attack_limits
from router_models.versions.covering.covered_rows import unlike_rows, usual_of
from router_models.versions.covering.perturbations import PERTURBATIONS
from router_models.versions.covering.rewriting import likest_of, rewritten_rows
from router_models.versions.covering.text_checks import TextModels
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

EPSILON = 0.1
WORDS = ("easy", "hard", "sea", "wood")
EASY = ["easy easy wood " * 5 + f"number {i}" for i in range(40)]
HARD = ["hard sea " * 8 + f"number {i}" for i in range(120)]
LONG = ["easy easy sea " * 9 + "sea shore " * 8 + str(i) for i in range(40)]
"""Honest and easy, though their ends are not estimated so."""


class Counted:
    """Embeds a text as counts of a few words, and of the others, at length one."""

    digest = "counted"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        words = [text.lower().replace(",", " ").replace(".", " ").split() for text in texts]
        rows = [[*(said.count(one) for one in WORDS), 0.1 + sum(one not in WORDS for one in said)] for said in words]
        return np.array([np.array(row) / np.linalg.norm(row) for row in rows], dtype=np.float32).reshape(-1, 5)

    def reads_whole(self, text: str) -> bool:
        return True


class ByEasyWords(ConstantRouter):
    """A router that reads from the embedding how much of a text is easy."""

    needs_embeddings = True

    def predict(self, X: Prompts) -> np.ndarray:
        assert X.embeddings is not None
        return np.clip(0.05 + 1.3 * X.embeddings[:, 0].astype(np.float64), 0.0, 1.0)


def table(texts: list[str], right: list[bool]) -> OutcomeTable:
    grades = {"cheap": np.array(right, dtype=np.float64), "top": np.ones(len(texts))}
    prompts = Prompts(tuple(texts), Counted().encode(texts))
    return OutcomeTable(prompts, tuple(texts), ("cheap", "top"), grades, np.arange(len(texts)), {})


VERSION = RouterVersion(
    Policy(("cheap", "top"), {"cheap": OperatingPoint(0.5, 0.5)}),
    {"cheap": Stage(ByEasyWords(0.0), None, NonEmptyVerifier(), None)},
    encoder=Counted(),  # type: ignore[arg-type]
)
TRAIN = table(EASY, [True] * len(EASY))
TUNE = table([*HARD, *EASY, *LONG], [False] * len(HARD) + [True] * (len(EASY) + len(LONG)))


def limits() -> TextCoverage:
    return attack_limits(VERSION, Coverage(text=usual_of(VERSION, TUNE)), TRAIN, TUNE, EPSILON)


def test_a_question_joined_to_another_is_told_by_how_far_its_parts_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    text = limits()
    assert text.attacked is not None
    assert text.attacked.held
    assert text.attacked.price == 0, "no honest prompt is left out"
    assert text.apart is not None
    joined = rewritten_rows(TUNE.take(np.arange(30)), PERTURBATIONS["joined to an easy question"], EASY)
    joined = replace(joined, prompts=replace(joined.prompts, embeddings=Counted().encode(joined.prompts.texts)))
    assert VERSION.sent_down(joined.prompts).all()
    for why in unlike_rows(Coverage(text=text), VERSION, joined):
        assert why is not None
        assert why.reason == "parts"
        assert "apart" in why.why
    monkeypatch.setattr(TextModels, "apart", lambda self, texts, size: np.zeros(len(texts)))
    without = limits().attacked
    assert without is not None
    assert without.price >= 0.4, "the control: estimates alone leave honest prompts out, or do not hold"


def test_parts_lie_apart_of_texts_with_parts_and_of_routers_that_embed_alone() -> None:
    one, other = "easy wood " * 12, "hard sea " * 12
    found = VERSION.text_models.apart(["easy", one, one + other], 64)
    assert found[0] == 0
    assert found[1] == pytest.approx(0, abs=0.05)
    assert found[2] > 0.9
    for whole in ([], ["easy"], ["easy", "hard sea"]):
        assert VERSION.text_models.apart(whole, 64).tolist() == [0.0] * len(whole), "no text has parts"
    blind = replace(VERSION, stages={"cheap": Stage(ConstantRouter(0.5), None, NonEmptyVerifier(), None)})
    assert (blind.text_models.apart([one + other], 64) == 0).all()


def test_the_like_easy_question_is_the_one_that_lies_nearest() -> None:
    easy = [*EASY[:4], "easy sea", "easy sea sea", *EASY[4:8]]
    likest = likest_of(VERSION, TUNE.take(np.arange(3)), easy)
    assert set(likest[:, :2].ravel().tolist()) == {4, 5}
    hard = TUNE.take(np.arange(3))
    (text, *_) = rewritten_rows(hard, PERTURBATIONS["joined to an easy question"], easy, likest).prompts.texts
    assert text.startswith("easy sea sea, and also hard sea")
    assert LIKE not in PERTURBATIONS


def test_the_limit_is_kept_and_compared_and_what_lies_nearer_is_covered() -> None:
    text = TextCoverage(75, 0.8, cut_drop=0.9, sent_down=True, averaged=True, apart=0.28)
    coverage = Coverage(text=text)
    assert Coverage.from_json(coverage.to_json()) == coverage
    assert "apart" not in replace(text, apart=None).to_json()
    assert "parts up to 0.28 apart" in coverage.summary()
    assert coverage.unlike(0.1, None, apart=0.28) is None
    why = coverage.unlike(0.1, None, apart=0.29)
    assert why is not None
    assert why.reason == "parts"
