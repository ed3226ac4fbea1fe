"""What a report says about answers that are shown by their first tokens."""

from __future__ import annotations

from router_models.reports.markdown import table
from router_models.risk_control.certificate import Certificate
from router_models.risk_control.sequence import upper_bound
from router_models.training.certify_prefix import SHORT_ACCEPTED, SHORT_WRONG, TOKENS_AHEAD
from router_models.training.prefix import LENGTHS_TRIED
from router_models.versions.router_version import PREFIX_TOKENS, RouterVersion


def prefix_section(version: RouterVersion) -> str:
    """The section of a report on the stream mode `prefix`: every tier's promise, or that there is none."""
    if not version.prefix_certificates:
        return (
            "No prefix verdict is certified: streams that ask for the mode `prefix` get `verify`. "
            "`serve-graph certify --prefix N` makes one, from outcomes that hold their tokens."
        )
    return "\n\n".join(_promise(tier, made) for tier, made in sorted(version.prefix_certificates.items()))


def _promise(tier: str, made: Certificate) -> str:
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
    ahead = noted.get(TOKENS_AHEAD)
    spared = (
        "" if ahead is None else f"\n\nAfter its verdict an accepted one goes on for {ahead:.1f} tokens on average."
    )
    return f"""**{tier}**: {made.summary()}

A stream is committed when the verifier of beginnings estimates ≥ {made.threshold_for():.4f} for the first {tokens}
tokens of an answer that goes on after them. The promise spends a δ of its own ({made.level:.3g} of {made.delta:g} in
this look{share}); the main certificate's is not touched, and each holds with its own confidence.

{table(rows)}

The last two rows are information. Answers of {tokens} tokens or fewer are judged whole at the main certificate's
threshold; it promises its share over answers of all lengths together, not over these by themselves.{spared}"""


def _upper(errors: int, n: int, level: float) -> str:
    return f"{upper_bound(errors, n, level):.4f}"
