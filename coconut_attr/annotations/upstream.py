"""Addresses of upstream data, and of the mirror that may replace them."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests

from coconut_attr.errors import SourceError
from coconut_attr.settings import Settings

HUB: Final = "https://huggingface.co"  # mirrors have a folder of this name, whatever HF_ENDPOINT is


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def hub_endpoint() -> str:
    """Return the address of the Hugging Face hub: HF_ENDPOINT, or else the public hub.

    Raises:
        SourceError: HF_ENDPOINT is not a URL.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    if not is_url(endpoint):
        raise SourceError(f"HF_ENDPOINT={endpoint} is not a URL: write https:// before the host")
    return endpoint


def mirrored(url: str, settings: Settings) -> str:
    """Return the address to read instead of an upstream URL: in the mirror, or the URL itself.

    Raises:
        SourceError: the mirror is a folder that does not exist.
    """
    if not settings.mirror:
        return url
    parts = urlsplit(url)
    if is_url(settings.mirror):
        return f"{settings.mirror.rstrip('/')}/{parts.netloc}{parts.path}"
    folder = Path(settings.mirror)
    if not folder.is_dir():
        raise SourceError(
            f"COCONUT_ATTR_MIRROR={settings.mirror} is not a folder (nor a URL): correct it, or"
            " unset it"
        )
    return str(folder / parts.netloc / parts.path.lstrip("/"))


def answers(url: str, settings: Settings) -> bool:
    """Return whether a host answers within 5 s; any HTTP status counts."""
    timeout = min(5, settings.connect_timeout)
    try:
        requests.head(url, timeout=timeout, allow_redirects=False)
    except requests.RequestException:
        return False
    return True


def reachable(settings: Settings) -> bool:
    """Return whether both upstream hosts answer."""
    return all(answers(u, settings) for u in (hub_endpoint(), "http://images.cocodataset.org"))
