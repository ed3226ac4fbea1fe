"""420 innocent edits: what they are, how flips are counted, and that the default router's choices flip rarely."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import read_outcomes
from router_models.data.starter import STARTER_OUTCOMES
from router_models.errors import DataError
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.evaluation.benchmarks.flips import family_choices, flips_page, measure_flips, version_choice
from router_models.evaluation.benchmarks.prompt_edits import EDIT_KINDS, PROMPT_EDITS
from router_models.training.splits import split_outcomes
from router_models.types import Prompts, Query
from router_models.versions.router_version import Stage
from tests.unit.router_models.versions.made_version import version

TEXTS = (
    "What is the capital of France? It's in the north, e.g. on a river.",
    "Add 17 and twenty-five, then halve it.",
    "fix it",
)


def test_there_are_420_edits_and_each_gives_the_same_again() -> None:
    assert len(PROMPT_EDITS) == 420
    assert set(EDIT_KINDS) == {"typos", "case", "white space", "look-alikes", "before", "after", "wordings", "marks"}
    idle = [name for name, edit in PROMPT_EDITS.items() if all(edit.rewrite(text) == text for text in TEXTS)]
    assert set(idle) == {"composed", "decomposed", "straight quotes"}, "what is plain already"
    for edit in PROMPT_EDITS.values():
        assert edit.rewrite(TEXTS[0]) == edit.rewrite(TEXTS[0])
        assert edit.rewrite("") is not None
        assert edit.rewrite("é 漢字 42") is not None
    for name in ("swapped letters, 3 (1)", "neighbouring letters, 2 (0)", "wrong letters, 1 (3)"):
        assert len(PROMPT_EDITS[name].rewrite(TEXTS[0])) == len(TEXTS[0])


def test_flips_are_counted_against_the_choice_on_the_prompt_as_it_was() -> None:
    def long(prompts: Prompts) -> NDArray[np.bool_]:
        return np.array([len(text) > 20 for text in prompts.texts])

    def shouted(prompts: Prompts) -> NDArray[np.bool_]:
        return np.array([text.isupper() for text in prompts.texts])

    names = ["all capitals", "a space before", "before: Hi, I have a question."]
    edits = {name: PROMPT_EDITS[name] for name in names}
    by_length, by_case = measure_flips({"long": long, "shouted": shouted}, TEXTS, None, edits=edits)
    assert [edit.flips.value for edit in by_length.edits] == [0, 0, pytest.approx(1 / 3)]
    assert [(edit.up, edit.down) for edit in by_case.edits] == [(1, 0), (0, 0), (0, 0)]
    assert (by_length.last_share, by_length.flips.value) == (pytest.approx(2 / 3), pytest.approx(1 / 9))
    assert (by_length.steady, by_case.steady) == (pytest.approx(2 / 3), 0)
    assert by_case.kinds["case"].value == 1
    assert "all capitals" in flips_page([by_length, by_case])
    with pytest.raises(DataError, match="no prompt to edit"):
        measure_flips({"long": long}, (), None)


def test_a_version_chooses_as_it_serves() -> None:
    made = version(Stage(LengthRouter(), None, NonEmptyVerifier(), None))  # down up to 200 characters
    prompts = Prompts(("short", "a longer question " * 9, "x" * 3000))
    choice = version_choice(made)(prompts).tolist()
    assert choice == [made.decide(Query.from_prompt(text)).tier == "frontier" for text in prompts.texts]
    assert set(choice) == {True, False}


@pytest.mark.full
def test_the_default_routers_choices_flip_rarely() -> None:
    """Every tenth edit of ten held-out prompts, 420 edited prompts: far less often than a coin's, and bounded."""
    table = read_outcomes(STARTER_OUTCOMES, ("cheap", "frontier"))
    rows = np.random.default_rng(0).permutation(len(table))[:600]
    encoder = Encoder()
    splits = split_outcomes(table.take(np.sort(rows)), ("cheap", "frontier"), 0).with_embeddings(encoder, None)
    choices = family_choices(splits, ["default", "length", "random"])
    edits = dict(list(PROMPT_EDITS.items())[::10])
    default, length, coin = measure_flips(choices, splits.cert.prompts.texts[:10], encoder, edits=edits)
    assert 0.3 <= default.last_share <= 0.7
    assert default.flips.value <= 0.15
    assert default.flips.value < length.flips.value + 0.1
    assert default.flips.value < coin.flips.value / 2
