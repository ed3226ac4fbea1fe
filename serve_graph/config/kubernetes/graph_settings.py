"""The configuration as the cluster reads it: the same graph, with its state where every pod finds it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import HostedTierConfig, VllmTierConfig
from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.errors import ConfigError

CONFIG_FOLDER, CONFIG_FILE = "/etc/serve-graph-config", "graph.yaml"
KEYS_FOLDER, KEYS_FILE = "/etc/serve-graph", "keys.yaml"
STATE_FOLDER = "/var/lib/serve-graph"
RECORDS_VARIABLE, REGISTRY_VARIABLE = "SERVE_GRAPH_STORE_URL", "SERVE_GRAPH_REGISTRY_URI"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_SECRET_KEY = re.compile(
    r"(?:^|[._-])(?:secret|password|authorization|(?:api|access)[_-]?key|(?:hf|hub|api|auth|access)[_-]?token)$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"[A-Za-z][\w+.-]*://[^/?#@:]*:([^/?#]+)@")
_STAND_INS = {"url": "postgresql://stand-in/stand-in", "tracking_uri": "http://stand-in:5000"}


@dataclass(frozen=True, slots=True)
class ClusterGraph:
    """What the pods are given.

    `text` is the YAML of the ConfigMap; `config` the same, validated, with stand-ins for what only the cluster knows;
    `variables` the names of the environment that it is completed from; `secret_files` files that must be mounted, and
    `model_folders` folders with weights and adapters.
    """

    text: str
    config: GraphConfig
    variables: tuple[str, ...]
    secret_files: tuple[str, ...]
    model_folders: tuple[str, ...]


def cluster_graph(path: Path) -> ClusterGraph:
    """Read a configuration file and settle what a cluster needs otherwise than one machine does.

    Set where the file leaves it to one machine's disk or loopback: `records.url`, `tracking_uri`, `access.keys_file`,
    `state_folder`, `http.host`; `nodes` is several. Batches are off where their files would lie on a pod's disk. Tiers
    of vLLM ask for a resource that only their own workers have.
    All else stays: whether it names anything that one node alone has, `check_nodes` says.

    Raises
    ------
    ConfigError
        The file cannot be read, is no valid configuration, or holds a secret: the text is a ConfigMap's.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping with at least `tiers`")
    given = validated(data, path)
    settled = _settled(data, given)
    if secrets := [key for key, value in _texts(settled) if _holds_secret(key, value)]:
        raise ConfigError(
            f"{path} holds secrets, which everybody who reads the ConfigMap would read: {', '.join(secrets)}. Write "
            "${NAME} for each, and give its value under that name in the Secret"
        )
    config = validated(settled, path)
    text = yaml.safe_dump(settled, sort_keys=False, allow_unicode=True, width=119)
    return ClusterGraph(
        text, config, tuple(sorted(set(_VARIABLE.findall(text)))), _secret_files(config), _model_folders(config)
    )


def validated(data: Mapping[str, Any], path: Path) -> GraphConfig:
    """The configuration of plain data in which `${NAME}` stands for what only the cluster knows."""
    try:
        return GraphConfig.model_validate(_completed(data))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} is not a valid configuration:\n" + "\n".join(lines)) from error


def tier_resource(name: str) -> str:
    """The resource that the workers of one tier have, and no others: its replicas are placed by it."""
    return f"tier-{name}"


def bundles_of(tier: VllmTierConfig) -> list[dict[str, float]]:
    """The placement bundles of one replica, as `ray.serve.llm` derives them where the configuration has none."""
    if tier.placement_bundles is not None:
        return [dict(bundle) for bundle in tier.placement_bundles]
    if tier.accelerator == "cpu":
        return [{"CPU": 0.5}]
    devices = _degree(tier, "tensor_parallel_size") * pipeline_stages(tier)
    return [{tier.accelerator.upper(): 1} for _ in range(devices)]


def pipeline_stages(tier: VllmTierConfig) -> int:
    """How many groups of GPUs work one after the other: each may be a node of its own."""
    return _degree(tier, "pipeline_parallel_size")


def _degree(tier: VllmTierConfig, name: str) -> int:
    found = tier.engine_kwargs.get(name, 1)
    return found if isinstance(found, int) and found > 0 else 1


