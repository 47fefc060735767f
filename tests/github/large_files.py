"""Git LFS's batch API, and the server of another name that content comes from, which wants no token of GitHub's.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

import base64
import hashlib

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tests.github.world import World

TYPE = "application/vnd.git-lfs+json"
SIGNED = "signed by the host"


class LargeFiles:
    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url
        self.router = APIRouter()
        self.router.add_api_route("/{owner}/{name}.git/info/lfs/objects/batch", self.batch, methods=["POST"])
        self.router.add_api_route("/large-files/{owner}/{name}/{oid}", self.content)

    async def batch(self, request: Request, owner: str, name: str) -> Response:
        repository = self._world.repository(f"{owner}/{name}")
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            token = self._world.authenticate(base64.b64decode(value).decode().partition(":")[2])
            if not token.allows(repository.id, "contents", "read"):
                return JSONResponse({"message": "Not Found"}, 404, media_type=TYPE)
        elif repository.private:
            return JSONResponse({"message": "Credentials needed"}, 401, media_type=TYPE)
        asked = await request.json()
        if request.headers["accept"] != TYPE or asked["operation"] != "download" or len(asked["objects"]) > 100:
            return JSONResponse({"message": "Unprocessable"}, 422, media_type=TYPE)
        found = []
        for one in asked["objects"]:
            href = f"{self._url}/large-files/{repository.full_name}/{one['oid']}"
            there = {"actions": {"download": {"href": href, "header": {"x-signature": SIGNED}, "expires_in": 3600}}}
            gone = {"error": {"code": 404, "message": "Object does not exist on the server"}}
            found.append(one | (there if one["oid"] in repository.large_files else gone))
        return JSONResponse({"transfer": "basic", "objects": found, "hash_algo": "sha256"}, media_type=TYPE)

    async def content(self, request: Request, owner: str, name: str, oid: str) -> Response:
        if "authorization" in request.headers or request.headers.get("x-signature") != SIGNED:
            return Response("Only one auth mechanism allowed", 400)
        return Response(self._world.repository(f"{owner}/{name}").large_files[oid])


def pointer_to(content: bytes) -> str:
    """What a commit has in its place."""
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
