"""What the commands of this package say where they cannot do what is asked: one line, and exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from router_models.errors import RouterModelsError


@contextmanager
def faults_in_a_line(command: str) -> Iterator[None]:
    """End the process with one line on stderr where data, files or names do not permit the work inside.

    Parameters
    ----------
    command : str
        By what the command is called, before the reason.
    """
    try:
        yield
    except RouterModelsError as error:
        sys.exit(f"{command}: {error}")
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        sys.exit(f"{command}: {where}{error.strerror or error}")


def whole_numbers(text: str) -> list[int]:
    """Return numbers that are written with commas between them, each 1 or more; ValueError where they are not."""
    found = [int(one) for one in text.split(",")]
    if min(found) < 1:
        raise ValueError(f"{text}: numbers of 1 or more are needed")
    return found


def whole_number(text: str) -> int:
    """Return one such number."""
    (found,) = whole_numbers(text)
    return found
