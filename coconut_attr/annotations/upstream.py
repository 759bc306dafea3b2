"""Upstream addresses, and the mirror that may stand in for them."""

from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import requests

from coconut_attr.errors import SourceError
from coconut_attr.settings import Settings

HUB = "https://huggingface.co"


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def mirrored(url: str, settings: Settings) -> str:
    """The address to read in place of an upstream URL: a path or URL in the mirror, or the URL itself.

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
            f"COCONUT_ATTR_MIRROR={settings.mirror} is not a folder (nor a URL); correct or unset it"
        )
    return str(folder / parts.netloc / parts.path.lstrip("/"))


def hub_folder(repo: str, settings: Settings) -> tuple[fsspec.AbstractFileSystem, str]:
    """A filesystem, and the folder in it that holds the files of a Hugging Face dataset repository."""
    if not settings.mirror:
        return fsspec.filesystem("hf"), f"datasets/{repo}"
    folder = mirrored(f"{HUB}/datasets/{repo}", settings)
    return fsspec.filesystem("http" if is_url(folder) else "file"), folder


def reachable(settings: Settings, timeout: float = 5) -> bool:
    """Whether both upstream hosts answer (any HTTP answer counts; a refused or hanging connection does not)."""
    for host in (HUB, "http://images.cocodataset.org"):
        try:
            requests.head(
                host, timeout=min(timeout, settings.connect_timeout), allow_redirects=False
            )
        except requests.RequestException:
            return False
    return True
