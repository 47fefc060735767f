"""Servers beside tests, as workflows of GitHub Actions, `.troop.toml` and compose files name them."""

from collections.abc import Mapping

import pytest

from bot.recipe import Recipe, detect
from bot.recipe.services import of_workflows, with_services
from bot.records import Service
from bot.repo_config import RepoConfig, parse

RAILS = """
jobs:
  test:
    runs-on: ubuntu-latest
    services:
      postgres:
        image: postgres
        env:
          POSTGRES_USER: rails
          POSTGRES_PASSWORD: password
        ports:
          - 5432:5432
        options: --health-cmd="pg_isready" --health-interval=10s
      redis:
        image: redis:7
        ports:
          - 6379:6379
    steps:
      - uses: actions/checkout@v4
      - name: Run tests
        env:
          RAILS_ENV: test
          DATABASE_URL: postgres://rails:password@localhost:5432/app_test
          REDIS_URL: redis://localhost:6379/0
        run: bundle exec rspec
"""
LARAVEL = """
env:
  APP_ENV: testing
  GITHUB_THING: "no"
jobs:
  tests:
    services:
      mysql:
        image: mysql:8.0
        env:
          MYSQL_ROOT_PASSWORD: root
          MYSQL_DATABASE: shop
        ports:
          - 33306:3306
    env:
      DB_PORT: ${{ job.services.mysql.ports[3306] }}
      DB_USER: ${{ matrix.user }}
      DEPLOY_KEY: ${{ secrets.KEY }}
      DB_DATABASE: shop
      DB_DEBUG: true
      COPY: ${{ env.DB_DATABASE }}_copy
    steps:
      - run: vendor/bin/phpunit
"""
CONTAINER = """
jobs:
  node:
    runs-on: ubuntu-latest
    container: node:20
    services:
      Cache:
        image: redis
      search:
        image: opensearchproject/opensearch:2
    steps:
      - run: npm test
        env:
          REDIS_HOST: cache
          NODE_ENV: test
          NODE_OPTIONS: --require ./evil.js
"""
ACTIONS = """
jobs:
  test:
    steps:
      - uses: ankane/setup-postgres@v1
        with:
          database: testdb
          user: me
      - uses: supercharge/redis-github-action@1.8.0
      - uses: actions/checkout@v4
      - run: python -m pytest
"""
SEVERAL = """
jobs:
  lint:
    steps: [{run: ruff check}]
  unit:
    services:
      db: {image: "postgres:16", env: {POSTGRES_DB: first}}
    steps: [{run: make unit}]
  mysql:
    services:
      db: {image: "mariadb:11", env: {MARIADB_DATABASE: second, MARIADB_USER: me, MARIADB_PASSWORD: it}}
    steps: [{run: pytest}]
"""


def nothing(path: str) -> None:
    """No file can be read."""


def found(*workflows: str, **files: str) -> Recipe:
    texts = {f".github/workflows/{i}.yml": text for i, text in enumerate(workflows)} | files
    return with_services(Recipe(), list(texts), texts.get, RepoConfig(), installs=True)


def test_a_job_of_ci_tells_its_servers_their_accounts_and_the_variables_of_its_tests() -> None:
    recipe = found(RAILS)
    postgres, redis = recipe.services
    assert postgres == Service(
        kind="postgres",
        port=5432,
        user="rails",
        password="password",
        databases=("rails", "app_test"),
        hosts=("postgres",),
        asked="postgres",
    )
    assert (redis.kind, redis.port, redis.hosts) == ("redis", 6379, ("redis",))
    assert recipe.variables == {
        "RAILS_ENV": "test",
        "DATABASE_URL": "postgres://rails:password@localhost:5432/app_test",
        "REDIS_URL": "redis://localhost:6379/0",
    }
    assert recipe.found == "postgres, redis beside each test (.github/workflows/0.yml)"


def test_a_step_that_speaks_of_tests_is_the_one_where_no_command_is_known() -> None:
    text = RAILS.replace("bundle exec rspec", "bin/rails db:test:prepare test").replace("RAILS_ENV: test", "A: b")
    assert found(text).variables["A"] == "b"


def test_expressions_are_filled_in_where_they_are_ports_or_variables_and_what_is_unknown_is_left_out() -> None:
    recipe = found(LARAVEL)
    assert [(one.kind, one.port, one.roots, one.databases) for one in recipe.services] == [
        ("mysql", 33306, "root", ("shop",))
    ]
    assert recipe.variables == {
        "APP_ENV": "testing",
        "DB_PORT": "33306",
        "DB_DATABASE": "shop",
        "DB_DEBUG": "true",
        "COPY": "shop_copy",
    }


def test_a_name_of_a_server_is_a_host_and_one_that_is_not_known_is_told() -> None:
    recipe = found(CONTAINER)
    assert [(one.kind, one.hosts) for one in recipe.services] == [("redis", ("cache",))]
    assert recipe.variables == {"REDIS_HOST": "cache", "NODE_ENV": "test"}, "nothing that decides how programs run"
    assert "opensearchproject/opensearch:2" in recipe.notes[0]


def test_actions_that_start_servers_count() -> None:
    assert [(one.kind, one.user, one.databases) for one in found(ACTIONS).services] == [
        ("postgres", "me", ("testdb",)),
        ("redis", "", ()),
    ]


