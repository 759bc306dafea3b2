"""ViT-B/16, by torchvision."""

from functools import partial

import torch
from torch import Tensor
from torchvision import models

from coconut_attr.model.backbones.encoder import Encoder, Stage
from coconut_attr.model.backbones.registry import IMAGENET, Backbone, register
from coconut_attr.model.backbones.torchvision_weights import fetch_weights, load_without_head

WEIGHTS = models.ViT_B_16_Weights.IMAGENET1K_V1


class ViTB16(Encoder, models.VisionTransformer):
    """torchvision's ViT-B/16: its patch tokens as a map, [n, 768, 14, 14] at 224 pixels.

    The class token is left out.
    """

    def __init__(self) -> None:
        super().__init__(
            image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
        )
        del self.heads

    def stages(self) -> list[Stage]:
        """Return the embedding, the layers, and the map."""
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


register(
    Backbone(
        "vit_b_16",
        ViTB16,
        partial(load_without_head, WEIGHTS, "heads."),
        channels=768,
        size=224,
        **IMAGENET,
        fetch=partial(fetch_weights, WEIGHTS),
    )
)
