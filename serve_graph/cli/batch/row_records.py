"""What decision records say of a dataset's answers: the estimate, what is promised, what the last tier would cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx

from router_models.errors import by_number
from serve_graph.cli.batch.forecast import share_of
from serve_graph.cli.batch.journal import Journal
from serve_graph.cluster.batches.passes.row_answer import said_of
from serve_graph.errors import ServeGraphError

RECORD_COLUMNS = ("p_answer_ok", "promised", "not_promised")
PAGE_ROWS, READ_AT_ONCE = 200, 16
APPEARS_WITHIN_S, LOOKED_FOR_EVERY_S = 15.0, 0.5


async def read_records(client: httpx.AsyncClient, journal: Journal) -> int:
    """Note for every answered row what its record says; returns how many records were read.

    Raises ServeGraphError where the key may not read records. A record that is not there after 15 s is left out.
    """
    places, count, after = asyncio.Semaphore(READ_AT_ONCE), 0, ""

    async def note(key: str, result: dict[str, Any]) -> bool:
        async with places:
            page = await _page(client, str(result["decision"]))
        if page is not None:
            journal.amend(key, True, result | said_of(page))
        return page is not None

    while page := journal.answered_after(after, PAGE_ROWS):
        after = page[-1][0]
        left = [note(key, result) for key, result in page if result.get("decision") and "promised" not in result]
        count += sum(await asyncio.gather(*left))
    return count


async def _page(client: httpx.AsyncClient, decision: str) -> dict[str, Any] | None:
    for _ in range(int(APPEARS_WITHIN_S / LOOKED_FOR_EVERY_S)):
        try:
            reply = await client.get(f"/v1/decisions/{decision}")
        except httpx.HTTPError:
            return None
        if reply.status_code == 200:
            found: dict[str, Any] = reply.json()
            return found
        if reply.status_code in (401, 403):
            raise ServeGraphError("--records needs a key with the scope admin: decision records are for those")
        if reply.status_code != 404:
            return None
        await asyncio.sleep(LOOKED_FOR_EVERY_S)
    return None


def record_sums(journal: Journal) -> dict[str, Any] | None:
    """Over the answers whose record was read: shares promised and covered, what was saved beside the last tier, and
    what calls for signals took of the cost.
    """
    read = promised = uncovered = calls = tokens = 0
    saved, asked, after = Decimal(0), Decimal(0), ""
    while page := journal.answered_after(after, PAGE_ROWS):
        after = page[-1][0]
        for _, result in page:
            if "promised" not in result:
                continue
            read += 1
            promised += bool(result["promised"])
            uncovered += result["uncovered"] is not None
            if (signals := result.get("signals")) is not None:
                calls, tokens = calls + signals["calls"], tokens + signals["tokens"]
                asked += Decimal(signals["usd"])
            if result["last_tier_usd"] is not None and result["cost_usd"] is not None:
                saved += Decimal(result["last_tier_usd"]) - Decimal(result["cost_usd"])
    if not read:
        return None
    signals = {"calls": calls, "tokens": tokens, "usd": str(asked)}
    shares = {"promised": promised, "covered": read - uncovered}
    return {"read": read, **shares, "saved_usd": str(saved), "signals": signals}


def record_lines(read: dict[str, Any]) -> Iterator[str]:
    """What the records say, as lines of text."""
    parts = {name: share_of(read[name], read["read"]) for name in ("covered", "promised")}
    shown = ", ".join(f"{100 * found['share']:.1f} % {name}" for name, found in parts.items())
    answers = by_number(read["read"], "answer")
    yield f"of {read['read']:,} {answers} {shown}; ${Decimal(read['saved_usd']):.6f} saved beside the last tier alone"
    if (signals := read["signals"])["calls"]:
        yield (
            f"{signals['calls']:,} {by_number(signals['calls'], 'call')} for signals ({signals['tokens']:,} "
            f"tokens) took "
            f"${Decimal(signals['usd']):.6f} of what these answers cost"
        )
