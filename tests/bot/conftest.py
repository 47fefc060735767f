"""Services that several parts' tests use."""

from tests.services import _postgres_socket, postgres_url, redis_server, redis_url

__all__ = ["_postgres_socket", "postgres_url", "redis_server", "redis_url"]
