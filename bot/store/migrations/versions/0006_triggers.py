"""What asked for a run: a label, an assignment, or a mention, in which comment."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("asked_by", sa.String(), nullable=False, server_default="label"))
    op.add_column("run", sa.Column("comment_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "comment_id")
    op.drop_column("run", "asked_by")
