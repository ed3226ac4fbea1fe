"""The table of feedback on decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table and its indexes. A decision's feedback may arrive before it: there is no foreign key."""
    if sa.inspect(op.get_bind()).has_table("feedback"):
        return
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("decision", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source", sa.String(256), nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("text", sa.Text),
        sa.Column("last_tier_right", sa.Boolean),
        sa.Column("key", sa.String(64)),
        sa.Column("labeller", sa.String(64)),
        sa.Column("by_admin", sa.Boolean, nullable=False),
        sa.Column("given_at", sa.String(32), nullable=False),
        sa.Column("first_at", sa.String(32), nullable=False),
        sa.Column("replays", sa.Text, nullable=False),
    )
    op.create_index("feedback_by_decision", "feedback", ["decision"])
    op.create_index("feedback_by_kind", "feedback", ["kind", "first_at"])
