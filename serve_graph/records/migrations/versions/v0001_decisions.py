"""The table of decisions, as the first release made it. Where it is there already, nothing is done."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table and its indexes."""
    if sa.inspect(op.get_bind()).has_table("decisions"):
        return
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("requested_model", sa.String(256), nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("prompt_sha256", sa.String(64), nullable=False),
        sa.Column("prompt_chars", sa.Integer, nullable=False),
        sa.Column("route_reason", sa.Text, nullable=False),
        sa.Column("p_cheap_ok", sa.Float),
        sa.Column("distance", sa.Float),
        sa.Column("verdict_reason", sa.Text),
        sa.Column("p_answer_ok", sa.Float),
        sa.Column("calls", sa.Text, nullable=False),
        sa.Column("cost_usd", sa.String(40), nullable=False),
        sa.Column("latency_s", sa.Float, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("error", sa.String(64)),
        sa.Column("metadata", sa.Text, nullable=False),
    )
    op.create_index("decisions_by_time", "decisions", ["created_at"])
    op.create_index("decisions_by_version", "decisions", ["version", "created_at"])
