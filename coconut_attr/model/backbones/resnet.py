"""ResNet50, by torchvision: the report's encoder."""

from functools import partial

from torch import Tensor
from torchvision import models

from coconut_attr.model.backbones.encoder import Encoder, Stage
from coconut_attr.model.backbones.registry import IMAGENET, Backbone, register
from coconut_attr.model.backbones.torchvision_weights import fetch_weights, load_without_head

WEIGHTS = models.ResNet50_Weights.IMAGENET1K_V2


class ResNet50(Encoder, models.ResNet):
    """torchvision's ResNet50 up to its last feature map: [n, 2048, size / 32, size / 32]."""

    def __init__(self) -> None:
        super().__init__(models.resnet.Bottleneck, [3, 4, 6, 3])
        del self.fc

    def stages(self) -> list[Stage]:
        """Return the stem and the residual blocks."""
        blocks = [
            block
            for layer in (self.layer1, self.layer2, self.layer3, self.layer4)
            for block in layer
        ]
        return [
            Stage(self._stem, (self.conv1, self.bn1)),
            *(Stage(block, (block,)) for block in blocks),
        ]

    def _stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


register(
    Backbone(
        "resnet50",
        ResNet50,
        partial(load_without_head, WEIGHTS, "fc."),
        channels=2048,
        size=224,
        **IMAGENET,
        fetch=partial(fetch_weights, WEIGHTS),
    )
)
