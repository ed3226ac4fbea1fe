"""What a report says about answers that are shown by their first tokens."""

from __future__ import annotations

from router_models.reports.markdown import table
from router_models.reports.rendering import render
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.sequence import upper_bound
from router_models.training.certify_prefix import SHORT_ACCEPTED, SHORT_WRONG, TOKENS_AHEAD
from router_models.training.prefix import LENGTHS_TRIED
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.policy_file import PREFIX_TOKENS


def prefix_section(version: RouterVersion) -> str:
    """The section of a report on the stream mode `prefix`: every tier's promise, or that there is none."""
    return render(
        "prefix.md.j2", prefixes=[_facts(t, made) for t, made in sorted(version.prefix_certificates.items())]
    )


def _facts(tier: str, made: Certificate) -> tuple[str, Certificate, str, int, str, float | None]:
    """What the template shows of one tier: its certificate, the table of counts, N, how δ is shared, tokens ahead."""
    noted = made.settings
    tokens, tried = int(noted[PREFIX_TOKENS]), int(noted.get(LENGTHS_TRIED, 1))
    share = "" if tried == 1 else f", {tried} lengths were asked for and each had an equal part"
    rows = [
        ["cheap answers of CERT", "accepted", "wrong", "upper bound"],
        [
            f"longer than {tokens} tokens, by their first {tokens}: **the promise**",
            str(made.accepted_n),
            str(made.errors),
            f"{made.upper:.4f}",
        ],
    ]
    if SHORT_ACCEPTED in noted:
        short, bad = int(noted[SHORT_ACCEPTED]), int(noted[SHORT_WRONG])
        rows += [
            [f"of {tokens} tokens or fewer, judged whole", str(short), str(bad), _upper(bad, short, made.level)],
            [
                "all that a prefix stream shows",
                str(short + made.accepted_n),
                str(bad + made.errors),
                _upper(bad + made.errors, short + made.accepted_n, made.level),
            ],
        ]
    return tier, made, table(rows), tokens, share, noted.get(TOKENS_AHEAD)


def _upper(errors: int, n: int, level: float) -> str:
    return f"{upper_bound(errors, n, level):.4f}"
