"""Every attack of the threat model that can be made from outside, against a live graph, as a table (`make attack`).

    python -m tests.attack.table [--only WORD...]

Starts a graph with keys and one without, on ports of their own, attacks, and stops them. Exit 1 where an attack is not
refused as wanted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.attack.attack import Result, carried_out, failed, table
from tests.attack.bodies import BODIES
from tests.attack.doors import DOORS, OPEN_DOORS
from tests.attack.files import FILES
from tests.attack.keys import KEYS
from tests.attack.money import MONEY
from tests.attack.target import attacked
from tests.attack.wire import WIRE

WITH_KEYS = [*BODIES, *MONEY, *WIRE, *KEYS, *DOORS, *FILES]
WITHOUT_KEYS = OPEN_DOORS


def results(only: Sequence[str] = ()) -> list[Result]:
    """Carry out the attacks whose names hold one of the words, or all; says on standard error how far it is."""
    found = []
    for keys, attacks in ((True, WITH_KEYS), (False, WITHOUT_KEYS)):
        chosen = [each for each in attacks if not only or any(word in each.name for word in only)]
        if not chosen:
            continue
        with attacked(keys) as target:
            for each in chosen:
                began = time.monotonic()
                found.append(carried_out(each, target))
                mark = "ok" if found[-1].ok else "NO"
                print(
                    f"{mark:3} {time.monotonic() - began:5.1f} s  {each.name}: {found[-1].got}",
                    file=sys.stderr,
                    flush=True,
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=(), help="words of the attacks' names: carry out these alone")
    found = results(parser.parse_args().only)
    print(table(found))
    left = failed(found)
    print(f"\n{len(found)} attacks, {len(left)} not refused as wanted{': ' + '; '.join(left) if left else ''}")
    return 1 if left or not found else 0


if __name__ == "__main__":
    sys.exit(main())
