"""The metadata of a checkpoint file, read without torch."""

import json


def checkpoint_metadata(content: bytes) -> dict[str, str]:
    """Return a safetensors file's metadata.

    See https://huggingface.co/docs/safetensors, "Format".

    Raises:
        AttributeError, RecursionError, ValueError: the content is no such file.
    """
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__") or {}


def epoch_of(content: bytes) -> int:
    """Return the epoch of a checkpoint; 0 if the content is none."""
    try:
        return int(checkpoint_metadata(content)["epoch"])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return 0
