"""What is locked and what is kept in the repository is audited, and the audit can say no. See scripts/supply."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """scripts/supply/audit.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("supply_audit", ROOT / "scripts" / "supply" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["supply_audit"] = module
    spec.loader.exec_module(module)
    return module


def test_what_is_locked_here_has_hashes_and_is_not_refused(audit: ModuleType) -> None:
    entries = list(audit.locked(ROOT / "scripts" / "locks"))
    assert len(entries) > 500
    assert audit.without_hash(entries, {}) == []
    assert audit.refused(entries, audit.POLICY["refused"]) == []


def test_a_distribution_without_a_hash_is_named(audit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one==1.0 ; x \\\n    --hash=sha256:ab\n    # via b\ntwo[x]==2.0\n    # via c\n")
    entries = list(audit.locked(tmp_path))
    assert [(each.name, each.version, each.hashed) for each in entries] == [
        ("one", "1.0", True),
        ("two", "2.0", False),
    ]
    npm = {"packages": {"": {}, "node_modules/x": {"integrity": "sha512-"}, "node_modules/y": {"version": "1"}}}
    assert audit.without_hash(entries, npm) == ["two 2.0 has no hash (a.txt)", "npm: node_modules/y has no integrity"]


@pytest.mark.parametrize(
    ("version", "rule", "is_refused"),
    [("1.1", "<1.2", True), ("1.2", "<1.2", False), ("3.45", "==3.41,==3.45", True), ("3.43", "==3.41,==3.45", False)],
)
def test_releases_of_a_bad_name_are_refused(audit: ModuleType, version: str, rule: str, is_refused: bool) -> None:
    entries = [audit.Locked("cpu", "a-b", version, True)]
    found = audit.refused(entries, [{"name": "A_b", "versions": rule, "why": "CVE-1"}])
    assert found == ([f"a-b {version} is refused (cpu.txt): CVE-1"] if is_refused else [])


def test_a_licence_is_allowed_by_its_expression(audit: ModuleType) -> None:
    allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
    for good in ("MIT", "MIT OR GPL-3.0-only", "MIT AND Apache-2.0 WITH LLVM-exception", "(MIT OR X) AND Apache-2.0"):
        assert audit.is_allowed(good, allowed), good
    for bad in ("", "GPL-3.0-only", "MIT AND GPL-3.0-only", "AGPL-3.0 OR SSPL-1.0"):
        assert not audit.is_allowed(bad, allowed), bad


def test_a_licence_is_read_wherever_a_distribution_says_it(audit: ModuleType) -> None:
    written = {"MIT License": "MIT", "BSD License": "BSD-3-Clause"}

    def of(files: tuple[Any, ...] = (), **metadata: Any) -> str:
        class Metadata(dict[str, Any]):
            def get_all(self, name: str) -> Any:
                return self.get(name)

        named = Metadata({name.replace("_", "-"): value for name, value in metadata.items()})
        return str(audit.licence_of(SimpleNamespace(metadata=named, files=files), written))

    licence_file = SimpleNamespace(name="LICENSE.txt", read_text=lambda: "\n  MIT License\n\nCopyright")
    assert of(License_Expression="ISC", License="MIT License") == "ISC"
    assert of(Classifier=["License :: OSI Approved :: BSD License", "Topic :: X"]) == "BSD-3-Clause"
    assert of(License="MIT License\n\nCopyright (c)") == "MIT"
    assert of((licence_file,)) == "MIT"
    assert of(License="Proprietary") == "Proprietary"
    assert of() == ""


PLANTED = {
    "an AWS key": "aws = 'AK" + "IAIOSFODNN7EXAMPLF'",
    "a private key": "-----BEGIN RSA PRIV" + "ATE KEY-----",
    "a GitHub token": "token: gh" + "p_" + "a1B2" * 9,
    "a key of this project": "sg" + "-" + "Ab1_" * 10 + "xyz",
    "an Anthropic key": "sk-" + "ant-" + "api03-" + "Ab1_" * 12,
    "a hub token": "HF=hf" + "_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
    "a password in an address": "postgresql://me:" + "hunter2222@host/db",
    "a Slack token": "xox" + "b-123456789012-1234567890123-" + "aB1c" * 6,
    "a Stripe key": "sk" + "_live_" + "aB1c" * 6,
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_secret_that_somebody_left_is_found_and_not_shown(audit: ModuleType, tmp_path: Path, what: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(f"nothing\n{PLANTED[what]}\n")
    [found, *_] = audit.secrets([path], {})
    assert found.startswith(f"{path}:2: ")
    assert PLANTED[what][-12:] not in found
    assert audit.secrets([path], {str(path): "made up"}) == []


def test_what_is_no_secret_is_not_taken_for_one(audit: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    path.write_text(
        f"x==1 --hash=sha256:{'0af1' * 16}\nkey = 'sk-test'\napi_key_env: OPENAI_API_KEY\nsg-test-attack\n"
    )
    assert audit.secrets([path], {}) == []


def test_a_database_that_cannot_be_reached_is_said_and_no_fault(audit: ModuleType, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ConnectionError: api.osv.dev' >&2\nexit 1\n")
    python.chmod(0o755)
    assert audit.advisories(tmp_path / "a.txt", str(python)) == ([], "ConnectionError: api.osv.dev")
    assert audit.advisories(tmp_path / "a.txt", str(tmp_path / "none"))[1] == "pip-audit: FileNotFoundError"


def test_what_the_database_knows_is_a_fault(audit: ModuleType, tmp_path: Path) -> None:
    said = '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "GHSA-x", "fix_versions": ["2"]}]}]}'
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{said}'\nexit 1\n")
    python.chmod(0o755)
    found, unknown = audit.advisories(tmp_path / "a.txt", str(python))
    assert unknown is None
    assert found == ["a 1 (a.txt): GHSA-x, mended in 2"]


VULNERABLE = {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}


def a_pip_audit(folder: Path, says: str, status: int = 0) -> str:
    """The python of an environment whose pip-audit says this on its output, or as an error."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\ncat <<'END' {'>&2' if status else ''}\n{says}\nEND\nexit {status}\n")
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("says", "status", "required", "code", "told"),
    [
        (json.dumps({"dependencies": []}), 0, "", 0, "ok    known vulnerabilities in a.txt"),
        (json.dumps(VULNERABLE), 0, "", 1, "a 1 (a.txt): CVE-1, mended in 2"),
        ("no route to api.osv.dev", 1, "", 0, "NOT CHECKED: known vulnerabilities"),
        ("no route to api.osv.dev", 1, "1", 1, "not checked: no route to api.osv.dev"),
        ("not JSON", 0, "", 0, "NOT CHECKED"),
        ("not JSON", 0, "1", 1, "FAIL  known vulnerabilities"),
    ],
)
def test_the_audit_fails_for_known_vulnerabilities_and_where_asked_to_for_unknown_ones(
    audit: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    says: str,
    status: int,
    required: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.setenv("REQUIRE_ADVISORIES", required)
    (tmp_path / "a.txt").write_text("a==1 --hash=sha256:ab\n")
    arguments = ["--advisories", a_pip_audit(tmp_path, says, status)]
    assert audit.main(arguments, lambda: {"hashes": []}, tmp_path) == code
    assert told in capsys.readouterr().out


def test_the_audit_fails_for_anything_wrong_that_needs_no_network(audit: ModuleType, tmp_path: Path) -> None:
    for wrong, code in (([], 0), (["a 1 has no hash"], 1)):
        assert audit.main([], lambda found=wrong: {"hashes": found}, tmp_path) == code
        sound = a_pip_audit(tmp_path, json.dumps({"dependencies": []}))
        assert audit.main(["--advisories", sound], lambda found=wrong: {"hashes": found}, tmp_path) == code
    assert audit.main(["--advisories"], dict, tmp_path) == 2
    assert audit.main(["--everything", "x"], dict, tmp_path) == 2


@pytest.mark.parametrize(
    ("installed", "required", "audits", "code"),
    [(True, "", True, 7), (False, "", True, 7), (False, "1", False, 1), (True, "1", True, 7)],
)
def test_advise_audits_with_what_is_installed_and_says_what_is_not(
    tmp_path: Path, installed: bool, required: str, audits: bool, code: int
) -> None:
    """The audit is a script that writes down its arguments and exits with 7."""
    there, supply, said = tmp_path / "bin", tmp_path / "supply", tmp_path / "said"
    there.mkdir()
    (there / "python").write_text(f'#!/bin/sh\necho "$@" > {said}\nexit 7\n')
    (there / "python").chmod(0o755)
    if installed:
        (supply / "bin").mkdir(parents=True)
        (supply / ".installed").touch()
        (supply / "bin" / "python").symlink_to(there / "python")
    ran = subprocess.run(
        [str(ROOT / "scripts" / "supply" / "advise"), str(there), str(supply)],
        env={"PATH": os.environ["PATH"], "REQUIRE_ADVISORIES": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == code
    assert said.exists() == audits
    assert ("NOT CHECKED" in ran.stdout) != installed
    if audits:
        assert said.read_text().split() == ["scripts/supply/audit.py", "--advisories", f"{supply}/bin/python"]
