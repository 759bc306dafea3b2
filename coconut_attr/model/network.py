"""The attribute model: an image encoder, and a head of attention or of one linear layer."""

from dataclasses import dataclass
from itertools import islice, takewhile

import torch
from torch import Tensor, nn

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.backbones.encoder import Stage
from coconut_attr.model.heads import Head

WIDTH = 512
FROZEN_SHARE = 0.8
ATTENTION_TENSORS = 18  # parameter tensors of the attention head


@dataclass(frozen=True)
class Output:
    """The model's output for a batch.

    Attributes:
        logits: float [n, 34]; their sigmoid is the probability of each attribute.
        image: float [n, 512], unit length; embeddings of the images in the space that they share
            with the attributes. None with the linear head.
        attribute: float [34, 512], unit length; embeddings of the attributes. None likewise.
    """

    logits: Tensor
    image: Tensor | None = None
    attribute: Tensor | None = None


class AttributeModel(nn.Module):
    """Predicts the attributes of images; labels are no input.

    Args:
        backbone_name: a name in `coconut_attr.model.backbones.names.BACKBONES`.
        head: `attention` is the report's: a token per attribute, cross-modal attention, a
            classifier, 3.6 M parameters. `linear` starts at 0, so that its seed plays no role.
        pretrained: load the encoder's ImageNet weights.
        attributes: number of attributes.
        heads: number of attention heads.

    Raises:
        BackboneError: no such encoder, or its weights cannot be had.
    """

    def __init__(
        self,
        backbone_name: str = "resnet50",
        head: Head = "attention",
        *,
        pretrained: bool = True,
        attributes: int = len(ATTRIBUTES),
        heads: int = 8,
    ) -> None:
        super().__init__()
        backbone = get_backbone(backbone_name)
        self.backbone_name = backbone_name
        self.head = head
        # Registration order decides which tensors "the first 80 %" are.
        self.encoder = backbone.build()
        if pretrained:
            backbone.load(self.encoder)
        # Both heads freeze the same stages of an encoder, and so share its cached features.
        tensors = len(list(self.encoder.parameters())) + ATTENTION_TENSORS
        if head == "linear":
            self.classifier: nn.Linear | nn.Sequential = nn.Linear(backbone.channels, attributes)
            nn.init.zeros_(self.classifier.weight)
            nn.init.zeros_(self.classifier.bias)
        else:
            self._build_attention(backbone.channels, attributes, heads)
        self._freeze(int(FROZEN_SHARE * tensors))

    def _build_attention(self, channels: int, attributes: int, heads: int) -> None:
        self.visual_projection = nn.Linear(channels, WIDTH)
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

    def _freeze(self, tensors: int) -> None:
        """Freeze so many of the first parameter tensors."""
        for parameter in islice(self.parameters(), tensors):
            parameter.requires_grad = False

    def train(self, mode: bool = True) -> "AttributeModel":
        """Set training mode, in which the encoder's BatchNorm layers keep ImageNet's statistics.

        Statistics of batches of 16 are too noisy: this is worth about 0.01 mAP on val.
        """
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, inputs: Tensor, *, cached: bool = False) -> Output:
        """Predict the attributes of images.

        Args:
            inputs: images float [n, 3, height, width], normalised for the encoder; or (cached)
                features of `prefix`.
        """
        return self.after_prefix(inputs if cached else self.prefix(inputs))

    @property
    def prefix_length(self) -> int:
        """Return the number of leading stages of the encoder that are completely frozen."""
        return len(list(takewhile(Stage.is_frozen, self.encoder.stages())))

    def prefix(self, images: Tensor) -> Tensor:
        """Compute the features of the frozen stages, [n, ...]; training does not change them."""
        for stage in self.encoder.stages()[: self.prefix_length]:
            images = stage.run(images)
        return images

    def encode_after_prefix(self, features: Tensor) -> Tensor:
        """Compute the encoder's last feature map, [n, channels, height, width].

        Args:
            features: of `prefix`.
        """
        for stage in self.encoder.stages()[self.prefix_length :]:
            features = stage.run(features)
        return features

    def after_prefix(self, features: Tensor) -> Output:
        """Predict from features of `prefix`."""
        features = self.encode_after_prefix(features)
        classifier = self.classifier
        if isinstance(classifier, nn.Linear):
            return Output(classifier(features.flatten(2).mean(2)))
        positions = self.visual_projection(features.flatten(2).transpose(1, 2))
        tokens = self.attribute_tokens(self.identity)
        attended, _ = self.attention(
            tokens.expand(len(positions), -1, -1), positions, positions, need_weights=False
        )
        fused = attended + self.fusion(attended)
        # Token k gives logit k alone: the last layer's other rows need not be computed for it.
        hidden = classifier[:-1](fused)
        last = classifier[-1]
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
    """Count the parameters of a model."""
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    frozen_tensors = sum(not p.requires_grad for p in parameters)
    return ParameterCounts(total, trainable, total - trainable, len(parameters), frozen_tensors)
