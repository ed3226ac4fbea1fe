"""Which router version is served, one row for each registered model."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    if sa.inspect(op.get_bind()).has_table("served_versions"):
        return
    op.create_table(
        "served_versions",
        sa.Column("model", sa.String(256), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("start", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
    )
