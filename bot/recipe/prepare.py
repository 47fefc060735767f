"""What the steps of a job of CI do to its servers' data before the tests, as far as that can be repeated. Pure."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# As people write them: `manage.py migrate`, `bin/rails db:setup`, `alembic upgrade head`, `prisma migrate deploy`
_COMMAND = re.compile(
    r"(?:[A-Za-z_]\w*=\S* )*(?:sudo )?(?:(?:uv|poetry|pdm|hatch|pipenv) run (?:--\S+ )*|bundle exec |npx |yarn |pnpm "
    r"|pnpm exec |python3? (?:-\w+ )*|php |ruby |node )*(?:"
    r"(?:[\w./-]*manage\.py|django-admin) (?:migrate|loaddata|createcachetable|compilemessages|collectstatic)"
    r"|(?:[\w./-]*(?:rails|rake)) (?:db|parallel|assets):[\w:]+"
    r"|alembic\b.* upgrade|flask\b.* db upgrade|aerich upgrade|yoyo apply|dbmate\b.* (?:up|load|migrate)|sqitch deploy"
    r"|prisma (?:migrate (?:deploy|dev|reset)|db (?:push|seed)|generate)|knex\b.* (?:migrate|seed)[:\w]*"
    r"|sequelize(?:-cli)? db:[\w:]+|typeorm\b.* migration:run|drizzle-kit (?:push|migrate)|db-migrate\b.* up"
    r"|[\w./-]*artisan (?:migrate|db:seed)[:\w]*|[\w./-]*bin/console doctrine:[\w:-]+|phinx\b.* migrate"
    r"|mix (?:ecto|phx)\.[\w.]+|sqlx (?:database|migrate) \w+|diesel (?:setup|migration run|database setup)"
    r"|sea-orm-cli migrate\b.*|goose\b.* up|atlas migrate apply"
    r"|(?:npm|yarn|pnpm|bun)(?: run)? (?:db|migrat\w*|seed)[:\w-]*"
    r"|make (?:migrat\w*|db[\w-]*|seed\w*)|composer (?:migrat\w*|db:[\w:-]+))(?![\w:-])"
)
_VALUE = re.compile(r"[^\x00-\x1f\x7f]{0,500}")
_MOST = 20  # commands


def preparing(steps: Sequence[Mapping[str, Any]]) -> str:
    """The shell lines; "" where none of these steps does such a thing. What has an expression of CI's is left out."""
    lines = [line for step in steps for line in _lines_of(step)]
    return "\n".join(lines[:_MOST])


def _lines_of(step: Mapping[str, Any]) -> Iterator[str]:
    run = step.get("run")
    if not isinstance(run, str) or "working-directory" in step:
        return
    given = step.get("env")
    variables = " ".join(
        f"{name}={shlex.quote(str(value))}"
        for name, value in (given.items() if isinstance(given, dict) else ())
        if re.fullmatch(r"[A-Za-z_]\w{0,100}", str(name)) and _VALUE.fullmatch(str(value)) and "${{" not in str(value)
    )
    for line in re.sub(r"\\\n\s*", " ", run).splitlines():
        for part in line.split("&&"):
            command = " ".join(part.split())
            if _COMMAND.match(command) and "${{" not in command:
                yield f"{variables} {command}".strip().replace("sudo ", "", 1)
