"""Reports in a table of their own, since a row with one takes hundreds of pages; titles, tokens and orders of lists."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "report",
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("run.id"), primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text(), nullable=False),
    )
    op.execute("INSERT INTO report (run_id, text) SELECT id, report FROM run WHERE report IS NOT NULL")
    op.drop_column("run", "report")
    op.add_column("run", sa.Column("title", sa.Text(), nullable=False, server_default=""))
    op.add_column("run", sa.Column("tokens", sa.BigInteger(), nullable=False, server_default="0"))
    title = "json_extract(issue, '$.title')" if sqlite else "CAST(issue AS json) ->> 'title'"
    op.execute(f"UPDATE run SET title = coalesce({title}, '')")  # noqa: S608 - no input is in it
    prompt, completion = (
        f"json_extract(text, '$.usage.{name}')"
        if sqlite
        else f"CAST(CAST(text AS json) -> 'usage' ->> '{name}' AS bigint)"
        for name in ("prompt_tokens", "completion_tokens")
    )
    total = f"SELECT coalesce({prompt}, 0) + coalesce({completion}, 0) FROM report WHERE run_id = run.id"  # noqa: S608
    op.execute(f"UPDATE run SET tokens = coalesce(({total}), 0)")  # noqa: S608
    op.create_index("run_list_of_repository", "run", ["repository", "id"])
    op.create_index("run_list_of_state", "run", ["state", "id"])


def downgrade() -> None:
    op.drop_index("run_list_of_state", "run")
    op.drop_index("run_list_of_repository", "run")
    op.drop_column("run", "tokens")
    op.drop_column("run", "title")
    op.add_column("run", sa.Column("report", sa.Text(), nullable=True))
    op.execute("UPDATE run SET report = (SELECT text FROM report WHERE run_id = run.id)")
    op.drop_table("report")
