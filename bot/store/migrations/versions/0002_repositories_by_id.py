"""Repositories by id, runs that are wanted after one that stops, numbers beyond 32 bits."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("repository_id", sa.BigInteger(), nullable=True))
    op.add_column("run", sa.Column("wanted", sa.Text(), nullable=True))
    op.create_index("run_by_repository_id", "run", ["repository_id", "repository"])
    op.create_index("run_by_issue", "run", ["repository", "issue_number"])
    if op.get_bind().dialect.name == "sqlite":
        return  # its integers have 64 bits, whatever the type is called
    for table in ("run", "command"):
        op.alter_column(table, "issue_number", type_=sa.BigInteger(), existing_nullable=False)


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        for table in ("run", "command"):
            op.alter_column(table, "issue_number", type_=sa.Integer(), existing_nullable=False)
    op.drop_index("run_by_issue", "run")
    op.drop_index("run_by_repository_id", "run")
    op.drop_column("run", "wanted")
    op.drop_column("run", "repository_id")
