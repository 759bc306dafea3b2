"""Training losses: unknown cells, and images near their attributes."""

import torch

from coconut_attr.model.network import Output
from coconut_attr.training.losses import contrastive, known_bce


def test_unknown_cells_count_for_nothing() -> None:
    logits = torch.tensor([[0.3, -2.0, 5.0]], requires_grad=True)
    loss = known_bce(logits, torch.tensor([[1, 0, -1]], dtype=torch.int8))
    expected = -(torch.tensor(0.3).sigmoid().log() + (1 - torch.tensor(-2.0).sigmoid()).log()) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad[0, 2] == 0
    assert known_bce(logits, torch.full((1, 3), -1)).item() == 0


def test_the_contrastive_loss_is_low_where_images_lie_at_their_attributes() -> None:
    labels = torch.tensor([[1, 0, -1], [0, 1, 0]], dtype=torch.int8)
    attribute = torch.eye(3)
    near = contrastive(Output(torch.zeros(2, 3), torch.eye(3)[:2], attribute), labels)
    far = contrastive(Output(torch.zeros(2, 3), torch.eye(3)[[1, 0]], attribute), labels)
    assert near < 0.01 < far
    assert (
        contrastive(
            Output(torch.zeros(2, 3), torch.eye(3)[:2], attribute), torch.zeros(2, 3)
        ).item()
        == 0
    )
