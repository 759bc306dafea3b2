"""Processes import large packages only when they use them: most commands and flow runs never do."""

import json
import subprocess
import sys
from pathlib import Path

LARGE = {"torch", "torchvision", "torchmetrics", "timm", "sklearn", "skimage", "scipy", "simplemma"}
#: Prefect imports a flow's module for each of its runs, and all of them to register deployments.
LIGHT = (
    "coconut_attr.model.backbones.catalogue",
    "coconut_attr.training.config",
    "flows.parameters",
    "flows.check",
    "flows.download",
    "flows.extract",
    "flows.pancap",
    "flows.upkeep",
    "flows.train",
    "flows.deployments",
)
PROGRAM = """
import importlib, json, sys
imported = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    imported[name] = sorted(sys.modules)
print(json.dumps(imported))
"""


def test_flows_are_imported_without_the_large_packages_of_their_tasks() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *LIGHT],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert result.returncode == 0, result.stderr
    imported = json.loads(result.stdout)
    wrong = {name: found for name in LIGHT if (found := LARGE & set(imported[name]))}
    assert not wrong
