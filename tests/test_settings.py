"""Settings as they are read from the environment and from .env."""

from pathlib import Path

import pytest

from coconut_attr.settings import Settings


def test_a_tilde_in_env_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCONUT_ATTR_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    env = tmp_path / ".env"
    env.write_text(
        "COCONUT_ATTR_DATA_DIR=~/photos\n"
        "COCONUT_ATTR_MIRROR=~\n"
        "COCONUT_ATTR_RULES_FILE=~/my/rules.toml\n"
        "COCONUT_ATTR_DATABASE_URL=sqlite:///~/db.sqlite\n"
    )
    settings = Settings(_env_file=env)
    assert settings.data_dir == tmp_path / "home" / "photos"
    assert settings.mirror == str(tmp_path / "home")
    assert settings.rules_file == tmp_path / "home" / "my" / "rules.toml"
    assert settings.database_url == f"sqlite:///{tmp_path}/home/db.sqlite"


@pytest.mark.parametrize("name", ["~photos", "a~b", "a/~/b"])
def test_a_tilde_elsewhere_is_part_of_the_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCONUT_ATTR_DATA_DIR", name)
    assert Settings().data_dir == Path.cwd() / name
