"""The attribute model: an image encoder, one token an attribute, cross-modal attention, and a classifier."""

from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor, nn

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.backbones.registry import Stage

WIDTH = 512
FROZEN_SHARE = 0.8


@dataclass(frozen=True)
class Output:
    """What the model says of a batch.

    Attributes:
        logits: float [n, 34]; their sigmoid is the probability of each attribute.
        image: float [n, 512], unit length: images in the space shared with the attributes.
        attribute: float [34, 512], unit length: the attributes in that space.
    """

    logits: Tensor
    image: Tensor
    attribute: Tensor


class AttributeModel(nn.Module):
    """Predicts the attributes of images; labels never enter it.

    Args:
        backbone_name: an entry of `coconut_attr.model.backbones.BACKBONES`.
        pretrained: load the encoder's ImageNet weights.
        attributes: number of attributes.
        heads: of the attention.

    Raises:
        BackboneError: no such encoder, or its weights cannot be had.
    """

    def __init__(
        self,
        backbone_name: str = "resnet50",
        *,
        pretrained: bool = True,
        attributes: int = len(ATTRIBUTES),
        heads: int = 8,
    ) -> None:
        super().__init__()
        entry = get_backbone(backbone_name)
        self.backbone_name = backbone_name
        # Registration order decides which tensors "the first 80 %" are.
        self.encoder = entry.build()
        if pretrained:
            entry.load(self.encoder)
        self.visual_projection = nn.Linear(entry.channels, WIDTH)
        self.attribute_tokens = nn.Linear(attributes, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, heads, batch_first=True)
        self.fusion = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.contrastive_projection = nn.Linear(WIDTH, WIDTH)
        self.classifier = nn.Sequential(
            nn.Linear(WIDTH, WIDTH // 2), nn.GELU(), nn.Linear(WIDTH // 2, attributes)
        )
        self.register_buffer("identity", torch.eye(attributes), persistent=False)
        self._freeze(FROZEN_SHARE)

    def _freeze(self, share: float) -> None:
        """Freeze the first share of the parameter tensors."""
        parameters = list(self.parameters())
        for parameter in parameters[: int(share * len(parameters))]:
            parameter.requires_grad = False

    def train(self, mode: bool = True) -> "AttributeModel":
        """Training mode, in which the encoder's BatchNorm layers keep their ImageNet statistics.

        Those of batches of 16 are too noisy: on val this is worth about 0.01 mAP (`benchmarks/ablation.py`).
        """
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, inputs: Tensor, *, cached: bool = False) -> Output:
        """Predict.

        Args:
            inputs: images float [n, 3, height, width], normalised as the encoder's registry entry says; or (cached)
                features of `prefix`.
        """
        return self.after_prefix(inputs if cached else self.prefix(inputs))

    @property
    def prefix_length(self) -> int:
        """The encoder's leading stages that are frozen whole."""
        return len(list(takewhile(Stage.frozen, self.encoder.stages())))

    def prefix(self, images: Tensor) -> Tensor:
        """What the frozen stages make of images: features [n, ...], which do not change while the model is trained."""
        for stage in self.encoder.stages()[: self.prefix_length]:
            images = stage.run(images)
        return images

    def encode_after_prefix(self, features: Tensor) -> Tensor:
        """The encoder's last feature map [n, channels, height, width] from features of `prefix`."""
        for stage in self.encoder.stages()[self.prefix_length :]:
            features = stage.run(features)
        return features

    def after_prefix(self, features: Tensor) -> Output:
        """Predict from features of `prefix`."""
        features = self.encode_after_prefix(features)
        positions = self.visual_projection(features.flatten(2).transpose(1, 2))
        tokens = self.attribute_tokens(self.identity)
        asked, _ = self.attention(
            tokens.expand(len(positions), -1, -1), positions, positions, need_weights=False
        )
        fused = asked + self.fusion(asked)
        # Token k reads logit k, so the rest of the classifier's last layer is not computed for it.
        hidden = self.classifier[:-1](fused)
        last = self.classifier[-1]
        logits = (hidden * last.weight).sum(-1) + last.bias
        return Output(
            logits=logits,
            image=nn.functional.normalize(self.contrastive_projection(positions.mean(1)), dim=-1),
            attribute=nn.functional.normalize(self.contrastive_projection(tokens), dim=-1),
        )


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, and of the tensors that hold them."""

    total: int
    trainable: int
    frozen: int
    tensors: int
    frozen_tensors: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    frozen_tensors = sum(not p.requires_grad for p in parameters)
    return ParameterCounts(total, trainable, total - trainable, len(parameters), frozen_tensors)
