"""Probabilities of a model: their shapes, decisions and losses.

Of two classes they are the probability of the second, ``(n,)``; of more, one column per class,
``(n, classes)``. Labels are indices of classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.core.decision import Numbers
from bento_selfheal.model import SelfHealingModel

EPS = 1e-6


def predict_probabilities(
    model: SelfHealingModel, rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Probabilities for rows ``(n, features)``, as they are, whatever device the model is on."""
    with torch.inference_mode():
        out: NDArray[np.float32] = model(own_copy(rows, model.device)).cpu().numpy()
    return out


def decide_probabilities(
    model: SelfHealingModel,
    hidden: Tensor,
    context: Tensor | None = None,
    frozen: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Probabilities for hidden vectors ``(n, hidden)``, as they are, on whatever device each is.

    Args:
        model: Who answers.
        hidden: The hidden vectors.
        context: As `SelfHealingModel.decide` takes it.
        frozen: What the frozen model says of them, where it is known already.
    """
    known = None if frozen is None else torch.from_numpy(frozen)
    with torch.inference_mode():
        said = model.decide(hidden.to(model.device), context, known)
    out: NDArray[np.float32] = said.cpu().numpy()
    return out


def left_to_frozen(
    model: SelfHealingModel,
    rows: NDArray[np.float32],
    said: NDArray[np.float32],
    frozen: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What a model answers to rows ``(n, features)`` whose hidden vectors it was asked for: of
    those that it leaves out, what the frozen model says."""
    if model.left_out is None or not len(rows):
        return said
    away = model.left_out(rows)
    return np.where(away if said.ndim == 1 else away[:, None], frozen, said)


def answers_to(
    model: SelfHealingModel,
    rows: NDArray[np.float32],
    hidden: Tensor,
    frozen: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What a model answers to rows ``(n, features)``, by their hidden vectors and by what the
    frozen model says of them."""
    return left_to_frozen(model, rows, decide_probabilities(model, hidden, frozen=frozen), frozen)


def no_probability(probabilities: NDArray[np.float32]) -> str:
    """What among them is no probability, in words; empty where all are, but for rounding."""
    wrong = probabilities[~((probabilities >= -EPS) & (probabilities <= 1 + EPS))]
    return f"the model's answer is {wrong[0]:g}, which is no probability" if len(wrong) else ""


def own_copy(rows: NDArray[np.float32], device: torch.device) -> Tensor:
    """Rows ``(n, features)`` as a model may have them: its own, for it may change them in place."""
    return torch.from_numpy(rows).to(device, copy=True)


def probabilities_or_half(
    model: SelfHealingModel, rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Probabilities for rows ``(n, features)``.

    A row with one that is no number, or no probability, counts as knowing nothing: all classes
    are as likely.
    """
    return _or_half(predict_probabilities(model, np.ascontiguousarray(rows)))


def decide_or_half(
    model: SelfHealingModel,
    hidden: Tensor,
    context: Tensor | None = None,
    frozen: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """What `decide_probabilities` gives, with a half as `probabilities_or_half` has it."""
    return _or_half(decide_probabilities(model, hidden, context, frozen))


def _or_half(out: NDArray[np.float32]) -> NDArray[np.float32]:
    known = (out >= -EPS) & (out <= 1 + EPS)
    if out.ndim == 1:
        return np.where(known, out, np.float32(0.5))
    even = np.float32(1 / out.shape[1])
    return np.where(known.all(axis=1, keepdims=True), out, even)


def confidence(probabilities: Numbers, threshold: float = 0.5) -> NDArray[np.float64]:
    """The model's own probability that each decision is right, ``(n,)``."""
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim == 1:
        return np.where(p >= threshold, p, 1 - p)
    return np.asarray(p.max(axis=1))


def targets(labels: Tensor, like: Tensor) -> Tensor:
    """Labels in the shape of probabilities: 0 or 1, or one-hot rows."""
    if like.ndim == 1:
        return labels.to(like.dtype)
    return torch.nn.functional.one_hot(labels.long(), like.shape[1]).to(like.dtype)


def cross_entropy(probabilities: Tensor, soft: Tensor) -> Tensor:
    """Mean cross-entropy in nats against soft labels of the same shape."""
    p = probabilities.clamp(EPS, 1 - EPS)
    if p.ndim == 1:
        return torch.nn.functional.binary_cross_entropy(p, soft)
    return -(soft * p.log()).sum(dim=1).mean()


def logits(probabilities: Tensor) -> Tensor:
    """Log odds of the second of two classes, ``(n, 1)``; centred log probabilities of many."""
    p = probabilities.double().clamp(EPS, 1 - EPS)
    if p.ndim == 1:
        return torch.log(p / (1 - p)).unsqueeze(1)
    log_p = p.log()
    return log_p - log_p.mean(dim=1, keepdim=True)


def from_logits(z: Tensor) -> Tensor:
    """Probabilities of `logits`."""
    return torch.sigmoid(z[:, 0]) if z.shape[1] == 1 else torch.softmax(z, dim=1)
