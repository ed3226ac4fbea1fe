"""Build the Ray Serve application: `build_app(config)`, for `serve-graph up`, `serve build` and `serve deploy`.

ingress ─▶ router, verifier (router versions)  ·  ingress ─▶ tier, tier, …  ·  controller ─▶ all: switches versions
"""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application

from serve_graph.access.keys import Keyring
from serve_graph.access.listening import check_listening
from serve_graph.cluster.batches.served_verifier import bind_vllm_verifier, check_serve_of_graphs
from serve_graph.cluster.controller_deployment import ControllerDeployment
from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.cluster.ingress_deployment import IngressDeployment
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.cluster.proxy_address import host_of_serve, nodes_of_ray
from serve_graph.cluster.replicas.in_process import is_called_here
from serve_graph.cluster.replicas.nodes import check_nodes
from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.judge import AnyVerifierConfig, VllmVerifierConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, EchoTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.config.tiers.scaling import ScalingConfig, ServePolicy
from serve_graph.config.tiers.shared_engines import engines_of, sharing
from serve_graph.engines.telemetry.tracing import check_tracing
from serve_graph.engines.vllm.settings import llm_config
from serve_graph.engines.weights.loaded_files import loaded_files
from serve_graph.engines.weights.model_folder import check_model_folder
from serve_graph.engines.weights.resolve import resolve_weights
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.policy.catalogue_watch import CatalogueWatch
from serve_graph.policy.follower import follows_registry
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import serving_folder, serving_version

CONTROLLER_SCALING = ScalingConfig(num_cpus=0, drain_s=0.5)


def build_app(args: dict[str, Any]) -> Application:
    """Compose the graph as a Ray Serve application.

    Follows Ray Serve's builder convention: `serve run serve_graph.app:build_app config=configs/local.yaml`.

    Parameters
    ----------
    args : dict
        `config`: the path of a YAML file, or a GraphConfig. `version` (optional): the folder of the router version to
        serve, which the registry must hold as an approved one, instead of what the configuration asks for.

    Returns
    -------
    ray.serve.Application
        The bound graph; nothing is started yet.

    Raises
    ------
    ConfigError, WeightsError, ArtifactError, CertificateError
        With what is wrong. A graph without access keys is refused if `http.host`, or a Ray Serve that is already
        running, listens beyond this machine, and any graph on a Serve that a batch run started for itself.
    """
    config = args["config"] if isinstance(args["config"], GraphConfig) else load_config(Path(args["config"]))
    check_nodes(config, nodes_of_ray())
    check_tracing(config.tracing)
    check_listening(config)
    check_listening(config, host_of_serve())
    check_serve_of_graphs()
    TaskGraders.read(config.graders.tasks)
    catalogue = CatalogueWatch.of(config)
    served = serving_folder(config, Path(args["version"])) if args.get("version") else serving_version(config)
    engines = {tier.name: bind_tier(tier, config) for tier in engines_of(config.tiers) if not is_called_here(tier)}
    tiers = {tier.name: engines[tier.engine_name] for tier in config.tiers if tier.engine_name in engines}
    tiers |= {embedder.name: bind_embedder(embedder, config) for embedder in config.embedders}
    tiers |= {model.name: bind_verifier(model, config) for model in config.verifiers if not is_called_here(model)}
    begun = ServedVersion.of(served, config)
    router = verifier = controller = None
    follows = not args.get("version") and follows_registry(config)
    if begun.files is not None or follows:
        if follows:
            start = secrets.token_hex(8)
            controller = bind("controller", ControllerDeployment, CONTROLLER_SCALING, config, begun, start)
        if config.policy.placement == "replicas":
            policy_args = begun.files, config.policy.uncovered, config.policy.give_up_s, controller, config.logging
            router = bind("router", PolicyDeployment, config.policy.router_scaling, *policy_args, catalogue)
            verifier = bind("verifier", PolicyDeployment, config.policy.verifier_scaling, *policy_args)
    ingress = serve.ingress()(IngressDeployment)
    secret = secrets.token_bytes(16)  # the same for every ingress replica of this deployment
    keys = Keyring(config.access.keys, config.keys_file).required
    ingress_args = config, begun, tiers, router, verifier, secret, keys, controller, catalogue
    policy: ServePolicy | None = None if all(tier.scaling.is_fixed for tier in config.every_tier) else "IngressScaling"
    return bind("ingress", ingress, config.http.scaling, *ingress_args, policy=policy)


