"""What runs cost, by repository and day; runs that wait; the pause switch."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("cost", sa.Float(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("hold", sa.Text(), nullable=True))
    op.create_table(
        "spending",
        sa.Column("day", sa.String(), primary_key=True),
        sa.Column("repository", sa.String(), primary_key=True),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
    )
    op.create_table(
        "pause",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.String(), nullable=False),
        sa.Column("paused_at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("pause")
    op.drop_table("spending")
    op.drop_column("run", "hold")
    op.drop_column("run", "cost")
