"""What a sandbox could not destroy while the daemon was away is destroyed later by the same process."""

from typing import Any

import docker.errors

from bot.sandbox import docker_engine


class Daemon:
    """Has a container and an image of one sandbox."""

    def __init__(self) -> None:
        self.away = True
        self.containers_left, self.images_left = {"c1"}, {"i1"}

    def containers(self, *, all: bool, filters: dict[str, str]) -> list[dict[str, Any]]:
        self._ask()
        of_run = filters["label"] == f"{docker_engine.RUN}=the-run"
        return [{"Id": one} for one in self.containers_left] if of_run else []

    def images(self, *, filters: dict[str, str]) -> list[dict[str, Any]]:
        self._ask()
        return []

    def remove_container(self, container: str, *, force: bool, v: bool) -> None:
        self._ask()
        self.containers_left.remove(container)

    def remove_image(self, image: str, *, force: bool) -> None:
        self._ask()
        if image not in self.images_left:
            raise docker.errors.ImageNotFound("gone")
        self.images_left.remove(image)

    def _ask(self) -> None:
        if self.away:
            raise docker.errors.DockerException("nobody listens")


def test_what_the_daemon_was_away_for_is_destroyed_by_the_next_sweep() -> None:
    daemon: Any = Daemon()
    docker_engine.destroy_run(daemon, "the-run", "i1")
    assert daemon.containers_left
    docker_engine.sweep(daemon)
    daemon.away = False
    docker_engine.sweep(daemon)
    assert not daemon.containers_left | daemon.images_left
    daemon.containers_left = {"c2"}
    docker_engine.sweep(daemon)
    assert daemon.containers_left, "nothing more is owed"


def test_an_image_that_is_gone_is_not_owed() -> None:
    daemon: Any = Daemon()
    daemon.away = False
    docker_engine.destroy_run(daemon, "the-run", "i2")
    assert "the-run" not in docker_engine._owed
