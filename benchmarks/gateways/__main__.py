"""Our graph beside other gateways over the same upstream, by turns (`make bench-gateways`).

    python -m benchmarks.gateways [--blocks 5] [--seconds 5] [--only ours,portkey] [--out PAGE]

The upstream asked directly; ours routed by a certified version, forced and hosted; Ray's `build_openai_app` over the
same echo engine; LiteLLM's proxy as it comes and with its production settings; Portkey's gateway; vllm-router.
1, 16, 64 and 256 callers (`--callers`), whole answers and streams. What is not installed (`make gateways`) is left out
and named. `--only ours,constant,portkey`: beside a constant reply on Ray Serve, which has no streams.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gateways.contenders import GATEWAYS, USUAL, missing, upstream_of, versions_said
from benchmarks.gateways.embedding import embedded
from benchmarks.gateways.page import LONG, ONE, SIXTEEN, STREAMS, page_of
from benchmarks.gateways.turns import CALLERS, KINDS, idle_of, measured, programs


def main() -> None:
    """Measure and print the page, or write it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--blocks", type=int, default=5)
    reads.add_argument("--seconds", type=float, default=5.0, help="how long a block lasts")
    reads.add_argument("--most", type=int, default=10**6, help="requests of a block at most")
    reads.add_argument("--only", help=f"of {', '.join(GATEWAYS)}, separated by commas")
    reads.add_argument("--callers", default=",".join(map(str, CALLERS)), help="at once, of these numbers")
    reads.add_argument("--out", type=Path)
    reads.add_argument("--folder", type=Path, help="a folder that is kept, with its version and logs")
    chosen = reads.parse_args()
    names = (chosen.only or ",".join(USUAL)).split(",")
    if unknown := set(names) - set(GATEWAYS):
        reads.error(f"no gateway {', '.join(sorted(unknown))}")
    callers = chosen.callers.split(",")
    kinds = [kind for kind in KINDS if str(kind.callers) in callers]
    if unknown := set(callers) - {str(kind.callers) for kind in KINDS}:
        reads.error(f"no blocks of {', '.join(sorted(unknown))} callers")
    absent = missing(names)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made, ExitStack() as running:
        folder = (chosen.folder or Path(made)).resolve()
        folder.mkdir(exist_ok=True)
        direct = upstream_of(running, folder)
        contenders = [direct]
        for name in names:
            if name not in absent:
                contenders += GATEWAYS[name](running, folder, direct.runs)
                print(f"{name} is up", flush=True)
        idle = idle_of(contenders)
        print("of a core, unasked: " + ", ".join(f"{name} {share:.0%}" for name, share in idle.items()), flush=True)
        found = measured(contenders, kinds, chosen.blocks, chosen.seconds, chosen.most)
        memory = {name: each.runs.usage() for name, each in programs(contenders).items()}
    embedding = {kind: embedded(kind, chosen.seconds) for kind in (ONE, SIXTEEN, STREAMS, LONG) if kind in kinds}
    given = f"--blocks {chosen.blocks} --seconds {chosen.seconds:g}"
    given += f" --only {chosen.only}" if chosen.only else ""
    given += f" --callers {chosen.callers}" if len(kinds) < len(KINDS) else ""
    left_out = f"; not installed: {', '.join(absent)}" if absent else ""
    page = page_of(
        contenders,
        found,
        memory,
        idle,
        embedding,
        command=f"python -m benchmarks.gateways {given}",
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{os.cpu_count()} cores {platform.machine()}, load average {os.getloadavg()[0]:.1f} at its end",
        versions=f"Versions: {versions_said(contenders)}{left_out}",
        seconds=chosen.seconds,
        blocks=chosen.blocks,
    )
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page)


if __name__ == "__main__":
    main()
