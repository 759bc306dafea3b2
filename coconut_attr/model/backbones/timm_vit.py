"""Vision transformers with self-supervised or image-text weights, by timm (an extra)."""

from functools import partial

from torch import Tensor, nn

from coconut_attr.model.backbones.encoder import Encoder, Stage
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.backbones.registry import IMAGENET, Backbone, register

SIZE = 224
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


class TimmViT(Encoder):
    """A vision transformer of timm: its patch tokens as a map, [n, 768, side, side].

    The class token is left out.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise BackboneError(
                f"{model} needs timm: pip install -c constraints.txt -e '.[timm]'"
            ) from error
        self.vit = timm.create_model(model, num_classes=0, img_size=SIZE)

    def stages(self) -> list[Stage]:
        """Return the embedding, the blocks, and the map."""
        vit = self.vit
        embedding = (vit.cls_token, vit.pos_embed, vit.patch_embed, vit.norm_pre)
        return [
            Stage(self._embed, embedding),
            *(Stage(block, (block,)) for block in vit.blocks),
            Stage(self._map, (vit.norm,)),
        ]

    def _embed(self, x: Tensor) -> Tensor:
        return self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(x)))

    def _map(self, tokens: Tensor) -> Tensor:
        patches = self.vit.norm(tokens)[:, self.vit.num_prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, self.vit.patch_embed.grid_size)


def _load(model: str, module: nn.Module) -> None:
    import timm

    try:
        state = timm.create_model(model, pretrained=True, num_classes=0, img_size=SIZE).state_dict()
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"cannot download the weights of {model} ({error}); on a machine that can: "
            f"hf download timm/{model}, then copy its cache (~/.cache/huggingface/hub) here"
        ) from error
    module.vit.load_state_dict(state)  # type: ignore[union-attr, operator]


for name, model, statistics in (
    ("dinov2_vit_b_14", "vit_base_patch14_dinov2.lvd142m", IMAGENET),
    ("clip_vit_b_16", "vit_base_patch16_clip_224.openai", CLIP),
):
    register(
        Backbone(
            name,
            partial(TimmViT, model),
            partial(_load, model),
            channels=768,
            size=SIZE,
            **statistics,
        )
    )
