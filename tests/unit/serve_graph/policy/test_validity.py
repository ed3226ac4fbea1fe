"""A certificate that ends while the graph runs: noticed at the moment, by requests under way and by new ones."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router_models.data.artifacts import seal
from router_models.errors import ArtifactError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import Action, Completion, Decision, OperatingPoint, PrefixPoint, Query
from router_models.types.coverage import Coverage
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from router_models.versions.sealed.policy_file import PREFIX_TOKENS
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import tier_binds, tier_prices
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.serving_version import serving_version
from serve_graph.policy.validity import CertificateStatus, Validity, validity_of
from serve_graph.records.metrics import RequestMetrics, render_metrics

MADE = datetime(2026, 1, 1, tzinfo=UTC)
DEARER = MADE + timedelta(days=30)
USUAL_AGAIN = MADE + timedelta(days=40)
EXPIRES = MADE + timedelta(days=90)
MOMENT = timedelta(seconds=1)


@dataclass
class Calendar:
    """A clock that stands still until it is moved."""

    now: datetime = MADE

    def __call__(self) -> datetime:
        return self.now


def config(*changes: tuple[datetime, int]) -> GraphConfig:
    """Two echo tiers; `changes` are dates at which the last one's output price becomes so many dollars."""
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    dated = [price | {"output_usd_per_mtok": usd, "valid_from": moment} for moment, usd in changes]
    tiers = [
        {"engine": "echo", "name": "cheap", "price": price},
        {"engine": "echo", "name": "frontier", "price": price, "price_changes": dated},
    ]
    return GraphConfig.model_validate({"tiers": tiers})


def certified(context: GraphConfig, prefix_days: int | None = None) -> RouterVersion:
    """A version certified at MADE for this graph until EXPIRES, with a prefix point that ends by itself."""
    bare = RouterVersion(
        Policy(context.tier_names, {"cheap": OperatingPoint(0.5, 0.5)}),
        {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)},
    )
    own = Certificate(
        what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=300, accepted_n=200, errors=9, upper=0.08,
        threshold=0.5, label_source=LabelSource.PROGRAMMATIC, made_at=MADE, expires_at=EXPIRES,
        binds={**tier_binds(context), **bare.binds(tier_prices(context, MADE))},
    )  # fmt: skip
    version = replace(bare, certificate=own, name="router/1")
    if prefix_days is None:
        return version
    ends = MADE + timedelta(days=prefix_days)
    prefix = replace(own, expires_at=ends, settings={PREFIX_TOKENS: 4.0})
    policy = replace(version.policy, prefixes={"cheap": PrefixPoint(4, 0.5)})
    return replace(version, policy=policy, prefix_certificates={"cheap": prefix})


def test_expiry_is_known_to_the_second() -> None:
    term = validity_of(certified(config()), config()).whole
    assert term.fault(EXPIRES - MOMENT) is None
    assert "expired at 2026-04-01" in str(term.fault(EXPIRES))
    assert term.until(MADE) == EXPIRES
    assert term.until(EXPIRES) is None


def test_price_that_comes_into_force_voids_it_and_one_that_goes_back_restores_it() -> None:
    context = config((DEARER, 3), (USUAL_AGAIN, 2))
    term = validity_of(certified(context), context).whole
    assert term.fault(DEARER - MOMENT) is None
    assert "prices changed" in str(term.fault(DEARER))
    assert "prices changed" in str(term.fault(USUAL_AGAIN - MOMENT))
    assert term.fault(USUAL_AGAIN) is None
    assert term.until(MADE) == DEARER
    assert term.until(USUAL_AGAIN) == EXPIRES


def test_price_that_changes_nothing_voids_nothing() -> None:
    context = config((DEARER, 2))
    assert validity_of(certified(context), context).whole.until(MADE) == EXPIRES


def test_what_a_restart_would_say_is_what_is_said_at_run_time(tmp_path: Path) -> None:
    context = config((DEARER, 3), (USUAL_AGAIN, 2))
    version = certified(context)
    version.save(tmp_path / "v")
    term = validity_of(version, context).whole
    for day in range(0, 100, 5):
        now = MADE + timedelta(days=day)
        restarted = serving_version(context, tmp_path / "v", now)
        fault = term.fault(now)
        assert (fault is None) == (restarted.version is not None), now
        assert fault is None or restarted.reason.startswith(fault.rstrip(".")), now


