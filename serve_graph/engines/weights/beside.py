"""Weights that are not converted yet, prepared in a process of their own while something else is done."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from router_models.types import Progress
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights.resolve import check_package, resolve_weights
from serve_graph.errors import WeightsError

Resolve = Callable[[WeightsConfig, Path, Progress], str]


@contextmanager
def weights_beside(
    weights: Sequence[WeightsConfig], state_folder: Path, progress: Progress, resolve: Resolve = resolve_weights
) -> Iterator[None]:
    """Resolve weights (`resolve_weights`) while the body runs, and end when both are done.

    What must be converted is converted in another process, so that both cores are used; where nothing must be, the
    folders are verified before the body begins. A package that is not installed is said before either.

    Parameters
    ----------
    weights : sequence of WeightsConfig
        One tier's each.
    state_folder : Path
        Where converted weights lie.
    progress : Progress
        Told what is done, from a thread of its own.
    resolve : callable
        What resolves one tier's weights, as `resolve_weights`; a function of a module, as another process calls it.

    Raises
    ------
    WeightsError
        Naming what is missing or damaged and the remedy. Where it is found while the body runs, `progress` is told at
        once, and it is raised when the body has ended. A body that fails ends the conversion.
    """
    to_convert = [each for each in weights if check_package(each, state_folder)]
    for each in weights:
        if each not in to_convert:
            resolve(each, state_folder, progress)
    if not to_convert:
        yield
        return
    context = multiprocessing.get_context("spawn")
    listening, saying = context.Pipe(duplex=False)
    child = context.Process(target=_resolve_all, args=(resolve, to_convert, state_folder, saying), daemon=True)
    child.start()
    saying.close()
    ends: list[str | None] = []
    relay = threading.Thread(target=_relay, args=(listening, progress, ends), daemon=True)
    relay.start()
    try:
        yield
    except BaseException:
        child.terminate()
        raise
    finally:
        child.join()
        relay.join()
    if not ends:
        raise WeightsError(
            f"the process that converts weights ended with exit code {child.exitcode} before it was done; it may "
            "have been killed for want of memory. Start again: what was finished is kept"
        )
    if ends[0] is not None:
        raise WeightsError(ends[0])


def _resolve_all(resolve: Resolve, weights: Sequence[WeightsConfig], state_folder: Path, saying: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on; it ends this process
    try:
        for each in weights:
            resolve(each, state_folder, lambda message: saying.send((False, message)))
    except (WeightsError, OSError) as error:
        saying.send((True, str(error)))
    else:
        saying.send((True, None))


def _relay(listening: Connection, progress: Progress, ends: list[str | None]) -> None:
    """Tell what the other process says, until it is done (`ends`: why it failed, or None) or has died."""
    while not ends:
        try:
            is_end, message = listening.recv()
        except EOFError:
            return
        if is_end:
            ends.append(message)
        if message is not None:
            progress(message)
