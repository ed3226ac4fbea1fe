"""What a command says where the packages of an extra are not installed: one sentence, exit 2, before any work."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import files
from pathlib import Path

import pytest

from serve_graph.cli.extras import EXTRA_OF, INDEX, SERVING

ROOT = Path(__file__).parents[4]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def run_without(modules: tuple[str, ...], *commands: tuple[str, ...], cwd: Path) -> list[tuple[int, str]]:
    """The exit code and the errors of each command, in one process in which `modules` cannot be imported."""
    code = f"""
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys({modules!r}))
from serve_graph.cli import main
ended = []
for words in {commands!r}:
    sys.argv, said, code = ["serve-graph", *words], io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    ended.append((code, said.getvalue()))
print(json.dumps(ended))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, cwd=cwd
    )
    return [(code, said) for code, said in json.loads(done.stdout.splitlines()[-1])]


NEEDED = [
    ("up", "ray", "`serve-graph up` needs Ray Serve"),
    ("demo", "openai", "`serve-graph demo` needs the openai client"),
    ("status", "httpx", "`serve-graph status` needs httpx"),
    ("bench", "openai", "`serve-graph bench` needs the openai client"),
    ("collect", "httpx", "`serve-graph collect` needs httpx"),
    ("decisions bill", "aiosqlite", "`serve-graph decisions bill` needs the decision store's drivers"),
]


def test_every_command_of_the_serving_half_says_what_it_needs(tmp_path: Path) -> None:
    """In one process, which loads the command line once."""
    code = f"""
import sys
from serve_graph.cli import main
for words, missing, _ in {NEEDED!r}:
    sys.modules[missing], sys.argv = None, ["serve-graph", *words.split()]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 2, ended.code
    else:
        raise AssertionError(words)
    del sys.modules[missing]
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    said = [f"serve-graph: {needs}: pip install 'serve-graph[serve]'" for _, _, needs in NEEDED]
    assert (done.returncode, done.stderr.splitlines()) == (0, said)
    assert list(tmp_path.iterdir()) == []


def test_collect_starts_no_graph_without_ray_serve(tmp_path: Path) -> None:
    echo = str(ROOT / "configs" / "echo.yaml")
    [(code, said)] = run_without(("ray",), ("collect", "--config", echo), cwd=tmp_path)
    assert code == 2
    assert "`serve-graph collect` without --url needs Ray Serve" in said


@pytest.mark.parametrize(("kind", "extra"), [("local", "cpu"), ("cluster", "gpu")])
def test_up_names_the_build_of_vllm_that_the_tiers_want(
    kind: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_GRAPH_STORE_URL", "postgresql://graph@store/decisions")
    monkeypatch.setenv("SERVE_GRAPH_REGISTRY_URI", "https://mlflow.example.org")
    config = str(ROOT / "configs" / f"{kind}.yaml")
    [(code, said)] = run_without(("vllm",), ("up", "--config", config), cwd=tmp_path)
    assert code == 2
    assert f"tier 'cheap' of this configuration needs vLLM: pip install 'serve-graph[{extra}]'" in said
    assert list(tmp_path.iterdir()) == []


def test_the_offline_half_needs_none_of_them(tmp_path: Path) -> None:
    absent = (*SERVING, "vllm")
    (code, said), *others = run_without(
        absent,
        ("evaluate", "-o", "none.csv", "--weak", "a", "--strong", "b"),
        ("init", "echo"),
        ("versions", "list", "-c", "configs/echo.yaml"),
        cwd=tmp_path,
    )
    assert code == 1
    assert said.startswith("serve-graph: none.csv")
    assert [code for code, _ in others] == [0, 0]


def test_what_is_met_on_the_way_is_the_same_sentence(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from serve_graph import cli\n"
        "cli.app.command('probe')(lambda: __import__('torch.nn')); sys.argv = ['serve-graph', 'probe']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "serve-graph: this command needs PyTorch: pip install 'serve-graph[local-models]'\n"


def test_the_table_and_the_extras_agree() -> None:
    assert {extra for _, extra in EXTRA_OF.values()} | set(INDEX) <= set(EXTRAS)
    assert {module for module, (_, extra) in EXTRA_OF.items() if extra == "serve"} == set(SERVING)
    distributions = [re.split(r"[\[<>=!~; ]", wanted)[0] for wanted in EXTRAS["serve"]]
    brought = {file.parts[0] for name in distributions for file in files(name) or ()}
    assert {module for module in SERVING if module not in brought and f"{module}.py" not in brought} == set()


def test_both_builds_of_vllm_bring_what_serves() -> None:
    assert all("serve-graph[serve]" in EXTRAS[extra] for extra in ("cpu", "gpu"))
