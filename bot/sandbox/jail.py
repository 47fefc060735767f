# ruff: noqa: S103, S108, S606 - the modes are for files in a job's own surroundings, and so is /tmp; argv is run as it is
"""The inside of the process sandbox: isolates a job and runs its command. Standard library only, Linux.

    python3 -I -S jail.py SOCKET_FD        (see `bot.sandbox.helper`)

Started once for each sandbox, never imported: forking from here is far cheaper than starting an interpreter for each
job. Each message on the socket is one job, with four descriptors: the job as JSON, its output, its report, and a leash.
When the other end of the leash is closed, by the sandbox or because it was killed, the job is ended.

Three modes, from strong to weak:

- `overlay`: own user (if not root), process, mount, network and IPC namespaces. The file system is read-only, the home
  folder, /run, /dev and /tmp are replaced by empty ones (except for what interpreters need), and the tree is an overlay
  on the base copy, removed with the job. When the first process of the namespace ends, the kernel ends all others.
- `copy`: the same, but the tree is a real copy on the job's own tmpfs.
- `plain`: no namespaces: a copy in a temporary folder, limits, and a search of /proc for what the job left running.

Reports one line `SECRET WORD NUMBER`: `status N` (as of `waitpid`), `unavailable N` (127, 126), or `broken TEXT`.
"""

