"""A TCP proxy whose connections a test can cut."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy(socketserver.ThreadingTCPServer):
    """Passes what comes to its port on to another port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.target = target
        self.port: int = self.server_address[1]
        self.open: set[socket.socket] = set()
        self.refused = 0  #: connections while nothing listened at the target

    def cut(self) -> int:
        """Reset all connections; returns how many there were."""
        ends = list(self.open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2


class _Passage(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        try:
            other = socket.create_connection(("127.0.0.1", self.server.target))
        except ConnectionRefusedError:
            self.server.refused += 1
            return
        with other:
            ends = {self.request, other}
            self.server.open |= ends
            back = threading.Thread(target=_pass_on, args=(other, self.request), daemon=True)
            back.start()
            _pass_on(self.request, other)
            back.join()
            self.server.open -= ends


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy to a port, running."""
    with Proxy(target) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
