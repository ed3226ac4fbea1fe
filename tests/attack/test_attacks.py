"""Every attack of the table against a live graph, and a table that can say no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.attack.attack import Attack, Result, carried_out, failed, refused, table
from tests.attack.honest import Honest, Measured, passed, report
from tests.attack.load import burn
from tests.attack.table import WITH_KEYS
from tests.attack.target import Answer, Target, attacked

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A graph with keys. One without any is attacked where tests share it: `tests/cluster/test_http_requests.py`."""
    with attacked() as graph:
        yield graph


@pytest.mark.parametrize("each", WITH_KEYS, ids=lambda each: each.name)
def test_the_attack_is_refused_as_wanted(target: Target, each: Attack) -> None:
    result = carried_out(each, target)
    assert result.ok, f"{each.sent}: wanted {each.wanted}; {result.got}"


def test_what_is_answered_otherwise_than_wanted_is_said_and_counted() -> None:
    assert refused([Answer(403), Answer(403)], 403) == ("403 × 2", True)
    assert refused([Answer(403), Answer(200)], 403) == ("403, 200", False)
    assert refused([], 403) == ("", False)
    quiet = Attack("a | b", "x", "403", lambda _: ("200", False), honest_too=False)
    broken = Attack("breaks", "x", "403", lambda _: 1 / 0, honest_too=False)  # type: ignore[arg-type,return-value]
    found = [carried_out(each, None) for each in (quiet, broken)]  # type: ignore[arg-type]
    found.append(Result(quiet, "403", True, 0.01))
    assert [result.ok for result in found] == [False, False, True]
    assert failed(found) == ["a | b", "breaks"]
    assert table(found).count("**NO**") == 2
    assert "| a \\| b | x | 403 | 403 | 10 ms | ok |" in table(found)


def test_an_honest_key_that_waits_longer_or_is_refused_once_fails_the_measurement() -> None:
    alone, same, slower, refused_once = (Honest(None) for _ in range(4))  # type: ignore[arg-type]
    for honest, slowest in ((alone, 0.1), (same, 0.2), (slower, 0.21), (refused_once, 0.1)):
        honest.took_s = [0.01] * 98 + [slowest] * 2
        honest.statuses["200"] = 100
    refused_once.statuses = Counter({"200": 99, "503": 1})
    assert [passed(alone, each) for each in (same, slower, refused_once)] == [True, False, False]
    answered = Counter({("abuse", "413"): 1200})
    page = report(Measured(alone, refused_once, answered, same, 0.4), 60, "command")
    assert "| beside a process that burns 0.40 of a core | 100 | 100 | 0 | 10 | 200 | 200 |" in page
    assert "p99 is 2.00 times that of the key alone" in page
    assert "| for 60 s of attack | 100 | 99 | 1 | 10 | 100 | 100 |" in page
    assert "| abuse | 1,200 | 413 × 1,200 |" in page
    assert "**failed**" in page


def test_the_control_burns_the_share_of_a_core_that_it_is_told_to() -> None:
    """As far as a busy machine lets it: nothing where it is told nothing, and most where it is told all."""
    assert burn(0.0, 0.2) < burn(1.0, 0.4)
