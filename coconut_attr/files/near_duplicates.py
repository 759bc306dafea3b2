"""Near-duplicate photos: copies that were re-encoded, resized, lightly cropped or brightened."""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np
from PIL import Image

BYTES: Final = 16  # of a hash, before those of the mean colour
#: Bits in which copies may differ. Of the mirror's 355 photos no two differ in fewer than 34.
DISTANCE: Final = 12
#: Levels by which the mean of a colour channel may differ.
COLOR: Final = 40
FLAT: Final = 2.0  # standard deviation in grey levels below which a photo has no structure to hash

_FREQUENCIES, _PIXELS = np.arange(8)[:, None], np.arange(32)[None]
_DCT = np.cos(np.pi * _FREQUENCIES * (2 * _PIXELS + 1) / 64)


def perceptual_hash(image: Image.Image) -> str:
    """Return 38 hex digits that are similar for photos that look the same.

    64 bits compare the lowest 8 x 8 frequencies of a 32 x 32 grey version with their median, 64
    bits compare neighbours in a 9 x 8 grey version, 24 bits are the mean colour (sRGB). Empty for
    a photo of one colour.

    Sources: N. Krawetz, "Looks Like It" (2011) and "Kind of Like That" (2013), hackerfactor.com.
    """
    small = image.convert("RGB").resize((64, 64), Image.Resampling.BOX)
    grey = small.convert("L")
    pixels = np.asarray(grey.reduce(2), dtype=np.float64)
    if pixels.std() < FLAT:
        return ""
    spectrum = _DCT @ pixels @ _DCT.T
    rows = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    bits = np.concatenate(
        [(spectrum > np.median(spectrum)).ravel(), (rows[:, 1:] > rows[:, :-1]).ravel()]
    )
    return (np.packbits(bits).tobytes() + small.reduce(64).tobytes()).hex()


def group_copies(sha256: Sequence[str], hashes: Sequence[str]) -> np.ndarray:
    """Group photos of equal content, or whose perceptual hashes are near.

    Args:
        sha256, hashes: of n photos; empty where unknown.

    Returns:
        The number of each photo's group, int32 [n]; a photo without a copy has a group of its own.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(sha256)
    known = np.array([k for k, value in enumerate(sha256) if value], dtype=np.intp)
    _, first, inverse = np.unique(
        np.array([sha256[k] for k in known], dtype=str), return_index=True, return_inverse=True
    )
    hashed = np.array([k for k, value in enumerate(hashes) if value], dtype=np.intp)
    one, other = _near_pairs([hashes[k] for k in hashed])
    edges = (
        np.concatenate([known[first[inverse]], hashed[one]]),
        np.concatenate([known, hashed[other]]),
    )
    graph = coo_array((np.ones(len(edges[0]), dtype=bool), edges), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def _near_pairs(hashes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of pairs of near hashes, at least one pair for each connection.

    At most 12 different bits leave at least 4 of 16 bytes equal. If the bytes are in 3 groups, two
    of those 4 are in one group. So only hashes that share two bytes of a group are compared.
    """
    unique, first, inverse = np.unique(
        np.array(hashes, dtype=str), return_index=True, return_inverse=True
    )
    content = np.frombuffer(bytes.fromhex("".join(unique.tolist())), dtype=np.uint8)
    content = content.reshape(-1, BYTES + 3)
    words = np.ascontiguousarray(content[:, :BYTES]).view(np.uint64)
    colors = content[:, BYTES:].astype(np.int16)
    ones, others = [first[inverse]], [np.arange(len(inverse))]
    groups = BYTES - DISTANCE - 1
    for a, b in combinations(range(BYTES), 2):
        if a % groups != b % groups:
            continue
        keys = content[:, a].astype(np.uint16) << 8 | content[:, b]
        order = np.argsort(keys, kind="stable")
        ordered, place, step = keys[order], np.arange(len(order)), 0
        while len(place):  # compare each hash with the step-th one after it that has its key
            step += 1
            place = place[place + step < len(order)]
            place = place[ordered[place] == ordered[place + step]]
            one, other = order[place], order[place + step]
            near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= DISTANCE
            one, other = one[near], other[near]
            near = np.abs(colors[one] - colors[other]).max(axis=1, initial=0) <= COLOR
            ones.append(first[one[near]])
            others.append(first[other[near]])
    return np.concatenate(ones), np.concatenate(others)
