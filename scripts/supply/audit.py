"""What is wrong with the distributions that scripts/locks/ names: `make audit`, for CI and without a network.

    python scripts/supply/audit.py [--advisories PYTHON]

Checks that every locked distribution has a hash, that none of them is refused by policy.toml, that those installed
here have a licence that policy.toml allows, and that no file of the repository holds a secret. `--advisories`: also
asks OSV, by the pip-audit of an environment, for vulnerabilities known of them; where the database cannot be reached,
says so and does not fail, unless REQUIRE_ADVISORIES=1. Exit 1 where something is wrong.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
POLICY = tomllib.loads((Path(__file__).parent / "policy.toml").read_text())
NPM_LOCKS = (
    Path("tests/clients/js/package-lock.json"),
    Path("tests/contract/project/kubernetes/js/package-lock.json"),
)
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(.*(?:\n    .*)*)", re.MULTILINE)
OWN_SECRETS = re.compile(
    r"\b(?:sg-[A-Za-z0-9_-]{43}|sk-ant-[A-Za-z0-9_-]{40,}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z]{34})\b"
)
MAYBE = re.compile(
    rb"AKIA|ASIA|BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_|github_pat|glpat|npm_|pypi-|SG\.|sk[-_]|rk_live|xox|hooks\.slack|"
    rb"discord|AccountKey|_authToken|://[^\s/]*:|T3BlbkFJ|\d{8,10}:[\w-]{35}|SK[0-9a-f]{32}|[MNO][\w-]{23}\.|hf_|AIza|sg-"
)
"""What a file must hold for it to be looked into by detect-secrets, which takes a second for each megabyte."""
DETECTORS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector",
    "SendGridDetector", "SlackDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""Those of detect-secrets that know a secret by its shape; what is only random is no secret here (hashes, digests)."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A distribution as a lock file has it."""

    lock: str
    name: str
    version: str
    hashed: bool


def locked(folder: Path) -> Iterator[Locked]:
    """The distributions of the lock files in a folder."""
    for path in sorted(folder.glob("*.txt")):
        yield from locked_in(path)


def locked_in(path: Path) -> Iterator[Locked]:
    """The distributions of one lock file."""
    for name, version, rest in ENTRY.findall(path.read_text()):
        yield Locked(path.stem, canonicalize_name(name), version, "--hash=sha256:" in rest)


def without_hash(entries: Iterable[Locked], npm: Mapping[str, Any]) -> list[str]:
    """What could be exchanged on its way here: Python's distributions, and npm's packages."""
    python = [f"{each.name} {each.version} has no hash ({each.lock}.txt)" for each in entries if not each.hashed]
    packages = npm.get("packages", {}).items()
    return python + [f"npm: {name} has no integrity" for name, said in packages if name and "integrity" not in said]


def refused(entries: Iterable[Locked], rules: Iterable[Mapping[str, str]]) -> list[str]:
    """Locked releases of which the policy says that they must not be used."""
    by_name: dict[str, list[Mapping[str, str]]] = {}
    for rule in rules:
        by_name.setdefault(canonicalize_name(rule["name"]), []).append(rule)
    found = []
    for each in entries:
        for rule in by_name.get(each.name, ()):
            versions = rule["versions"]
            alternatives = versions.split(",") if versions.startswith("==") else [versions]
            if any(SpecifierSet(one).contains(each.version, prereleases=True) for one in alternatives):
                found.append(f"{each.name} {each.version} is refused ({each.lock}.txt): {rule['why']}")
    return found


