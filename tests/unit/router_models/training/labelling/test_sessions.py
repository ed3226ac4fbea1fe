"""What a labeller is asked next, what several people's words come to, and what a file of labels keeps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import ArtifactError, DataError
from router_models.training.labelling.plan import LabelPlan, LabelTask, Question, check_agrees
from router_models.training.labelling.records import (
    LabelRecord,
    append_line,
    begin_labels,
    has_labels,
    read_label_file,
    without_last,
)
from router_models.training.labelling.session import LabelSession
from router_models.training.labelling.streamed import check_records
from router_models.training.labelling.votes import agreements, cohens_kappa, marks_by, votes_of

PLAN = LabelPlan("accepted", ("cheap", "top"), 0.2, 0.1, 0.1, 1, (0.5,), (0.02,), "human", "c", "r", 100, "2026-01-05")
HARM = replace(PLAN, promise="harm")


def task(n: int = 60, plan: LabelPlan = PLAN, same: tuple[int, ...] = ()) -> LabelTask:
    """n rows that one threshold accepts; both tiers' answers are the same in the rows `same`."""
    tiers = plan.tiers if plan.harm else plan.tiers[:1]
    rows = [
        Question(f"k{i}", f"q{i}?", {tier: "x" if i in same else f"{tier} says {i}" for tier in tiers})
        for i in range(n)
    ]
    return LabelTask(plan, tuple(rows), np.full(n, 0.9))


def session(asked: LabelTask, records: tuple[LabelRecord, ...] = (), by: str = "ann", **more: bool) -> LabelSession:
    return LabelSession(asked, records, by, len(records), **more)


def by_keys(begun: LabelSession, keys: str) -> LabelSession:
    for key in keys:
        if key == "u":
            undone = begun.undo()
            assert undone is not None
            begun = undone
        else:
            begun = begun.label({"r": True, "w": False, "s": None}[key], "now")
    return begun


def test_a_session_ends_as_soon_as_it_is_proved_and_says_what_is_missing_until_then():
    begun = session(task())
    first = begun.summary()["under_test"]
    n = 0
    while begun.next_item() is not None:
        begun, n = begun.label(True, "now"), n + 1
    told = begun.summary()
    assert first["more"] >= n - 3
    assert (told["labelled"], told["complete"], told["under_test"]) == (n, True, None)
    assert told["proved"] == {"threshold": 0.5, "share": 0.6, "labels": n, "against": 0}
    assert n < 25
    assert session(task(), begun.records).next_item() is None, "a second session has nothing to ask"


def test_where_no_row_is_left_nothing_is_asked_and_nothing_proved():
    begun = by_keys(session(task(8)), "rrwrwrrw")
    assert begun.next_item() is None
    told = begun.summary()
    assert (told["proved"], told["complete"], told["under_test"]["left"]) == (None, False, 0)


def test_once_something_is_proved_thresholds_that_are_not_likely_to_be_are_left_unless_they_are_asked_for():
    two = replace(PLAN, thresholds=(0.8, 0.5), tune_risk=(0.02, 0.3))
    rows = task(120, two)
    rows = LabelTask(two, rows.questions, np.where(np.arange(120) < 60, 0.6, 0.9))
    begun = session(rows)
    while begun.next_item() is not None:
        begun = begun.label(True, "now")
    told = begun.summary()
    assert (told["proved"]["threshold"], told["complete"]) == (0.8, False)
    assert told["under_test"]["more"] is None or told["under_test"]["more"] > told["under_test"]["left"]
    assert session(rows, begun.records, to_the_end=True).next_item() is not None


def test_skips_count_as_wrong_and_are_asked_again_by_the_next_session():
    begun = by_keys(session(task(), by="ann"), "rsr")
    assert marks_by(begun.task, begun.votes)[:4].tolist()[:3] == [0, 1, 0]
    assert begun.next_item()[0].key == "k3"
    again = session(task(), begun.records)
    assert again.next_item()[0].key == "k1"
    settled = again.label(True, "now")
    assert marks_by(settled.task, settled.votes)[1] == 0
    assert settled.summary()["skipped"] == 0


def test_undo_takes_back_the_last_label_of_this_person_alone_across_sessions():
    ann = by_keys(session(task()), "rw")
    bob = session(task(), ann.records, by="bob")
    assert bob.undo() is None
    once = session(task(), ann.records).undo()
    assert once is not None
    assert once.next_item()[0].key == "k1"
    assert [record.row for record in once.records] == ["k0"]


def test_a_second_person_is_asked_what_the_first_labelled_and_then_what_is_missing():
    ann = by_keys(session(task()), "rrr")
    bob = session(task(), ann.records, by="bob")
    asked = []
    for _ in range(5):
        asked.append(bob.next_item()[0].key)
        bob = bob.label(True, "now")
    assert asked == ["k0", "k1", "k2", "k3", "k4"]
    done = session(task())
    while done.next_item() is not None:
        done = done.label(True, "now")
    eve = session(task(), done.records, by="eve")
    assert eve.next_item()[0].key == "k0", "though it is proved: two people label the same rows"


