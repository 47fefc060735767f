"""Commands know their repository by its id, too."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("command", sa.Column("repository_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("command", "repository_id")
