"""The three numbers that lead whatever is said of a version: what it promises, what it loses, what it saves.

Never one without the others: savings without quality say nothing, and a bound on wrong answers is compared with
nothing before the last tier's own errors stand beside it.
"""

from __future__ import annotations

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Span

NOT_KEPT = "not recorded in this certificate: certify again"
OF_ACCEPTED = "not known: streamed labels are of accepted answers alone"


def headline(certificate: Certificate) -> tuple[str, str, str]:
    """The three numbers of a certificate, as sentences without a full stop.

    Parameters
    ----------
    certificate : Certificate
        With its comparison with the last tier, or made before there was one.

    Returns
    -------
    tuple of str
        The bound with its counts, the difference in right answers, and the net cost saved, both with 95 % intervals.
    """
    shown = f"{certificate.errors} of {certificate.accepted_n} on CERT"
    found = certificate.compared
    if found is not None and not certificate.harm and found.kept:
        shown += f"; wrong where the last tier's is right: {found.harmed} of {found.kept} cheap ones"
    bound = f"{certificate.what} <= {certificate.epsilon:g}{certificate.where}: {shown}"
    bound += f", {100 * (1 - certificate.delta):.4g} % confidence"
    unknown = NOT_KEPT if certificate.streamed is None else OF_ACCEPTED
    right, saved = (None, None) if found is None else (found.right_difference, found.cost_saved)
    return three_numbers(bound, right, saved, unknown=unknown)


def three_numbers(
    bound: str,
    right_difference: Span | None,
    cost_saved: Span | None,
    last: str = "the last tier",
    unknown: str = NOT_KEPT,
) -> tuple[str, str, str]:
    """The three numbers in words.

    Parameters
    ----------
    bound : str
        The bound with its counts, or that there is none.
    right_difference, cost_saved : tuple of float, optional
        Shares with their 95 % intervals; None: not known.
    last : str
        What is compared with.
    unknown : str
        What is said of a number that is not known.

    Returns
    -------
    tuple of str
        The bound, the difference in right answers, and the net cost saved.
    """
    right = saved = unknown
    if right_difference is not None:
        value, low, high = (round(100 * x, 1) + 0.0 for x in right_difference)
        right = f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"
    if cost_saved is not None:
        saved = "{:.1%} ({:.1%} to {:.1%})".format(*cost_saved)
    return (
        bound,
        f"right answers against always asking {last}: {right}",
        f"cost saved, net of router and verifier: {saved}",
    )
