"""The column that says when answers were made: read by tier, refused where it says no time, in the certificate."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.groups import in_hash_order
from router_models.data.outcomes import OutcomeTable, read_outcomes, table_of
from router_models.errors import DataError
from router_models.types.drawn import oldest

LONG = {"prompt": ["a", "a", "b", "b"], "tier": ["s", "l"] * 2, "grade": [1, 0, 0, 1]}
WIDE = {"prompt": ["a", "b"], "s": [1, 0], "l": [0, 1]}
FIRST, THEN = "2026-03-01T12:00:00+00:00", "2026-03-04T12:00:00+00:00"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def table(columns: dict[str, Any], **more: list[Any]) -> OutcomeTable:
    return table_of(parse_columns(pd.DataFrame(columns | more)))


def test_a_tier_that_was_asked_again_later_has_its_own_times() -> None:
    read = table(LONG, collected_at=[FIRST, THEN, FIRST, None])
    assert read.collected_at == {"s": (FIRST, FIRST), "l": (THEN, "")}
    assert (read.tiers, dict(read.prompts.metadata)) == (("s", "l"), {})
    assert read.take([1]).only("l").collected_at == {"l": ("",)}


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.jsonl"])
def test_a_wide_table_says_it_for_all_tiers_in_any_file(name: str, tmp_path: Path) -> None:
    frame, path = pd.DataFrame(WIDE | {"collected_at": [FIRST, "2026-03-04T13:00:00+01:00"]}), tmp_path / name
    if name.endswith("parquet"):
        frame.assign(collected_at=pd.to_datetime(frame["collected_at"], utc=True)).to_parquet(path)
    else:
        frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_json(path, orient="records", lines=True)
    cells = read_outcomes(path).collected_at["l"]
    assert [datetime.fromisoformat(cell) for cell in cells] == [datetime.fromisoformat(at) for at in (FIRST, THEN)]


@pytest.mark.parametrize("said", ["yesterday", "2026-03-01T12:00:00", "7"])
def test_what_is_no_time_with_a_zone_is_refused_by_column_and_row(said: str) -> None:
    with pytest.raises(DataError, match=r"collected_at.*row 1"):
        table(WIDE, collected_at=[FIRST, said])


def test_tables_without_the_column_load_and_say_nothing() -> None:
    assert table(LONG).collected_at == table(WIDE).collected_at == {}


def test_when_answers_were_made_changes_no_digest_and_of_copies_the_oldest_counts_whatever_their_order() -> None:
    assert table(WIDE, collected_at=[FIRST, THEN]).content_hash == table(WIDE).content_hash
    for times in ((FIRST, THEN), (THEN, FIRST), (THEN, ""), ("", THEN)):
        copies = table({"prompt": ["a", "a"], "s": [1, 1]}, collected_at=list(times))
        assert in_hash_order(copies, 0).collected_at["s"] == (min(times),)


@pytest.mark.parametrize(
    ("cells", "since"),
    [
        ((THEN, FIRST), datetime.fromisoformat(FIRST)),
        ((THEN, ""), None),
        ((), None),
        (("2099-01-01T00:00:00+00:00",), NOW),
    ],
    ids=["the oldest", "one does not say", "none says", "in the future"],
)
def test_rows_together_are_as_old_as_the_oldest(cells: tuple[str, ...], since: datetime | None) -> None:
    assert oldest(cells, NOW) == since
    assert oldest(("2026-03-01T12:00:00+02:00",), NOW) == datetime.fromisoformat(FIRST) - timedelta(hours=2)
