"""A bill of materials has every locked distribution at its version, and nothing else, or is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LOCK = """one==1.0 \\
    --hash=sha256:aa
    # via b
Two_Three[x]==2.0+cpu ; x \\
    --hash=sha256:bb
"""
ONE = {"name": "one", "version": "1.0", "purl": "pkg:pypi/one@1.0", "hashes": [{"alg": "SHA-256", "content": "aa"}]}
TWO = {
    "name": "two-three",
    "version": "2.0+cpu",
    "purl": "pkg:pypi/two-three@2.0%2Bcpu",
    "externalReferences": [{"url": "x", "hashes": [{"alg": "SHA-256", "content": "bb"}]}],
}


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    """scripts/supply/sbom.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("supply_sbom", ROOT / "scripts" / "supply" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bill(*components: Any, **fields: Any) -> dict[str, Any]:
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": list(components), **fields}


def a_tool(folder: Path, made: Any) -> str:
    """A cyclonedx-py that writes this bill where it is told to, and what it was given beside it."""
    tool = folder / "cyclonedx-py"
    program = f"""#!{sys.executable}
import pathlib, sys
pathlib.Path({str(folder / "given")!r}).write_text(sys.stdin.read())
pathlib.Path(sys.argv[sys.argv.index("-o") + 1]).write_text({json.dumps(made)!r})
"""
    tool.write_text(program)
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        (bill(ONE, TWO), None),
        (bill(ONE), "two-three 2.0+cpu is missing"),
        (bill(ONE, {**TWO, "version": "2.0"}), "two-three 2.0 is not locked"),
        (bill(ONE, TWO, {**ONE, "name": "other"}), "other 1.0 is not locked"),
        (bill(ONE, ONE, TWO), "one 1.0 is there 2 times"),
        (bill({**ONE, "hashes": []}, TWO), "one 1.0 has no package URL, or no hash"),
        (bill({**ONE, "purl": ""}, TWO), "one 1.0 has no package URL, or no hash"),
        (bill(ONE, TWO, specVersion="1.4"), "it is no CycloneDX 1.6"),
        ([], "it is no CycloneDX 1.6"),
    ],
)
def test_a_bill_that_is_not_exactly_what_is_locked_fails_by_name(
    sbom: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], made: Any, wrong: str | None
) -> None:
    first, second, out = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "deep" / "out"
    first.write_text(LOCK[: LOCK.index("Two")])
    second.write_text(LOCK[LOCK.index("Two") :])
    code = sbom.main([a_tool(tmp_path, made), "--out", str(out), f"cpu={first},{second}"])
    said = capsys.readouterr().out
    assert code == (0 if wrong is None else 1)
    assert (wrong or "serve-graph-cpu.cdx.json: 2 distributions") in said
    assert (tmp_path / "given").read_text() == LOCK
    assert json.loads((out / "serve-graph-cpu.cdx.json").read_text()) == made


def test_a_tool_that_fails_leaves_no_bill_of_before(sbom: ModuleType, tmp_path: Path) -> None:
    lock, out = tmp_path / "a.txt", tmp_path / "serve-graph-a.cdx.json"
    lock.write_text(LOCK)
    out.write_text(json.dumps(bill(ONE, TWO)))
    for tool in ("/bin/false", str(tmp_path / "none")):
        assert sbom.main([tool, "--out", str(tmp_path), f"a={lock}"]) == 1
        assert not out.exists()
    with pytest.raises(SystemExit):
        sbom.main(["/bin/true", "--out", str(tmp_path), "a"])


@pytest.mark.parametrize("can_install", [True, False])
def test_ci_makes_the_bills_or_says_that_it_could_not(can_install: bool, tmp_path: Path) -> None:
    text = (ROOT / ".ci" / "run").read_text()
    stage = text.partition("bills='")[2].partition("'\n")[0]
    assert 'sbom "$bills"' in text
    made = tmp_path / "make"
    made.write_text(f'#!/bin/sh\necho made "$2"; [ "$2" = sbom ] && exit 3; exit {0 if can_install else 1}\n')
    made.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    told = subprocess.run(["bash", "-c", stage], env=env, capture_output=True, text=True, check=False)
    assert ("made sbom" in told.stdout, "SKIPPED" in told.stdout) == (can_install, not can_install)
    assert told.returncode == (3 if can_install else 0), "a bill that cannot be made fails CI"


def test_make_sbom_names_the_locks_of_both_builds() -> None:
    make = shutil.which("make")
    assert make is not None
    told = subprocess.run([make, "-n", "sbom"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "cpu=scripts/locks/cpu.txt,scripts/locks/torch.txt gpu=scripts/locks/gpu.txt" in told
    assert "--out build/sbom" in told
