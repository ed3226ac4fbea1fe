"""The audit log: who did what, and why. Rows are added and, past their time, deleted; none is changed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FUNCTION = """CREATE OR REPLACE FUNCTION serve_graph_audit_stays() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'audit entries are not changed'; END $$"""
_TRIGGERS = {
    "postgresql": """CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
FOR EACH ROW EXECUTE FUNCTION serve_graph_audit_stays()""",
    "sqlite": """CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit entries are not changed'); END""",
}


def upgrade() -> None:
    """Create the table, its index and the trigger that refuses changes."""
    bind = op.get_bind()
    if sa.inspect(bind).has_table("audit"):
        return
    op.create_table(
        "audit",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("audit_by_time", "audit", ["created_at"])
    if bind.dialect.name == "postgresql":
        op.execute(_FUNCTION)
    op.execute(_TRIGGERS[bind.dialect.name])
