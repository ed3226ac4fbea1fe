"""Bring a graph up in a process of its own, as a user would: argv is a configuration file; a signal ends it.

Ray Serve reads its switches when it is first imported, and a test must be able to see that nothing outlives the
process: so never inside pytest's.
"""

import signal
import sys
import threading
from pathlib import Path

from serve_graph.cli.local.launch import running_graph
from serve_graph.config.graph import load_config


def main() -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    progress = lambda message: print(message, file=sys.stderr, flush=True)  # noqa: E731
    with running_graph(load_config(Path(sys.argv[1])), progress=progress, stop=stop) as url:
        print(url, flush=True)
        stop.wait()
        progress("stopping")


if __name__ == "__main__":
    main()