def __getattr__(name: str) -> Application:
    """Build `serve_graph.app:app` from ./configs/local.yaml, for `serve build`, which passes no arguments."""
    if name == "app":
        return build_app({"config": "configs/local.yaml"})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def bind(
    name: str, cls: type, scaling: ScalingConfig, *args: Any, policy: ServePolicy | None = None, **options: Any
) -> Application:
    """Bind one deployment with its autoscaling options."""
    deployment = serve.deployment(name=name)(cls).options(**serve_options(scaling, policy), **options)
    application: Application = deployment.bind(*args)
    return application


def bind_tier(tier: AnyTierConfig, config: GraphConfig) -> Application:
    """Bind the deployment of one tier, by its engine."""
    policy: ServePolicy | None = None if tier.scaling.is_fixed else "TierScaling"
    if isinstance(tier, EchoTierConfig):
        return bind(tier.name, EchoDeployment, tier.scaling, tier, config.logging, policy=policy)
    if isinstance(tier, HostedTierConfig):
        from serve_graph.cluster.hosted_deployment import HostedDeployment

        return bind(tier.name, HostedDeployment, tier.scaling, tier, config.logging, policy=policy)
    from serve_graph.engines.vllm.deployment import VllmDeployment

    model = resolve_weights(tier.weights, config.state_folder)
    settings = llm_config(tier, model, tracing=config.tracing)
    named = [one.lora for one in sharing(config.tiers, tier.name) if isinstance(one, VllmTierConfig)]
    adapters = [lora.folder for lora in named if lora is not None and lora.folder is not None]
    for adapter in adapters:
        check_model_folder(adapter, config.state_folder, adapter=True)
    options = VllmDeployment.get_deployment_options(settings)
    deployment = serve.deployment(VllmDeployment).options(**options | {"name": tier.name})
    files = loaded_files(tier, model, config.state_folder, adapters)
    folder = None if tier.lora is None or tier.lora.local_path is None else str(tier.lora.local_path)
    application: Application = deployment.bind(settings, folder, files, partial(log_in_replica, config.logging))
    return application


def bind_embedder(embedder: VllmTierConfig, config: GraphConfig) -> Application:
    """Bind the deployment of an embedding model."""
    from serve_graph.engines.vllm.embedder import VllmEmbedder

    model = resolve_weights(embedder.weights, config.state_folder)
    settings = llm_config(embedder, model, pooling=True, tracing=config.tracing)
    options = VllmEmbedder.get_deployment_options(settings)
    deployment = serve.deployment(VllmEmbedder).options(**options | {"name": embedder.name})
    files, logs = loaded_files(embedder, model, config.state_folder), partial(log_in_replica, config.logging)
    application: Application = deployment.bind(settings, files, logs)
    return application


def bind_verifier(verifier: AnyVerifierConfig, config: GraphConfig) -> Application:
    """Bind the deployment of a verifier model."""
    if not isinstance(verifier, VllmVerifierConfig):
        return bind_tier(verifier, config)
    return bind_vllm_verifier(verifier, config)


def serve_options(scaling: ScalingConfig, policy: ServePolicy | None = None) -> dict[str, Any]:
    """Convert a scaling section to Ray Serve's deployment options."""
    return {
        "ray_actor_options": {"num_cpus": scaling.num_cpus},
        "max_ongoing_requests": scaling.max_ongoing_requests,
        "max_queued_requests": scaling.max_queued_requests,
        "graceful_shutdown_timeout_s": scaling.drain_s,
        "graceful_shutdown_wait_loop_s": min(scaling.drain_s, 0.5),
        "autoscaling_config": scaling.autoscaling(policy),
    }
