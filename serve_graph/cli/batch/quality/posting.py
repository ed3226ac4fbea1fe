"""Labels of a sample told to the graph that answered, beside the decisions that they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from router_models.training.labelling.votes import votes_of
from serve_graph.cli.batch.dataset import labels_beside
from serve_graph.cli.batch.quality.labels import LAST, SHOWN, read_labels
from serve_graph.cli.batch.quality.sample import DrawnAnswer, read_drawn
from serve_graph.cli.client.api_key import key_headers
from serve_graph.errors import ServeGraphError

WRITTEN_IN = "audit"
"""Who labels where somebody wrote the value into the sample itself."""


def post_labels(url: str, sample: Path, labels: Path | None = None) -> dict[str, Any]:
    """Tell every person's label on a drawn answer; how many were taken, and how many answers have no decision.

    Raises ServeGraphError where the graph takes one not: what was told before stays, and told again it is one word.
    """
    drawn = read_drawn(sample)
    votes = votes_of(read_labels(labels or labels_beside(sample)))
    taken = without = 0
    done: set[str] = set()
    with httpx.Client(base_url=url, headers=key_headers(), timeout=60.0) as client:
        for one in drawn.answers:
            said = _said(one, votes)
            if one.key in done or not said:
                continue
            done.add(one.key)
            if one.decision is None:
                without += len(said)
                continue
            for labeller, (right, last_right) in said.items():
                _post(client, one.decision, labeller, right, last_right)
                taken += 1
    return {"taken": taken, "without_decision": without}


def _said(one: DrawnAnswer, votes: Any) -> dict[str, tuple[bool, bool | None]]:
    shown, last = votes.get((one.key, SHOWN)), votes.get((one.key, LAST))
    if shown is None:
        return {} if one.value is None else {WRITTEN_IN: (one.value, one.last_tier_right)}
    others = {} if last is None else last.said
    return {name: (right, others.get(name)) for name, right in shown.said.items()}


def _post(client: httpx.Client, decision: str, labeller: str, right: bool, last_right: bool | None) -> None:
    body = {"decision": decision, "kind": "label", "value": right, "labeller": labeller}
    if last_right is not None:
        body["last_tier_right"] = last_right
    try:
        reply = client.post("/v1/feedback", json=body)
    except httpx.HTTPError as error:
        raise ServeGraphError(f"no graph answers at {client.base_url} ({type(error).__name__})") from None
    if reply.status_code != 200:
        raise ServeGraphError(
            f"the graph does not take the label of {decision} ({reply.status_code}): {reply.text[:300]}"
        )
