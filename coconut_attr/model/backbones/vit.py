"""ViT-B/16, by torchvision."""

import torch
from torch import Tensor, nn
from torchvision import models

from coconut_attr.model.backbones.registry import IMAGENET, Backbone, Encoder, Stage, register
from coconut_attr.model.backbones.torchvision_weights import state_without_head


class ViTB16(Encoder, models.VisionTransformer):
    """torchvision's ViT-B/16; its patch tokens, without the class token, as a map: [n, 768, 14, 14] at 224 pixels."""

    def __init__(self) -> None:
        super().__init__(
            image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
        )
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
    module.load_state_dict(state_without_head(models.ViT_B_16_Weights.IMAGENET1K_V1, "heads."))


register(Backbone("vit_b_16", ViTB16, _load_vit_b_16, channels=768, size=224, **IMAGENET))
