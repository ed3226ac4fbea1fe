"""Lines through a provider's batches over a real socket: gathered, told apart, found again after a kill, paid once."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.batch_pool import MOST_TRIES, BatchPool
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.errors import EngineError
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.providers.pools import COST, MOST, ask, line, pool_of, run
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply


@pytest.fixture
def provider() -> ProviderServer:
    return ProviderServer(echo_reply)


def test_lines_are_gathered_into_one_batch_whose_files_are_deleted_and_billed_as_one(
    provider: ProviderServer, tmp_path: Path
) -> None:
    async def use(pool: BatchPool) -> Any:
        answers = await ask(pool, *range(20))
        again = await ask(pool, 3, 7)  # what is known is not sent
        return answers, again, (await pool.reply(line(3)))["service_tier"], pool.purse.spent, pool.purse.held

    with listening(provider.app) as url:
        answers, again, tariff, spent, held = run(url, tmp_path / "j", use)
    assert answers == [f"m: row {n}" for n in range(20)]
    assert again == ["m: row 3", "m: row 7"]
    assert (tariff, spent, held) == ("batch", 20 * COST, 0)
    assert provider.sizes == [20]
    assert set(provider.paid.values()) == {1}
    assert not provider.files, "neither what was sent nor the answers stay at the provider"


def test_a_batch_takes_so_many_lines_at_most(provider: ProviderServer, tmp_path: Path) -> None:
    with listening(provider.app) as url:
        assert len(run(url, tmp_path / "j", lambda pool: ask(pool, *range(10)), most_lines=4)) == 10
    assert sorted(provider.sizes) == [2, 4, 4]


def test_nothing_is_sent_that_the_budget_might_not_cover(provider: ProviderServer, tmp_path: Path) -> None:
    """0.10 a line at most, 0.04 in fact: of 0.35 there is room for 3 lines, then for 1, then for none."""
    with listening(provider.app) as url:
        answers = run(url, tmp_path / "j", lambda pool: ask(pool, *range(10)), limit=Decimal("0.35"))
        assert answers[:6] == [f"m: row {n}" for n in range(6)]
        assert (
            set(answers[6:]) == {"EngineError: the budget of $0.35 has no room for another row ($0.280000 spent)"}
            or answers[6] == "m: row 6"
        )
        assert sum(COST for answer in answers if answer.startswith("m:")) <= Decimal("0.35")
        assert max(provider.sizes) == 3
        before = sum(provider.sizes)
        answers = run(url, tmp_path / "j", lambda pool: ask(pool, *range(10)), limit=Decimal("0.35"))
        assert sum(provider.sizes) == before, "the next run knows what was paid for"
        run(url, tmp_path / "j", lambda pool: ask(pool, *range(10)), limit=Decimal("2"))
    assert set(provider.paid.values()) == {1}


def test_a_batch_that_expires_keeps_its_answers_and_the_rest_is_sent_again(
    provider: ProviderServer, tmp_path: Path
) -> None:
    provider.ends, provider.answered = ["expired"], 4
    with listening(provider.app) as url:
        answers = run(url, tmp_path / "j", lambda pool: ask(pool, *range(10)))
    assert answers == [f"m: row {n}" for n in range(10)]
    assert provider.sizes == [10, 6]
    assert set(provider.paid.values()) == {1}


def test_what_expires_every_time_fails_alone(provider: ProviderServer, tmp_path: Path) -> None:
    provider.ends, provider.answered = ["expired"] * MOST_TRIES, 1
    with listening(provider.app) as url:
        answers = run(url, tmp_path / "j", lambda pool: ask(pool, *range(5)))
    assert provider.sizes == [5, 4, 3]
    assert answers[:3] == [f"m: row {n}" for n in range(3)]
    assert answers[3:] == ["too late"] * 2


def test_a_line_that_is_refused_fails_alone_and_is_sent_anew_when_it_is_asked_again(
    provider: ProviderServer, tmp_path: Path
) -> None:
    provider.statuses["row 1"] = 400
    with listening(provider.app) as url:
        assert run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1, 2)) == ["m: row 0", "refused", "m: row 2"]
        provider.statuses.clear()
        assert run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1, 2)) == [f"m: row {n}" for n in range(3)]
    assert provider.sizes == [3, 1]


def test_a_batch_that_the_provider_takes_nothing_of_ends_the_run(provider: ProviderServer, tmp_path: Path) -> None:
    provider.ends = ["failed"]
    with listening(provider.app) as url:
        answers = run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1))
        assert all(answer.startswith("EngineError: a batch of tier 'cheap' failed") for answer in answers)
        assert "Enqueued token limit" in answers[0]
        assert run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1)) == ["m: row 0", "m: row 1"]


@pytest.mark.parametrize("status", [500, 429])
def test_what_was_done_though_the_reply_said_otherwise_is_not_done_again(
    provider: ProviderServer, tmp_path: Path, status: int
) -> None:
    provider.refuses = [status, status]  # of the upload, and of the batch: both had been taken
    with listening(provider.app) as url:
        assert run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1)) == ["m: row 0", "m: row 1"]
    assert len(provider.batches) == 1


def test_a_key_that_is_refused_ends_the_run_and_fails_no_line(provider: ProviderServer, tmp_path: Path) -> None:
    provider.refuses = [401]
    with listening(provider.app) as url:
        answers = run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1))
        assert all("the batches of tier 'cheap' do not work" in answer for answer in answers)
        assert run(url, tmp_path / "j", lambda pool: ask(pool, 0, 1)) == ["m: row 0", "m: row 1"]
    assert set(provider.paid.values()) == {1}


async def test_a_run_that_is_stopped_waits_for_nobody(provider: ProviderServer, tmp_path: Path) -> None:
    provider.looks = 10_000
    with listening(provider.app) as url:
        pool = pool_of(url, tmp_path / "j")
        asked = asyncio.create_task(pool.reply(line(0)))
        while not provider.batches:
            await asyncio.sleep(0.01)
        pool.purse.stop("interrupted")
        with pytest.raises(EngineError, match="interrupted"):
            await asyncio.wait_for(asked, 5)
        await pool.api.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.unit.serve_graph.cli.batch.providers.pools import ask, run
print(run(sys.argv[1], Path(sys.argv[2]), lambda pool: ask(pool, *range(6))))
"""


