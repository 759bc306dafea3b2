"""Prefect on this machine: its server, work pools, deployments and workers as child processes."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import get_current_settings
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from coconut_attr.errors import UserError
from coconut_attr.settings import settings

ROOT: Final = Path(__file__).parent.parent
HOST = "127.0.0.1"
DEFAULT_API = f"http://{HOST}:4200/api"


class LocalError(UserError):
    """A process of this machine's stack that cannot start or has ended; says which and why."""


def own_folder() -> dict[str, str]:
    """Return the folder that a flow runs in: the program's own on the worker's machine.

    Deployments name this function as their pull step, because machines have the program in
    different folders.
    """
    return {"directory": str(ROOT)}


def api_url() -> str:
    return get_current_settings().api.url or DEFAULT_API


def dashboard_url() -> str:
    return f"http://{HOST}:{settings().dashboard_port}"


def healthy(address: str) -> bool:
    """Return whether a health address answers with success."""
    try:
        return requests.get(address, timeout=2).ok
    except requests.RequestException:
        return False


class Stack:
    """Child processes that are stopped together, the last one started first."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> None:
        """Start a process; its output goes to a log file."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with (self.log_dir / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # else Ctrl-C would end all processes at once
            )

    def check(self) -> None:
        """Raise if a process has ended.

        Raises:
            LocalError: names the process and its log file.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise LocalError(
                    f"{name} ended with code {process.returncode}; see {self.log_dir / name}.log"
                )

    def stop(self, *names: str, grace: float = 10) -> None:
        """Stop processes, by default all, and their children; kill them after `grace` seconds."""
        stopped = [self.processes.pop(name) for name in names or list(self.processes)]
        for process in reversed(stopped):
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for process in reversed(stopped):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def require_free(port: int, remedy: str) -> None:
    """Check that nothing listens on a port of this machine.

    Raises:
        LocalError: a program does; the message ends with the remedy.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise LocalError(f"port {port} is taken by another program; stop it, or {remedy}")


def prefect_database_url(data_dir: Path) -> str:
    """Return the URL of the local server's database, a file of the data folder.

    The path is escaped in a `file:` URI: elsewhere in a URL its ? would start the parameters.
    """
    uri = (data_dir / "prefect.db").absolute().as_uri()
    return f"sqlite+aiosqlite:///{uri.replace('file://', 'file:', 1)}?uri=true"


def launch_server(stack: Stack, data_dir: Path) -> bool:
    """Start a Prefect server unless one answers already.

    Returns:
        Whether it was started. It may not answer yet.

    Raises:
        LocalError: another program has the port, or the API URL names another machine that does
            not answer.
    """
    url = api_url()
    if healthy(f"{url}/health"):
        return False
    parts = urlsplit(url)
    host, port = parts.hostname or HOST, parts.port or 80
    if host not in {HOST, "localhost"}:
        raise LocalError(
            f"no Prefect server answers at {url} (PREFECT_API_URL); start it, or unset "
            "PREFECT_API_URL"
        )
    require_free(port, f"set PREFECT_API_URL=http://{HOST}:PORT/api")
    data_dir.mkdir(parents=True, exist_ok=True)
    stack.start(
        "prefect-server",
        *prefect("server", "start", "--host", HOST, "--port", str(port)),
        env={
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database_url(data_dir),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_UI_API_URL": url,
        },
    )
    return True


def wait_for(stack: Stack, ready: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until `ready` returns True, for at most `timeout` seconds.

    Raises:
        LocalError: a process ended, or the time ran out.
    """

    def ready_or_ended() -> bool:
        if ready():
            return True
        stack.check()
        return False

    attempts = Retrying(
        stop=stop_after_delay(timeout),
        wait=wait_fixed(0.25),
        retry=retry_if_result(lambda is_ready: not is_ready),
    )
    try:
        attempts(ready_or_ended)
    except RetryError as error:
        raise LocalError(
            f"{what} did not come up within {timeout:.0f} s; see {stack.log_dir}"
        ) from error


def prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


def quiet_console(*, progress: bool) -> None:
    """Keep tracebacks of user errors off the console, and progress messages unless `progress`.

    The command prints a user error in one line, and a terminal has progress bars. Prefect's own
    log still has both.
    """

    def keep(record: logging.LogRecord) -> bool:
        user_error = record.exc_info and isinstance(record.exc_info[1], UserError)
        return not user_error and (progress or record.levelno >= logging.WARNING)

    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(keep)


@contextmanager
def stack(log_dir: Path) -> Iterator[Stack]:
    """Yield a stack that is stopped however its block ends.

    SIGTERM and Ctrl-C both raise KeyboardInterrupt in the block, also in a background job, where
    the shell has SIGINT ignored.
    """
    processes = Stack(log_dir)

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        processes.stop()
