"""How much of δ the labels of a certificate may still spend: which look at them this is, and which labels they are.

Every certificate that reads the same labels is one more test on them, whatever table they stand in. All looks
together keep their promises with confidence 1 - δ because look i spends 6δ/(π²i²) (`sequence.spent_delta`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from router_models.data.outcomes import OutcomeTable
from router_models.training.candidate import Settings
from router_models.training.splits import LabelledSplits
from router_models.versions.registry import record_look
from router_models.versions.workspace import Workspace


def next_look(
    splits: LabelledSplits,
    settings: Settings,
    work: Workspace,
    *,
    purpose: str = "",
    noted: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of the next look at these labels; noted in the registry before a label is read.

    Parameters
    ----------
    splits : LabelledSplits
        Whose CERT labels are about to be read, whether or not rows were added since the last look.
    settings : Settings
        What is to be promised.
    work : Workspace
        Its registry keeps the looks.
    purpose : str
        A promise with a δ of its own counts its looks apart, under this name; '' is the version's own.
    noted : mapping of str to str, optional
        What else to note of this look.
    """
    labels: frozenset[str] = labels_read(splits.cert, settings.tiers)
    digest = splits.table.content_hash
    if purpose:
        labels, digest = frozenset(f"{purpose} {label}" for label in labels), f"{digest}.{purpose}"
    what = {"epsilon": str(settings.epsilon), "delta": str(settings.delta), **(noted or {})}
    return replace(settings, look_index=record_look(work.registry_uri, digest, labels, what, work.artifacts))


def labels_read(cert: OutcomeTable, tiers: Sequence[str]) -> frozenset[str]:
    """16 hex digits for every label of these tiers: a prompt, a tier, its answer and what grade that got.

    Rows and columns that are added to a table change none of them; asking the tiers again makes others, known by their
    texts, token counts and latencies where those are recorded.
    """
    found: set[str] = set()
    for tier in tiers:
        texts = cert.answers_of(tier).texts
        measured = [cert.grade(tier), *(c[tier] for c in (cert.completion_tokens, cert.latency_s) if tier in c)]
        for group, text, *numbers in zip(cert.groups.tolist(), texts, *measured, strict=True):
            said = "\x1f".join([tier, str(group), text, *(repr(float(number)) for number in numbers)])
            found.add(hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16])
    return frozenset(found)
