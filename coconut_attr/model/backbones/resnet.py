"""ResNet50, by torchvision: the report's encoder."""

import urllib.request

from torch import Tensor, nn
from torchvision import models

from coconut_attr.model.backbones.registry import IMAGENET, Backbone, Encoder, Stage, register
from coconut_attr.model.backbones.torchvision_weights import cached_file, state_without_head


class ResNet50(Encoder, models.ResNet):
    """torchvision's ResNet50 up to its last feature map: [n, 2048, size / 32, size / 32]."""

    def __init__(self) -> None:
        super().__init__(models.resnet.Bottleneck, [3, 4, 6, 3])
        del self.fc

    def stages(self) -> list[Stage]:
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


def _load_resnet50(module: nn.Module) -> None:
    module.load_state_dict(state_without_head(models.ResNet50_Weights.IMAGENET1K_V2, "fc."))


register(Backbone("resnet50", ResNet50, _load_resnet50, channels=2048, size=224, **IMAGENET))


def choose_backbone() -> str:
    """ResNet50 if its ImageNet weights are cached or their host answers, else EfficientNet-Lite0."""
    weights = models.ResNet50_Weights.IMAGENET1K_V2
    if cached_file(weights).is_file():
        return "resnet50"
    try:
        with urllib.request.urlopen(urllib.request.Request(weights.url, method="HEAD"), timeout=5):  # noqa: S310 (https)
            return "resnet50"
    except OSError:
        return "efficientnet_lite0"
