"""What a command says where the packages of an extra are not installed: one sentence, exit 2, before any work."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from serve_graph.cli.extras import EXTRA_OF, INDEX, SERVING

ROOT = Path(__file__).parents[4]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def run_without(modules: tuple[str, ...], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`serve-graph WORDS` in a process in which `modules` cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); from serve_graph.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


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
    done = run_without(("ray",), "collect", "--config", str(ROOT / "configs" / "echo.yaml"), cwd=tmp_path)
    assert done.returncode == 2
    assert "`serve-graph collect` without --url needs Ray Serve" in done.stderr


@pytest.mark.parametrize(("kind", "extra"), [("local", "cpu"), ("cluster", "gpu")])
def test_up_names_the_build_of_vllm_that_the_tiers_want(kind: str, extra: str, tmp_path: Path) -> None:
    done = run_without(("vllm",), "up", "--config", str(ROOT / "configs" / f"{kind}.yaml"), cwd=tmp_path)
    assert done.returncode == 2
    assert f"tier 'cheap' of this configuration needs vLLM: pip install 'serve-graph[{extra}]'" in done.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def test_the_offline_half_needs_none_of_them(tmp_path: Path) -> None:
    absent = (*SERVING, "vllm")
    done = run_without(absent, "evaluate", "-o", "none.csv", "--weak", "a", "--strong", "b", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("serve-graph: none.csv")
    for words in (["init", "echo"], ["versions", "list", "-c", "configs/echo.yaml"]):
        assert run_without(absent, *words, cwd=tmp_path).returncode == 0


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
    names = " ".join(EXTRAS["serve"]).lower()
    assert {module for module, (_, extra) in EXTRA_OF.items() if extra == "serve"} == set(SERVING)
    brought_by = packages_distributions()
    for module in SERVING:
        assert any(name.lower() in names for name in brought_by[module])


def test_both_builds_of_vllm_bring_what_serves() -> None:
    assert all("serve-graph[serve]" in EXTRAS[extra] for extra in ("cpu", "gpu"))