def test_the_job_that_runs_tests_is_taken_and_jobs_are_not_put_together() -> None:
    assert [(one.kind, one.databases, one.user) for one in found(SEVERAL).services] == [("mysql", ("second",), "me")]
    without = SEVERAL.replace("run: pytest", "run: make more")
    assert [one.databases for one in found(without).services] == [("first",)]


@pytest.mark.parametrize(
    "service",
    [
        "postgres",
        "[postgres]",
        "{image: [postgres]}",
        "{image: '${{ matrix.db }}'}",
        "{image: postgres, env: [a], ports: {a: b}}",
        "{image: postgres, env: {POSTGRES_USER: 'a; rm -rf /', POSTGRES_DB: \"a'b\"}, ports: ['99999:5432', 1]}",
        "{image: postgres, env: {POSTGRES_USER: {a: b}, POSTGRES_DB: '${{ secrets.DB }}'}, ports: ['80:5432']}",
        "null",
        "7",
    ],
)
def test_odd_workflows_give_sound_servers_or_none(service: str) -> None:
    text = f"jobs:\n  test:\n    services:\n      db: {service}\n    steps: [{{run: pytest}}]\n"
    for one in found(text).services:
        assert (one.kind, one.port, one.user, one.databases) == ("postgres", 5432, "", ())


def test_a_list_of_servers_or_jobs_is_none() -> None:
    assert found("jobs: [a]", "jobs: {test: {services: [postgres], steps: [{run: pytest}]}}").services == ()


def test_the_config_decides_also_where_it_names_none() -> None:
    files = {".github/workflows/test.yml": RAILS}
    config = parse('[services.redis]\nhost = "cache"\n[test.environment]\nURL = "postgres://localhost/x"\n')
    assert isinstance(config, RepoConfig)
    recipe = with_services(Recipe(found="Python"), list(files), files.get, config, installs=True)
    assert [(one.kind, one.hosts) for one in recipe.services] == [("redis", ("cache",))]
    assert recipe.variables == {"URL": "postgres://localhost/x"}
    assert recipe.found == "Python; redis beside each test (.troop.toml)"
    assert not recipe.layers[0].optional, "what its maintainers ask for has to be there"
    none = parse("[services]\n")
    assert isinstance(none, RepoConfig)
    assert with_services(Recipe(), list(files), files.get, none, installs=True) == Recipe()


def test_databases_that_addresses_name_are_made() -> None:
    text = "[services.postgres]\n[services.mysql]\n[test.environment]\n" + "\n".join(
        (
            'A = "postgresql+psycopg://app:pw@localhost:5432/one?x=1"',
            'B = "mysql2://root@127.0.0.1/two"',
            'C = "postgres:///three"',
        )
    )
    config = parse(text)
    assert isinstance(config, RepoConfig)
    postgres, mysql = with_services(Recipe(), (), nothing, config, installs=True).services
    assert (postgres.databases, mysql.databases) == (("one", "three"), ("two",))


def test_a_layer_installs_them_before_all_else_unless_no_images_are_built() -> None:
    files = {".github/workflows/test.yml": RAILS, "requirements.txt": "attrs\n"}
    python = detect(list(files), files.get, RepoConfig())
    recipe = with_services(python, list(files), files.get, RepoConfig(), installs=True)
    assert [layer.name for layer in recipe.layers] == ["services", *(layer.name for layer in python.layers)]
    assert recipe.layers[0].optional, "tests can tell something without"
    assert "apt-get install -y --no-install-recommends postgresql redis-server" in "\n".join(recipe.layers[0].commands)
    without = with_services(python, list(files), files.get, RepoConfig(), installs=False)
    assert (without.layers, without.services) == (python.layers, recipe.services)


def test_extensions_of_postgresql_are_installed() -> None:
    text = RAILS.replace("image: postgres\n", "image: pgvector/pgvector:pg17\n")
    recipe = found(text)
    assert recipe.services[0].extensions == ("pgvector",)
    assert any("-pgvector" in command for command in recipe.layers[0].commands)


@pytest.mark.parametrize("compose", ["compose.yaml", "docker-compose.yml"])
def test_a_compose_file_is_told_of_but_not_followed(compose: str) -> None:
    files: Mapping[str, str] = {compose: "services:\n  db:\n    image: postgres:16\n  web:\n    image: ours\n"}
    recipe = with_services(Recipe(), list(files), files.get, RepoConfig(), installs=True)
    assert recipe.services == ()
    assert recipe.notes == (
        f"{compose} names postgres: if tests need that, say so in .troop.toml: [services.postgres]",
    )
    assert found(RAILS, **files).notes == ()


def test_no_workflow_no_servers() -> None:
    assert of_workflows(("a.py",), nothing).services == ()
    assert with_services(Recipe(), ("a.py",), nothing, RepoConfig(), installs=True) == Recipe()


def test_rabbitmq_s_account_and_virtual_host_are_those_of_its_image() -> None:
    env = "{RABBITMQ_DEFAULT_USER: me, RABBITMQ_DEFAULT_PASS: pw, RABBITMQ_DEFAULT_VHOST: app}"
    workflow = (
        f"jobs: {{test: {{services: {{mq: {{image: 'rabbitmq:3-management', env: {env}}}}}, steps: [run: pytest]}}}}"
    )
    files = {".github/workflows/test.yml": workflow}
    (one,) = of_workflows(list(files), files.get).services
    assert (one.kind, one.port, one.user, one.password, one.databases) == ("rabbitmq", 5672, "me", "pw", ("app",))
