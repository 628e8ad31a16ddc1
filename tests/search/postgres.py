"""A PostgreSQL server for tests: a real one, started for a test on a socket of its own and stopped after it.

``python -m tests.search.postgres`` installs the server where it is missing and apt may do so (Debian, Ubuntu);
otherwise it says why not, and the tests that need a server say so as well.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_APT = ("apt-get", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")


def binaries():
    """Folder of the newest server's programs, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found += [Path(path).parent for path in [shutil.which("initdb")] if path]
    return max(found, key=lambda path: [int(part) for part in path.parts if part.isdigit()], default=None)


def install():
    """Why there is no server; None when there is one, now or before."""
    if binaries():
        return None
    if not shutil.which("apt-get"):
        return "no PostgreSQL server here, and no apt-get to install one"
    if os.geteuid() != 0:
        return "no PostgreSQL server here, and only root may install one: apt-get install postgresql"
    # RUNLEVEL keeps the package from starting a server that nobody here would stop
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (("update", "-qq"), ("install", "-qq", "--no-install-recommends", "postgresql")):
        try:
            subprocess.run([*_APT, *command], env=environment, check=True, capture_output=True, timeout=150)
        except (subprocess.SubprocessError, OSError) as error:
            return f"no PostgreSQL server here, and apt-get {command[0]} failed: {error}"
    return None if binaries() else "apt-get installed no server that could be found"


@contextlib.contextmanager
def server():
    """URL of an empty database in a running server."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, and open to another user: it holds the socket
    user = _ordinary_user()
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

        def call(program, *arguments):
            subprocess.run(
                [programs / program, *arguments], user=user, cwd=folder, check=True, capture_output=True, timeout=120
            )

        call("initdb", "-D", folder / "data", "-U", "runner", "--auth=trust", "--no-sync", "--encoding=UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-o", options, "start")
        try:
            yield f"postgresql://runner@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _ordinary_user():
    """Whom to run the server as, which refuses root; None for the present user."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


if __name__ == "__main__":
    problem = install()
    print(problem or f"PostgreSQL: {binaries()}")
    sys.exit(0)