def test_a_draw_counts_as_wrong_until_a_majority_or_an_adjudication_settles_it():
    ann = by_keys(session(task()), "rr")
    bob = by_keys(session(task(), ann.records, by="bob"), "wr")
    assert marks_by(bob.task, bob.votes)[:2].tolist() == [1, 0]
    assert bob.summary()["disputed"] == 1
    eve = by_keys(session(task(), bob.records, by="eve"), "r")
    assert marks_by(eve.task, eve.votes)[0] == 0
    judge = session(task(), bob.records, by="judy", adjudicating=True)
    assert judge.next_item()[0].key == "k0"
    settled = judge.label(True, "now")
    assert settled.next_item() is None, "only disputed answers are shown"
    assert (marks_by(settled.task, settled.votes)[0], settled.summary()["disputed"]) == (0, 0)
    assert settled.undo().summary()["disputed"] == 1


def test_harm_asks_about_both_answers_and_is_a_wrong_one_where_the_last_tiers_is_right():
    asked = task(6, HARM, same=(4,))
    words = {"k0": (False, True), "k1": (False, False), "k2": (True, False), "k3": (True, True), "k5": (None, None)}
    records = [
        LabelRecord(row, tier, "ann", right)
        for row, both in words.items()
        for tier, right in zip(HARM.tiers, both, strict=True)
    ]
    assert marks_by(asked, votes_of(records)).tolist() == [1, 0, 0, 0, 0, 1], "skipped: harm; equal answers: none"
    begun, seen = session(asked), []
    while (item := begun.next_item()) is not None:
        seen.append((item[0].key, item[1]))
        begun = begun.label(True, "now")
    assert len(seen) == len(set(seen)) == 10, "two answers of each row but the one with equal ones"
    half = votes_of([LabelRecord("k0", "cheap", "ann", False)])
    assert np.isnan(marks_by(asked, half)[0]), "one answer alone is no label of the row"


def test_kappa_is_cohens():
    first = [True] * 20 + [True] * 5 + [False] * 10 + [False] * 15
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)  # the example of Cohen's kappa in every textbook
    assert cohens_kappa([True, False], [True, False]) == 1
    assert cohens_kappa([True], [True]) is None
    assert cohens_kappa([], []) is None
    records = [LabelRecord("a", "t", who, right) for who, right in (("ann", True), ("bob", False), ("eve", True))]
    assert [(pair.labellers, pair.agree) for pair in agreements(votes_of(records))] == [
        (("ann", "bob"), 0), (("ann", "eve"), 1), (("bob", "eve"), 0),
    ]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(keys=st.text("rwsu", max_size=25), cut=st.integers(0, 25))
def test_a_file_read_again_goes_on_where_the_session_was(tmp_path_factory, keys, cut):
    path = tmp_path_factory.mktemp("labels") / "l.jsonl"
    begin_labels(path, PLAN)
    begun = session(task())
    for i, key in enumerate(keys):
        if i == cut:  # another session
            plan, records = read_label_file(path)
            assert (plan, records) == (PLAN, begun.records)
            begun = session(task(), records)
        if begun.next_item() is None:
            break
        if key == "u":
            undone = begun.undo()
            if undone is not None:
                append_line(path, {"undo": "ann"})
                begun = undone
            continue
        begun = begun.label({"r": True, "w": False, "s": None}[key], "now")
        append_line(path, begun.records[-1].to_json())
    assert read_label_file(path) == (PLAN, begun.records)


def test_a_line_cut_short_is_left_out_and_the_next_label_is_a_line_of_its_own(tmp_path: Path):
    path = tmp_path / "l.jsonl"
    assert not has_labels(path)
    begin_labels(path, PLAN)
    append_line(path, LabelRecord("k0", "cheap", "ann", True).to_json())
    with path.open("a") as file:
        file.write('{"row": "k1", "ti')
    assert len(read_label_file(path)[1]) == 1
    append_line(path, LabelRecord("k1", "cheap", "ann", False).to_json())
    assert [record.right for record in read_label_file(path)[1]] == [True, False]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "holds no labels"),
        ("not json\n", "not a file of labels"),
        ('{"row": "k0"}\n', "not a file of labels, its first line is no plan"),
        (json.dumps({**PLAN.to_json(), "labels_format": 9}) + "\n", "labels format 9"),
        (json.dumps(PLAN.to_json()) + '\n{"row": 1}\n', "line 2 is no label"),
        (json.dumps(PLAN.to_json()) + '\n\n{"row": "a", "tier": "t", "labeller": "", "label": 1}\n', "line 3 .* is 1"),
        (json.dumps(PLAN.to_json()) + "\n[]\n", "line 2 is no label"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_labels_is_refused_with_its_line(tmp_path: Path, lines: str, said: str):
    (tmp_path / "l.jsonl").write_text(lines)
    with pytest.raises(ArtifactError, match=said):
        read_label_file(tmp_path / "l.jsonl")


def test_what_was_fixed_before_the_first_label_stays_and_labels_of_other_rows_are_refused():
    assert LabelPlan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN
    check_agrees(PLAN, epsilon=0.2, delta=None, promise="accepted")
    with pytest.raises(DataError, match=r"begun for epsilon 0\.2, not 0\.3"):
        check_agrees(PLAN, epsilon=0.3)
    with pytest.raises(DataError, match="1 label is of an answer that the plan does not ask"):
        check_records(task(), [LabelRecord("k0", "top", "ann", True)])
    assert without_last([], "ann") == []
