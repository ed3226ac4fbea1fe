"""`versions list` and `versions show`: what the registry holds, and what to read before approving a version."""

from __future__ import annotations

from typing import Any

from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, say, say_json
from serve_graph.cli.versions.found import Number, found_version


def list_(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List every registered version, newest first. Example: serve-graph versions list"""
    from router_models.versions.registry import list_versions
    from router_models.versions.review import review_state
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    found = list_versions(graph.registry_uri, graph.policy.model_name)
    if as_json:
        shown = [(v, {"version": v.name, "aliases": v.aliases, "review": review_state(v).to_json()}) for v in found]
        say_json([row | {"tags": dict(v.tags)} for v, row in shown])
        return
    rows = [["version", "aliases", "review", "certificate"]]
    rows += [
        [v.name, ",".join(v.aliases) or "-", review_state(v).line(), v.tags.get("certificate", "-")] for v in found
    ]
    say(
        columns(rows)
        if found
        else f"no versions of {graph.policy.model_name} yet; `serve-graph certify` registers one"
    )


def show(version: Number = "stable", config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Print a version's report (--json: thresholds, certificates). Example: serve-graph versions show stable"""
    from datetime import UTC, datetime

    from router_models.reports.headline import headline
    from router_models.versions.review import review_state
    from router_models.versions.router_version import RouterVersion
    from serve_graph.policy.pays import break_even_of

    found, graph = found_version(version, config)
    review = review_state(found)
    folder = found.folder(graph.state_folder.resolve() / "versions")
    loaded = RouterVersion.load(folder, found.name)
    if as_json:
        certificate = loaded.certificate.to_json() if loaded.certificate else None
        points = {
            tier: {"route_at": str(p.route_at), "accept_at": str(p.accept_at), "abstain_below": p.abstain_below}
            for tier, p in loaded.policy.points.items()
        }
        prefixes = {
            tier: {"tokens": p.tokens, "accept_at": str(p.accept_at), "certificate": proof.to_json()}
            for tier, p in loaded.policy.prefixes.items()
            if (proof := loaded.prefix_certificates.get(tier)) is not None
        }
        overload_points = {
            tier: {"spill_at": str(p.serve_at), "certificate": loaded.overload_certificates[tier].to_json()}
            for tier, p in loaded.policy.overload_points.items()
        }
        shown: dict[str, Any] = {"version": found.name, "aliases": found.aliases, "review": review.to_json()}
        shown |= {"points": points, "encoder_products": loaded.encoder.products if loaded.needs_encoder else None}
        shown |= {"certificate": certificate}
        even = break_even_of(loaded, graph, datetime.now(UTC))
        shown |= {"delta_together": loaded.delta_together}
        shown |= {"break_even": None if even is None else even.to_json()}
        shown |= {"headline": headline(loaded.certificate) if loaded.certificate else []}
        say_json(shown | {"prefixes": prefixes, "spills": overload_points})
        return
    say(f"{found.name}  aliases: {', '.join(found.aliases) or '-'}  review: {review.text()}")
    if (even := break_even_of(loaded, graph, datetime.now(UTC))) is not None:
        say(f"break-even: {even.text()}" + ("; it loses money" if even.loses else ""))
    if loaded.needs_encoder and loaded.encoder.products == "floats":
        say("prompts are embedded by products of floats, as all were once: train again to have them twice as fast")
    say(f"files: {folder}\n")
    say((folder / "report.md").read_text())
