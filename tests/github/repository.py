"""The bare git repositories, and git's own HTTP back end in front of them."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Olive",
    "GIT_AUTHOR_EMAIL": "olive@example.com",
    "GIT_COMMITTER_NAME": "Olive",
    "GIT_COMMITTER_EMAIL": "olive@example.com",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


def environment(**more: str) -> dict[str, str]:
    """Of git in tests: nothing of the user's configuration."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return keep | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"} | _IDENTITY | more


def run_git(*arguments: str, cwd: Path, stdin: bytes = b"", check: bool = True, **env: str) -> str:
    """Git's standard output. Raises `subprocess.CalledProcessError`, with git's words in its notes."""
    done = subprocess.run(["git", *arguments], cwd=cwd, input=stdin, capture_output=True, env=environment(**env))
    if check and done.returncode:
        error = subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        error.add_note(done.stderr.decode(errors="replace"))
        raise error
    return done.stdout.decode(errors="replace")


class GitRepository:
    """One bare repository on disk."""

    def __init__(self, path: Path, branch: str = "main") -> None:
        self.path = path
        self.branch = branch  # the default branch
        if not (path / "HEAD").exists():
            path.mkdir(parents=True, exist_ok=True)
            run_git("init", "--quiet", "--bare", f"--initial-branch={branch}", ".", cwd=path)
            # GitHub lets any commit be fetched by its hash, and takes pushes over HTTP.
            for key in ("http.receivepack", "uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
                run_git("config", key, "true", cwd=path)

    def git(self, *arguments: str, stdin: bytes = b"", check: bool = True, **env: str) -> str:
        return run_git(*arguments, cwd=self.path, stdin=stdin, check=check, **env)

    def commit_files(self, files: Mapping[str, bytes | str | None], message: str, branch: str = "") -> str:
        """Commit the files (None deletes; a `str` value that starts with `-> ` is a symlink; `!x ` makes it
        executable; `@ COMMIT` is a submodule) on top of the branch; a new branch begins at the default one."""
        branch = branch or self.branch
        parent = self.commit_of(branch) or self.commit_of(self.branch)
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            if parent:
                self.git("read-tree", parent, **env)
            lines = []
            for path, content in files.items():
                if content is None:
                    lines.append(f"0 {'0' * 40}\t{path}")
                    continue
                mode = "100644"
                if isinstance(content, str):
                    if content.startswith("-> "):
                        mode, content = "120000", content[3:]
                    elif content.startswith("!x "):
                        mode, content = "100755", content[3:]
                    elif content.startswith("@ "):
                        lines.append(f"160000 {content[2:]}\t{path}")
                        continue
                    content = content.encode()
                blob = self.git("hash-object", "-w", "--stdin", stdin=content).strip()
                lines.append(f"{mode} {blob}\t{path}")
            self.git("update-index", "--index-info", stdin="\n".join(lines).encode() + b"\n", **env)
            tree = self.git("write-tree", **env).strip()
        return self.commit_tree(tree, message, branch, parent)

    def commit_tree(self, tree: str, message: str, branch: str, parent: str | None) -> str:
        parents = ["-p", parent] if parent else []
        commit = self.git("commit-tree", tree, "-m", message, *parents).strip()
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    # -- signatures: a file of names, which is out of git's own reach

    def signed(self) -> set[str]:
        """The commits that have a verified signature."""
        file = self.path / "signed"
        return set(file.read_text().split()) if file.exists() else set()

    def sign(self, commit: str) -> None:
        with (self.path / "signed").open("a") as file:
            file.write(f"{commit}\n")

    def require_signatures(self) -> None:
        """Refuse pushes of commits without one, as a ruleset does."""
        hook = self.path / "hooks" / "update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(
            '#!/bin/sh\ngrep -qx "$3" signed && exit 0\n'
            "echo 'GH013: Repository rule violations found: Commits must have verified signatures.'\nexit 1\n"
        )
        hook.chmod(0o755)

    def commit_of(self, branch: str) -> str | None:
        return (
            self.git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}", check=False).strip() or None
        )

    def branches(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads").splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)

    def is_ancestor(self, one: str, other: str) -> bool:
        return not self.git("rev-list", "-1", f"refs/heads/{other}..refs/heads/{one}").strip()

    def files(self, branch: str = "") -> list[str]:
        if not self.commit_of(branch or self.branch):
            return []
        return self.git("ls-tree", "-r", "-z", "--name-only", f"refs/heads/{branch or self.branch}").split("\0")[:-1]

    def read(self, path: str, branch: str = "") -> str:
        return self.git("cat-file", "blob", f"refs/heads/{branch or self.branch}:{path}")

    def diff(self, base: str, head: str) -> str:
        """What the branch changed since it left the base, as a pull request shows it. Arguments are branches or
        commits."""
        return self.git("diff", "--no-color", f"{base}...{head}", check=False)


async def smart_http(
    root: Path, path: str, query: str, method: str, headers: Mapping[str, str], body: bytes, user: str
) -> tuple[int, dict[str, str], bytes]:
    """Git's own CGI (gitprotocol-http, git-http-backend): status, headers and body of the answer."""
    env = environment(
        GIT_PROJECT_ROOT=str(root),
        GIT_HTTP_EXPORT_ALL="1",
        PATH_INFO=path,
        QUERY_STRING=query,
        REQUEST_METHOD=method,
        CONTENT_TYPE=headers.get("content-type", ""),
        CONTENT_LENGTH=str(len(body)),
        REMOTE_USER=user,
        REMOTE_ADDR="127.0.0.1",
    )
    if "content-encoding" in headers:
        env["HTTP_CONTENT_ENCODING"] = headers["content-encoding"]
    if "git-protocol" in headers:
        env["GIT_PROTOCOL"] = headers["git-protocol"]
    process = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate(body)
    head, _, content = output.partition(b"\r\n\r\n")
    answer: dict[str, str] = {}
    status = 200
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "status":
            status = int(value.split()[0])
        elif name:
            answer[name] = value
    return status, answer, content
