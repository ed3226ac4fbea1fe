"""The Dockerfile: what it stands on, what it runs, as whom. Its steps are the Makefile's."""

import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from serve_graph.config.kubernetes.pods import USER
from tests.contract.project.kubernetes.kustomize import ROOT

FOLDER = ROOT / "k8s" / "image"
TARGETS = ("cpu", "gpu", "mlflow")


def instructions(text: str) -> list[tuple[str, str]]:
    """Every instruction and its arguments, with lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """Stage → its instructions, the FROM first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions(text):
        if word == "FROM":
            found[rest.split(" AS ")[1]] = [(word, rest)]
        elif found:
            found[next(reversed(found))].append((word, rest))
    return found


STAGES = stages((FOLDER / "Dockerfile").read_text())


def test_the_base_is_given_by_digest_and_has_no_default() -> None:
    first = instructions((FOLDER / "Dockerfile").read_text())[0]
    assert first == ("ARG", "BASE")
    bases = {rest.split(" AS ")[0] for stage in STAGES.values() for word, rest in stage if word == "FROM"}
    assert bases - set(STAGES) == {"${BASE}"}
    check = next(rest for word, rest in STAGES["base"] if word == "RUN")
    for base, code in (("python:3.12", 2), ("python@sha256:0f", 0), ("", 2)):
        ran = subprocess.run(["bash", "-c", check], env={"BASE": base}, capture_output=True, timeout=10, check=False)
        assert ran.returncode == code, base


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_runs_as_the_user_of_the_pods_and_installs_nothing_as_it_starts(target: str) -> None:
    words = [word for word, _ in STAGES[target]]
    users = [rest for word, rest in STAGES[target] if word == "USER"]
    assert users == [f"{USER}:{USER}"]
    assert "RUN" not in words[words.index("USER") :]
    assert f"--uid {USER}" in next(rest for word, rest in STAGES["base"] if "useradd" in rest)
    assert not [rest for word, rest in STAGES[target] if word == "ADD"]


def test_a_login_shell_finds_what_is_installed(tmp_path: Path) -> None:
    """KubeRay's command may be one, and Debian's profile sets PATH anew."""
    [writes] = [rest for word, rest in STAGES["base"] if word == "RUN" and "/etc/profile.d/" in rest]
    profile = tmp_path / "serve-graph.sh"
    subprocess.run(
        ["bash", "-c", writes.replace("/etc/profile.d/serve-graph.sh", str(profile))], check=True, timeout=10
    )
    shown = ["env", "-i", "bash", "-c", f"PATH=/usr/bin:/bin; . {profile}; echo $PATH"]
    first = subprocess.run(shown, check=True, capture_output=True, text=True, timeout=10).stdout.partition(":")[0]
    [path] = [part for word, rest in STAGES["base"] if word == "ENV" for part in rest.split() if part[:5] == "PATH="]
    assert first == path.removeprefix("PATH=").partition(":")[0] == "/opt/serve-graph/.venv/bin"


@pytest.mark.parametrize("build", ["cpu", "gpu"])
def test_a_build_is_the_makefiles_step(build: str, tmp_path: Path) -> None:
    """What the line installs, as make says without doing it, is what `make up` installs."""
    (step,) = [rest for word, rest in STAGES[f"build-{build}"] if word == "RUN"]
    assert step == f"make serving BUILD={build}"
    said = subprocess.run(
        [*shlex.split(step), "-n", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert f"scripts/install {tmp_path / 'venv'} {build}" in said
    assert f"COPY --from=build-{build} /opt/serve-graph /opt/serve-graph" in [" ".join(one) for one in STAGES[build]]


def test_the_registrys_server_is_installed_by_hash_as_the_project_is() -> None:
    (step,) = [rest for word, rest in STAGES["build-mlflow"] if word == "RUN"]
    installs = re.findall(r"(?:pip|uv pip) install .*?(?=&&|$)", step)
    assert len(installs) == 2
    assert all("--require-hashes" in each for each in installs)
    locks = re.findall(r"-r (\S+)", step)
    assert [lock for lock in locks if not (ROOT / lock).is_file()] == []
    text = (ROOT / "scripts" / "locks" / "registry.txt").read_text()
    for name in ("mlflow", "psycopg2-binary", "boto3"):
        assert re.search(rf"^{name}==", text, re.MULTILINE)


def test_the_server_is_of_the_release_that_the_graph_is_tested_with() -> None:
    versions = {
        re.search(r"^mlflow==(\S+)", (ROOT / "scripts" / "locks" / f"{name}.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]
        for name in ("registry", "cpu", "gpu")
    }
    assert len(versions) == 1


def test_what_the_build_copies_is_sent_to_it_and_nothing_else() -> None:
    lines = [
        line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert lines[0] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for word, rest in STAGES["source"] if word == "COPY" for name in rest.split()[:-1]}
    assert sent == copied
    assert all((ROOT / name).exists() for name in sent)
    refused = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    assert all(
        any(fnmatch(name, each) for each in refused) for name in (".venv", ".venv-clients", "server.pem", ".env")
    )


def test_everything_that_the_installation_reads_is_copied() -> None:
    """The Makefile's rule, scripts/install and setuptools read these, and no other file of the repository."""
    rule = re.search(r"^\$\(STAMP\): (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule is not None
    copied = {name for word, rest in STAGES["source"] if word == "COPY" for name in rest.split()[:-1]}
    assert {"Makefile", "pyproject.toml", "scripts", "README.md", "LICENSE", "router_models", "serve_graph"} == copied
    assert re.findall(r"(?<![\w/])(scripts/locks|pyproject\.toml)", rule[1])
