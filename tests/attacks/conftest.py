from tests.bot.publish.conftest import checkout, forge
from tests.bot.store.conftest import database_url, store
from tests.github.fixtures import github, github_server
from tests.services import _postgres_socket, postgres_url, redis_server, redis_url

__all__ = [
    "_postgres_socket",
    "checkout",
    "database_url",
    "forge",
    "github",
    "github_server",
    "postgres_url",
    "redis_server",
    "redis_url",
    "store",
]
