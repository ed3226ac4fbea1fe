import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_models.versions.sealed.local_copies import MOST_BYTES
from serve_graph.api.transport.connection import Reply
from serve_graph.config.graph import load_config
from serve_graph.config.kubernetes.machines import MACHINES
from serve_graph.config.kubernetes.manifests import kubernetes_objects, manifests_text
from serve_graph.config.kubernetes.pods import CERTIFIED, DRAIN_VARIABLE, MOVE_S, PROBE_KEY, STOP_S
from serve_graph.config.kubernetes.ray_service import RAY_VERSION
from serve_graph.config.kubernetes.serve_application import serve_config
from serve_graph.errors import ConfigError

ROOT = Path(__file__).parents[5]
CLUSTER, HOSTED = ROOT / "configs" / "cluster.yaml", ROOT / "configs" / "hosted.yaml"


def service(config: Path, **options: Any) -> dict[str, Any]:
    found = [each for each in kubernetes_objects(config, **options) if each["kind"] == "RayService"]
    assert len(found) == 1
    spec: dict[str, Any] = found[0]["spec"]
    return spec


def pods(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = spec["rayClusterConfig"]
    workers = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]["spec"]} | workers


def test_the_serve_configuration_is_one_that_ray_serve_takes() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    told = schema.ServeDeploySchema.model_validate(yaml.safe_load(service(CLUSTER)["serveConfigV2"]))
    application = told.applications[0]
    assert application.import_path == "serve_graph.app:build_app"
    assert {one.name for one in application.deployments} == {"ingress", "router", "verifier", "controller"}


def test_the_arguments_name_the_file_that_every_pod_mounts() -> None:
    spec = service(CLUSTER)
    path = yaml.safe_load(spec["serveConfigV2"])["applications"][0]["args"]["config"]
    made = config_map_of(CLUSTER)
    for pod in pods(spec).values():
        volume = next(one for one in pod["volumes"] if one["name"] == "config")
        assert volume["configMap"]["name"] == made["metadata"]["name"]
        mount = next(one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "config")
        assert path == f"{mount['mountPath']}/{next(iter(made['data']))}"


def config_map_of(config: Path) -> dict[str, Any]:
    return kubernetes_objects(config)[0]


def test_the_folders_that_a_configuration_names_are_the_ones_that_pods_mount(tmp_path: Path) -> None:
    price = "{input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
    tier = f"{{name: own, engine: vllm, weights: {{folder: /models/own}}, price: {price}}}"
    path = tmp_path / "graph.yaml"
    said = "state_folder: /data\naccess: {keys_file: /run/keys/all.yaml}\nshared_folders: [/run/keys, /models]\n"
    path.write_text(f"{said}policy: {{safe_tier: own}}\ntiers: [{tier}]\n")
    for pod in pods(service(path)).values():
        folders = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        assert {"/data", "/data/spool", "/data/weights", "/models", "/run/keys"} <= set(folders)
        assert folders["/models"] == {"name": "models", "mountPath": "/models", "subPath": "models", "readOnly": True}
        env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert env["HOME"] == "/data"
        secret = next(one["secret"] for one in pod["volumes"] if one["name"] == folders["/run/keys"]["name"])
        assert secret["secretName"] == "serve-graph-run-keys"


def test_another_configuration_is_another_config_map_and_so_another_release(tmp_path: Path) -> None:
    other = tmp_path / "graph.yaml"
    other.write_text(HOSTED.read_text().replace("gpt-4o", "gpt-4.1"))
    assert config_map_of(other)["metadata"]["name"] != config_map_of(HOSTED)["metadata"]["name"]
    assert config_map_of(HOSTED) == config_map_of(HOSTED)


def test_another_image_or_configuration_is_another_migration_since_a_job_cannot_be_changed(tmp_path: Path) -> None:
    def job(config: Path, image: str) -> str:
        [found] = [each for each in kubernetes_objects(config, image=image) if each["kind"] == "Job"]
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == image
        return str(found["metadata"]["name"])

    changed = tmp_path / "graph.yaml"
    changed.write_text(CLUSTER.read_text().replace("epsilon: 0.10", "epsilon: 0.20"))
    images = ["host:5000/serve-graph:1", "host:5000/serve-graph:2", f"serve-graph@sha256:{'0' * 64}"]
    names = [job(config, image) for config in (CLUSTER, changed) for image in images]
    assert len(set(names)) == len(names)
    assert names[0] == job(CLUSTER, images[0])
    assert all(len(name) <= 63 for name in names), "its pods' label holds no more"


def test_no_value_of_a_secret_is_in_the_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("SERVE_GRAPH_STORE_URL", "postgresql://very-secret@db/x")
    text = manifests_text(kubernetes_objects(HOSTED), "x")
    assert "very-secret" not in text
    for pod in pods(service(HOSTED)).values():
        named = {one["name"]: one.get("valueFrom") for one in pod["containers"][0]["env"]}
        assert named["OPENAI_API_KEY"] == {"secretKeyRef": {"name": "serve-graph", "key": "OPENAI_API_KEY"}}


def test_ray_is_told_what_its_groups_offer_as_kuberay_passes_it_on() -> None:
    by_name = {group["groupName"]: group for group in service(CLUSTER)["rayClusterConfig"]["workerGroupSpecs"]}
    params = by_name["frontier"]["rayStartParams"]
    assert params["num-gpus"] == "4"
    # As Ray's autoscaler reads it: without the outer quotes and the backslashes.
    assert json.loads(params["resources"][1:-1].replace("\\", "")) == {"tier-frontier": 4}
    assert (by_name["frontier"]["minReplicas"], by_name["frontier"]["maxReplicas"]) == (1, 4)


