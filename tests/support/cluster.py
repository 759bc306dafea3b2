"""A real PostgreSQL cluster of a test's own, which can be crashed and started again."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest


def program(name: str) -> str | None:
    """A program of PostgreSQL, which Debian keeps out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


class Cluster:
    """A new cluster in a folder, which listens on a socket in that folder and, if a port is given, on 127.0.0.1."""

    def __init__(
        self, folder: Path, port: int = 0, initdb: tuple[str, ...] = (), user: str = "tests"
    ) -> None:
        if not program("initdb") or not program("pg_ctl"):
            pytest.skip("PostgreSQL is not installed (initdb, pg_ctl): tests on it are skipped")
        folder.mkdir(exist_ok=True)
        self.folder, self.port = folder, port
        self._as: dict[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:
            self._as["user"] = "postgres"  # it refuses to run as root
            shutil.chown(folder, "postgres")
            for path in folder.parents:
                if path == Path("/tmp"):
                    break
                path.chmod(0o755)
        self._run("initdb", "-D", "data", "-U", user, "--no-sync", *(initdb or ("-A", "trust")))

    def _run(self, name: str, *arguments: str, check: bool = True) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([program(name) or name, *arguments], check=check, **quiet, **self._as)

    def start(self, *options: str) -> None:
        listen = f"-c listen_addresses={'127.0.0.1' if self.port else repr('')} -c port={self.port or 5432}"
        words = [listen, f"-c unix_socket_directories={self.folder}", "-c fsync=off", *options]
        self._run(
            "pg_ctl", "-D", "data", "-w", "-t", "60", "-l", "log", "-o", " ".join(words), "start"
        )

    def crash(self) -> None:
        """Kill every process of it."""
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in (postmaster, *map(int, children)):
            os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)

    def url(self, database: str, user: str = "tests") -> str:
        """The URL of a database for psycopg; `tests` is the superuser."""
        place = (
            f"127.0.0.1:{self.port}/{database}" if self.port else f"/{database}?host={self.folder}"
        )
        return f"postgresql://{user}@{place}"
