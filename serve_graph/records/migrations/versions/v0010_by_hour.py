"""An index that holds what pages count, hour by hour, so that a count reads no row."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the index; SQLAlchemy reads no index over an expression back from SQLite, so no table of ours has it."""
    columns = "substr(created_at, 1, 13), tier, outcome, status, version, cost_pico_usd, created_at, id"
    op.execute(f"CREATE INDEX IF NOT EXISTS decisions_by_hour ON decisions ({columns})")
