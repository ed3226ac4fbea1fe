"""Labels of a judge: the probability with which their decision was drawn, and what else is known of them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the two columns; feedback that is there has neither."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("feedback")}
    for column in (sa.Column("probability", sa.Float), sa.Column("detail", sa.Text)):
        if column.name not in there:
            op.add_column("feedback", column)
