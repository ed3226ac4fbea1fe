"""`versions diff`: two versions side by side, and what changes over the same prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, progress_to_stderr, say, say_json
from serve_graph.cli.versions.found import Number, found_version, loaded_version

if TYPE_CHECKING:
    from router_models.planning.version_diff import VersionDiff
    from router_models.versions.registry import RegisteredVersion
    from router_models.versions.router_version import RouterVersion
    from serve_graph.config.graph import GraphConfig


def diff(
    old: Number,
    new: Number,
    outcomes: Annotated[
        Path | None,
        typer.Option("--outcomes", "-o", help="Labelled prompts to replay both on; those of training are left out."),
    ] = None,
    examples: Annotated[int, typer.Option(help="Prompts shown of each kind of flip.", min=0, max=100)] = 3,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions: certificates, and with --outcomes flips, slices that gain or lose, and cost.

    The registry keeps no prompts: the table is given. Of it count the prompts that neither version was fitted on (its
    TUNE and CERT rows), so that a table that one of them was made of can be given as well.

    Example: serve-graph versions diff stable 4 --outcomes outcomes.parquet
    """
    first, graph = found_version(old, config)
    second, _ = found_version(new, config)
    versions = tuple(loaded_version(found, graph) for found in (first, second))
    found = None if outcomes is None else _replayed((first, second), versions, graph, outcomes, examples)
    sides = [_side(registered, version) for registered, version in zip((first, second), versions, strict=True)]
    if as_json:
        return say_json({"versions": sides, "diff": None if found is None else found.to_json()})
    rows = [["", *(side["version"] for side in sides)]]
    rows += [[name, *(str(side[name]) for side in sides)] for name in sides[0] if name != "version"]
    say(columns(rows))
    if found is None:
        return say("\nflips, slices and cost: give labelled prompts with --outcomes")
    return say("\n" + _text(found))


def _side(registered: RegisteredVersion, version: RouterVersion) -> dict[str, Any]:
    from router_models.versions.review import review_state

    made = version.certificate
    side: dict[str, Any] = {"version": registered.name, "aliases": ", ".join(registered.aliases) or "-"}
    side |= {"review": review_state(registered).line()}
    side |= {"promise": made.what if made else "none", "bound": f"<= {made.promised_risk:g}" if made else "-"}
    side |= {
        "confidence": f"{1 - made.delta:g}" if made else "-",
        "look": (made.look_index or "the only one") if made else "-",
    }
    side |= {"accepted on CERT": f"{made.accepted_n} of {made.n}" if made else "-"}
    side |= {"errors": made.errors if made else "-", "labels": made.labels if made else "-"}
    side |= {"expires": f"{made.expires_at:%Y-%m-%d}" if made else "-"}
    for tier, point in version.policy.points.items():
        side[f"{tier}: try at, accept at"] = f"{point.route_at:.4g}, {point.accept_at:.4g}"
    return side


def _replayed(
    registered: tuple[RegisteredVersion, RegisteredVersion],
    versions: tuple[RouterVersion, ...],
    graph: GraphConfig,
    outcomes: Path,
    examples: int,
) -> VersionDiff:
    from datetime import UTC, datetime

    from router_models.data.outcomes import read_outcomes
    from router_models.planning.version_diff import diff_versions, held_out
    from router_models.versions.registry import seed_of
    from serve_graph.policy.bindings import tier_prices

    first, second = versions
    tiers = first.policy.tiers
    table = held_out(read_outcomes(outcomes, tiers), tiers, (seed_of(registered[0]), seed_of(registered[1])))
    progress = progress_to_stderr()
    progress(f"replaying both on {len(table)} prompts that neither was fitted on")
    before, after = (
        table.with_embeddings(version.encoder, graph.state_folder / "embeddings", progress) for version in versions
    )
    return diff_versions(first, second, after, tier_prices(graph, datetime.now(UTC)), examples, old_table=before)


def _text(found: VersionDiff) -> str:
    change, (before, after) = found.difference, found.usd
    lines = [
        f"over {found.n} prompts that neither was fitted on:",
        f"  right     {found.right[0]:.1%} → {found.right[1]:.1%}  ({100 * change.value:+.1f} points, "
        f"{100 * change.low:+.1f} to {100 * change.high:+.1f})",
        f"  cost      ${1000 * before:.4g} → ${1000 * after:.4g} per 1000 prompts",
        f"  accepted  {found.accepted[0]} → {found.accepted[1]} cheap answers, "
        f"of them harmful {found.harmful[0]} → {found.harmful[1]}",
        "",
        "flips:" if found.flips else "flips: none, every prompt is answered by the same tier",
    ]
    for flip in found.flips:
        lines.append(f"  {flip.before} → {flip.after}: {flip.n}, {flip.gained} gained, {flip.lost} lost")
        lines += [f"      {example}" for example in flip.examples]
    if found.slices:
        rows = [["slice", "", "prompts", "right, points", "95 % interval", "$ per 1000", ""]]
        for part in found.slices:
            spread = f"{100 * part.right.low:+.1f} to {100 * part.right.high:+.1f}"
            rows.append(
                [part.slicer, part.name, str(part.n), f"{100 * part.right.value:+.1f}", spread,
                 f"{1000 * part.usd:+.4g}", part.direction]
            )  # fmt: skip
        lines += ["", columns(rows)]
    return "\n".join(lines)
