from tests.github.fixtures import github, github_server

__all__ = ["github", "github_server"]
