"""Cross-modal retrieval: images ranked by how well they match a set of attributes."""

import math

import numpy as np

from coconut_attr.evaluation.intervals import wilson
from coconut_attr.evaluation.results import Score

TOP = (1, 5, 10)
QUERIES = 2_000  # more are not ranked: the scores of all images by all would not fit into memory


def retrieval_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    embeddings: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Score]:
    """Compute Recall@k of images retrieved by their attributes, at most QUERIES of them.

    Images are ranked by the product of the probabilities, by the shared embedding if there is one,
    and, as the baseline, in random order.

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        probabilities: float [n, 34].
        embeddings: of the images, float [n, width], and of the attributes, float [34, width], of
            unit length.

    Returns:
        Scores named `retrieval RANKING recall@K`; none if no image has a present attribute.
    """
    queries, targets = (part[:QUERIES] for part in attribute_queries(labels))
    n = len(targets)
    if not n:
        return {}
    rankings = {"product": product_scores(probabilities, queries)}
    if embeddings:
        rankings["embedding"] = embedding_scores(*embeddings, queries)
    scores = {}
    for name, ranking in rankings.items():
        for k, recall in recall_at(ranking, targets).items():
            interval = wilson(round(recall * n), n)
            scores[f"retrieval {name} recall@{k}"] = Score(recall, *interval, n)
    for k in TOP:
        chance = min(1.0, k / len(labels))
        scores[f"retrieval chance recall@{k}"] = Score(chance, math.nan, math.nan, n)
    return scores


def attribute_queries(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make a query of each image: the attributes that are present in it.

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.

    Returns:
        bool [q, 34], and the index of each query's image, int [q]; an image without a present
        attribute makes no query.
    """
    present = labels == 1
    images = np.flatnonzero(present.any(1))
    return present[images], images


def embedding_scores(image: np.ndarray, attribute: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Compute the cosine of each image with the mean of a query's attributes: float [q, n].

    Args:
        image: float [n, width], unit length.
        attribute: float [34, width], unit length.
        queries: bool [q, 34].
    """
    mean = queries @ attribute
    return (mean / np.linalg.norm(mean, axis=1, keepdims=True)) @ image.T


def product_scores(probabilities: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the product of a query's probabilities: float [q, n].

    Args:
        probabilities: float [n, 34].
        queries: bool [q, 34].
    """
    return queries @ np.log(np.clip(probabilities, 1e-9, 1)).T


def recall_at(scores: np.ndarray, targets: np.ndarray) -> dict[int, float]:
    """Compute the share of queries whose own image is among the first k, for k in TOP.

    Args:
        scores: float [q, n]; higher ranks first, and ties share their mean rank.
        targets: int [q]; index of the image that each query was made from.
    """
    own = scores[np.arange(len(scores)), targets][:, None]
    ranks = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return {k: float((ranks <= k).mean()) for k in TOP}
