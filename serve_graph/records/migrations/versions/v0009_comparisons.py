"""The table of comparisons: requests that both versions of a rollout decided, and what came of each."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table and its indexes."""
    if sa.inspect(op.get_bind()).has_table("comparisons"):
        return
    op.create_table(
        "comparisons",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("decision", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("alike", sa.Boolean, nullable=False),
        sa.Column("same_answer", sa.Boolean, nullable=False),
        sa.Column("stable_tier", sa.String(32), nullable=False),
        sa.Column("candidate_tier", sa.String(32), nullable=False),
        sa.Column("stable_action", sa.String(16), nullable=False),
        sa.Column("candidate_action", sa.String(16), nullable=False),
        sa.Column("stable_usd", sa.String(40), nullable=False),
        sa.Column("candidate_usd", sa.String(40), nullable=False),
        sa.Column("stable_right", sa.Float),
        sa.Column("candidate_right", sa.Float),
        sa.Column("stable_harm", sa.Boolean),
        sa.Column("candidate_harm", sa.Boolean),
        sa.Column("slices", sa.Text, nullable=False),
        sa.Column("grader", sa.String(256)),
        sa.Column("ungraded_reason", sa.String(64)),
        sa.Column("detail", sa.Text),
    )
    op.create_index("comparisons_once", "comparisons", ["rollout", "decision"], unique=True)
    op.create_index("comparisons_by_decision", "comparisons", ["decision"])
