"""Tables of limits that several ingress replicas keep together: what is left of each, and who has leased a part."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the tables and the index."""
    if sa.inspect(op.get_bind()).has_table("limit_pools"):
        return
    op.create_table(
        "limit_pools",
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("level", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "limit_leases",
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("limit_leases_by_name", "limit_leases", ["name"])
