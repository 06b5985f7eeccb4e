"""What raw inputs add to the log: bytes in SQLite, and time of a core. Images are 3 x 32 x 32.

    python benchmarks/logged_inputs.py

Digits are scikit-learn's, as in `images.py`; noise is what PNG cannot make smaller. The hidden
vector has 64 columns, and there are ten classes. Requests bring 100 images in base64.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from images import CLASSES, HIDDEN, SEED, SIDE, digits
from numpy.typing import NDArray
from PIL import Image

from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.embedding.images import Images
from bento_selfheal.serving.reading.network_inputs import Asked
from bento_selfheal.serving.reading.raw_inputs import RawInputs
from bento_selfheal.store import SqlStore

IMAGES, REQUEST, GROUP = 20_000, 100, 20


def png(pixels: NDArray[np.uint8]) -> str:
    """An image ``(height, width, 3)`` as a file, in base64."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def files(noise: bool) -> list[str]:
    """One request's images."""
    draw = np.random.default_rng(SEED)
    if noise:
        return [png(draw.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(100)]
    return [png(np.uint8(255 * one.transpose(1, 2, 0))) for one in digits()[0][:REQUEST]]


def measure(bodies: list[str], share: float) -> Iterator[tuple[str, float]]:
    """Figures per image."""
    raw, draw = RawInputs(Images(size=(SIDE, SIDE)), share), np.random.default_rng(SEED)
    asked, took, wrote = Asked(bodies, np.zeros((REQUEST, 0), np.float32)), 0.0, 0.0
    hidden = draw.normal(size=(REQUEST, HIDDEN)).astype(np.float16).astype(np.float32)
    answers = draw.random((REQUEST, CLASSES)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(f"sqlite:///{folder}/log.db")
        store.create()
        signer = IdSigner(store.meta("secret") or "")
        for _ in range(IMAGES // REQUEST // GROUP):
            begun = time.process_time()
            inputs = [raw.of(asked) for _ in range(GROUP)]
            took += time.process_time() - begun
            group = [
                PredictionRecord(signer.issue(REQUEST)[0], hidden, answers, 1, 1.0, inputs=one)
                for one in inputs
            ]
            begun = time.process_time()
            store.append_predictions(group)
            wrote += time.process_time() - begun
        store.close()
        yield "bytes on disk", Path(folder, "log.db").stat().st_size / IMAGES
    yield "of them the file", len(base64.b64decode(bodies[0])) * share
    yield "CPU us before the answer", took / IMAGES * 1e6
    yield "CPU us in the log's thread", wrote / IMAGES * 1e6


if __name__ == "__main__":
    for name, bodies in (("digits", files(noise=False)), ("noise", files(noise=True))):
        for share in (0.0, 1.0):
            figures = [f"{what} {value:.1f}" for what, value in measure(bodies, share)]
            sys.stdout.write(f"{name}, log_inputs={share:g}: {', '.join(figures)}\n")
