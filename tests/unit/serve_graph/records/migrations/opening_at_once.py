"""Processes that open one decision store at once: `python opening_at_once.py URL PROCESSES [kill STATEMENT]`.

They are forked from one that has imported everything, and let go together. With `kill`, each dies, as by `kill -9`, at
the first SQL statement that begins so. Prints the exit codes, one a line.
"""

import asyncio
import os
import signal
import sys
import traceback
from typing import Any

from sqlalchemy import Engine, event

from serve_graph.records.store import DecisionStore


async def open_and_close(url: str) -> None:
    """Open the store, look into it, close it."""
    store = DecisionStore(url)
    await store.open()
    await store.count()
    await store.close()


def die_at(statement: str) -> None:
    """Let this process be killed before such a statement is executed."""

    @event.listens_for(Engine, "before_cursor_execute")
    def _(_: Any, __: Any, executed: str, *___: Any) -> None:
        if executed.strip().startswith(statement):
            os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, processes: int, statement: str | None) -> None:
    """Fork, let go, wait."""
    waiting, letting_go = os.pipe()
    children = []
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            os.close(letting_go)
            os.read(waiting, 1)  # ends when the parent closes its end
            code = 1
            try:
                if statement:
                    die_at(statement)
                asyncio.run(open_and_close(url))
                code = 0
            except BaseException:  # noqa: BLE001 (a fork must never go on as its parent)
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    os.close(letting_go)
    for child in children:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[4] if len(sys.argv) > 4 else None)
