"""Every setting of the product, read from COCONUT_ATTR_* environment variables (or a .env file)."""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from coconut_attr.datasets import PANCAP_REPOS
from coconut_attr.errors import SettingsError, UserError


def _absolute(path: Path) -> Path:
    """Return an absolute path; a leading "~" is the home folder, which no shell expands in .env."""
    return Path.home().joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path.absolute()


def _absolute_folder_or_url(place: str) -> str:
    if "://" not in place:
        return str(_absolute(Path(place))) if place else ""
    if "@" in urlsplit(place).netloc:
        raise ValueError(
            "a user name or password in it would be recorded as the data's origin: leave it out"
        )
    return place


def _absolute_unless_hub(source: str) -> str:
    return source if not source or source in PANCAP_REPOS else str(Path(source).absolute())


def _absolute_sqlite(url: str) -> str:
    driver, mark, path = url.partition(":///")
    if driver not in {"sqlite", "sqlite+pysqlite"} or path in {"", ":memory:"}:
        return url
    return f"{driver}{mark}{_absolute(Path(path))}"


#: Set for child processes, which get all settings by environment and must not read another .env.
SETTLED = "COCONUT_ATTR_SETTLED"
Absolute = Annotated[Path, AfterValidator(_absolute)]
AbsoluteOrNone = Annotated[Absolute | None, BeforeValidator(lambda path: path or None)]


class Settings(BaseSettings):
    """The settings: field NAME is read from the variable COCONUT_ATTR_NAME. Paths are absolute."""

    model_config = SettingsConfigDict(
        env_prefix="COCONUT_ATTR_",
        env_file=".env",
        extra="ignore",
        validate_default=True,
        hide_input_in_errors=True,
    )

    data_dir: Absolute = Field(
        Path("data"), description="Folder of images, masks, checkpoints and SQLite files"
    )
    database_url: Annotated[str, AfterValidator(_absolute_sqlite)] = Field(
        "", description="SQLAlchemy URL of the database; empty: SQLite in the data folder"
    )
    image_store: str = Field(
        "",
        description="fsspec URL of an object store that shares photos, masks and runs; empty: none",
    )
    mirror: Annotated[str, AfterValidator(_absolute_folder_or_url)] = Field(
        "", description="Folder or URL laid out under the upstream host names, used in their place"
    )
    annotations_dir: AbsoluteOrNone = Field(
        None, description="Folder in COCONut's Kaggle layout, read instead of the hub"
    )
    objects365_dir: AbsoluteOrNone = Field(
        None, description="Folder of Objects365 photos, for coconut-l and coconut-val"
    )
    pancap: Annotated[str, AfterValidator(_absolute_unless_hub)] = Field(
        "",
        description="COCONut-PanCap texts for coconut-s and coconut-b: `hub`, `hub-50k`, a folder "
        "or a tar; empty: none",
    )
    rules_file: AbsoluteOrNone = Field(
        None, description="Rules of the labels, in place of coconut_attr/labels/rules.toml"
    )
    label_model_file: AbsoluteOrNone = Field(
        None, description="Label model, in place of coconut_attr/labels/label_model.json"
    )
    second_pass: bool = Field(
        True, description="After a training, label again with what its encoder predicts"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to train and predict"
    )
    processes: int = Field(
        0, ge=0, description="Training processes (torchrun); 0: one for each GPU, else one"
    )
    download_threads: int = Field(
        16, ge=1, le=64, description="Simultaneous image requests of one download task"
    )
    shard_size: int = Field(250, ge=1, description="Images of one download or extraction task")
    connect_timeout: float = Field(10, gt=0, description="Seconds to wait for a connection")
    read_timeout: float = Field(
        30, gt=0, description="Seconds to wait between two bytes of an answer"
    )
    body_timeout: float = Field(120, gt=0, description="Seconds that the body of an image may take")
    lease: float = Field(
        300, gt=0, description="Seconds after which a dead worker's images are given to others"
    )
    retries: int = Field(
        5, ge=0, description="Further attempts at an image after a transient failure"
    )
    dask: str = Field(
        "",
        description="Dask scheduler whose workers extract and check; empty: the flow's own threads",
    )
    review: bool = Field(
        False, description="Show the dashboard's page Review, where people judge photos"
    )
    review_database_url: Annotated[str, AfterValidator(_absolute_sqlite)] = Field(
        "", description="URL of the database for the page Review's judgements; empty: database_url"
    )
    dashboard_port: int = Field(
        8501, ge=1, le=65535, description="Port of the dashboard, on 127.0.0.1"
    )

    @property
    def sqlalchemy_url(self) -> str:
        """Return the database URL to connect to."""
        return sqlalchemy_form(
            self.database_url or f"sqlite:///{self.data_dir / 'coconut_attr.db'}"
        )

    @property
    def review_url(self) -> str:
        """Return the database URL to connect to for adding the page Review's judgements."""
        return sqlalchemy_form(self.review_database_url) or self.sqlalchemy_url


def sqlalchemy_form(url: str) -> str:
    """Return a database URL in SQLAlchemy's form: a plain ``postgresql://`` selects psycopg 3."""
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            return "postgresql+psycopg://" + url.removeprefix(plain)
    return url


@cache
def settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        SettingsError: variables have values of the wrong kind.
        UserError: the file .env is not UTF-8 text.
    """
    try:
        return Settings(_env_file=None) if SETTLED in os.environ else Settings()
    except UnicodeDecodeError as error:
        raise UserError(f"{Path('.env').absolute()} is not UTF-8 text: {error}") from error
    except ValidationError as error:
        problems = [
            f"COCONUT_ATTR_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise SettingsError(problems) from error
