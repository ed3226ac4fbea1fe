"""Which router version serves: found in the registry, verified, its certificate checked against this graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from router_models.data.artifacts import verify
from router_models.data.starter import STARTER_OUTCOMES
from router_models.errors import ArtifactError, CertificateError, LossError, NotCertifiedError, RegistryError
from router_models.pricing.savings import TokenRatios
from router_models.training.candidate import Settings
from router_models.types import Progress
from router_models.versions.registry import RegisteredVersion, find_sealed, find_version, list_versions
from router_models.versions.review import FIRST_START, review_refusal, review_state
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.builtin import builtin_version
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.prompt_room import longest_prompt_bytes
from serve_graph.policy.bindings import asked_settings, check_certificate, collected_binds, tier_binds, tier_prices
from serve_graph.policy.pays import check_pays, loss_of
from serve_graph.policy.tier_kinds import tier_kinds
from serve_graph.policy.validity import Validity, validity_of
from serve_graph.records import audit

FIRST_PREFIX = (4,)
"""After how many tokens the first version may show an answer, where that certifies."""
USUAL_ROUTER_S, USUAL_VERIFIER_S = 0.005, 0.002
"""Seconds of a routing decision and of a verdict (docs/decisions/offline/0011): what savings are net of."""


@dataclass(frozen=True)
class Served:
    """What will decide: a version and its folder, or neither and the reason why the last tier answers everything.

    `validity` says how long. `refused`: a version was found, and may not take traffic.
    `unreachable`: the registry could not be asked. `source`: where other nodes fetch its files from.
    """

    version: RouterVersion | None
    folder: Path | None
    reason: str
    validity: Validity = field(default_factory=Validity)
    refused: bool = False
    unreachable: bool = False
    source: RegisteredVersion | None = None

    @property
    def name(self) -> str:
        return self.version.name if self.version else "none"


def serving_version(
    config: GraphConfig,
    folder: Path | None = None,
    now: datetime | None = None,
    found: RegisteredVersion | None = None,
) -> Served:
    """Find what the configuration asks for; without approval or a certificate that holds: always-frontier, and why.

    `folder`: a version's files instead of what the registry has; their review is not asked for (`serving_folder`).
    `found`: the version that they are of.

    Raises ArtifactError where the version's files are damaged: that is never papered over.
    """
    if folder is None and config.policy.version == "none":
        return Served(None, None, "the configuration asks for no router version")
    if folder is None and config.policy.version == "builtin":
        folder = builtin_version(config.tier_names, config.state_folder.resolve() / "builtin")
        return Served(RouterVersion.load(folder), folder, "uncertified: for tests and benches only")
    name, moment = None, now or datetime.now(UTC)
    if folder is None:
        try:
            found = find_version(config.registry_uri, config.policy.model_name, config.policy.version)
            if found is None:
                wanted = f"{config.policy.model_name}@{config.policy.version}"
                return Served(
                    None, None, f"the registry holds no {wanted}; `serve-graph train` and `certify` make one"
                )
            if (refusal := review_refusal(found)) is not None:
                return Served(None, None, refusal, refused=True)
            folder, name = found.folder(config.state_folder.resolve() / "versions"), found.name
        except RegistryError as error:
            return Served(None, None, f"the registry cannot be reached: {error}", unreachable=True)
    try:
        version = RouterVersion.load(folder, name)
        check_certificate(version, config, moment)
    except CertificateError as error:
        named = str(error) if name is None or name in str(error) else f"{name}: {error}"
        mend = "`serve-graph certify` makes a version with a certificate, `versions promote` serves another"
        return Served(None, None, f"{named.rstrip('.')}: {mend}", refused=True)
    assert version.certificate is not None
    if (loss := loss_of(version, config, moment)) is not None:
        why = f"{version.name} is not served: {loss} (policy.allow_loss serves it all the same)"
        return Served(None, None, why, refused=True)
    return Served(version, folder, version.certificate.summary(), validity_of(version, config), source=found)


def serving_folder(config: GraphConfig, folder: Path) -> Served:
    """A version that is given by its files, as `serving_version`: the registry must hold them, approved.

    Raises ArtifactError where the files are damaged.
    """
    digest = verify(folder)
    try:
        found = find_sealed(config.registry_uri, config.policy.model_name, digest)
    except RegistryError as error:
        return Served(None, None, f"the registry cannot be reached: {error}", unreachable=True)
    if found is None:
        why = f"{folder} is no version that was registered, so that nobody has approved it: `serve-graph certify` does"
        return Served(None, None, f"{why} register one", refused=True)
    if (refusal := review_refusal(found)) is not None:
        return Served(None, None, refusal, refused=True)
    return serving_version(config, folder, found=found)


def ensure_first_version(config: GraphConfig, progress: Progress, budget_s: float | None = None) -> str | None:
    """Train, certify and register a first version from the shipped outcomes, where the registry has none.

    It is the one version that is approved without a person (`review.FIRST_START`): of a registry whose other versions,
    if there are any, were all made so, and that nobody has reviewed since.

    `budget_s`: seconds within which router families are compared (`auto_router`); None: the two quickest alone, so
    that the version does not depend on how busy the machine is.

    Returns why there is none afterwards, or None. The shipped outcomes count only for the very tiers they were
    collected from: for other weights or flags the reason says how to collect one's own.
    """
    if config.policy.version in ("none", "builtin"):
        return None
    if find_version(config.registry_uri, config.policy.model_name, config.policy.version) is not None:
        return None
    if config.policy.version != "stable" or len(config.tiers) != 2:
        return "no such version, and a first one is trained for two tiers and the alias `stable` only"
    if collected_binds(STARTER_OUTCOMES) != tier_binds(config):
        return (
            "the shipped outcomes are of other models or engine flags; run `serve-graph collect`, `train`, `certify`"
        )
    others = list_versions(config.registry_uri, config.policy.model_name)
    if any((review := review_state(made)).by != FIRST_START or not review.approved for made in others):
        model = config.policy.model_name
        return (
            f"{model} has versions, and none of them is `stable`: `serve-graph versions promote` one that is approved"
        )
    from router_models.pipeline import run_pipeline  # with pandas and what fits: nothing that serves needs it

    progress("no router version yet: training the first one from the shipped outcomes")
    now = datetime.now(UTC)
    try:
        made = run_pipeline(
            STARTER_OUTCOMES,
            replace(settings_of(config), budget_s=budget_s),
            config.state_folder,
            config.registry_uri,
            config.policy.model_name,
            now,
            alias="stable",
            prefix=FIRST_PREFIX,
            check=lambda version: check_pays(version, config, now),
            label_source="programmatic",
            approved_by=FIRST_START,
            progress=progress,
        )
    except NotCertifiedError as error:
        return error.reason
    except LossError as error:
        return str(error)
    audit.record(config, "graph", "versions.approve", made.name, None, {"by": FIRST_START})
    return None


def token_ratios_of(config: GraphConfig, names: Iterable[str]) -> dict[str, TokenRatios]:
    """What the certificates of these versions say of the lengths of both tiers' answers, by version.

    A version that the registry does not hold, or whose files cannot be read, is left out.
    """
    found: dict[str, TokenRatios] = {}
    for name in names:
        model, slash, number = name.rpartition("/")
        if not slash or not number.isdigit() or model != config.policy.model_name:
            continue
        try:
            version = find_version(config.registry_uri, model, number)
            if version is None:
                continue
            loaded = RouterVersion.load(version.folder(config.state_folder.resolve() / "versions"), name)
        except (RegistryError, ArtifactError, CertificateError):
            continue
        if loaded.certificate is not None and loaded.certificate.token_ratios:
            found[name] = loaded.certificate.token_ratios
    return found


def settings_of(config: GraphConfig) -> Settings:
    """The offline settings a graph configuration implies."""
    return Settings(
        tiers=config.tier_names,
        prices=tier_prices(config),
        epsilon=config.policy.epsilon,
        delta=config.policy.delta,
        binds=tier_binds(config),
        kinds=tier_kinds(config),
        asking=asked_settings(config),
        longest_prompt=longest_prompt_bytes(config),
        router_usd=float(config.policy.router_usd_per_s) * USUAL_ROUTER_S,
        verifier_usd=float(config.policy.verifier_usd_per_s) * USUAL_VERIFIER_S,
    )
