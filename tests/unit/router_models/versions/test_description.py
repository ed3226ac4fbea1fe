"""The report on the registry's page: its text is all there, its tables can be read, no picture is broken."""

from router_models.versions.mlflow_model import page_description

REPORT = r"""# Version

| what | P(wrong \| kept) |
|---|---|
| cheap | 0.1 |
Of the rest nothing is said.

![reliability](reliability.png)
"""


def test_cells_are_set_apart_and_what_follows_a_table_is_set_off() -> None:
    lines = page_description(REPORT).splitlines()
    start = lines.index("|---|---|")
    assert lines[start - 1] == "| what \u00a0\u00a0\u00a0| P(wrong \\| kept) |"
    assert lines[start + 1 : start + 5] == [
        "| cheap \u00a0\u00a0\u00a0| 0.1 |",
        "",
        "\u00a0",
        "Of the rest nothing is said.",
    ]


def test_a_picture_is_named_where_it_lies_and_no_word_is_lost() -> None:
    shown = page_description(REPORT)
    assert "![" not in shown
    assert "The picture reliability.png: in report.html of the run" in shown
    assert set(REPORT.replace("![reliability](reliability.png)", "").split()) <= set(shown.split())