def licence_of(distribution: importlib.metadata.Distribution, written: Mapping[str, str]) -> str:
    """An installed distribution's SPDX expression: by its metadata, else by the first line of its licence file."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    if known := {written[c] for c in classifiers if c in written}:
        return " AND ".join(sorted(known))
    first_lines = [metadata.get("License") or "", *(_first_line(file) for file in distribution.files or ())]
    lines = [text.strip().split("\n")[0].strip() for text in first_lines if text.strip()]
    return next((written[line] for line in lines if line in written), lines[0] if lines else "")


def _first_line(file: importlib.metadata.PackagePath) -> str:
    if not file.name.upper().startswith(("LICEN", "COPYING")):
        return ""
    try:
        return file.read_text().strip().split("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def is_allowed(expression: str, allowed: Iterable[str]) -> bool:
    """Whether a licence expression is satisfied by the allowed ones; brackets are read as if they were not there."""
    allowed = set(allowed)
    words = expression.replace("(", " ").replace(")", " ").strip()
    return bool(words) and all(
        any(one.strip() in allowed for one in re.split(r"\bOR\b", part)) for part in re.split(r"\bAND\b", words)
    )


def licences(entries: Iterable[Locked], policy: Mapping[str, Any]) -> tuple[list[str], int]:
    """Distributions installed here whose licence is not allowed; and how many are not installed, so not checked."""
    found, absent = [], set()
    for name in sorted({each.name for each in entries}):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            absent.add(name)
            continue
        licence = licence_of(distribution, policy["written"])
        excepted = any(fnmatch(name, pattern) for pattern in policy["excepted"])
        if not excepted and not is_allowed(licence, policy["allowed"]):
            found.append(f"{name}: the licence {licence or 'that its metadata do not name'!r} is not allowed")
    return found, len(absent)


def secrets(paths: Iterable[Path], made_up: Mapping[str, str]) -> list[str]:
    """Lines that hold what looks like a key, a token or a private key; the secret itself is not shown."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import transient_settings

    found = []
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for path in paths:
            content = path.read_bytes()
            if not MAYBE.search(content):
                continue
            collection = SecretsCollection()
            collection.scan_file(str(path))
            lines = {(secret.line_number, secret.type) for _, secret in collection}
            text = content.decode("utf-8", "replace")
            lines |= {(text.count("\n", 0, match.start()) + 1, "access key") for match in OWN_SECRETS.finditer(text)}
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
            found += [f"{name}:{line}: {kind}" for line, kind in sorted(lines) if name not in made_up]
    return found


def _npm(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    packages: Mapping[str, Mapping[str, Any]] = json.loads((ROOT / path).read_text())["packages"]
    return packages.items()


def tracked() -> list[Path]:
    """The files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def advisories(lock: Path, python: str) -> tuple[list[str], str | None]:
    """Vulnerabilities known of a lock file's distributions; else, why that is not known."""
    command = [python, "-m", "pip_audit", "--vulnerability-service", "osv", "--disable-pip", "--no-deps"]
    command += [
        "--require-hashes",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "--timeout",
        "15",
        "-r",
        str(lock),
    ]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"pip-audit: {type(error).__name__}"
    try:
        told = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [], last[:200]
    known = [(each, one) for each in told for one in each.get("vulns", ())]
    return [
        f"{each['name']} {each['version']} ({lock.name}): {one['id']}, mended in {', '.join(one['fix_versions'])}"
        for each, one in known
    ], None


def offline() -> dict[str, list[str]]:
    """Everything that can be checked without a network: the check, and what is wrong by it."""
    entries = list(locked(ROOT / "scripts" / "locks"))
    npm = {
        "packages": {f"{path.parent}/{name}" if name else "": said for path in NPM_LOCKS for name, said in _npm(path)}
    }
    not_allowed, absent = licences(entries, POLICY["licences"])
    return {
        f"hashes of {len(entries)} locked distributions": without_hash(entries, npm),
        f"{len(POLICY['refused'])} refused releases": refused(entries, POLICY["refused"]),
        f"licences ({absent} distributions are not installed here, and so not checked)": not_allowed,
        "secrets in the repository": secrets(tracked(), POLICY["secrets"]["made_up"]),
    }


def main(
    arguments: list[str],
    offline: Callable[[], dict[str, list[str]]] = offline,
    locks: Path = ROOT / "scripts" / "locks",
) -> int:
    """Print what was checked and what is wrong; 0 where nothing is, 1 where something is, 2 for other arguments."""
    if arguments and (len(arguments) != 2 or arguments[0] != "--advisories"):
        print(__doc__, file=sys.stderr)
        return 2
    checks = offline()
    if arguments:
        for lock in sorted(locks.glob("*.txt")):
            known, unknown = advisories(lock, arguments[1])
            if unknown is not None:
                print(f"NOT CHECKED: known vulnerabilities, as the database cannot be reached from here ({unknown})")
                if os.environ.get("REQUIRE_ADVISORIES") == "1":
                    checks["known vulnerabilities"] = [f"not checked: {unknown}"]
                break
            checks[f"known vulnerabilities in {lock.name}"] = known
    for name, wrong in checks.items():
        print(f"{'FAIL' if wrong else 'ok  '}  {name}")
        for each in wrong:
            print(f"      {each}")
    return 1 if any(checks.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