import binascii
import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import time
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 1 << 17, 1 << 27, 1 << 28, 1 << 29, 1 << 30
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1 << 12, 1 << 13, 1 << 14, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 28, 36, 38
SYS_MOUNT_SETATTR, AT_RECURSIVE = 442, 0x8000  # the number is the same on every architecture
_KILLING = 30.0  # seconds in which all that a job left must be gone
SYS_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "ppc64le": 184, "s390x": 185}


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(_libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


# -- isolation ---------------------------------------------------------------------------------------------------


def _namespaces() -> None:
    """Enter new namespaces; the next child is process 1 there."""
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | (CLONE_NEWUSER if uid else 0)
    _check(_libc.unshare(flags), "unshare")
    if uid:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _loopback() -> None:
    """Bring up `lo`, the only network: tests may talk to servers that they start."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(control, 0x8913, request), 16)[0]  # SIOCGIFFLAGS
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


def _file_system(job: dict[str, Any]) -> None:
    """Make everything read-only, mount the tree and a private /tmp, hide what a job must not see."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    attributes = struct.pack("QQQQ", 1 | 2, 0, 0, 0)  # MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
    _check(_libc.syscall(SYS_MOUNT_SETATTR, -100, b"/", AT_RECURSIVE, attributes, len(attributes)), "mount_setattr")
    stages = job["stages"]  # folder that the sandbox made: layers/ tmp/ home/ run/ dev/
    _mount("tmpfs", f"{stages}/layers", "tmpfs", MS_NOSUID | MS_NODEV, f"size={job['disk']},mode=700")
    _mount("tmpfs", f"{stages}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={job['disk']},mode=1777")
    tree, test = f"{stages}/tmp/troop/repo", f"{stages}/tmp/troop/test"
    os.makedirs(tree)
    os.makedirs(test)
    if job["mode"] == "overlay":
        for name in ("upper", "work"):
            os.mkdir(f"{stages}/layers/{name}")
        layers = f"lowerdir={job['base']},upperdir={stages}/layers/upper,workdir={stages}/layers/work"
        _mount("overlay", tree, "overlay", MS_NOSUID | MS_NODEV, layers + (",userxattr" if os.geteuid() else ""))
    else:
        shutil.copytree(job["base"], tree, symlinks=True, dirs_exist_ok=True)
    _fill(job, tree, test)
    if not job["removes_script"]:
        _mount(test, test, None, MS_BIND)
        _mount("none", test, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    hidden = [(f"{stages}/dev", "/dev"), (f"{stages}/run", "/run"), (f"{stages}/tmp", "/tmp")]
    if job["home"]:
        hidden.insert(0, (f"{stages}/home", job["home"]))
    for stage, target in hidden:
        if not stage.endswith("/tmp"):
            _mount("tmpfs", stage, "tmpfs", MS_NOSUID, "size=64m,mode=755")
        for kept in job["keep"]:
            if kept.startswith(target + "/") and os.path.isdir(kept):
                place = stage + kept[len(target) :]
                os.makedirs(place, exist_ok=True)
                _mount(kept, place, None, MS_BIND | MS_REC)
    _devices(f"{stages}/dev")
    # Through descriptors, since a target may be a parent of the stages.
    opened = [(os.open(stage, os.O_RDONLY | os.O_DIRECTORY), target) for stage, target in hidden]
    for descriptor, target in opened:
        if os.path.isdir(target):
            _mount(f"/proc/self/fd/{descriptor}", target, None, MS_MOVE)
    for descriptor, _ in opened:
        os.close(descriptor)
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | 8)  # MS_NOEXEC; last: the descriptors above need the old one


def _devices(stage: str) -> None:
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        if os.path.exists(f"/dev/{name}"):
            _write(f"{stage}/{name}", "")
            _mount(f"/dev/{name}", f"{stage}/{name}", None, MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{stage}/{name}")
    os.mkdir(f"{stage}/shm")
    os.chmod(f"{stage}/shm", 0o1777)


def _fill(job: dict[str, Any], tree: str, test: str) -> None:
    """Make the changes in the new tree and write the script to its place. The sandbox has checked every path."""
    for change in sorted(job["changes"], key=lambda change: change["text"] is not None):  # deletions first
        path = f"{tree}/{change['path']}"
        if os.path.lexists(path):
            os.unlink(path)
        if change["text"] is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(change["text"].encode(change["encoding"], "surrogateescape"))
            os.chmod(path, 0o755 if change["executable"] else 0o644)
    if job["script"]:
        name, text = job["script"]  # beside the tree or in it
        os.makedirs(os.path.dirname(path := f"{os.path.dirname(test)}/{name}"), exist_ok=True)
        with open(path, "xb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.chmod(path, 0o555)
    for name, text in job["inside"].items():
        with open(f"{test}/.{name}", "wb") as file:
            file.write(binascii.a2b_base64(text) if name.endswith(".pyc") else text.encode())
    with open(f"{test}/.changed", "wb") as file:
        for change in job["changes"]:
            marks = job["marks"].get(change["path"], "")
            file.write(os.fsencode(f"{job['root']}/repo/{change['path']}\t{marks}\n"))


# -- the command -------------------------------------------------------------------------------------------------


def _limits(job: dict[str, Any]) -> None:
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_FSIZE, job["disk"]),
        (resource.RLIMIT_DATA, job["memory"]),  # unlike AS it does not count memory that is reserved but not used
    ]
    if job["count_processes"]:
        wanted.append((resource.RLIMIT_NPROC, job["pids"]))
    for which, value in wanted:
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def _drop_privileges(isolated: bool) -> None:
    """Drop all capabilities for good, also for root and after any `exec`."""
    if isolated:
        _libc.prctl(PR_SET_SECUREBITS, 0x2F, 0, 0, 0)  # root has no privileges, and that is locked
        capability = 0
        while _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
            capability += 1
        header = struct.pack("Ii", 0x20080522, 0)
        number = SYS_CAPSET.get(os.uname().machine)
        if number is not None:
            _check(_libc.syscall(number, header, struct.pack("6I", 0, 0, 0, 0, 0, 0)), "capset")
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _start(job: dict[str, Any], report: int, isolated: bool) -> int:
    """Fork the command; its process id."""
    read, write = os.pipe()
    os.write(write, job["nonce"].encode())
    os.close(write)
    child = os.fork()
    if child:
        os.close(read)
        return child
    try:
        os.setsid()
        os.dup2(read, 0)
        os.dup2(1, 2)
        os.set_inheritable(report, bool(job["nonce"]))
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(signum, signal.SIG_DFL)
        os.umask(0o022)
        os.chdir(f"{job['root']}/repo")
        _limits(job)
        _drop_privileges(isolated)
        argv, environment = job["argv"], job["environment"]
        if job["nonce"]:
            argv = [str(report) if word == "{report}" else word for word in argv]
        try:
            os.execvpe(argv[0], argv, environment)
        except FileNotFoundError:
            os.write(report, f"{job['secret']} unavailable 127\n".encode())
            os._exit(127)
        except OSError:
            os.write(report, f"{job['secret']} unavailable 126\n".encode())
            os._exit(126)
    except BaseException as error:
        os.write(report, f"{job['secret']} broken {error}\n".encode())
    os._exit(125)


def _wait(child: int) -> int:
    """Reap whatever ends until `child` does; its status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _watch(child: int, leash: int) -> int | None:
    """The status of `child` when it ends, or None once the leash is closed."""
    try:
        ended = [os.pidfd_open(child)]
    except OSError:  # an old kernel: poll
        ended = []
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if leash in select.select([leash, *ended], [], [], None if ended else 0.02)[0]:
            return None


def _isolated(job: dict[str, Any], report: int, leash: int) -> None:
    """Run the job in namespaces of its own."""
    _namespaces()
    init = os.fork()
    if init:
        if _watch(init, leash) is None:
            os.kill(init, signal.SIGKILL)  # and the kernel ends every other process of the namespace
            os.waitpid(init, 0)
        return
    try:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _loopback()
        _file_system(job)
        if job["services"]:
            _serve_beside(job)
            os.write(report, b"servers\n")  # the command begins
        status = _wait(_start(job, report, isolated=True))
        os.write(report, f"{job['secret']} status {status}\n".encode())
    except BaseException as error:
        os.write(report, f"{job['secret']} broken {error}\n".encode())
    os._exit(0)


def _serve_beside(job: dict[str, Any]) -> None:
    """Start the servers that the test needs and wait until they answer. PostgreSQL refuses to be root's."""
    here, user = f"{job['root']}/services", os.geteuid() or job["nobody"]
    for folder in (here, "/run/postgresql", "/run/mysqld"):
        os.mkdir(folder)
        os.chown(folder, user, -1)
    if job["hosts"] and os.path.isfile("/etc/hosts"):
        _write(f"{job['root']}/hosts", f"127.0.0.1 localhost {' '.join(job['hosts'])}\n::1 localhost\n")
        _mount(f"{job['root']}/hosts", "/etc/hosts", None, MS_BIND)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            for descriptor in (0, 1, 2):
                os.dup2(os.open("/dev/null", os.O_RDWR), descriptor)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            _drop_privileges(isolated=False)
            os.execve("/bin/sh", job["services"], {"PATH": job["environment"]["PATH"]})
        finally:
            os._exit(127)
    if os.waitpid(child, 0)[1]:
        raise OSError("the servers beside the test did not start")


def _plain(job: dict[str, Any], report: int, leash: int) -> None:
    """Run the job as an ordinary process, and end what it left running."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # daemons become our children
    root = job["root"]
    os.makedirs(f"{root}/test")
    os.makedirs(f"{root}/tmp")
    shutil.copytree(job["base"], f"{root}/repo", symlinks=True)
    _fill(job, f"{root}/repo", f"{root}/test")
    try:
        status = _watch(_start(job, report, isolated=False), leash)
    finally:
        _end_descendants(job)
    os.write(report, f"{job['secret']} status {status}\n".encode())


def _end_descendants(job: dict[str, Any]) -> None:
    """Kill our children, and those that become ours when their parents end, until none is left.

    Where the job has a control group, nothing in it may fork meanwhile: a fork bomb would be as fast as we are.
    """
    limits = [file for group in job["control_groups"] if os.path.exists(file := f"{os.path.dirname(group)}/pids.max")]
    for file in limits:
        _write(file, "0")
    try:
        _kill_children(time.monotonic() + _KILLING)
    finally:
        for file in limits:
            _write(file, str(job["pids"]))


def _kill_children(deadline: float) -> None:
    while time.monotonic() < deadline:
        children = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == os.getpid()]
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG if not children else 0)[0]:
                children = children[1:]
        except ChildProcessError:
            return


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _serve(described: int, output: int, report: int, leash: int) -> None:
    """One job, in a process of its own."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in (described, output, report, leash):
        os.set_inheritable(descriptor, False)
    with open(described, "rb") as file:
        file.seek(0)
        job = json.loads(file.read())
    os.close(output)
    try:
        for procs in job["control_groups"]:  # before any fork, so that the whole job is in them
            _write(procs, str(os.getpid()))
        (_plain if job["mode"] == "plain" else _isolated)(job, report, leash)
    except BaseException as error:
        os.write(report, f"{job['secret']} broken {error}\n".encode())


def main() -> None:
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with socket.socket(fileno=int(sys.argv[1])) as server:
        server.set_inheritable(False)
        while True:
            message, descriptors, _, _ = socket.recv_fds(server, 16, 4)
            if not message:  # the sandbox was closed, or its process has ended
                break
            if os.fork() == 0:
                server.close()
                try:
                    _serve(*descriptors)
                finally:
                    os._exit(0)
            for descriptor in descriptors:
                os.close(descriptor)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    _kill_children(time.monotonic() + _KILLING)


if __name__ == "__main__":
    main()
