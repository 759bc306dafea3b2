"""Proxies of the environment (HTTP_PROXY and its kin), made fit for every HTTP client in use."""

import os
from typing import Final
from urllib.request import getproxies_environment

from coconut_attr.errors import UserError

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
SCHEMES: Final = ("http", "https", "socks5", "socks5h")


def prepare_proxies() -> None:
    """Exempt loopback from the proxies of this process and its children.

    Otherwise the program would ask its own Prefect server and dashboard through the proxy.

    Raises:
        UserError: a proxy has a scheme that not every client can use.
    """
    proxies = getproxies_environment()
    exempt = proxies.pop("no", "")
    for kind, proxy in proxies.items():
        scheme, separator, _ = proxy.partition("://")
        if separator and scheme.lower() not in SCHEMES:
            raise UserError(
                f"{kind.upper()}_PROXY={scheme}://... cannot be used: its scheme must be one of"
                f" {', '.join(SCHEMES)}"
            )
    names = [name.strip() for name in exempt.split(",") if name.strip()]
    if "*" not in names:
        value = ",".join([*names, *(host for host in LOOPBACK if host not in names)])
        os.environ |= {"NO_PROXY": value, "no_proxy": value}
