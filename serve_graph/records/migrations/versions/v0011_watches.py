"""Tables of what watches traffic and models: runs of golden tasks, sums of embeddings, and what a watch remembers."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the tables and their indexes."""
    if sa.inspect(op.get_bind()).has_table("golden_runs"):
        return
    op.create_table(
        "golden_runs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("series", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("answers", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("golden_runs_in_order", "golden_runs", ["series", "number"], unique=True)
    op.create_index("golden_runs_by_tier", "golden_runs", ["tier", "at"])
    op.create_table(
        "watch_states",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("held_until", sa.String(32), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "embedding_sums",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("sums", sa.Text, nullable=False),
    )
    op.create_index("embedding_sums_by_version", "embedding_sums", ["version", "number"])