def _settled(data: Mapping[str, Any], given: GraphConfig) -> dict[str, Any]:
    """The data with the state of every pod in one place."""
    new: dict[str, Any] = deepcopy(dict(data))
    new.pop("logical_cpus", None)  # of one machine's Ray
    records, access, http = (dict(new.get(section) or {}) for section in ("records", "access", "http"))
    if given.records.url is None or given.records.url.startswith("sqlite"):
        new["records"] = {"url": f"${{{RECORDS_VARIABLE}}}"} | {k: v for k, v in records.items() if k != "url"}
    if given.tracking_uri is None or given.tracking_uri.startswith(("sqlite:", "file:", "/", ".")):
        new["tracking_uri"] = f"${{{REGISTRY_VARIABLE}}}"
    if not given.access.open and (given.access.keys_file is None or not given.access.keys_file.is_absolute()):
        new["access"] = access | {"keys_file": f"{KEYS_FOLDER}/{KEYS_FILE}"}
    if given.http.host in LOOPBACK:
        new["http"] = http | {"host": "0.0.0.0"}
    if not given.state_folder.is_absolute():
        new["state_folder"] = STATE_FOLDER
    if given.batches.enabled and given.batches.files is None:
        new["batches"] = dict(new.get("batches") or {}) | {"enabled": False}
    new["nodes"] = "several"
    shared = [str(folder) for folder in given.shared_folders]
    if not shared or (new.get("access") or {}).get("keys_file") == f"{KEYS_FOLDER}/{KEYS_FILE}":
        new["shared_folders"] = list(dict.fromkeys([*shared, KEYS_FOLDER]))
    for section, tiers in (
        ("tiers", given.tiers),
        ("embedders", given.embedders),
        ("verifiers", given.verifiers),
    ):
        for entry, tier in zip(new.get(section) or (), tiers, strict=True):
            if isinstance(tier, VllmTierConfig):
                entry["placement_bundles"] = [{**b, tier_resource(tier.name): 1} for b in bundles_of(tier)]
    return new


def _completed(data: Any, key: str = "") -> Any:
    """Replace `${NAME}` by values that pass for what a cluster's Secret will hold."""
    if isinstance(data, Mapping):
        return {name: _completed(value, str(name)) for name, value in data.items()}
    if isinstance(data, list):
        return [_completed(value, key) for value in data]
    if not isinstance(data, str):
        return data
    if _VARIABLE.fullmatch(data):
        return _STAND_INS.get(key, "stand-in")
    return _VARIABLE.sub("stand-in", data)


def _texts(data: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of plain data, by the names that lead to it."""
    if isinstance(data, str):
        yield key, data
    elif isinstance(data, Mapping | list):
        for name, value in data.items() if isinstance(data, Mapping) else enumerate(data):
            yield from _texts(value, f"{key}.{name}" if key else str(name))


def _holds_secret(key: str, value: str) -> bool:
    """Whether a text is a secret, or a URL with a password; `${NAME}` stands for one, and is none."""
    if _SECRET_KEY.search(key):
        return _VARIABLE.search(value) is None
    password = _URL_PASSWORD.match(value)
    return password is not None and _VARIABLE.search(password[1]) is None


def _secret_files(config: GraphConfig) -> tuple[str, ...]:
    """The files of secrets that the configuration names: access keys and keys of hosted tiers."""
    files = [config.access.keys_file, *(api.api_key_file for api in hosted_apis(config))]
    return tuple(sorted({str(file) for file in files if file is not None}))


def _model_folders(config: GraphConfig) -> tuple[str, ...]:
    """The folders of weights and adapters, or those of `shared_folders` that they lie in."""
    engines = [tier for tier in config.every_tier if isinstance(tier, VllmTierConfig)]
    named = [tier.weights.folder for tier in engines]
    named += [tier.lora.folder for tier in engines if tier.lora is not None]
    folders = {
        next((shared for shared in config.shared_folders if folder.is_relative_to(shared)), folder)
        for folder in named
        if folder is not None
    }
    return tuple(sorted(str(folder) for folder in folders))


def hosted_apis(config: GraphConfig) -> list[HostedDeploymentConfig]:
    """Every API behind the hosted tiers."""
    return [api for tier in config.every_tier if isinstance(tier, HostedTierConfig) for api in tier.apis]
