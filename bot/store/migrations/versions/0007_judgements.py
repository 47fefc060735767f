"""What people made of runs' winners."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judgement",
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("run.id"), primary_key=True, autoincrement=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("judged_by", sa.String(), nullable=False),
        sa.Column("odds", sa.Float(), nullable=True),
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("overruled", sa.Boolean(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=True),
        sa.Column("judged_at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("judgement")
