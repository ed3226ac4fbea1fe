"""`decisions label`: a random share of kept answers, blind to the tier, one key a label, each kept at once."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router_models.types import DecisionRecord
from serve_graph.cli import app
from serve_graph.cli.client.decision_labels import DecisionLabels, ToLabel, answers_to_label
from serve_graph.cli.offline.label_terminal import Keys
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.records.feedback import FeedbackTable
from serve_graph.records.store import DecisionStore

ROOT = Path(__file__).parents[5]
Records = Callable[..., DecisionRecord]
ACCEPTED = {"promised": 0.9, "promised_of": "accepted cheap answers"}
HARM = {"promised": 0.9, "promised_of": "accepted cheap answers, to be right or no worse than the last tier's"}


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    made = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    yield made
    await made.close()


async def served(store: DecisionStore, a_record: Records, n: int = 3, of: Any = ACCEPTED, **fields: Any) -> None:
    """Answers that were kept."""
    records = [
        a_record(
            f"dec-{i}",
            tier="cheap",
            outcome="accepted",
            prompt=f"question {i}",
            evidence={**of, "answer": f"answer {i}"},
        )
        for i in range(n)
    ]
    await store.write_many(records)


class Session:
    """A person who types keys."""

    def __init__(self, store: DecisionStore, typed: str, labeller: str = "ann", **settings: Any) -> None:
        letters: Iterator[str] = iter(typed)
        self.store, self.labeller = store, labeller
        self.shown: list[str] = []
        keys = Keys(lambda: next(letters, "q"), patient=settings.pop("patient", True))
        self.labels = DecisionLabels(FeedbackTable(store), keys, labeller, display=self.shown.append, **settings)

    async def __call__(self, share: float = 1.0) -> dict[str, Any]:
        return await self.labels.run(await self.found(share))

    async def found(self, share: float = 1.0) -> ToLabel:
        return await answers_to_label(self.store, share, self.labeller)


async def said(store: DecisionStore, n: int = 3) -> dict[str, list[Any]]:
    found = await FeedbackTable(store).labels_on([f"dec-{i}" for i in range(n)])
    return {name: [(one.labeller, one.value, one.last_tier_right) for one in labels] for name, labels in found.items()}


async def test_every_key_is_a_label_in_the_store_and_the_next_session_goes_on(
    store: DecisionStore, a_record: Records
) -> None:
    await served(store, a_record)
    first = await Session(store, "r")()
    assert (first["labelled"], first["left"]) == (1, 2)
    second = await Session(store, "ws")()
    assert (second["labelled"], second["wrong"], second["skipped"], second["left"]) == (2, 1, 1, 0)
    assert sorted(value for labels in (await said(store)).values() for _, value, _ in labels) == [0.0, 1.0]
    assert (await Session(store, "", "bob")())["left"] == 3, "another person is asked all of them"


async def test_the_page_shows_prompt_and_answer_and_not_the_tier(store: DecisionStore, a_record: Records) -> None:
    await served(store, a_record, 1)
    session = Session(store, "x q")
    await session()
    assert "question 0" in session.shown[0]
    assert "answer 0" in session.shown[0]
    assert not any("cheap" in text or "accepted" in text for text in session.shown)
    assert "'x' is no key" in session.shown[1]


async def test_a_label_is_taken_back_and_asked_again(store: DecisionStore, a_record: Records) -> None:
    await served(store, a_record, 2)
    session = Session(store, "uwurq")
    summary = await session()
    assert "nothing to undo" in session.shown
    assert (summary["labelled"], summary["wrong"], summary["left"]) == (1, 0, 1)
    assert [labels for labels in (await said(store)).values() if labels] == [[("ann", 1.0, None)]]


async def test_a_label_taken_back_and_not_given_again_does_not_count(store: DecisionStore, a_record: Records) -> None:
    await served(store, a_record, 2)
    await Session(store, "wuq")()
    assert list((await said(store)).values()) == [[]]
    assert len((await Session(store, "").found()).queue) == 2


@pytest.mark.parametrize(("typed", "last"), [("wr", True), ("ww", False), ("ws", None)])
async def test_of_harm_the_last_tiers_answer_to_a_wrong_one_is_asked_for_and_labelled(
    store: DecisionStore, a_record: Records, typed: str, last: bool | None
) -> None:
    await served(store, a_record, 1, HARM)
    asked: list[str] = []

    async def ask_last(record: DecisionRecord) -> str:
        asked.append(record.id)
        return "the other answer"

    session = Session(store, typed, ask_last=ask_last)
    summary = await session()
    assert asked == ["dec-0"]
    assert "the other answer" in session.shown[-1]
    assert await said(store) == {"dec-0": [("ann", 0.0, last)]}
    assert summary["last_tier_unknown"] == (last is None)


async def test_of_harm_without_the_other_answer_it_is_not_known(store: DecisionStore, a_record: Records) -> None:
    await served(store, a_record, 2, HARM)

    async def gone(_: DecisionRecord) -> str:
        raise ServeGraphError("no graph answers")

    assert (await Session(store, "w")())["last_tier_unknown"] == 1
    session = Session(store, "w", ask_last=gone)
    assert (await session())["last_tier_unknown"] == 1
    assert "no other answer to compare with: no graph answers" in session.shown


async def test_only_the_random_share_of_promised_answers_is_shown_in_an_order_that_is_not_times(
    store: DecisionStore, a_record: Records
) -> None:
    await served(store, a_record, 60)
    await store.write_many([a_record("dec-free", prompt="x", evidence={"answer": "y", "promised": None})])
    found = await Session(store, "").found(0.5)
    names = [record.id for record in found.queue]
    assert set(names) == {f"dec-{i}" for i in range(60) if up_for_labelling(f"dec-{i}", 0.5)}
    assert names != sorted(names)
    assert found.passed == {"nothing was promised of it": 1, "not in the random share": 60 - len(names)}


async def test_without_kept_answers_it_says_what_to_configure(store: DecisionStore, a_record: Records) -> None:
    await store.write_many(
        [a_record("dec-1"), a_record("dec-2", prompt="kept, without its answer", evidence=ACCEPTED)]
    )
    with pytest.raises(ServeGraphError, match="keep_prompts: true"):
        await Session(store, "")()


async def test_a_pipes_letter_that_is_no_key_ends_the_session_with_what_came_before_kept(
    store: DecisionStore, a_record: Records
) -> None:
    await served(store, a_record)
    with pytest.raises(ServeGraphError, match="'x' is no key"):
        await Session(store, "rx", patient=False)()
    assert sum(map(len, (await said(store)).values())) == 1


def test_the_command_labels_from_a_pipe(tmp_path: Path, a_record: Records) -> None:
    config = tmp_path / "c.yaml"
    more = f"state_folder: {tmp_path}\nfeedback: {{label_share: 1}}\n"
    config.write_text((ROOT / "configs" / "echo.yaml").read_text() + more)

    async def keep() -> None:
        store = DecisionStore(load_config(config).records_url)
        await served(store, a_record)
        await store.close()

    asyncio.run(keep())
    words = ["decisions", "label", "--labeller", "ann", "--config", str(config)]
    done = CliRunner().invoke(app, [*words, "--json"], input="r w\n")
    assert json.loads(done.stdout)["labelled"] == 2
    assert "1 labelled, 0 wrong" not in CliRunner().invoke(app, words, input="q").stdout
    exported = CliRunner().invoke(app, ["decisions", "export", "--config", str(config)]).stdout
    assert exported.count('"labeller": "ann"') == 2
    refused = CliRunner().invoke(app, [*words, "--label-source", "robot"])
    assert isinstance(refused.exception, ServeGraphError)
