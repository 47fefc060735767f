"""Steps of CI that fill databases before the tests."""

import pytest

from bot.recipe import Recipe
from bot.recipe.prepare import preparing
from bot.recipe.services import with_services
from bot.repo_config import RepoConfig

COMMANDS = [
    "python manage.py migrate --noinput",
    "uv run python ./src/manage.py collectstatic",
    "django-admin migrate",
    "bin/rails db:setup",
    "bundle exec rake db:create db:schema:load",
    "RAILS_ENV=test bin/rails db:test:prepare",
    "alembic -c db/alembic.ini upgrade head",
    "poetry run alembic upgrade head",
    "python -m alembic upgrade head",
    "flask --app web db upgrade",
    "npx prisma migrate deploy",
    "npx knex --env test migrate:latest",
    "npm run db:migrate",
    "yarn migrate",
    "php artisan migrate --force",
    "php bin/console doctrine:migrations:migrate -n",
    "mix ecto.setup",
    "sqlx database setup",
    "make migrate",
]
OTHERS = [
    "python manage.py test",
    "python manage.py runserver",
    "bin/rails test",
    "npm ci",
    "npm run build",
    "echo bin/rails db:setup",
    "alembic check",
    "python manage.py migrate --database ${{ matrix.database }}",
    "make test",
    "pip install alembic",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_prepares(command: str) -> None:
    assert preparing([{"run": command}]) == command


@pytest.mark.parametrize("command", OTHERS)
def test_what_does_not(command: str) -> None:
    assert preparing([{"run": command}]) == ""


def test_lines_of_steps_with_their_variables() -> None:
    steps = [
        {"uses": "actions/checkout@v4", "env": []},
        {
            "run": "bundle install && sudo bin/rails \\\n  db:setup\nbin/rails assets:precompile",
            "env": {"A": "b c", "K": 1},
        },
        {"run": "bin/rails db:seed", "env": {"TOKEN": "${{ secrets.TOKEN }}", "odd-name": "x"}},
        {"run": "bin/rails db:seed", "working-directory": "elsewhere"},
        {"run": 7},
    ]
    assert preparing(steps).splitlines() == [
        "A='b c' K=1 bin/rails db:setup",
        "A='b c' K=1 bin/rails assets:precompile",
        "bin/rails db:seed",
    ]


WORKFLOW = """
jobs:
  test:
    services: {db: {image: "postgres:15"}}
    steps:
      - run: bin/rails db:setup
      - run: bin/rails test
      - run: bin/rails db:drop
"""


@pytest.mark.parametrize(
    ("config", "prepare", "source", "optional"),
    [
        (RepoConfig(), "bin/rails db:setup", ".github/workflows/ci.yml", True),
        (RepoConfig(prepare=""), "", "", False),
        (RepoConfig(prepare="make db\n"), "make db", ".troop.toml", False),
        (RepoConfig(services=()), "", "", False),
        (RepoConfig(services=(), prepare="make db"), "make db", ".troop.toml", False),
    ],
)
def test_the_config_decides_and_only_its_own_must_pass(
    config: RepoConfig, prepare: str, source: str, optional: bool
) -> None:
    files = {".github/workflows/ci.yml": WORKFLOW}
    found = with_services(Recipe(), list(files), files.get, config, installs=True)
    assert (found.prepare, found.prepare_from, found.prepare_optional) == (prepare, source, optional)
