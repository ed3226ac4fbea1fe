"""Configuration of how requests are decided: the served version, and what happens without a decision."""

from __future__ import annotations

import logging
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from router_models.versions.names import name_fault
from serve_graph.config.base import Frozen
from serve_graph.config.judge import EnsembleConfig
from serve_graph.config.prices import Amount
from serve_graph.config.tiers.scaling import ScalingConfig
from serve_graph.config.tiers.tier import TierName

logger = logging.getLogger(__name__)
WhenUncovered = Literal["last_tier", "route"]


class PolicyConfig(Frozen):
    """Which router version is served, when streams are committed, and what happens when there is no decision."""

    model_name: str = "serve-graph-router"
    """Name of the registered model in MLflow: no `/`, `:` or quotes."""
    version: str = "stable"
    """Alias or number of the registered version to serve."""
    follow_s: Annotated[float, Field(gt=0)] | None = 2.0
    """Seconds between looks at the registry while the graph runs: a version that is promoted, or rejected, is switched
    to, or away from, without a restart (docs/guides/versions.md). null: by a restart alone.
    """
    registry_webhook_secret: SecretStr | None = None
    """The secret of a webhook of MLflow's registry that posts to `/v1/registry/events` (docs/guides/versions.md): the
    graph looks at once where something changed there. null: that route is not there, and `follow_s` decides.
    """
    safe_tier: TierName = "frontier"
    """The tier that answers when router or verifier are unavailable."""
    timeout_s: Annotated[float, Field(gt=0)] = 2.0
    """Seconds to wait for a decision or a verdict before the safe tier is used. One request's work is given up after
    three quarters of it: the last tier answers then, or the cheap answer is escalated, and others do not wait.
    """
    abstain: Literal["allow", "forbid"] = "allow"
    """Whether the policy may decline to answer; a request may ask for `forbid` itself."""
    stream: Literal["verify", "prefix", "route"] = "verify"
    """When a stream of a cheap tier may start: `verify` after the verdict on the whole answer, `prefix` after the
    verdict on its first tokens, `route` at once (docs/guides/streaming.md).
    """
    first_token_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds without output after which `at_first_token` applies; null: no limit."""
    at_first_token: Literal["commit", "escalate"] = "escalate"
    """What to do after `first_token_s`: commit to the tier, or escalate."""
    tool_loop: Literal["stay", "route"] = "stay"
    """`stay`: a conversation stays on the tier that made its tool calls, unless the router chooses a dearer one;
    `route`: each request is routed.
    """
    uncovered: WhenUncovered = "last_tier"
    """Who answers a request that the served version's certificate does not cover, such as one with another system
    prompt or temperature than were certified (docs/guides/requests.md): `last_tier`, without asking the router, or
    `route`: whoever the router and the verifier choose. Nothing is promised of the answer either way.
    """
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of requests that go to the last tier, those of the lowest estimates; the cheapest tier answers the
    others, unjudged. Of requests like those that certified: `serve-graph versions calibrate` says of live ones. A
    share, not a promise: nothing is certified of any answer. Of a request its own `cost_quality` counts, and one with
    a `quality_floor` is answered as certified. null: all are (docs/guides/cost.md).
    """
    ensemble: EnsembleConfig | None = None
    """A sample that both tiers answer, and a judge or a verifier model picks from; null: none is drawn."""
    unknown_fields: Literal["refuse", "ignore", "forward"] = "refuse"
    """What to do with request fields that this release does not know, such as `stop_token_ids`,
    `structured_outputs` or a provider's own: `refuse` with 400, `ignore`, or `forward` to the tiers as they are, which
    decide themselves what to make of them (unknown fields of nested objects are ignored then).
    """
    catalogue: Path | None = None
    """A YAML file of intents: example prompts, each intent with the tier that answers prompts like them, before the
    router is asked (docs/guides/learning/intents.md). An edit counts within seconds, one that cannot be read not at
    all. null: the router alone decides.
    """
    trusted_labels: tuple[str, ...] = ()
    """Names in requests' metadata that are taken for true (`language`, `domain`, `task`, `user_tier`, …), because
    every caller is trusted to give them as they are: where a label decides how a request is answered, nothing is
    promised of one that a caller gives, unless it is listed here or set by `labels` of its key.
    """
    overload_fallback: bool = False
    """While the last tier is full, serve rejected cheap answers for which the version has an overload certificate
    (docs/guides/tiers.md). `spill` is the former name, read for one more release.
    """
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.10
    """Error budget of the first version that `serve-graph up` makes and the default of `certify`: of the cheap answers
    that are shown, the share that may be wrong where the last tier's is right (harm).
    """
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.10
    """1 − confidence of that certificate."""
    allow_loss: bool = False
    """Serve a version although its tries cost more than they save, by what was measured when it was certified and the
    prices in force (docs/guides/cost.md).
    """
    placement: Literal["replicas", "ingress"] = "replicas"
    """Where router and verifier run: in `replicas` of their own, which scale and fail by themselves, or in every
    replica of the `ingress`, which saves each request two calls between processes, and a machine two processes
    (docs/results/overhead.md). Then `router_scaling` and `verifier_scaling` are without effect.
    """
    router_usd_per_s: Amount = Decimal(0)
    """Cost of routing, in US dollars per second of router time, added to every bill."""
    verifier_usd_per_s: Amount = Decimal(0)
    """Cost of verification, in US dollars per second of verifier time, added to every bill."""
    router_scaling: ScalingConfig = ScalingConfig(max_replicas=2)
    """Scaling of the router deployment."""
    verifier_scaling: ScalingConfig = ScalingConfig(max_replicas=2)
    """Scaling of the verifier deployment."""

    @property
    def give_up_s(self) -> float:
        """Seconds after which long work is given up: whoever does it says so before it is given up on."""
        return 0.75 * self.timeout_s

    @field_validator("version", mode="before")
    @classmethod
    def _unquoted(cls, version: Any) -> Any:
        return str(version) if isinstance(version, int) and not isinstance(version, bool) else version

    @field_validator("model_name", "version")
    @classmethod
    def _registrable(cls, name: str, info: ValidationInfo) -> str:
        if (fault := name_fault("model" if info.field_name == "model_name" else "version", name)) is not None:
            raise ValueError(fault)
        return name

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "spill" not in data:
            return data
        if "overload_fallback" in data:
            raise ValueError("`spill` is the old name of `overload_fallback`: give one of them")
        message = "policy.spill is now policy.overload_fallback; the next release will not read the old name"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        logger.warning(message)
        return {name: value for name, value in data.items() if name != "spill"} | {"overload_fallback": data["spill"]}
