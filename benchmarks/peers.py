"""Peers of the healing pipeline, each test-then-train under the same label delay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.model import SelfHealingModel, wide_mlp
from bento_selfheal.packaging.training import Training, fit
from bento_selfheal.simulation.streams import FRAUD_RATE

Rows: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]
BATCH = 100
FRAUD_FILE = "fraud_handbook_2018q2.parquet"
FRAUD_FEATURES = ("TX_AMOUNT", "TX_DURING", "CUSTOMER_ID_", "TERMINAL_ID_")
ROWS_A_DAY = 9589
FRAUD_DELAY = 7 * ROWS_A_DAY


def _river(model: Any, train: Rows, taught: Labels, rows: Rows, labels: Labels, delay: int) -> Rows:
    """Any River classifier: the training rows first, then each row once its label is known.

    Probabilities of the second class, ``(n,)``, or of each of many, ``(n, classes)``.
    """
    for x, y in zip(train, taught, strict=True):
        model.learn_one(dict(enumerate(x.tolist())), int(y))
    classes = int(taught.max()) + 1
    out = np.zeros((len(rows), classes), dtype=np.float32)
    asked = [dict(enumerate(x.tolist())) for x in rows]
    for i, x in enumerate(asked):
        for name, chance in model.predict_proba_one(x).items():
            out[i, name] = chance
        if i >= delay:
            model.learn_one(asked[i - delay], int(labels[i - delay]))
    return out[:, 1] if classes == 2 else out


def arf10(train: Rows, taught: Labels, rows: Rows, labels: Labels, delay: int, seed: int) -> Rows:
    """River's adaptive random forest of ten trees."""
    from river import forest

    model = forest.ARFClassifier(n_models=10, seed=seed)
    return _river(model, train, taught, rows, labels, delay)


def hat(train: Rows, taught: Labels, rows: Rows, labels: Labels, delay: int, seed: int) -> Rows:
    """River's Hoeffding adaptive tree."""
    from river import tree

    model = tree.HoeffdingAdaptiveTreeClassifier(seed=seed)
    return _river(model, train, taught, rows, labels, delay)


def logistic(
    train: Rows, taught: Labels, rows: Rows, labels: Labels, delay: int, seed: int
) -> Rows:
    """River's logistic regression behind its standard scaler; it draws nothing at random."""
    from river import linear_model, multiclass, preprocessing

    one: Any = linear_model.LogisticRegression()
    if taught.max() > 1:
        one = multiclass.OneVsRestClassifier(one)
    model = preprocessing.StandardScaler() | one
    return _river(model, train, taught, rows, labels, delay)


def tent(model: SelfHealingModel, rows: Rows, lr: float = 0.001) -> Rows:
    """Entropy minimisation on the adapter, one step a batch, no label (after Wang et al. 2021)."""
    own = model.with_adapter(model.adapter_state())
    own.freeze_for_healing()
    optimizer = torch.optim.Adam(own.reflexive.parameters(), lr=lr)
    out = []
    for start in range(0, len(rows), BATCH):
        p = own(torch.from_numpy(rows[start : start + BATCH]))
        out.append(p.detach().numpy())
        sure = p.clamp(1e-6, 1 - 1e-6)
        entropy = -(sure * sure.log() + (1 - sure) * (1 - sure).log()).mean()
        optimizer.zero_grad()
        entropy.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return np.concatenate(out)


def retrained(rows: Rows, labels: Labels, seed: int, classes: int = 2) -> Callable[[Rows], Rows]:
    """A model of the default kind, all weights trained on these rows as a package's are."""
    torch.manual_seed(seed)
    model = wide_mlp(rows.shape[1], classes=classes)
    fit(model, rows, labels.astype(np.float32), Training())
    model.requires_grad_(False).eval()
    return lambda asked: model(torch.from_numpy(asked)).numpy()


def retrain(
    train: Rows, taught: Labels, rows: Rows, labels: Labels, delay: int, seed: int,
    newest: int = 2000, every: int = 10,
) -> Rows:  # fmt: skip
    """All weights anew, on the newest known labels, every so many batches."""
    known, told = np.concatenate([train, rows]), np.concatenate([taught, labels])
    out: list[Rows] = []
    classes = int(taught.max()) + 1
    answer = retrained(train, taught, seed, classes)
    for number, start in enumerate(range(0, len(rows), BATCH)):
        end = len(train) + start - delay
        if number and number % every == 0:
            kept = slice(max(end - newest, 0), end)
            answer = retrained(known[kept], told[kept], seed, classes)
        out.append(answer(rows[start : start + BATCH]))
    return np.concatenate(out)


def _handbook(data: Path) -> tuple[list[str], Rows, Labels, NDArray[np.int64]]:
    """Features, rows, labels and the day of each row, 1 April being day 0."""
    table = pq.read_table(data / FRAUD_FILE)
    names = [name for name in table.column_names if name.startswith(FRAUD_FEATURES)]
    rows = np.stack([table.column(n).to_numpy().astype(np.float32) for n in names], axis=1)
    days = table.column("TX_DATETIME").to_numpy().astype("datetime64[D]")
    day = (days - np.datetime64("2018-04-01")).astype(np.int64)
    return names, rows, table.column("TX_FRAUD").to_numpy().astype(np.int64), day


def fraud_handbook(data: Path) -> tuple[Table, Table, NDArray[np.bool_]]:
    """Training rows of 8 - 14 April; the stream from 15 April on; which of it is scored.

    The week up to 21 April is answered too, and not scored: its labels come in the week after.
    """
    names, rows, labels, day = _handbook(data)
    train, rest = (day >= 7) & (day < 14), day >= 14
    return (
        Table(names, rows[train], labels[train]),
        Table(names, rows[rest], labels[rest]),
        day[rest] >= 21,
    )


def retrain_daily(data: Path, seed: int) -> tuple[Rows, Labels]:
    """From 22 April on, each day all weights anew on the newest seven days of known labels."""
    _, rows, labels, day = _handbook(data)
    answers, truth = [], []
    for today in range(21, int(day.max()) + 1):
        known = (day >= today - 14) & (day < today - 7)
        answer = retrained(rows[known], labels[known], seed)
        asked = day == today
        answers.append(answer(rows[asked]))
        truth.append(labels[asked])
    return np.concatenate(answers), np.concatenate(truth)


def bayes_cost(rows: Rows, labels: NDArray[Any], drift: float, miss: float, alarm: float) -> float:
    """Mean cost a row of the Bayes decision on the article's drifted rows (article.md, 5)."""
    v14 = rows[:, 7].astype(np.float64)

    def density(mean: float, std: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-0.5 * ((v14 - mean) / std) ** 2) / std)

    fraud = FRAUD_RATE * density(-2.5, 0.8)
    risk = fraud / (fraud + (1 - FRAUD_RATE) * density(-drift, 1.0))
    flagged, true = risk >= alarm / (alarm + miss), labels == 1
    return float((miss * (~flagged & true) + alarm * (flagged & ~true)).mean())
