"""A MariaDB server for tests: of a data directory of its own, on loopback."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "mild-secret"


def server() -> str | None:
    """MariaDB's server; None where it is not installed."""
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def mariadb(port: int) -> Iterator[str]:
    """The address of a new database, with a password."""
    with tempfile.TemporaryDirectory(prefix="heretic-mariadb-", ignore_cleanup_errors=True) as directory:
        data, socket = Path(directory) / "data", Path(directory) / "socket"
        user = "mysql" if os.geteuid() == 0 else None
        own = ["--no-defaults", f"--datadir={data}"]
        if user is not None:
            # The server refuses to run as root; Debian's package has a user for it.
            Path(directory).chmod(0o755)
            shutil.chown(directory, user)
            own.append(f"--user={user}")
        installer = shutil.which("mariadb-install-db")
        assert installer is not None
        run(installer, *own, "--auth-root-authentication-method=normal", "--skip-test-db")
        program = server()
        assert program is not None
        options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={socket}", "--innodb-buffer-pool-size=16M"]
        with (
            (Path(directory) / "log").open("wb") as log,
            subprocess.Popen([program, *own, *options], stdout=log, stderr=log) as process,
        ):
            try:
                create = f"CREATE DATABASE heretic; CREATE USER me@127.0.0.1 IDENTIFIED BY '{PASSWORD}'; "
                create += "GRANT ALL ON heretic.* TO me@127.0.0.1;"
                run("mariadb-admin", "--no-defaults", f"--socket={socket}", "-u", "root", "--wait=60", "ping")
                run("mariadb", "--no-defaults", f"--socket={socket}", "-u", "root", "-e", create)
                yield f"mysql://me:{PASSWORD}@127.0.0.1:{port}/heretic"
            finally:
                process.kill()


def run(*command: str) -> None:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
