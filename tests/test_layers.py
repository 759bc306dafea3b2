"""Who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "coconut_attr": {"prefect", "streamlit", "sqlalchemy", "alembic", "db", "flows", "dashboard"},
    "db": {"prefect", "streamlit", "torch", "torchvision", "flows", "dashboard"},
    "flows": {"streamlit", "dashboard"},
    "dashboard": {"prefect", "flows", "sqlalchemy"},
}
CORE = [
    "attributes",
    "model.backbones.catalogue",
    "model.network",
    "model.predict",
    "training.train",
]


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    wrong = {str(path): found for path in files if (found := imported(path) & FORBIDDEN[layer])}
    assert not wrong


def test_the_training_core_imports_with_four_packages() -> None:
    """GPU machines may have torch, torchvision, numpy and pillow alone."""
    program = f"""
import sys, importlib, importlib.abc
import torch, torchvision, torchvision.transforms.v2, numpy, PIL.Image  # with whatever they need themselves
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        if top in {{"safetensors", "sklearn", "scipy", "skimage", "pydantic", "pydantic_settings", "pandas", "requests",
                   "pyarrow", "fsspec", "simplemma", "typer", "rich", "prefect", "sqlalchemy", "streamlit"}}:
            raise ImportError(f"the core imports {{name}}")
for name in [m for m in sys.modules if m.split(".")[0] in {{"scipy", "sklearn", "pandas", "rich", "requests"}}]:
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
for name in {CORE}:
    importlib.import_module("coconut_attr." + name)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
