"""A small sentence encoder as a user has it: nothing in it knows of healing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

PLACES = 4096


class Tickets(nn.Module):
    """The mean of a text's words, a hidden layer, and a logit for each topic.

    Args:
        topics: How many topics.
    """

    def __init__(self, topics: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(PLACES, 64, mode="mean", padding_idx=0)
        self.hidden = nn.Linear(64, 64)
        self.fc = nn.Linear(64, topics)

    def forward(self, places: Tensor) -> Tensor:
        """Logits, ``(n, topics)``, of places of words, ``(n, longest)``."""
        out: Tensor = self.fc(torch.relu(self.hidden(self.words(places))))
        return out


def tokens(texts: Sequence[str]) -> Tensor:
    """The place of each word in the table; 0 stands behind the last one."""
    words = [re.findall(r"\w+", text.lower()) or [""] for text in texts]
    placed = [torch.tensor([1 + crc32(w.encode()) % (PLACES - 1) for w in each]) for each in words]
    return pad_sequence(placed, batch_first=True)
