"""A real PostgreSQL cluster, which tests can crash and start again."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs, which Debian keeps out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


class Cluster:
    """A new cluster in a folder; it listens on a socket there and, given a port, on 127.0.0.1."""

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
        settings = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": self.port or 5432,
            "unix_socket_directories": f'"{self.folder}"',
            "fsync": "off",
        }
        given = [f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items()]
        words = " ".join([*given, *options])
        self._run("pg_ctl", "-D", "data", "-w", "-t", "60", "-l", "log", "-o", words, "start")

    def crash(self) -> None:
        """Kill all of its processes and wait for their end: before it, none can be started."""
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)  # it starts no others meanwhile, which would survive
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        processes = (postmaster, *map(int, children))
        for process in processes:
            os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{process}").exists() for process in processes):
            assert time.monotonic() < deadline, "PostgreSQL's processes do not end"
            time.sleep(0.05)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)

    def url(self, database: str, user: str = "tests") -> str:
        """Return the URL of a database; the user `tests` is the superuser."""
        if self.port:
            return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={quote(str(self.folder), safe='/')}"
