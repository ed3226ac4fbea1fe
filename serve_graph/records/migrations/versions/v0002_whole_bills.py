"""Whole bills, keys, sessions and evidence; names of versions of any length.

Releases before this one added the columns without noting a revision, all of them or, where one was killed, some:
what is there stays.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is missing, and widen what the first release made 64 characters long."""
    bind = op.get_bind()
    there = {column["name"]: column["type"] for column in sa.inspect(bind).get_columns("decisions")}
    added = (
        sa.Column("overhead", sa.Text),
        sa.Column("key", sa.String(64)),
        sa.Column("session", sa.String(64)),
        sa.Column("evidence", sa.Text),
        sa.Column("prompt", sa.Text),
        sa.Column("cost_pico_usd", sa.BigInteger),
    )
    for column in added:
        if column.name not in there:
            op.add_column("decisions", column)
    if bind.dialect.name == "postgresql":  # SQLite holds nobody to a length
        for name in ("version", "arm"):
            if not isinstance(there[name], sa.Text):
                op.alter_column("decisions", name, type_=sa.Text)
    indexes = {index["name"] for index in sa.inspect(bind).get_indexes("decisions")}
    for name, columns in (
        ("decisions_by_time", ["created_at"]),
        ("decisions_by_version", ["version", "created_at"]),
        ("decisions_by_key", ["key", "created_at"]),
    ):
        if name not in indexes:
            op.create_index(name, "decisions", columns)
