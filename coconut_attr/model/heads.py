"""The names of the model's heads, to check one without importing torch."""

from typing import Final, Literal, get_args

#: `attention`: an attribute's token asks the positions of the feature map. `linear`: a linear layer
#: on the mean of the positions.
Head = Literal["attention", "linear"]
HEADS: Final[tuple[Head, ...]] = get_args(Head)


def check_head(name: str) -> Head:
    """Return the head of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    for head in HEADS:
        if head == name:
            return head
    raise ValueError(f"unknown head {name!r}; choose one of: {', '.join(HEADS)}")
