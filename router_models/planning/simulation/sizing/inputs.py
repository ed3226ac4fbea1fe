"""Read a sizing file: traffic, tiers with their speeds, and what was measured of everything beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from router_models.planning.inputs import Strict, validated
from router_models.planning.simulation.replicas.service_time import EngineSpeed, Speculation
from router_models.planning.simulation.replicas.traffic import BurstyTraffic

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Least0 = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrafficShape(Strict):
    """Hold how requests come; see `BurstyTraffic`."""

    daily_swing: Share = 0.0
    burst_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    burst_s: Positive = 60.0
    calm_s: Positive = 540.0

    def at(self, per_day: float, from_s: float = 0.0) -> BurstyTraffic:
        """Return the traffic of a number of requests a day."""
        return BurstyTraffic(per_day / 86_400, self.burst_factor, self.burst_s, self.calm_s, self.daily_swing, from_s)


class CallTokens(Strict):
    """Hold the mean tokens of a call, and the spread of its answer's: their standard deviation by their mean."""

    prompt: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    answer: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    spread: Least0 = 0.0


class SpeculationInputs(Strict):
    """Hold a tier's speculation; see `Speculation`."""

    draft_tokens: Annotated[int, Field(ge=1)]
    acceptance: Share
    draft_cost: Least0 = 0.0


class EngineInputs(Strict):
    """Hold how fast a call runs in an engine as full as it is planned for; see `EngineSpeed`."""

    prefill_tokens_per_s: Positive
    decode_tokens_per_s: Positive
    before_s: Least0 = 0.0
    prefix_cached: Share = 0.0
    speculation: SpeculationInputs | None = None

    def speed(self) -> EngineSpeed:
        """Return it as the simulator takes it."""
        given = self.speculation
        drafts = None if given is None else Speculation(given.draft_tokens, given.acceptance, given.draft_cost)
        return EngineSpeed(
            self.prefill_tokens_per_s, self.decode_tokens_per_s, drafts, self.prefix_cached, self.before_s
        )


class ReplicaInputs(Strict):
    """Hold what a replica of a tier of one's own is.

    `places`: calls at once; `usd_per_hour`; `start_s`: until it answers; `min_replicas`: those that always run;
    `target_share`: the part of places that scaling aims at; the delays as in a configuration's `scaling`.
    """

    places: Annotated[int, Field(ge=1)]
    usd_per_hour: Least0
    start_s: Least0 = 60.0
    min_replicas: Annotated[int, Field(ge=1)] = 1
    target_share: Annotated[float, Field(gt=0, le=1)] = 0.7
    upscale_delay_s: Least0 = 3.0
    downscale_delay_s: Least0 = 600.0
    look_back_s: Least0 = 30.0
    anticipate: bool = True


class HostedInputs(Strict):
    """Hold the prices of a tier on somebody else's machines, in dollars per million tokens."""

    input_usd_per_mtok: Least0
    output_usd_per_mtok: Least0
    cached_input_usd_per_mtok: Least0 | None = None


class SizedTier(Strict):
    """Hold one tier: the share of requests that call it first, and of its calls that go on to the next tier.

    `judged`: whether a verifier scores its answers. Either `replicas` or `hosted`.
    """

    name: str
    first: Share = 0.0
    sent_on: Share = 0.0
    judged: bool = False
    tokens: CallTokens
    engine: EngineInputs
    replicas: ReplicaInputs | None = None
    hosted: HostedInputs | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.replicas is None) == (self.hosted is None):
            raise ValueError("a tier has either replicas or hosted")
        return self


class GatewayCosts(Strict):
    """Hold processor milliseconds a request: of the ingress, of a decision, of a verdict, and of all processes beside.

    `busy_share`: the part of a core that may be taken on average at the busiest; `usd_per_core_hour`.
    """

    ingress_cpu_ms: Positive
    router_cpu_ms: Least0
    verifier_cpu_ms: Least0
    beside_cpu_ms: Least0
    busy_share: Annotated[float, Field(gt=0, le=1)] = 0.6
    usd_per_core_hour: Least0 = 0.0


class StoreCosts(Strict):
    """Hold what the decision store takes: bytes a record, and processor milliseconds of it for each database.

    `keep_days`: as in a configuration's `records`; `usd_per_gb_month`.
    """

    bytes_per_record: Positive
    sqlite_cpu_ms: Positive
    postgresql_cpu_ms: Positive
    keep_days: Positive = 30.0
    usd_per_gb_month: Least0 = 0.0


class SizingFile(Strict):
    """Hold a sizing file; tiers cheapest first."""

    requests_per_day: Annotated[list[Positive], Field(min_length=1)]
    traffic: TrafficShape
    tiers: Annotated[list[SizedTier], Field(min_length=1)]
    busy_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    late_s: Positive = 30.0
    gateway: GatewayCosts
    store: StoreCosts

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) != len(names):
            raise ValueError(f"two tiers have one name: {names}")
        if abs((first := sum(tier.first for tier in self.tiers)) - 1) > 1e-9:
            raise ValueError(f"the shares `first` of all tiers sum to 1, found {first:g}")
        if self.tiers[-1].sent_on:
            raise ValueError("the last tier sends nothing on")
        return self


def read_sizing(path: Path) -> SizingFile:
    """Read a sizing file; DataError names the file and key where it is not one."""
    return validated(SizingFile, path)
