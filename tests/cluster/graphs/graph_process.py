"""Bring a graph up in a process of its own, as a user would: argv is a configuration file; a signal ends it.

Ray Serve reads its switches when it is first imported, and a test must be able to see that nothing outlives the
process: so never inside pytest's. SIGUSR1 has it say on stderr which modules it has loaded, as a line of JSON.
"""

import json
import signal
import sys
import threading
from pathlib import Path

from router_models.errors import RegistryError
from serve_graph.cli.local.builder import Builder
from serve_graph.cli.local.launch import running_graph
from serve_graph.cli.serve import prepare
from serve_graph.config.graph import load_config


def main() -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    progress = lambda message: print(message, file=sys.stderr, flush=True)  # noqa: E731
    signal.signal(signal.SIGUSR1, lambda *_: progress(json.dumps({"modules": sorted(sys.modules)})))
    config = load_config(Path(sys.argv[1]))
    builder = Builder(config)
    try:
        prepare(config, progress, builder)
    except RegistryError as error:  # `up` ends here; tests look at what a graph does whose registry is away
        progress(str(error))
    with running_graph(config, progress=progress, stop=stop, builder=builder) as url:
        print(url, flush=True)
        stop.wait()
        progress("stopping")


if __name__ == "__main__":
    main()
