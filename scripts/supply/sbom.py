"""Bills of materials (CycloneDX 1.6) of what lock files install: `make sbom`. Without a network, and reproducible.

    python scripts/supply/sbom.py CYCLONEDX_PY --out FOLDER NAME=LOCK[,LOCK…] …

Writes FOLDER/serve-graph-NAME.cdx.json for each NAME, by cyclonedx-py from the lock files alone, and reads it again:
exit 1 where a locked distribution is missing, has another version or no hash, or something else stands in the bill.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SPEC_VERSION = "1.6"


def make_bill(tool: Path, locks: Iterable[Path], out: Path) -> None:
    """Write the bill of some lock files, taken together; CalledProcessError or OSError where the tool cannot."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    command = [str(tool), "requirements", "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible"]
    command += ["--spec-version", SPEC_VERSION, "--mc-type", "application", "-o", str(out), "-"]
    text = "".join(path.read_text() for path in locks)
    subprocess.run(command, input=text, text=True, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def faults_of(bill: Any, entries: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong with a bill: it has each (name, version) once, with a package URL and a hash, and no other."""
    if not isinstance(bill, dict) or bill.get("bomFormat") != "CycloneDX" or bill.get("specVersion") != SPEC_VERSION:
        return [f"it is no CycloneDX {SPEC_VERSION}"]
    canonical, components = _audit().canonicalize_name, bill.get("components", ())
    told = Counter((canonical(one["name"]), str(one.get("version"))) for one in components)
    wanted = set(entries)
    found = [f"{name} {version} is missing" for name, version in sorted(wanted - set(told))]
    found += [f"{name} {version} is not locked" for name, version in sorted(set(told) - wanted)]
    found += [f"{name} {version} is there {n} times" for (name, version), n in sorted(told.items()) if n > 1]
    return found + [
        f"{one['name']} {one.get('version')} has no package URL, or no hash"
        for one in components
        if not str(one.get("purl", "")).startswith("pkg:pypi/") or not _hashes(one)
    ]


def _hashes(component: Any) -> list[Any]:
    references = [hashed for one in component.get("externalReferences", ()) for hashed in one.get("hashes", ())]
    return [*component.get("hashes", ()), *references]


def _audit() -> Any:
    spec = importlib.util.spec_from_file_location("supply_audit", Path(__file__).parent / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    if "supply_audit" not in sys.modules:
        module = sys.modules["supply_audit"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["supply_audit"]


def main(arguments: list[str]) -> int:
    """Write the bills; 0 where each has exactly what is locked, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", type=Path, metavar="CYCLONEDX_PY")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("builds", nargs="+", metavar="NAME=LOCK[,LOCK…]")
    given, failed = parser.parse_args(arguments), False
    for build in given.builds:
        name, _, paths = build.partition("=")
        locks = [Path(path) for path in paths.split(",") if path]
        if not name or not locks:
            parser.error(f"{build!r} is no NAME=LOCK")
        out = given.out / f"serve-graph-{name}.cdx.json"
        try:
            make_bill(given.tool, locks, out)
            entries = [(each.name, each.version) for lock in locks for each in _audit().locked_in(lock)]
            faults = faults_of(json.loads(out.read_text()), entries)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            entries, faults = [], [f"{type(error).__name__}: {error}"]
        print(f"{out}: {'FAIL' if faults else f'{len(set(entries))} distributions'}")
        for each in faults:
            print(f"      {each}")
        failed |= bool(faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
