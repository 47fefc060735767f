"""Alembic's entry point: migrates over the connection that `bot.store.database` hands in, in its transaction."""

from alembic import context

from bot.store.models import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # SQLite can, where the driver does not begin transactions by itself
)
with context.begin_transaction():
    context.run_migrations()
