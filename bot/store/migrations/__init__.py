"""Alembic migrations, applied by `Store.open`.

A new one, after a change of `bot.store.models`: write `versions/NNNN_what.py` with the revision before it as
`down_revision`; `tests/bot/store/test_migrations.py` says what is still missing.
"""
