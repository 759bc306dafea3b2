"""HTTP restricted to public addresses, for URLs that users or annotations name.

The peer address of each connection is checked before a byte is sent, so neither a redirect nor a
name that resolves differently the second time reaches a private network. Through a proxy, the proxy
decides what it reaches.
"""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from coconut_attr.errors import UserError

MAX_BYTES = 50 * 2**20
MAX_REDIRECTS = 5
TIMEOUTS = (10, 30)
Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
#: Some networks resolve public names to these: proxies with fake addresses (RFC 2544's range), and
#: carriers that share addresses (RFC 6598). Only hosts that the program itself names may use them.
STAND_INS: Final[Networks] = (
    ipaddress.ip_network("198.18.0.0/15"),
    ipaddress.ip_network("100.64.0.0/10"),
)


class RemoteError(UserError):
    """A web address cannot be fetched; the message says what and why."""


class PrivateAddressError(RemoteError):
    """An address is refused because it is not public."""


def _checked(connection: socket.socket, host: str, allowed: Networks) -> socket.socket:
    address = connection.getpeername()[0]
    if not _may_reach(address, allowed):
        connection.close()
        raise PrivateAddressError(f"refused to ask {host} ({address}): not a public address")
    return connection


def _may_reach(address: str, allowed: Networks) -> bool:
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    return ip.is_global or any(ip in network for network in allowed)


def _pool_classes(allowed: Networks) -> dict[str, type[HTTPConnectionPool]]:
    """Return pools by scheme whose connections reach public and allowed addresses only."""

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _checked(super()._new_conn(), self.host, allowed)

    class SecureConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _checked(super()._new_conn(), self.host, allowed)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


class PublicAdapter(HTTPAdapter):
    """A transport adapter for requests that raises PrivateAddressError for non-public addresses.

    Args:
        allowed: networks that it may reach although they are not public.
    """

    def __init__(self, allowed: Networks = (), **kwargs: Any) -> None:
        self.allowed = allowed
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self.allowed)


def require_reachable(hosts: Iterable[str], allowed: Networks) -> None:
    """Check that hosts resolve to addresses that `PublicAdapter` may reach, before work is wasted.

    A host is not checked if a proxy resolves its name, or if its name does not resolve now.

    Raises:
        PrivateAddressError: a host resolves to none but private addresses.
    """
    for host in (urlsplit(f"//{name}").hostname or name for name in hosts):
        url = f"http://{host}/"
        if requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)):
            continue
        try:
            addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
        except OSError:
            continue
        if not any(_may_reach(str(address), allowed) for address in addresses):
            raise PrivateAddressError(
                f"{host} resolves to {', '.join(map(str, sorted(addresses)))}, which is not public:"
                " check the DNS of this network, or set COCONUT_ATTR_MIRROR"
            )


def fetch(url: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a public web address.

    Raises:
        PrivateAddressError: it, or a redirect, leads to an address that is not public.
        RemoteError: it is no http(s) URL, does not answer, answers with an error status, or is
            larger than `max_bytes`.
    """
    if not url.startswith(("http://", "https://")):
        raise RemoteError(f"{url} is not an http(s) URL")
    with requests.Session() as session:
        session.max_redirects = MAX_REDIRECTS
        session.mount("http://", PublicAdapter())
        session.mount("https://", PublicAdapter())
        try:
            with session.get(url, timeout=TIMEOUTS, stream=True) as response:
                if not response.ok:
                    raise RemoteError(f"{url} answers {response.status_code} {response.reason}")
                content = response.raw.read(max_bytes + 1, decode_content=True)
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise RemoteError(f"cannot fetch {url}: {error}") from error
    if len(content) > max_bytes:
        raise RemoteError(f"{url} is larger than {max_bytes:,} bytes")
    return content
