import subprocess
import sys
from importlib.metadata import version

import serve_graph


def test_the_version_is_the_distributions() -> None:
    assert serve_graph.__version__ == version("serve-graph")


def test_the_command_line_prints_it_and_loads_nothing_for_it() -> None:
    code = (
        "import sys; from serve_graph.cli import main; sys.argv = ['serve-graph', '--version']\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [f"serve-graph {version('serve-graph')}", "0 False"]
