"""Runs that a command started: which, what it asks for, and of which pull request; reviews beside comments."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# As databases name the constraint of 0001, which has no name of its own.
_NAMES = {"uq": "%(table_name)s_%(column_0_name)s_key"}


def upgrade() -> None:
    op.add_column("run", sa.Column("command_id", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("again", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("pull_number", sa.BigInteger(), nullable=True))
    op.create_index("ix_run_command_id", "run", ["command_id"])
    op.create_index("run_by_pull", "run", ["repository", "pull_number"])
    op.add_column("command", sa.Column("source", sa.String(), nullable=False, server_default="comment"))
    with op.batch_alter_table("command", naming_convention=_NAMES) as table:
        table.drop_constraint("command_comment_id_key", type_="unique")
        table.alter_column("source", server_default=None)
    op.create_index("command_once", "command", ["source", "comment_id"], unique=True)


def downgrade() -> None:
    op.drop_index("command_once", "command")
    op.execute("DELETE FROM command WHERE source <> 'comment'")
    with op.batch_alter_table("command", naming_convention=_NAMES) as table:
        table.create_unique_constraint("command_comment_id_key", ["comment_id"])
        table.drop_column("source")
    op.drop_index("run_by_pull", "run")
    op.drop_index("ix_run_command_id", "run")
    op.drop_column("run", "pull_number")
    op.drop_column("run", "again")
    op.drop_column("run", "command_id")