@pytest.mark.parametrize("after", ["file", "batch", "noted"])
def test_killed_anywhere_nothing_is_lost_or_paid_twice(provider: ProviderServer, tmp_path: Path, after: str) -> None:
    """Between an upload and its note, between a batch and its note, and while it is waited for."""
    killed: list[int] = []

    def kill(what: str) -> None:
        if what == after and not killed:
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    provider.on = kill
    provider.looks = 1 if after != "noted" else 10**9
    journal = tmp_path / "j"
    with listening(provider.app) as url:
        child = subprocess.Popen([sys.executable, "-c", CHILD, url, str(journal)])
        if after == "noted":
            _wait_for_looks(provider)
            os.kill(child.pid, signal.SIGKILL)
        assert child.wait(120) == -signal.SIGKILL
        assert len(provider.batches) == (0 if after == "file" else 1)
        provider.looks = 1 if after != "noted" else next(iter(provider.batches.values()))["looked"] + 1
        assert run(url, journal, lambda pool: ask(pool, *range(6))) == [f"m: row {n}" for n in range(6)]
    assert provider.sizes == [6], "one batch, whoever created it"
    assert set(provider.paid.values()) == {1}
    assert len([name for name in provider.deleted if name.startswith("file-")]) >= 2, "no orphan of the file stays"


def _wait_for_looks(provider: ProviderServer) -> None:
    """Until the batch was looked at twice: it was noted before the first."""
    until = time.monotonic() + 120
    while not any(batch["looked"] > 1 for batch in list(provider.batches.values())):
        assert time.monotonic() < until, "no batch is looked at"
        time.sleep(0.02)


async def _nonsense(_: Request) -> Response:
    return JSONResponse({"object": "batch", "id": "batch_1", "status": "completed", "request_counts": 3})


def test_a_reply_that_nobody_understands_ends_the_run_instead_of_leaving_lines_waiting(
    provider: ProviderServer, tmp_path: Path
) -> None:
    app = Starlette(routes=[Route("/v1/batches/{id}", _nonsense), Mount("/", provider.app)])
    with listening(app) as url:
        [said] = run(url, tmp_path / "j", lambda pool: asyncio.wait_for(ask(pool, 0), 20))
    assert "EngineError: the batches of tier 'cheap' do not work: AttributeError" in said


def test_lines_for_a_row_that_is_answered_anew_are_kept_until_it_is(tmp_path: Path) -> None:
    """`--again` asks a row whose former answer stands until then."""

    def opened() -> tuple[Journal, ProviderLedger]:
        journal = Journal(tmp_path / "j")
        return journal, ProviderLedger(journal.connection)

    journal, ledger = opened()
    for n in range(3):
        journal.note(f"row-{n}", True, {"version": "old"})
    with journal.at_once() as db:
        db.execute("INSERT INTO under_way VALUES ('row-1', 'cheap', 'new', '0', '{}', '')")
    begun, sent = ledger.begin("cheap", [line(1), line(2)]), ledger.begin("cheap", [line(0)])
    ledger.end(begun.token, "completed", {f"key-{n}": ({"choices": []}, COST) for n in (1, 2)})
    journal.close()
    journal, ledger = opened()
    assert ledger.is_sent("key-0"), "it is at the provider"
    assert [one.token for one in ledger.open()] == [sent.token]
    assert (ledger.reply("key-1"), ledger.reply("key-2")) == ({"choices": []}, None)
    assert (ledger.unaccounted_usd(), ledger.sent_usd(), ledger.sent_usd("frontier")) == (COST, MOST, 0)
    ledger.settle("row-1", "cheap")
    assert ledger.unaccounted_usd() == 0
    journal.close()
