"""From `--audit N` to what is known of the batch: drawn, labelled blind and in sessions, told by tier and outcome."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_graph.cascade.fakes import FakeJudge
from serve_graph.cli import app
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.quality.exact import exact_share
from serve_graph.cli.batch.quality.measured_quality import batch_quality
from serve_graph.cli.batch.quality.sample import read_drawn, write_audit
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.errors import ServeGraphError


def drawn(folder: Path, at: Any, size: int = 10, rows: int = 30, **options: Any) -> Path:
    """A batch over the graph, and its sample."""
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(rows)))
    chosen = BatchOptions(at.url, folder / "out.jsonl", audit=size, **options)
    assert run_batch(Dataset.found([str(source)]), chosen, lambda _: None)["audited"] == min(size, rows)
    return folder / "out.jsonl.audit.jsonl"


def call(*words: object, keys: str = "") -> Any:
    return CliRunner().invoke(app, list(map(str, words)), input=keys)


def label(sample: Path, keys: str, *more: object) -> dict[str, Any]:
    done = call("label", sample, "--json", *more, keys=keys)
    assert done.exit_code == 0, (done.output, done.exception)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def audit(sample: Path, *more: object) -> dict[str, Any]:
    done = call("batch", "audit", sample, "--json", *more)
    assert done.exit_code == 0, (done.output, done.exception)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_what_is_drawn_is_labelled_in_sessions_and_says_what_is_known_of_the_batch(
    served: Callable[..., Any], tmp_path: Path
) -> None:
    sample = drawn(tmp_path, served(judge=FakeJudge()), system="be brief")
    first = call("label", sample, keys="rw")
    assert first.exit_code == 0, first.output
    assert "2 of 10 answers labelled, 1 wrong" in first.stdout
    assert "be brief" in first.stderr
    assert "cheap says" in first.stderr
    assert not {"accepted", "tier", "out.jsonl.journal"} & set(first.stderr.split()), "blind to who answered"
    assert label(sample, "srrrrrw")["labelled"] == 8
    told = audit(sample)
    assert (told["labelled"], told["without_label"], told["left"], told["answers"]) == (8, 1, 1, 30)
    low, high = exact_share(2, 9)["low"], exact_share(3, 9)["high"]
    assert told["wrong"] == {"share": 0.25, "low": low, "high": high, "count": 2, "of": 9, "unknown": 1}
    assert told["wrong_of_all"] == {"share": 7.5, "low": 30 * low, "high": 30 * high}
    assert told["tiers"]["cheap"] == told["outcomes"]["accepted"] == told["wrong"]
    assert told["harm"]["count"] == 0
    assert told["harm"]["unknown"] == 3, "nobody asked the last tier about the wrong ones"
    assert "wrong: 2 of 8, 25.0 %" in call("batch", "audit", sample).stdout


def test_the_summary_of_the_next_run_has_it(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served(judge=FakeJudge())
    sample = drawn(tmp_path, at)
    label(sample, "w" + "r" * 9)
    done = call("batch", "run", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", "--url", at.url)
    assert "wrong: 1 of 10, 10.0 %" in done.stdout


def test_harm_is_known_once_the_last_tiers_answer_is_labelled(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = served(judge=FakeJudge())
    sample = drawn(tmp_path, at)
    config = tmp_path / "graph.yaml"
    config.write_text(
        "tiers:\n"
        "  - {name: cheap, engine: echo, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}\n"
        "  - {name: frontier, engine: echo, price: {input_usd_per_mtok: 10, output_usd_per_mtok: 20}}\n"
    )
    shown = call("label", sample, "--ask", f"{at.url}/v1", "-c", config, keys="wr ww ws" + "r" * 7)
    assert "another answer to the same prompt" in shown.stderr
    assert "frontier says" in shown.stderr
    harm = audit(sample)["harm"]
    assert (harm["count"], harm["of"], harm["unknown"]) == (1, 10, 1)


def test_two_people_disagree_until_somebody_settles_it(served: Callable[..., Any], tmp_path: Path) -> None:
    sample = drawn(tmp_path, served(judge=FakeJudge()), size=4)
    label(sample, "rrwr", "--labeller", "ann")
    both = label(sample, "rwwr", "--labeller", "bob")
    assert (both["disputed"], both["agreement"][0]["agree"]) == (1, 0.75)
    told = audit(sample)
    assert (told["wrong"]["count"], told["wrong"]["unknown"]) == (1, 1)
    label(sample, "w", "--labeller", "eve", "--adjudicate")
    assert audit(sample)["wrong"]["count"] == 2


def test_a_label_is_taken_back_with_what_was_said_of_the_other_answer(
    served: Callable[..., Any], tmp_path: Path
) -> None:
    sample = drawn(tmp_path, served(judge=FakeJudge()), size=3)
    assert label(sample, "wuru r q")["labelled"] == 1
    assert audit(sample)["wrong"]["count"] == 0
    assert label(sample, "rr")["left"] == 0


def test_values_that_somebody_wrote_into_the_file_count(served: Callable[..., Any], tmp_path: Path) -> None:
    sample = drawn(tmp_path, served(judge=FakeJudge()), size=4)
    head, *lines = sample.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row, value, last in zip(rows, ["right", False, True, None], [None, "right", None, None], strict=True):
        row |= {"value": value, "last_tier_right": last}
    sample.write_text("\ufeff" + "\r\n".join([head, *map(json.dumps, rows)]))
    told = audit(sample)
    assert (told["labelled"], told["wrong"]["count"], told["left"], told["harm"]["count"]) == (3, 1, 1, 1)
    rows[0]["value"] = "good"
    sample.write_text("\n".join([head, *map(json.dumps, rows)]))
    assert "line 2: `value` is 'good'" in str(call("batch", "audit", sample).exception)


def test_labels_are_told_to_the_graph(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served(judge=FakeJudge())
    sample = drawn(tmp_path, at, size=3)
    label(sample, "rw", "--labeller", "ann")
    assert audit(sample, "--post", f"{at.url}/v1")["posted"] == {"taken": 2, "without_decision": 0}
    assert audit(sample, "--post", at.url)["posted"]["taken"] == 2
    told = {one.decision: (one.kind, one.value, one.labeller) for one in at.feedback}
    assert sorted(told.values()) == [("label", 0.0, "ann"), ("label", 1.0, "ann")]
    assert told.keys() <= {record.id for record in at.sink.records}


def test_a_certificate_is_held_against_the_sample(served: Callable[..., Any], tmp_path: Path) -> None:
    from types import SimpleNamespace

    from router_models.risk_control.certificates.risks import ACCEPTED_RISK
    from serve_graph.cli.batch.quality.measured_quality import held_against

    sample = drawn(tmp_path, served(judge=FakeJudge()), size=30)
    label(sample, "w" * 10 + "r" * 20)
    told = batch_quality(sample)

    def held(epsilon: float) -> tuple[bool, bool]:
        bound: Any = SimpleNamespace(what=ACCEPTED_RISK, epsilon=epsilon)
        found = held_against(told, bound)
        return found["contradicted"], found["shown"]

    assert (held(0.1), held(0.33), held(0.6)) == ((True, False), (False, False), (False, True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "x"}\n', "is no file that `batch run --audit` has drawn"),
        ("", "is no file that `batch run --audit` has drawn"),
    ],
)
def test_what_is_no_sample_is_not_labelled(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    assert said in str(call("label", tmp_path / "x.jsonl", keys="r").exception)


def test_labels_of_something_else_are_not_read(served: Callable[..., Any], tmp_path: Path) -> None:
    sample = drawn(tmp_path, served(judge=FakeJudge()), size=3)
    other = tmp_path / "other.jsonl"
    other.write_text('{"row": "x"}\n')
    assert "holds no labels of a batch" in str(call("label", sample, "--labels", other, keys="r").exception)
    assert "nothing is labelled" in str(call("batch", "audit", sample).exception)
    assert other.read_text() == '{"row": "x"}\n'


def test_every_row_is_as_likely_to_be_drawn_and_in_any_place(tmp_path: Path) -> None:
    rows = [(f"key-{n % 9}", {"prompt": str(n), "answer": "x", "serve_graph_status": "200"}) for n in range(10)]
    drawn_at: Counter[tuple[int, str]] = Counter()
    for seed in range(400):
        assert write_audit(tmp_path / "a", [*rows, ("key-x", {"answer": None})], "prompt", 3, seed, {}) == 3
        found = read_drawn(tmp_path / "a")
        assert found.of == 10
        drawn_at.update((place, one.prompt) for place, one in enumerate(found.answers))
    assert all(
        20 < drawn_at[place, str(n)] < 65 for n in range(10) for place in range(3)
    )  # 40 expected, 6 a deviation


def test_a_larger_sample_has_the_smaller_one_in_it(tmp_path: Path) -> None:
    rows = [(f"key-{n}", {"prompt": str(n), "answer": "x", "serve_graph_status": "200"}) for n in range(50)]
    write_audit(tmp_path / "a", rows, "prompt", 5, 0, {})
    small = read_drawn(tmp_path / "a").answers
    write_audit(tmp_path / "a", rows, "prompt", 20, 0, {})
    assert read_drawn(tmp_path / "a").answers[:5] == small


def test_labels_in_between_that_are_missing_may_be_wrong(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served(judge=FakeJudge())
    sample = drawn(tmp_path, at, size=3)
    label(sample, "rrr")
    drawn(tmp_path, at, size=3, rows=60)  # more rows: what is drawn now is partly new
    told = audit(sample)
    assert told["labelled"] + told["without_label"] + told["left"] == 3
    assert told["answers"] == 60


def test_the_rows_of_another_run_are_said(served: Callable[..., Any], tmp_path: Path) -> None:
    sample = drawn(tmp_path, served(judge=FakeJudge()), size=3)
    label(sample, "rrr")
    (tmp_path / "out.jsonl.journal").unlink()
    with pytest.raises(ServeGraphError, match="no journal"):
        batch_quality(sample)