def test_prefix_certificate_that_ended_takes_only_the_prefix_away(tmp_path: Path) -> None:
    version = certified(config(), prefix_days=10)
    version.save(tmp_path / "v")
    served = serving_version(config(), tmp_path / "v", MADE + timedelta(days=20))
    assert served.version is not None, served.reason
    calendar = Calendar(MADE + timedelta(days=9))
    certificate_status = CertificateStatus(served.validity, "router/1", calendar)
    assert certificate_status.policy(version.policy) == version.policy
    calendar.now += timedelta(days=1)
    assert certificate_status.policy(version.policy).prefixes == {}
    assert certificate_status.policy(version.policy).points == version.policy.points
    assert list(certificate_status.faults()) == ["prefix:cheap"]


def test_an_uncertified_version_has_nothing_to_lose() -> None:
    version = replace(certified(config()), certificate=None)
    assert validity_of(version, config()) == Validity()
    assert CertificateStatus().faults() == {}
    assert CertificateStatus().left_s() == {"answers": None}


def test_what_holds_is_looked_up_once_between_two_changes() -> None:
    context = config((DEARER, 3), (USUAL_AGAIN, 2))
    calendar = Calendar()
    certificate_status = CertificateStatus(validity_of(certified(context), context), "router/1", calendar)
    first = certificate_status.snapshot()
    calendar.now = DEARER - MOMENT
    assert certificate_status.snapshot() is first
    assert first.fault() is None
    calendar.now = DEARER
    assert "prices changed" in str(first.fault()), "a request that began before compares the clock with the end"
    assert certificate_status.snapshot() is not first
    calendar.now = USUAL_AGAIN
    assert certificate_status.snapshot().fault() is None
    calendar.now = MADE
    assert certificate_status.snapshot().ends == first.ends


def test_it_is_logged_once_and_again_when_it_holds_again(caplog: pytest.LogCaptureFixture) -> None:
    context = config((DEARER, 3), (USUAL_AGAIN, 2))
    calendar = Calendar()
    certificate_status = CertificateStatus(validity_of(certified(context), context), "router/1", calendar)
    with caplog.at_level(logging.WARNING):
        for day in range(45):
            calendar.now = MADE + timedelta(days=day)
            certificate_status.faults()
    assert [r.getMessage()[:60] for r in caplog.records] == [
        "router/1, answers: the certificate is void: prices changed (",
        "router/1, answers: the certificate holds again",
    ]


def test_metrics_say_what_holds_and_for_how_long() -> None:
    version = certified(config(), prefix_days=10)
    calendar = Calendar(MADE + timedelta(days=20))
    certificate_status = CertificateStatus(validity_of(version, config()), "router/1", calendar)
    text = render_metrics(RequestMetrics(), 0, {}, certificates=certificate_status.left_s())
    assert 'serve_graph_certificate_valid{certificate="answers"} 1' in text
    assert 'serve_graph_certificate_valid{certificate="prefix:cheap"} 0' in text
    [left] = re.findall(r'^serve_graph_certificate_seconds_left\{certificate="answers"\} (\S+)$', text, re.MULTILINE)
    assert float(left) == 70 * 86400


async def test_the_end_is_noticed_without_traffic(caplog: pytest.LogCaptureFixture) -> None:
    calendar = Calendar(EXPIRES - timedelta(milliseconds=30))
    certificate_status = CertificateStatus(validity_of(certified(config()), config()), "router/1", calendar)
    watching = asyncio.ensure_future(certificate_status.watch())
    await asyncio.sleep(0.001)
    assert caplog.records == []
    calendar.now = EXPIRES
    async with asyncio.timeout(60):
        while not caplog.records:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert "router/1, answers: the certificate is void: it expired" in caplog.records[0].getMessage()


@pytest.fixture
def deployed(tmp_path: Path) -> Callable[[Calendar], Any]:
    """The router's deployment, in this process; importing it imports ray.serve."""
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    def make(calendar: Calendar) -> Any:
        version = certified(config())
        version.save(tmp_path / "v")
        files = VersionFiles("router/1", str(tmp_path / "v"), validity_of(version, config()))
        return PolicyDeployment(files, clock=calendar)

    return make


