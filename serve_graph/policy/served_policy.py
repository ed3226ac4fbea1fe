"""What the ingress needs to know of the version that serves, under this configuration: thresholds, name, promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from router_models.metrics.score_shares import ScoreShares
from router_models.monitoring.promise_watch import WatchedPromise
from router_models.reports.headline import headline
from router_models.risk_control.certificates.certificate import Certificate
from router_models.types.coverage import Coverage
from router_models.versions.policy import Policy, always
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import binds_digest
from serve_graph.policy.labels import LabelRule
from serve_graph.policy.validity import Validity


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """The served version's thresholds, its name, its promises. Data: it travels to every ingress replica.

    `promised` is the share of right answers that is certified, None = none; of all answers where that was certified
    (`joint`), else of accepted cheap ones. `harm`: right, or no worse than the last tier's. `headline`: the three
    numbers that lead whatever is said of the version, as sentences. `prefixes`: what is promised of the answers of a
    tier that are shown by their prefix (`prefix_shares`: of them right). `forbids_abstaining`: the configuration does,
    for every request. `judges_calls`: of these tiers what was certified covers answers that call tools. `labels`: by
    which labels of a request the version decides, None = by none. `coverage`: the requests that the certificate speaks
    of; None: it does not say. `longest_prompt`: bytes of the longest prompt that was certified; None: not known.
    `watched`: what labels of served answers are held against; None: nothing is certified. `certificate`: the proof
    itself, for people to read, None where nothing is promised. `score_shares`: which estimates a share of requests
    lies below. `asked`: the signals that are asked for before an answer is judged, by tier; `asked_first`:
    before a tier is chosen.
    """

    policy: Policy
    name: str
    promise: str
    certified: bool
    binds: str
    promised: float | None = None
    joint: bool = False
    validity: Validity = field(default_factory=Validity)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    forbids_abstaining: bool = False
    judges_calls: tuple[str, ...] = ()
    prefix_shares: Mapping[str, float] = field(default_factory=dict)
    labels: LabelRule | None = None
    coverage: Coverage | None = None
    longest_prompt: int | None = None
    harm: bool = False
    headline: tuple[str, ...] = ()
    watched: WatchedPromise | None = None
    certificate: Certificate | None = None
    score_shares: ScoreShares = field(default_factory=ScoreShares)
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked_first: tuple[str, ...] = ()

    @property
    def pre_routed(self) -> bool:
        """Whether what is promised is of all answers of prompts that the router sends to a cheaper tier."""
        return self.certificate is not None and self.certificate.pre_routed

    @classmethod
    def of(
        cls,
        version: RouterVersion | None,
        name: str,
        promise: str,
        config: GraphConfig,
        validity: Validity | None = None,
    ) -> ServedPolicy:
        """The policy of a version, None = always the last tier, as a configuration lets it be served."""
        policy = always(config.tier_names) if version is None else version.policy
        certificate = None if version is None else version.certificate
        harm = certificate is not None and certificate.harm
        joint = certificate is not None and certificate.joint and not harm
        forbids = config.policy.abstain == "forbid"
        asks = version is not None and any(version.asked_of(tier) for tier in version.stages)
        first = version is not None and bool(version.asked_first)
        voided = joint and counts_on_abstaining(policy, forbids_abstaining=forbids)
        if voided:
            promise = f"nothing: policy.abstain is forbid, and abstaining was counted on in {promise!r}"
        elif certificate is not None:
            cut = cut_short(config, joint=joint, asks=asks, asks_first=first, chain=policy.chain)
            promise = promise if cut is None else f"{promise}; {cut}"
        shared = None if version is None else shared_instead(config, knows_scores=bool(version.score_quantiles))
        if shared is not None:
            promise = f"{shared}: {promise}"
        if forbids:
            policy = policy.without_abstention()
        if not config.policy.overload_fallback:
            policy = replace(policy, overload_points={})
        certified = certificate is not None and not voided
        promised = 1.0 - certificate.promised_risk if certificate is not None and certified else None
        prefixes = {} if version is None else {t: made.summary() for t, made in version.prefix_certificates.items()}
        return cls(
            policy,
            name,
            promise,
            certified,
            binds_digest(config),
            promised,
            joint,
            validity or Validity(),
            prefixes,
            forbids,
            () if version is None else version.judges_calls,
            {}
            if version is None
            else {t: 1.0 - made.promised_risk for t, made in version.prefix_certificates.items()},
            _labels_of(version, config),
            None if certificate is None else certificate.coverage,
            None if version is None else version.longest_prompt,
            harm=harm,
            headline=() if certificate is None or voided or shared is not None else headline(certificate),
            watched=None if certificate is None or voided else WatchedPromise.of(certificate),
            certificate=None if voided else certificate,
            score_shares=ScoreShares(() if version is None else version.score_quantiles),
            asked={} if version is None else {t: names for t in version.stages if (names := version.asked_of(t))},
            asked_first=() if version is None else version.asked_first,
        )


def whole_try_s(
    config: GraphConfig, *, joint: bool, asks: bool = False, asks_first: bool = False, chain: bool = False
) -> float:
    """The longest that a cheap try takes by the tiers' own limits, in seconds, router and verdict included.

    Where all answers were certified (`joint`), those of the last tier after it as well; `asks`: signals are asked for
    before the verdict, `asks_first`: before a tier is chosen. In a `chain` one tier may be tried after the other.
    """
    *below, last = config.tiers
    a_verdict = config.policy.timeout_s + (config.signals.timeout_s if asks else 0.0)
    each = [tier.timeout_s + a_verdict for tier in below]
    tried = config.policy.timeout_s + (sum(each) if chain else max(each, default=a_verdict))
    tried += config.signals.timeout_s if asks_first else 0.0
    return tried + (last.timeout_s + config.policy.timeout_s if joint else 0.0)


def cut_short(
    config: GraphConfig, *, joint: bool, asks: bool = False, asks_first: bool = False, chain: bool = False
) -> str | None:
    """What is promised of nobody since a limit in time takes out slow answers, in words; None where none does."""
    whole_s = whole_try_s(config, joint=joint, asks=asks, asks_first=asks_first, chain=chain)
    deadline_s = config.http.deadline_s
    if deadline_s is not None and deadline_s < whole_s:
        return f"nothing under http.deadline_s: {deadline_s:g} s, where a try may take {whole_s:g} s"
    first_s = config.policy.first_token_s
    if first_s is not None and first_s < whole_s:
        return f"nothing of streams under policy.first_token_s: {first_s:g} s, where a try may take {whole_s:g} s"
    return None


def shared_instead(config: GraphConfig, *, knows_scores: bool) -> str | None:
    """What `policy.share` makes of a version's promise, in words; None where no share is set."""
    share = config.policy.share
    if share is None:
        return None
    if not knows_scores:
        return f"policy.share {share:g} is without effect, as the version does not know its scores (certify it again)"
    return f"nothing, but of requests with a quality_floor, under policy.share {share:g}"


def _labels_of(version: RouterVersion | None, config: GraphConfig) -> LabelRule | None:
    """The labels that a version decides by; None where it decides by none."""
    if version is None or (version.slicer is None and not version.labels_read):
        return None
    return LabelRule(version.slicer, version.stated_slices, version.labels_read, config.policy.trusted_labels)


def counts_on_abstaining(policy: Policy, *, forbids_abstaining: bool, stream: bool = False) -> bool:
    """Whether what was certified of thresholds together does not hold of a request for want of its abstentions.

    Somebody forbids them (the request, the configuration), or the last tier's are left out: a stream of it is shown
    as it comes.
    """
    return (forbids_abstaining and policy.abstains) or (stream and policy.judges_top)
