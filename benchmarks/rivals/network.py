"""The network alone, as a team without bento_selfheal would load it: only torch."""

from __future__ import annotations

import importlib.util
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def load_network() -> Any:
    """The packaged model of the folder in ``RIVAL_MODEL``, in evaluation mode.

    It is the article's, or a deep one where ``RIVAL_PASSES`` is set.
    """
    folder = Path(os.environ["RIVAL_MODEL"])
    passes = os.environ.get("RIVAL_PASSES")
    network = _article() if passes is None else import_module("heavy").deep_model(int(passes))
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    torch.set_num_threads(1)
    return network.eval()


def _article() -> Any:
    # By its file: the package would bring its settings and rules along.
    source = Path(__file__).parents[2] / "bento_selfheal" / "model.py"
    spec = importlib.util.spec_from_file_location("rival_model", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SelfHealingMLP()
