"""Which module may import which."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("coconut_attr", "db", "flows", "dashboard")
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
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """Return the full names that a file imports, anywhere in it: modules and their members."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    wrong = {
        str(path): found
        for path in files
        if (found := {name.split(".")[0] for name in imported(path)} & FORBIDDEN[layer])
    }
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count, too: they are where circles hide."""
    graph = {name: (imported(path) & MODULES.keys()) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 300, "the imports are not found any more"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_package_inits_hold_nothing_but_a_docstring() -> None:
    """`import coconut_attr.intervals` must not load torch because its package does."""
    for path in MODULES.values():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert all(
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body
            ), f"{path.relative_to(ROOT)} holds code"


def test_the_training_core_imports_with_four_packages() -> None:
    """GPU machines may have torch, torchvision, numpy and pillow alone."""
    program = f"""
import sys, importlib, importlib.abc
import torch, torchvision, torchvision.transforms.v2, numpy, PIL.Image  # and what they need
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        if top in {{"safetensors", "sklearn", "scipy", "skimage", "pydantic", "pydantic_settings",
                   "pandas", "requests", "pyarrow", "fsspec", "simplemma", "typer", "rich",
                   "prefect", "sqlalchemy", "streamlit"}}:
            raise ImportError(f"the core imports {{name}}")
for name in [m for m in sys.modules
             if m.split(".")[0] in {{"scipy", "sklearn", "pandas", "rich", "requests"}}]:
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
for name in {CORE}:
    importlib.import_module("coconut_attr." + name)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
