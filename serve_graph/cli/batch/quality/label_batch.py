"""`label` on what `batch run --audit` drew: where labels go, and the last tier's answer beside a wrong one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx

from router_models.training.labelling.records import has_labels
from router_models.types.label_sources import parsed_source
from serve_graph.cli.batch.asking import JSON_BODY, read_answer, request_bytes
from serve_graph.cli.batch.dataset import labels_beside
from serve_graph.cli.batch.quality.labels import AskLastTier, AuditSession, audit_lines, begin_labels_of, read_labels
from serve_graph.cli.batch.quality.sample import DrawnAnswer, is_drawn_file, read_drawn
from serve_graph.cli.client.api_key import key_headers
from serve_graph.cli.offline.label_terminal import keys_of
from serve_graph.cli.output import check_out, say, say_json
from serve_graph.errors import ServeGraphError

LAST_TIER_WITHIN_S = 300.0


def label_batch(
    sample: Path,
    labels: Path | None,
    labeller: str,
    label_source: str | None,
    last: tuple[str, str] | None,
    adjudicate: bool,
    as_json: bool,
) -> None:
    """One person's session. `last`: the URL of a running graph, and its last tier.

    Raises ServeGraphError where the file is no sample of a batch, or the labels are of another one.
    """
    if not is_drawn_file(sample):
        raise ServeGraphError(
            f"--candidate is the folder that `train` wrote; without one answers of a batch are labelled, and {sample} "
            "is no file that `batch run --audit` has drawn"
        )
    try:
        source = parsed_source(label_source or "human")
    except ValueError as error:
        raise ServeGraphError(f"--label-source: {error}") from None
    drawn, path = read_drawn(sample), labels or labels_beside(sample)
    check_out(path)
    if not has_labels(path):
        begin_labels_of(path, sample, source)
    session = AuditSession(
        drawn, read_labels(path), labeller, None if last is None else asks_last_tier(*last), adjudicate
    )
    told = session.run(path, keys_of(sys.stdin), lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    if as_json:
        say_json(told)
        return
    for line in audit_lines(told, sample):
        say(line)


def asks_last_tier(url: str, tier: str) -> AskLastTier:
    """Ask a running graph for its last tier's answer to the request of a drawn answer, by the tier's name."""

    def answer(drawn: DrawnAnswer) -> str:
        body = request_bytes({**drawn.request, "model": tier})
        try:
            reply = httpx.post(
                f"{url}/v1/chat/completions", content=body, headers=key_headers() | JSON_BODY,
                timeout=LAST_TIER_WITHIN_S,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise ServeGraphError(f"no graph answers at {url} ({type(error).__name__})") from None
        found = read_answer(reply)
        if reply.status_code != 200:
            raise ServeGraphError(f"{tier} did not answer ({reply.status_code}): {found['error']}")
        return str(found["answer"] or "")

    return answer
