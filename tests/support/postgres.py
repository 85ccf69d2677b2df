"""A PostgreSQL server for tests: of a data directory of its own, on a Unix socket."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "mild-secret"


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@contextmanager
def postgres(port: int) -> Iterator[str]:
    """The address of a new database, with a password, on loopback."""
    # Not in pytest's folder, which is closed to all other users.
    with tempfile.TemporaryDirectory(prefix="heretic-postgres-", ignore_cleanup_errors=True) as directory:
        yield from _served(Path(directory), port)


def _served(directory: Path, port: int) -> Iterator[str]:
    programs = binaries()
    assert programs is not None
    # PostgreSQL refuses to run as root; Debian's package has a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        account = pwd.getpwnam(user)
        directory.chmod(0o755)
        os.chown(directory, account.pw_uid, account.pw_gid)
    secret = directory / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = directory / "data"

    def run(*command: str) -> None:
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(str(programs / "initdb"), "-D", str(data), "-U", "me", "-A", "scram-sha-256", f"--pwfile={secret}", "-N")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    # The server that pg_ctl starts keeps its outputs open: a pipe that is read to its end would block.
    run(str(programs / "pg_ctl"), "-D", str(data), "-l", str(directory / "log"), "-o", options, "-w", "start")
    try:
        yield f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
