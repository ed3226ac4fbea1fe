"""The table of alarms: what was raised on which version, and who lifted it and why."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table and its index."""
    if sa.inspect(op.get_bind()).has_table("alarms"):
        return
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("raised_at", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("acts", sa.Boolean, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("lifted_at", sa.String(32)),
        sa.Column("lifted_by", sa.Text),
        sa.Column("lift_reason", sa.Text),
    )
    op.create_index("alarms_by_time", "alarms", ["raised_at"])