async def test_router_replica_knows_the_last_tier_only_after_the_end(deployed: Callable[[Calendar], Any]) -> None:
    calendar = Calendar()
    router, query = deployed(calendar), Query.from_prompt("why?")
    decision = await router.decide(query, "router/1")
    assert decision.tier == "cheap"
    assert (await router.judge(query, Completion("yes"), decision, "router/1")).action is Action.ACCEPTED
    calendar.now = EXPIRES
    assert (await router.decide(query, "router/1")).tier == "frontier"
    assert (await router.judge(query, Completion("yes"), decision, "router/1")).action is Action.ESCALATED
    last = await router.judge(query, Completion("yes"), Decision("frontier", ""), "router/1")
    assert last.action is Action.ACCEPTED


async def test_readyz_says_that_nothing_is_certified_any_more(tmp_path: Path) -> None:
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.policy.served_policy import ServedPolicy

    class Replica:
        def __getattr__(self, name: str) -> "Replica":
            return self

        def remote(self, *_: Any) -> Any:
            return asyncio.sleep(0, {})

    context = config().model_copy(update={"state_folder": tmp_path})
    version = certified(context)
    served = ServedPolicy.of(version, "router/1", "P <= 0.1", context, validity_of(version, context))
    served = replace(served, coverage=Coverage())
    handles: Any = {name: Replica() for name in context.tier_names}
    ingress = IngressDeployment(context, ServedVersion(1, served), handles, None, None, b"x" * 16)
    calendar = Calendar()
    ingress.serving.certificate_status.clock = calendar
    try:
        state = await ingress.readiness()
        assert (state["certified"], state["promise"], state["void"]) == (True, "P <= 0.1", {})
        assert state["valid_until"] == EXPIRES.isoformat()
        assert state["coverage"] == {"requests": 0, "uncovered": 0, "share": None, "reasons": {}}
        assert 'serve_graph_certificate_valid{certificate="answers"} 1' in await ingress.graph_metrics.page()
        calendar.now = EXPIRES
        state = await ingress.readiness()
        assert (state["ready"], state["certified"], state["valid_until"]) == (True, False, None)
        assert "expired" in state["promise"]
        assert "expired" in state["void"]["answers"]
        assert 'serve_graph_certificate_valid{certificate="answers"} 0' in await ingress.graph_metrics.page()
    finally:
        ingress.sink.close()
        await ingress.store.close()


async def test_a_graph_that_starts_with_a_certificate_that_does_not_hold_says_so_in_its_metrics(
    tmp_path: Path,
) -> None:
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    context = config().model_copy(update={"state_folder": tmp_path})
    certified(context).save(tmp_path / "v")
    wanted = [
        (serving_version(context, tmp_path / "v", EXPIRES + MOMENT), True),
        (
            serving_version(
                context.model_copy(update={"policy": context.policy.model_copy(update={"version": "none"})})
            ),
            False,
        ),
    ]
    for served, told in wanted:
        handles: Any = dict.fromkeys(context.tier_names)
        ingress = IngressDeployment(context, ServedVersion.of(served, context), handles, None, None, b"x" * 16)
        try:
            page = await ingress.graph_metrics.page()
        finally:
            ingress.sink.close()
            await ingress.store.close()
        assert ('serve_graph_certificate_valid{certificate="answers"} 0.0' in page) is told


def test_a_replica_that_starts_later_loads_the_version_that_was_checked_and_no_other(tmp_path: Path) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    certified(config()).save(tmp_path / "v")
    folder, digest = tmp_path / "v", RouterVersion.load(tmp_path / "v").loaded_digest
    files = VersionFiles("router/1", str(folder), Validity(), digest)
    PolicyDeployment(files)
    with pytest.raises(ArtifactError, match="is another than the one"):
        PolicyDeployment(replace(files, digest=digest.replace(digest[-1], "x")))  # of another encoder
    (folder / "policy.json").write_text((folder / "policy.json").read_text().replace("0.5", "0.1"))
    seal(folder)
    with pytest.raises(ArtifactError, match="is another than the one whose certificate was checked"):
        PolicyDeployment(files)


def test_what_is_revoked_holds_for_no_request_from_then_on_and_again_once_that_ends() -> None:
    context = config()
    certificate_status = CertificateStatus(validity_of(certified(context), context), "router/1", Calendar())
    begun = certificate_status.snapshot()
    certificate_status.revoke("labels say so")
    assert begun.fault() is None, "a request that began before goes on as it began"
    assert certificate_status.fault() == "labels say so"
    assert certificate_status.left_s()["answers"] == 0.0
    assert certificate_status.until() is None
    certificate_status.revoke(None)
    assert certificate_status.fault() is None
    assert certificate_status.until() is not None
