"""Cross-modal retrieval: images found by a set of attributes, in the embedding that both share."""

from dataclasses import dataclass

import numpy as np

TOP = (1, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """How well a ranking finds the image that a query was made from.

    Attributes:
        recall: share of the queries whose image is among the first k, by k.
        median_rank: from 1; ties count half.
        queries: number of them; each ranks all images.
    """

    recall: dict[int, float]
    median_rank: float
    queries: int


def queries(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One query an image: the attributes that are present in it.

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.

    Returns:
        bool [q, 34], and the image of each query, int [q]; an image without a present attribute makes none.
    """
    present = labels == 1
    images = np.flatnonzero(present.any(1))
    return present[images], images


def embedding_scores(image: np.ndarray, attribute: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Cosine of each image with the mean of the asked attributes: float [q, n].

    Args:
        image: float [n, width], unit length.
        attribute: float [34, width], unit length.
        asked: bool [q, 34].
    """
    wanted = asked @ attribute
    return (wanted / np.linalg.norm(wanted, axis=1, keepdims=True)) @ image.T


def product_scores(probabilities: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Logarithm of the product of the asked attributes' probabilities: float [q, n]."""
    return asked @ np.log(np.clip(probabilities, 1e-9, 1)).T


def retrieval(scores: np.ndarray, images: np.ndarray) -> Retrieval:
    """Rank all images by each query's scores and look for its own.

    Args:
        scores: float [q, n]; higher is nearer.
        images: int [q]; the image that each query was made from.
    """
    own = scores[np.arange(len(scores)), images][:, None]
    ranks = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return Retrieval(
        {k: float((ranks <= k).mean()) for k in TOP}, float(np.median(ranks)), len(scores)
    )


def chance(n: int, queries: int) -> Retrieval:
    """What a random order of n images is expected to give."""
    return Retrieval({k: min(1.0, k / n) for k in TOP}, (n + 1) / 2, queries)
