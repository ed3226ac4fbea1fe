"""What `certify` says of the version that it has registered: as JSON, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from router_models.pricing.break_even import MeasuredBreakEven
from router_models.reports.coverage import counted_words
from router_models.reports.headline import headline
from router_models.risk_control.certificates.certificate import Certificate
from router_models.training.labelling.preferences import learned_words
from router_models.versions.registry import RegisteredVersion
from router_models.versions.review import review_state
from router_models.versions.router_version import RouterVersion


@dataclass(frozen=True)
class RegisteredCertificate:
    """A certified version as it was registered.

    Parameters
    ----------
    registered : RegisteredVersion
        Its entry in the registry.
    version : RouterVersion
        The version, with its certificates.
    tiers : sequence of str
        Its tiers, cheapest first.
    break_even : MeasuredBreakEven, optional
        From when on its tries pay at the configured prices; None where that was not measured.
    """

    registered: RegisteredVersion
    version: RouterVersion
    tiers: Sequence[str]
    break_even: MeasuredBreakEven | None

    @property
    def certificate(self) -> Certificate:
        """The version's own certificate."""
        assert self.version.certificate is not None
        return self.version.certificate


def certified_json(
    found: RegisteredCertificate, prefix_too: Mapping[str, str | None], spill_too: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return all of it as JSON-able data.

    Parameters
    ----------
    found : RegisteredCertificate
        What was registered.
    prefix_too : mapping of str to str
        `no_prefix`: why there is no prefix verdict; empty where none was asked for.
    spill_too : mapping of str to str
        `no_spill`: why there is no overload certificate; empty where none was asked for.
    """
    version, even, learned = found.version, found.break_even, learned_words(found.version)
    shown: dict[str, Any] = {"version": found.registered.name, "aliases": found.registered.aliases}
    shown["review"] = review_state(found.registered).to_json()
    shown["headline"] = headline(found.certificate)
    shown |= {"learned_from": learned} if learned else {}
    shown["certificate"] = found.certificate.to_json()
    shown["break_even"] = None if even is None else even.to_json()
    shown["delta_together"] = version.delta_together
    prefix_json = {tier: proof.to_json() for tier, proof in version.prefix_certificates.items()}
    overload_json = {tier: proof.to_json() for tier, proof in version.overload_certificates.items()}
    shown |= {"prefixes": prefix_json, **prefix_too} if prefix_too else {}
    return shown | ({"spills": overload_json, **spill_too} if spill_too else {})


def certified_lines(
    found: RegisteredCertificate,
    losses: Iterable[tuple[datetime, str]],
    no_prefix: str | None,
    no_spill: str | None,
    *,
    alias: str | None,
    jointly: bool,
) -> list[str]:
    """Return all of it in lines, and what comes next.

    Parameters
    ----------
    found : RegisteredCertificate
        What was registered.
    losses : iterable of (datetime, str)
        From when on prices that are listed already make the version lose money, and how much.
    no_prefix, no_spill : str, optional
        Why there is no prefix verdict, no overload certificate; None where there is one, or none was asked for.
    alias : str, optional
        The alias that the version was to have.
    jointly : bool
        Whether delta was divided among everything that is certified.
    """
    registered, version, certificate = found.registered, found.version, found.certificate
    lines = [f"{registered.name}: {line}" for line in headline(certificate)]
    lines += [certificate.summary(), *(f"pattern {tested.words}" for tested in certificate.patterns)]
    if learned := learned_words(version):
        lines.append(f"{learned}.")
    if found.break_even is not None:
        lines.append(f"break-even: {found.break_even.text()}")
    for moment, loss in losses:
        lines.append(f"from {moment:%Y-%m-%d %H:%M} on, by prices that are listed already, {loss}")
    lines.append(f"covered: {certificate.coverage.summary()}. {counted_words(certificate.coverage)}")
    lines.append(f"answers: {made_since(certificate.collected, found.tiers)}")
    lines += [f"prefix verdict for {tier}: {one.summary()}" for tier, one in version.prefix_certificates.items()]
    if no_prefix is not None:
        lines.append(f"no prefix verdict: {no_prefix}")
    lines += [f"overload certificate for {tier}: {p.summary()}" for tier, p in version.overload_certificates.items()]
    if no_spill is not None:
        lines.append(f"no overload certificate: {no_spill}")
    together = version.delta_together
    if together is not None and together > certificate.delta:
        hint = "" if jointly else "; --jointly splits delta instead"
        lines.append(f"all of it holds at once with {1 - together:.4g} confidence{hint}")
    number = registered.number
    if alias is not None and alias not in registered.aliases:
        lines.append(f"{alias} stays on the version that is approved; `versions promote {number}` once this one is")
    lines.append(f"proposed, and not served before it is approved: read serve-graph versions show {number}, then")
    lines.append(f'  serve-graph versions approve {number} --by NAME --reason "…"')
    return lines


def made_since(collected: Mapping[str, datetime], tiers: Sequence[str]) -> str:
    """Return since when the answers were made that a certificate rests on, tier by tier: which alarms it lifts."""
    if not collected:
        return "it is not known when they were made (no `collected_at`), so that the certificate lifts no alarm"
    known = {tier: f"since {collected[tier]:%Y-%m-%d %H:%M}" if tier in collected else "not known" for tier in tiers}
    return "made " + ", ".join(f"{since} ({tier})" for tier, since in known.items())
