"""Hyper-parameters of a training run, and the named profiles."""

from dataclasses import dataclass, replace

from coconut_attr.errors import UserError
from coconut_attr.model.backbones.names import check_backbone
from coconut_attr.model.heads import Head

AUTO = "auto"


class TrainingError(UserError):
    """Training cannot start or continue; the message says why."""


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run.

    Attributes:
        backbone: image encoder; `auto` must be resolved to a name before training.
        head: what predicts the attributes from the encoder's feature map.
        contrastive_weight: of the contrastive loss, which the linear head does not have.
        learning_rate: peak value, for AdamW.
        views: number of augmented views per image, of which each epoch draws one, so that the
            features of the frozen stages can be cached; 0: new views in every epoch.
        mixup: alpha of the Beta distribution by which pairs of images are mixed after the frozen
            stages (manifold mixup, Verma et al. 2019); 0: no mixing.

    Raises:
        TrainingError: a value is out of range.
        coconut_attr.model.backbones.names.BackboneError: unknown backbone.
    """

    backbone: str = AUTO
    head: Head = "attention"
    pretrained: bool = True
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    contrastive_weight: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    views: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backbone != AUTO:
            check_backbone(self.backbone)
        if self.mixup < 0:
            raise TrainingError(f"mixup ({self.mixup}) must not be negative")
        if self.epochs < 1 or self.batch_size < 1:
            raise TrainingError(
                f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1"
            )

    @property
    def view_numbers(self) -> range:
        """Return the numbers of the augmented views that training may ask for."""
        return range(self.views) if self.views else range(1, self.epochs + 1)


#: `default` was chosen by eyes, by cross-validation over train and val: docs/ablation.md. `report`
#: has the settings of the report: ResNet50, attention, 10 epochs, clipping, weight decay.
PROFILES: dict[str, TrainConfig] = {
    "default": TrainConfig(
        head="linear", epochs=20, learning_rate=1e-3, contrastive_weight=0.0, mixup=1.0
    ),
    "report": TrainConfig(backbone="resnet50", views=0),
}


def profile(name: str, **changes: object) -> TrainConfig:
    """Return a named profile with some fields changed; those given as None stay as they are.

    Raises:
        TrainingError: no such profile, or a value out of range.
    """
    if name not in PROFILES:
        raise TrainingError(f"unknown profile {name!r}; choose one of: {', '.join(PROFILES)}")
    given = {field: value for field, value in changes.items() if value is not None}
    return replace(PROFILES[name], **given)  # type: ignore[arg-type]
