"""What is recorded of a repository gets the name that it has now.

Where another repository has the name of one that was renamed or deleted, what is recorded of the old one gets a name
that GitHub lets no repository have, until GitHub tells its own by its number.
"""

from typing import Any

from sqlalchemy import Text, bindparam, cast, exists, or_, select, update
from sqlalchemy.engine import Connection

from bot.lifecycle import ACTIVE
from bot.store.models import COMMAND, RUN

# Statements of every delivery, made once: making them costs more than executing them.
_OTHER = RUN.alias()
_RENAME = (
    update(RUN)
    .where(
        RUN.c.repository_id == bindparam("by_id"),
        # Two ranges of the index, mostly empty.
        or_(RUN.c.repository < bindparam("name"), RUN.c.repository > bindparam("name")),
        or_(
            RUN.c.state.not_in(ACTIVE),
            ~exists().where(
                _OTHER.c.repository == bindparam("name"),
                _OTHER.c.issue_number == RUN.c.issue_number,
                _OTHER.c.state.in_(ACTIVE),
            ),
        ),
    )
    .values(repository=bindparam("name"))
)
_RENAME_COMMANDS = (
    update(COMMAND)
    .where(~COMMAND.c.done, COMMAND.c.repository_id == bindparam("by_id"), COMMAND.c.repository != bindparam("name"))
    .values(repository=bindparam("name"))
)
_OUSTED = (
    update(RUN)
    .where(RUN.c.repository == bindparam("name"), RUN.c.repository_id != bindparam("by_id"))
    .values(repository=RUN.c.repository + "@" + cast(RUN.c.repository_id, Text))
)
_NEWEST = select(RUN.c.repository_id).where(RUN.c.repository == bindparam("name")).order_by(RUN.c.id.desc()).limit(1)
MAY_BE_RENAMED = or_(
    exists().where(
        RUN.c.repository_id == bindparam("by_id"),
        or_(RUN.c.repository < bindparam("name"), RUN.c.repository > bindparam("name")),
    ),
    _NEWEST.scalar_subquery() != bindparam("by_id"),
)
ASK_RENAMED = select(MAY_BE_RENAMED)


def rename(tx: Connection, asked: dict[str, Any]) -> None:
    """Give what is recorded of the repository its new name."""
    names = {"by_id": asked["by_id"], "name": asked["name"]}
    tx.execute(_OUSTED, names)
    tx.execute(_RENAME_COMMANDS, names)
    tx.execute(_RENAME, names)
