"""The environment of a run: code revision, package versions, hardware."""

import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("coconut-attributes", "torch", "torchvision", "numpy", "pillow", "scikit-learn")


def environment(device: torch.device) -> dict[str, str]:
    """Return facts to store with a run, without those that cannot be determined."""
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "hardware": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or "CPU",
        "cpu_threads": str(torch.get_num_threads()),
    }
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            facts[package] = version(package)
    with suppress(OSError, subprocess.SubprocessError):  # installed without its repository
        facts["git"] = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    return facts
