"""Three nodes, and what callers see while links are cut, nodes die and the head is restarted: `make nodes`.

    python -m tests.nodes [PHASE ...] [--out docs/results/nodes.md] [--keep FOLDER]

Needs root (or the right to make namespaces), PostgreSQL's server programs and redis-server. Exit 1 where something is
not well again in time, where a version is not fetched by every worker, or where an answered request has no record.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.nodes.cluster import made_cluster
from tests.nodes.network import in_own_namespaces, inside
from tests.nodes.services import Services, missing, with_driver
from tests.nodes.story import PHASES, Story, say


def main() -> None:
    """Tell the story, or some of its phases."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("phases", nargs="*", help=f"{', '.join(PHASES)}; all by default")
    reads.add_argument("--out", type=Path, help="the page of results")
    reads.add_argument("--keep", type=Path, help="a folder for logs and disks, which is kept")
    chosen = reads.parse_args()
    if unknown := set(chosen.phases) - set(PHASES):
        reads.error(f"no phase {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}")
    if what := missing():
        reads.error(f"not installed: {what}")
    root = chosen.keep or Path(tempfile.mkdtemp(prefix="sgn-", dir="/tmp"))  # Ray's socket paths must be short
    root.mkdir(exist_ok=True)
    root.chmod(0o755)  # PostgreSQL's user passes through
    if not inside():
        with_driver(root / "driver")  # from the registry, which is out of reach in there
    try:
        in_own_namespaces(["-m", "tests.nodes", *chosen.phases, "--keep", str(root), *_out(chosen.out)])
    except PermissionError as error:
        reads.error(f"no namespaces can be made here: {error}")
    (root / "services").mkdir()
    services = Services(root / "services")
    story = Story(made_cluster(root), services)
    names = [name for name in PHASES if name in (chosen.phases or PHASES)]
    try:
        page = story.tell(names)
    except RuntimeError as error:
        say(f"FAILED: {error}")
        say(f"logs and disks: {root}")
        sys.exit(1)
    finally:
        story.end()
    print(page)
    if chosen.out:
        chosen.out.write_text(page)
    shutil.rmtree(root, ignore_errors=True)
    sys.exit(1 if story.faults else 0)


def _out(path: Path | None) -> list[str]:
    return [] if path is None else ["--out", str(path)]


if __name__ == "__main__":
    main()
