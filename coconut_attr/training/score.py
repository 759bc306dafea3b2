"""TODO."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from coconut_attr.evaluation import retrieval
from coconut_attr.evaluation.intervals import wilson
from coconut_attr.model.backbones.registry import BackboneError
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import Predictions
from coconut_attr.settings import settings
from coconut_attr.training.data import Samples
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.linear_probe import fit_probe, pooled_features

PROBE_IMAGES = 10_000
QUERIES = 2_000  # at most so many images are sought: ranks of all by all would not fit into memory


def probe_scores(
    backbone_name: str,
    train: Samples,
    val: Samples,
    samples: Samples,
    device: torch.device,
    on_note: Callable[[str], None],
) -> np.ndarray | None:
    """The linear probe's probabilities, fitted on train (at most PROBE_IMAGES of it, so that it takes minutes), with C
    chosen on val; None where the encoder has no weights."""
    try:
        model = AttributeModel(backbone_name).to(device)
    except BackboneError as error:
        on_note(f"no linear probe to compare with: {error}")
        return None
    features = FeatureCache(settings().data_dir / "features", model)
    train, val = train.first(PROBE_IMAGES), val.first(PROBE_IMAGES)
    probe = fit_probe(
        (pooled_features(features, train, device), train.labels),
        (pooled_features(features, val, device), val.labels),
    )
    on_note(f"linear probe: C = {probe.c}, chosen on val")
    return probe.predict(pooled_features(features, samples, device))


def retrieval_rows(
    labels: np.ndarray, probabilities: np.ndarray, predicted: Predictions
) -> list[dict[str, Any]]:
    """Recall@k and median rank of images sought by their attributes: by the shared embedding, by the product of the
    probabilities, and by chance."""
    asked, images = (found[:QUERIES] for found in retrieval.queries(labels))
    if not len(images):
        return []
    embedded = retrieval.embedding_scores(
        predicted.image.numpy(), predicted.attribute.numpy(), asked
    )
    found = {
        "embedding": retrieval.retrieval(embedded, images),
        "product": retrieval.retrieval(retrieval.product_scores(probabilities, asked), images),
        "chance": retrieval.chance(len(labels), len(images)),
    }
    rows = []
    for name, item in found.items():
        for k, value in item.recall.items():
            ends = (
                (None, None)
                if name == "chance"
                else wilson(round(value * len(images)), len(images))
            )
            rows.append((f"retrieval {name} recall@{k}", value, *ends))
        rows.append((f"retrieval {name} median rank", item.median_rank, None, None))
    n = {"n": len(images), "images": len(labels)}
    return [
        {"name": name, "value": value, "low": low, "high": high, **n}
        for name, value, low, high in rows
    ]