def test_a_chosen_machine_is_where_the_pods_go_and_what_they_ask_for() -> None:
    pod = pods(service(CLUSTER, machines={"cheap": "l4"}))["cheap"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == list(MACHINES["l4"].products)
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_release_takes_traffic_in_steps_where_a_gateway_class_is_named() -> None:
    assert service(CLUSTER)["upgradeStrategy"] == {"type": "NewCluster"}
    strategy = service(CLUSTER, gateway_class="istio")["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    assert strategy["clusterUpgradeOptions"]["gatewayClassName"] == "istio"


def test_replicas_have_their_time_to_move_and_to_finish_before_their_pod_goes(tmp_path: Path) -> None:
    text = CLUSTER.read_text()
    assert "drain_s: 60" in text
    slower = tmp_path / "slower.yaml"
    slower.write_text(text.replace("drain_s: 60", "drain_s: 500"))
    for path, drain_s in ((CLUSTER, 60), (slower, 500)):
        pod = pods(service(path))["cheap"]
        [told] = [one["value"] for one in pod["containers"][0]["env"] if one["name"] == DRAIN_VARIABLE]
        assert int(told) == MOVE_S + drain_s
        assert pod["terminationGracePeriodSeconds"] >= int(told) + STOP_S


def test_the_next_head_does_not_wait_for_the_drain_of_one_that_has_no_replica() -> None:
    [container] = pods(service(CLUSTER))["head"]["containers"]
    assert {"name": DRAIN_VARIABLE, "value": "0"} in container["env"]


def test_ray_drains_for_as_long_as_the_variable_says_and_else_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import ray._private.ray_constants as c; print(getattr(c, 'RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S'))"

    def drains() -> float:
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=120)
        return float(done.stdout)

    assert drains() < 60, "Ray's default, and drain_s of configs/cluster.yaml"
    monkeypatch.setenv(DRAIN_VARIABLE, "360")
    assert drains() == 360


def test_the_copies_of_versions_that_a_node_keeps_do_not_fill_its_volume() -> None:
    for name, pod in pods(service(CLUSTER)).items():
        [state] = [each["emptyDir"] for each in pod["volumes"] if each["name"] == "state"]
        assert int(state["sizeLimit"].removesuffix("Gi")) << 30 > MOST_BYTES, name


def test_the_ray_version_is_the_one_that_the_project_installs() -> None:
    assert f'"ray[serve]=={RAY_VERSION}"' in (ROOT / "pyproject.toml").read_text()


def test_a_machine_of_no_name_is_refused_with_the_file() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.yaml: no machine is called 'l5'"):
        kubernetes_objects(CLUSTER, machines={"cheap": "l5"})


@pytest.mark.parametrize(
    "policy",
    [
        "{version: none}",
        "{version: builtin}",
        "{version: builtin, placement: ingress}",
        "{version: stable}",
        "{version: stable, placement: ingress}",
        "{version: 3, follow_s: null}",
    ],
)
def test_the_deployments_that_are_placed_are_those_that_the_builder_binds(tmp_path: Path, policy: str) -> None:
    """Ray Serve refuses options of a deployment that is not there, and one without them may hold an engine's node."""
    from ray.serve._private.build_app import build_app as deployments_of

    from serve_graph.app import build_app

    path = tmp_path / "graph.yaml"
    echo = (ROOT / "configs" / "echo.yaml").read_text().rpartition("policy:")[0]
    path.write_text(f"{echo}policy: {policy}\nstate_folder: {tmp_path / 'state'}\n")
    (application,) = serve_config(load_config(path))["applications"]
    bound = deployments_of(build_app({"config": str(path)}), name="x").deployments
    assert {one["name"] for one in application["deployments"]} == {one.name for one in bound}


def test_the_text_is_yaml_and_the_graph_in_it_reads_as_written() -> None:
    objects = kubernetes_objects(CLUSTER)
    text = manifests_text(objects, "serve-graph manifests")
    assert list(yaml.safe_load_all(text)) == objects
    assert "  graph.yaml: |\n" in text
    assert config_map_of(CLUSTER)["immutable"] is True


@pytest.mark.parametrize(
    ("certified", "tiers", "ready"),
    [
        (True, {"cheap": True, "frontier": True}, True),
        (True, {"cheap": None, "frontier": True}, True),
        (True, {"cheap": False, "frontier": True}, False),
        (False, {"cheap": True, "frontier": True}, False),
    ],
)
def test_a_worker_may_be_ready_only_with_a_certified_version_and_every_tier(
    certified: bool, tiers: dict[str, bool | None], ready: bool
) -> None:
    """The probe's own words, on what `/readyz` says to a key."""
    reply = Reply({"ready": True, "tiers_ready": tiers, "version": "router/3", "certified": certified, "x": False})
    state = {"state": bytes(reply.body).decode(), "PATH": os.environ["PATH"]}
    ran = subprocess.run(["/bin/sh", "-c", CERTIFIED], env=state, timeout=10, check=False)
    assert (ran.returncode == 0) is ready


def test_the_probe_that_asks_for_a_certificate_shows_a_key_that_is_a_secret() -> None:
    usual, strict = (pods(service(CLUSTER, certified=it))["serving"]["containers"][0] for it in (False, True))
    assert usual["readinessProbe"]["exec"]["command"][-1].endswith("wget -q -T 4 -O /dev/null localhost:8000/readyz")
    assert strict["readinessProbe"]["exec"]["command"][-1].endswith(CERTIFIED)
    named = {one["name"]: one.get("valueFrom") for one in strict["env"]}
    assert named[PROBE_KEY] == {"secretKeyRef": {"name": "serve-graph", "key": PROBE_KEY}}
    assert PROBE_KEY not in {one["name"] for one in usual["env"]}
