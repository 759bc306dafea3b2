"""The label model: from an image's signals to a calibrated probability of each attribute.

A logistic regression for each attribute on the signals of its own cell and of the whole image. The
weights of the cell's signals are shared between attributes in part (partial pooling), because few
images are judged; `coconut_attr.labels.fit` fits them. The file is JSON with a weight by name.

After a training, the second pass joins what an image model predicts of images that it was not
trained on.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from coconut_attr.attributes import ATTRIBUTES, State
from coconut_attr.errors import UserError
from coconut_attr.labels.rules import LoadedRules
from coconut_attr.labels.signals import CELL_SIGNALS, IMAGE_SIGNALS, Signals
from coconut_attr.settings import settings

#: No estimate is surer: a probability of 0 or 1 is a judgement.
SUREST = 0.01


class LabelModelError(UserError):
    """A label model cannot be loaded or fitted; the message says why."""


@dataclass(frozen=True)
class SecondPass:
    """How an image model's out-of-fold probability joins the label model's estimate.

    Logistic regression on the logits of both, with the same three weights for all attributes.

    Attributes:
        intercept: of the joined logit.
        evidence: weight of the estimate's logit.
        model: weight of the image model's logit.
        present, absent: thresholds of the joined probability, as those of `LabelModel`.
    """

    intercept: float
    evidence: float
    model: float
    present: float
    absent: float

    def join(self, estimates: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Compute joined probabilities of present, of the shape of both arguments."""
        logits = self.evidence * logit(estimates) + self.model * logit(predictions)
        return np.clip(1 / (1 + np.exp(-self.intercept - logits)), SUREST, 1 - SUREST)


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities, of which none counts as surer than SUREST."""
    clipped = np.clip(probabilities, SUREST, 1 - SUREST)
    return np.log(clipped / (1 - clipped))


@dataclass(frozen=True)
class LabelModel:
    """A fitted label model.

    Attributes:
        intercepts: float64 [34].
        cell_weights: float64 [34, len(CELL_SIGNALS)].
        image_weights: float64 [34, len(IMAGE_SIGNALS)].
        present: an attribute with at least this probability is called present.
        absent: an attribute with at most this probability is called absent; between: unknown.
        second_pass: None: what an image model predicts is not joined.
        facts: what it was fitted on and how right it is, for people.
        version: first 8 hex digits of the file's SHA-256; empty if it has not been written.
    """

    intercepts: np.ndarray
    cell_weights: np.ndarray
    image_weights: np.ndarray
    present: float
    absent: float
    facts: dict[str, Any]
    second_pass: SecondPass | None = None
    version: str = ""

    def probabilities(self, signals: Sequence[Signals]) -> np.ndarray:
        """Estimate the probability of each attribute of images: float64 [n, 34]."""
        cells = np.stack([image.cells for image in signals])
        images = np.stack([image.image for image in signals])
        logits = (
            self.intercepts + (cells * self.cell_weights).sum(-1) + images @ self.image_weights.T
        )
        return np.clip(1 / (1 + np.exp(-logits)), SUREST, 1 - SUREST)

    def state(self, estimate: float) -> State:
        """Return the state that an estimate, or a judgement as 0 or 1, stands for."""
        return _state(estimate, self.present, self.absent)

    def label(self, estimate: float, prediction: float | None) -> tuple[float, State]:
        """Return the probability and the state of a cell.

        Args:
            prediction: the image model's out-of-fold probability; None: there is none.
        """
        second = self.second_pass
        if second is None or prediction is None:
            return estimate, self.state(estimate)
        probability = float(second.join(np.array(estimate), np.array(prediction)))
        return probability, _state(probability, second.present, second.absent)

    def to_json(self) -> str:
        """Return the file's content: weights rounded to three decimals, without those of 0."""
        attributes = {
            name: {
                "intercept": round(float(self.intercepts[k]), 3),
                "cell": _named(CELL_SIGNALS, self.cell_weights[k]),
                "image": _named(IMAGE_SIGNALS, self.image_weights[k]),
            }
            for k, name in enumerate(ATTRIBUTES)
        }
        content = {
            "facts": self.facts,
            "thresholds": {"present": self.present, "absent": self.absent},
            "second_pass": self.second_pass and asdict(self.second_pass),
            "attributes": attributes,
        }
        return json.dumps(content, indent=1)


def _state(probability: float, present: float, absent: float) -> State:
    if probability >= present:
        return "present"
    return "absent" if probability <= absent else "unknown"


def labels_version(rules: LoadedRules, model: LabelModel) -> str:
    """Return the version of labels by these rules and this label model, as the database has it."""
    return f"{rules.version}+{model.version}"


def _named(names: Sequence[str], weights: np.ndarray) -> dict[str, float]:
    rounded = {name: round(float(w), 3) for name, w in zip(names, weights, strict=True)}
    return {name: weight for name, weight in rounded.items() if weight}


def load_label_model(path: Path | None = None) -> LabelModel:
    """Load a label model.

    Args:
        path: default: COCONUT_ATTR_LABEL_MODEL_FILE, or the package's label_model.json.

    Raises:
        LabelModelError: the file cannot be read, or is no label model of these attributes.
    """
    packaged = resources.files("coconut_attr.labels") / "label_model.json"
    return _load(path or settings().label_model_file or Path(str(packaged)))


@cache
def _load(path: Path) -> LabelModel:
    try:
        content = path.read_bytes()
        return parse_label_model(json.loads(content), hashlib.sha256(content).hexdigest()[:8])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no weight or threshold {error}" if isinstance(error, KeyError) else str(error)
        raise LabelModelError(
            f"{path} is not a label model ({what}); make one: coconut-attr labels fit"
        ) from error


def parse_label_model(content: dict[str, Any], version: str = "") -> LabelModel:
    """Return the label model of a file's content.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it is no label model of these attributes.
    """
    attributes = content["attributes"]
    if set(attributes) != set(ATTRIBUTES):
        differing = sorted(set(attributes) ^ set(ATTRIBUTES))
        raise ValueError(f"other attributes: {', '.join(differing)}")
    second = content.get("second_pass")
    second_pass = second and SecondPass(**{name: float(value) for name, value in second.items()})
    thresholds = {name: float(content["thresholds"][name]) for name in ("present", "absent")}
    for present, absent in [
        (thresholds["present"], thresholds["absent"]),
        *([(second_pass.present, second_pass.absent)] if second_pass else []),
    ]:
        if not 0 <= absent < present <= 1:
            raise ValueError(f"the threshold absent ({absent}) is not below present ({present})")
    return LabelModel(
        intercepts=np.array([float(attributes[name]["intercept"]) for name in ATTRIBUTES]),
        cell_weights=_table([attributes[name]["cell"] for name in ATTRIBUTES], CELL_SIGNALS),
        image_weights=_table([attributes[name]["image"] for name in ATTRIBUTES], IMAGE_SIGNALS),
        **thresholds,
        facts=content["facts"],
        second_pass=second_pass,
        version=version,
    )


def _table(rows: Sequence[dict[str, float]], names: Sequence[str]) -> np.ndarray:
    for row in rows:
        if unknown := row.keys() - set(names):
            raise ValueError(f"unknown signals: {', '.join(sorted(unknown))}")
    return np.array([[float(row.get(name, 0)) for name in names] for row in rows])
