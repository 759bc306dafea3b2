"""Training losses: cells by probability and weight, and images near their attributes."""

import torch

from coconut_attr.training.losses import contrastive, weighted_bce


def targets(probabilities: list[list[float]], weights: list[list[float]]) -> torch.Tensor:
    return torch.stack([torch.tensor(probabilities), torch.tensor(weights)], dim=1)


def test_cells_count_by_their_weight() -> None:
    logits = torch.tensor([[0.3, -2.0, 5.0]], requires_grad=True)
    cells = targets([[1.0, 0.25, 0.0]], [[3.0, 1.0, 0.0]])
    loss = weighted_bce(logits, cells)
    yes, no = logits.sigmoid().log(), (1 - logits.sigmoid()).log()
    expected = -(3 * yes[0, 0] + 0.25 * yes[0, 1] + 0.75 * no[0, 1]) / 4
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad[0, 2] == 0
    assert weighted_bce(logits, targets([[0.5] * 3], [[0.0] * 3])).item() == 0


def test_the_losses_of_parts_add_up_to_that_of_the_batch() -> None:
    logits, cells = torch.randn(4, 3), torch.rand(4, 2, 3)
    total = cells[:, 1].sum()
    parts = sum(weighted_bce(logits[k : k + 2], cells[k : k + 2], 0.1, total) for k in (0, 2))
    torch.testing.assert_close(parts, weighted_bce(logits, cells, 0.1))


def test_the_contrastive_loss_is_low_where_images_lie_at_their_attributes() -> None:
    cells = targets([[0.9, 0.1, 0.5], [0.0, 1.0, 0.0]], [[0.8, 0.8, 0.0], [1.0, 1.0, 1.0]])
    attribute = torch.eye(3)
    near = contrastive(torch.eye(3)[:2], attribute, cells)
    far = contrastive(torch.eye(3)[[1, 0]], attribute, cells)
    assert near < 0.01 < far
    nothing_present = targets([[0.2] * 3] * 2, [[1.0] * 3] * 2)
    assert contrastive(torch.eye(3)[:2], attribute, nothing_present) == 0
