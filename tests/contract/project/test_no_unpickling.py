"""Nothing in the packages unpickles: the bytes of a registry, a cache or a model folder run no code in the server."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PICKLING = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle", "skops"}
SAFE_ARGUMENT = {
    "np.load": "allow_pickle=False",
    "numpy.load": "allow_pickle=False",
    "torch.load": "weights_only=True",
}
UNSAFE_CALLS = {
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load",
    "torch.hub.load",
}  # fmt: skip
UNSAFE_ARGUMENTS = {"allow_pickle=True", "weights_only=False", "trust_remote_code=True"}
IMPORTING = ("__import__", "importlib.import_module")
CALLED = {name.rpartition(".")[2] for name in (*SAFE_ARGUMENT, *UNSAFE_CALLS, *IMPORTING)}
GIVEN = {argument.partition("=")[0] for argument in (*SAFE_ARGUMENT.values(), *UNSAFE_ARGUMENTS)}


def unpickles(source: str) -> list[str]:
    """What a module does that may run code from a file's bytes, by line."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        said = [f"import {name}" for name in names if name.split(".")[0] in PICKLING]
        if isinstance(node, ast.Call):
            last = getattr(node.func, "attr", getattr(node.func, "id", ""))
            called = ast.unparse(node.func) if last in CALLED else ""
            arguments = {ast.unparse(keyword) for keyword in node.keywords if keyword.arg in GIVEN}
            wanted = SAFE_ARGUMENT.get(called)
            if called in UNSAFE_CALLS or (wanted is not None and wanted not in arguments):
                said.append(called)
            said += sorted(arguments & UNSAFE_ARGUMENTS)
            if called in IMPORTING and node.args:
                said += [f"import {name}" for name in PICKLING if ast.unparse(node.args[0]).strip("'\"") == name]
        found += [f"{getattr(node, 'lineno', 0)}: {what}" for what in said]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import a, shelve", "np.load(f)", "np.load(f, allow_pickle=True)",
        "def f():\n    import cloudpickle", "torch.load(path)", "yaml.load(text)", "pd.read_pickle(path)",
        "AutoModel.from_pretrained(f, trust_remote_code=True)", "importlib.import_module('dill')",
    ],
)  # fmt: skip
def test_what_unpickles_is_found(source: str) -> None:
    assert unpickles(source)


def test_what_does_not_is_not_found() -> None:
    assert (
        unpickles("import json\nnp.load(p, allow_pickle=False)\nyaml.safe_load(t)\ntorch.load(p, weights_only=True)")
        == []
    )


def test_no_module_of_ours_unpickles() -> None:
    modules = [path for package in ("router_models", "serve_graph") for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(modules) > 100
    found = {str(path.relative_to(ROOT)): what for path in modules if (what := unpickles(path.read_text()))}
    assert found == {}
