"""The decision store's tables, as this release reads and writes them; `migrations/` makes them so."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Float, Index, Integer, MetaData, String, Table, Text
from sqlalchemy import Column as Col

METADATA = MetaData()
DECISIONS = Table(
    "decisions",
    METADATA,
    Col("id", String(64), primary_key=True),
    Col("created_at", String(32), nullable=False),
    Col("requested_model", String(256), nullable=False),
    Col("tier", String(32), nullable=False),
    Col("outcome", String(16), nullable=False),
    Col("version", Text, nullable=False),
    Col("status", Integer, nullable=False),
    Col("stream", Boolean, nullable=False),
    Col("prompt_sha256", String(64), nullable=False),
    Col("prompt_chars", Integer, nullable=False),
    Col("route_reason", Text, nullable=False),
    Col("p_cheap_ok", Float),
    Col("distance", Float),
    Col("verdict_reason", Text),
    Col("p_answer_ok", Float),
    Col("calls", Text, nullable=False),
    Col("cost_usd", String(40), nullable=False),
    Col("latency_s", Float, nullable=False),
    Col("arm", Text, nullable=False),
    Col("propensity", Float, nullable=False),
    Col("error", String(64)),
    Col("metadata", Text, nullable=False),
    Col("overhead", Text),
    Col("key", String(64)),
    Col("session", String(64)),
    Col("evidence", Text),
    Col("prompt", Text),
    Col("cost_pico_usd", BigInteger),
    Index("decisions_by_time", "created_at"),
    Index("decisions_by_version", "version", "created_at"),
    Index("decisions_by_key", "key", "created_at"),
)
AUDIT = Table(
    "audit",
    METADATA,
    Col("id", String(64), primary_key=True),
    Col("created_at", String(32), nullable=False),
    Col("actor", Text, nullable=False),
    Col("action", String(64), nullable=False),
    Col("target", Text, nullable=False),
    Col("reason", Text),
    Col("detail", Text, nullable=False),
    Index("audit_by_time", "created_at"),
)
FEEDBACK = Table(
    "feedback",
    METADATA,
    Col("id", String(64), primary_key=True),
    Col("decision", String(64), nullable=False),
    Col("kind", String(16), nullable=False),
    Col("source", String(256), nullable=False),
    Col("value", Float),
    Col("text", Text),
    Col("last_tier_right", Boolean),
    Col("key", String(64)),
    Col("labeller", String(64)),
    Col("by_admin", Boolean, nullable=False),
    Col("given_at", String(32), nullable=False),
    Col("first_at", String(32), nullable=False),
    Col("replays", Text, nullable=False),
    Col("probability", Float),
    Col("detail", Text),
    Index("feedback_by_decision", "decision"),
    Index("feedback_by_kind", "kind", "first_at"),
)
ALARMS = Table(
    "alarms",
    METADATA,
    Col("id", String(64), primary_key=True),
    Col("version", Text, nullable=False),
    Col("kind", String(16), nullable=False),
    Col("scope", Text, nullable=False),
    Col("raised_at", String(32), nullable=False),
    Col("reason", Text, nullable=False),
    Col("acts", Boolean, nullable=False),
    Col("detail", Text, nullable=False),
    Col("lifted_at", String(32)),
    Col("lifted_by", Text),
    Col("lift_reason", Text),
    Index("alarms_by_time", "raised_at"),
)
SERVED_VERSIONS = Table(
    "served_versions",
    METADATA,
    Col("model", String(256), primary_key=True),
    Col("epoch", Integer, nullable=False),
    Col("version", Text, nullable=False),
    Col("start", String(64), nullable=False),
    Col("reason", Text, nullable=False),
    Col("changed_at", String(32), nullable=False),
)
VERSION_TABLE = "serve_graph_alembic_version"
"""Where Alembic notes the schema's revision; MLflow, which may share a database, has `alembic_version`."""
