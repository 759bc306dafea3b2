"""HTTP restricted to public addresses, for URLs that users or annotations name.

The peer address of each connection is checked before a byte is sent, so neither a redirect nor a
name that resolves differently the second time reaches a private network. Through a proxy, the proxy
decides what it reaches.
"""

import ipaddress
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from coconut_attr.errors import UserError

MAX_BYTES = 50 * 2**20
MAX_REDIRECTS = 5
TIMEOUTS = (10, 30)


class RemoteError(UserError):
    """A web address cannot be fetched; the message says what and why."""


class PrivateAddressError(RemoteError):
    """An address is refused because it is not public."""


def _checked(connection: socket.socket, host: str) -> socket.socket:
    address = connection.getpeername()[0]
    if not ipaddress.ip_address(address.split("%")[0]).is_global:
        connection.close()
        raise PrivateAddressError(f"refused to ask {host} ({address}): not a public address")
    return connection


class _PublicHTTPConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn(), self.host)


class _PublicHTTPSConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn(), self.host)


class _PublicHTTPPool(HTTPConnectionPool):
    ConnectionCls = _PublicHTTPConnection


class _PublicHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPSConnection


class PublicAdapter(HTTPAdapter):
    """A transport adapter for requests that raises PrivateAddressError for non-public addresses."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _PublicHTTPPool,
            "https": _PublicHTTPSPool,
        }


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
