"""A TCP proxy whose connections a test can cut, and HTTP and SOCKS proxies to stand-in hosts."""

import ipaddress
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


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
    """Run a proxy to a port."""
    with Proxy(target) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class HostProxy(socketserver.ThreadingTCPServer):
    """An HTTP or SOCKS5 proxy that leads host names to ports of 127.0.0.1.

    Attributes:
        url: for HTTP_PROXY or ALL_PROXY.
        hosts: the hosts that were asked for, each as often as it was.
    """

    daemon_threads = True

    def __init__(self, kind: str, ports: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _HttpProxy if kind == "http" else _SocksProxy)
        self.url = f"{kind}://127.0.0.1:{self.server_address[1]}"
        self.ports = ports
        self.hosts: Counter[str] = Counter()

    def connect(self, host: str) -> socket.socket | None:
        """Connect to a host's stand-in; return None for a host without one."""
        self.hosts[host] += 1
        port = self.ports.get(host)
        return socket.create_connection(("127.0.0.1", port)) if port else None


class _HttpProxy(socketserver.StreamRequestHandler):
    """One request of absolute form (http), or a tunnel (CONNECT)."""

    server: HostProxy

    def handle(self) -> None:
        method, target, version = self.rfile.readline().decode().split()
        headers = list(iter(self.rfile.readline, b"\r\n"))
        url = urlsplit(target if "://" in target else f"//{target}")
        other = self.server.connect(url.hostname or "")
        if other is None:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with other:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(
                    target=_pass_on, args=(self.connection, other), daemon=True
                ).start()
            else:
                path = urlunsplit(("", "", url.path or "/", url.query, ""))
                sent = [h for h in headers if not h.lower().startswith(b"connection:")]
                head = [f"{method} {path} {version}\r\n".encode(), *sent, b"Connection: close\r\n"]
                other.sendall(b"".join(head) + b"\r\n")
            _pass_on(other, self.connection)


class _SocksProxy(socketserver.StreamRequestHandler):
    """A tunnel by SOCKS5 (RFC 1928), without an account."""

    server: HostProxy

    def handle(self) -> None:
        self.rfile.read(self.rfile.read(2)[1])
        self.wfile.write(b"\x05\x00")
        kind = self.rfile.read(4)[3]
        if kind == 3:
            host = self.rfile.read(self.rfile.read(1)[0]).decode()
        else:
            host = str(ipaddress.ip_address(self.rfile.read(4 if kind == 1 else 16)))
        self.rfile.read(2)
        other = self.server.connect(host)
        self.wfile.write(bytes([5, 0 if other else 4, 0, 1]) + bytes(6))
        if other is None:
            return
        with other:
            threading.Thread(target=_pass_on, args=(self.connection, other), daemon=True).start()
            _pass_on(other, self.connection)


@contextmanager
def host_proxy(kind: str, ports: dict[str, int]) -> Iterator[HostProxy]:
    """Run a proxy, of the kind "http" or "socks5h", to the stand-ins of some hosts."""
    with HostProxy(kind, ports) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
