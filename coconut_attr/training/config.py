"""TODO."""

from dataclasses import dataclass, replace

from coconut_attr.errors import UserError
from coconut_attr.model.backbones.catalogue import backbone, choose_backbone

AUTO = "auto"


class TrainingError(UserError):
    """Training cannot start or go on; the message says why."""


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run. The learning rate is AdamW's peak value; backbone `auto` is settled by `resolved`.

    `views`: augmented views an image from which each epoch draws one, so that the frozen prefix's features of them can
    be kept; 0: new ones in every epoch. `mixup`: alpha of the Beta distribution by which pairs of images are mixed,
    after the frozen prefix (manifold mixup, Verma et al. 2019); 0: none are.
    """

    backbone: str = "auto"
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
            backbone(self.backbone)
        if self.mixup < 0:
            raise TrainingError(f"mixup ({self.mixup}) must not be negative")
        if self.epochs < 1 or self.batch_size < 1:
            raise TrainingError(
                f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1"
            )

    @property
    def view_numbers(self) -> range:
        """The views of an image that training may ask for."""
        return range(self.views) if self.views else range(1, self.epochs + 1)

    def resolved(self) -> "TrainConfig":
        """These settings with the backbone named: for `auto`, ResNet50 where its weights can be had."""
        return replace(self, backbone=choose_backbone()) if self.backbone == AUTO else self


#: Named settings. `report` is the earlier one-off run's: ResNet50, 10 epochs, cosine annealing, clipping, weight decay.
PROFILES: dict[str, TrainConfig] = {
    "default": TrainConfig(epochs=20, learning_rate=3e-4, label_smoothing=0.2, mixup=1.0),
    "report": TrainConfig(backbone="resnet50", views=0),
}


def profile(name: str, **changes: object) -> TrainConfig:
    """A named profile with some fields changed (those given as None are left as they are).

    Raises:
        TrainingError: no such profile, or a value out of range.
    """
    if name not in PROFILES:
        raise TrainingError(f"unknown profile {name!r}; choose one of: {', '.join(PROFILES)}")
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(PROFILES[name], **given)  # type: ignore[arg-type]
