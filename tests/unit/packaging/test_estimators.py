"""Estimators of other libraries: their answers stay theirs, and what does not fit is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import skl2onnx
import xgboost
from estimators import FITS, frozen, logged, packaged, regression, some, xgboost_trees
from mixed import COLUMNS, NAMES
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from bento_selfheal.embedding.images import Images
from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import Column
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.model_store import find_model
from bento_selfheal.packaging.opening import open_embedder, open_package

pytestmark = pytest.mark.usefixtures("home")
TINY = 1e-5


@pytest.fixture(scope="module")
def trees() -> xgboost.XGBClassifier:
    return xgboost_trees(*some())


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_its_own_answers(fit: Any) -> None:
    """From the store, unhealed, rows with gaps and unseen categories get its own probabilities."""
    x, y = some()
    model = fit(x, y)
    package = open_package(packaged(model).tag)
    asked, _ = some(seed=5)
    asked[:9, NAMES.index("sky")] = 3  # a category that nobody knew
    assert frozen(package, asked) == pytest.approx(model.predict_proba(asked)[:, 1], abs=TINY)


def test_boosters_and_graphs(tmp_path: Path, trees: xgboost.XGBClassifier) -> None:
    """Boosters, an ONNX model, its bytes and its path are taken as their classifiers are."""
    x, y = some()
    light, linear = FITS["lightgbm"](x, y), regression(x, y)
    graph = skl2onnx.to_onnx(linear, x[:1])  # with ZipMap, as skl2onnx makes it by default
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    for given, model in [
        (trees.get_booster(), trees), (light.booster_, light), (graph, linear),
        (graph.SerializeToString(), linear), (tmp_path / "model.onnx", linear),
        (str(tmp_path / "model.onnx"), linear),
    ]:  # fmt: skip
        said = frozen(packaged(given), x)
        assert said == pytest.approx(model.predict_proba(x)[:, 1], abs=TINY), type(given)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_three_classes(fit: Any) -> None:
    """A log odds for each class, and its own probabilities."""
    x, y = some()
    three = np.where(np.nan_to_num(x[:, 0]) > 160, "early", y)
    model = fit(x, three)
    package = package_model("three", x, three, features=NAMES, columns=COLUMNS, estimator=model)
    assert frozen(package, x) == pytest.approx(model.predict_proba(x), abs=TINY)
    assert package.info.features[:3] == ["log odds early", "log odds in time", "log odds late"]


def test_classes_that_are_trained_each_alone() -> None:
    """LightGBM's classifier then gives probabilities that do not sum to 1; those served do."""
    x, y = some()
    three = np.where(np.nan_to_num(x[:, 0]) > 160, "early", y)
    model = lightgbm.LGBMClassifier(n_estimators=20, objective="multiclassova", verbose=-1)
    model.fit(x, three)
    package = package_model("ova", x, three, features=NAMES, columns=COLUMNS, estimator=model)
    own = model.predict_proba(x)
    assert np.abs(own.sum(axis=1) - 1).max() > 0.01
    assert frozen(package, x) == pytest.approx(own / own.sum(axis=1, keepdims=True), abs=TINY)


def test_trees_after_the_best_iteration_do_not_answer() -> None:
    """A classifier that stopped early is packaged as it answers."""
    x, y = some()
    late = (y == "late").astype(int)
    held, classes = some(100, seed=3)
    model = xgboost.XGBClassifier(n_estimators=200, early_stopping_rounds=5)
    model.fit(x, late, eval_set=[(held, (classes == "late").astype(int))], verbose=False)
    assert model.best_iteration < 150
    assert frozen(packaged(model), held) == pytest.approx(model.predict_proba(held)[:, 1], abs=TINY)


def test_plain_numbers() -> None:
    """A table without types is taken too; its inputs are scaled beside the log odds."""
    draw = np.random.default_rng(0)
    x = draw.normal(50, 1, (300, 2)).astype(np.float32)
    y = (x[:, 0] + draw.normal(size=300) > 50).astype(int)
    model = LogisticRegression().fit(x, y)
    package = package_model("plain", x, y, features=["a", "b"], estimator=model)
    assert frozen(package, x) == pytest.approx(model.predict_proba(x)[:, 1], abs=TINY)
    hidden = package.embed(logged(package, x)).numpy()
    assert package.inputs == 2
    assert np.abs(hidden[:, -2:].mean(axis=0)).max() < 0.01
    assert hidden[:, -2:].std(axis=0) == pytest.approx(1, abs=0.05)
    assert hidden[:, :-2] == pytest.approx(model.decision_function(x)[:, None], abs=1e-3)


def test_close_odds_keep_their_order() -> None:
    """Rows that float16 could not tell apart do not rank alike."""
    x = np.linspace(1.0, 1.001, 50, dtype=np.float32)[:, None]
    draw = np.random.default_rng(0)
    known = draw.normal(size=(200, 1)).astype(np.float32)
    y = (known[:, 0] + draw.normal(size=200) > 0).astype(int)
    model = LogisticRegression().fit(known, y)
    package = package_model("ranks", known, y, features=["a"], estimator=model)
    odds = logged(package, x)[:, 0]
    assert len(np.unique(odds)) == 50
    assert len(np.unique(odds.astype(np.float16))) < 10


def test_a_booster_of_other_classes_is_told(
    caplog: pytest.LogCaptureFixture, trees: xgboost.XGBClassifier
) -> None:
    """A booster knows no names of classes: where it was trained on them in another order, it is
    wrong on most rows. One that is right, or no better than chance, is no reason to warn."""
    x, y = some()
    draw = np.random.default_rng(0)
    packaged(trees.get_booster())
    packaged(xgboost_trees(x, draw.permutation(y)).get_booster())
    assert not caplog.records
    other = xgboost_trees(x, np.where(y == "late", "a", "b"))
    packaged(other.get_booster())
    [warned] = caplog.messages
    assert "answering 'in time' always would be right on" in warned
    assert "the classes 'in time', 'late', in this order" in warned


def test_columns_keep_their_names(trees: xgboost.XGBClassifier) -> None:
    """Signals and exports go by the table's columns; log odds stand in front of them."""
    info = packaged(trees).info
    assert info.features == ["log odds", *NAMES]
    assert info.columns[1:] == list(COLUMNS)
    assert {c.column or c.feature for c in info.calibration} == set(NAMES)
    assert info.embedding is not None
    assert info.hidden_columns == 1


def test_the_runner_loads_no_estimator(trees: xgboost.XGBClassifier) -> None:
    """What heals opens the package without the estimator's library or file."""
    package = packaged(trees)
    path = Path(find_model(package.tag).path) / "estimator.ubj"
    assert path.exists()
    path.unlink()
    code = (
        "import sys; from bento_selfheal.packaging.opening import open_package\n"
        "from bento_selfheal.packaging.experts import open_race\n"
        "import bento_selfheal.runner.runner\n"
        f"open_race(open_package({package.tag!r})); print('xgboost' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_damaged_file_is_not_opened(trees: xgboost.XGBClassifier) -> None:
    """The file must have the hash that is noted."""
    package = packaged(trees)
    path = Path(find_model(package.tag).path) / "estimator.ubj"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PackageError, match="does not have the hash"):
        open_embedder(package)


def test_a_missing_library_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, trees: xgboost.XGBClassifier
) -> None:
    """Whoever serves without XGBoost is told what to install."""
    package = packaged(trees)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(PackageError, match=r"pip install 'bento-selfheal\[xgboost\]'"):
        open_embedder(package)


def test_other_classes_are_refused() -> None:
    """Classes of the estimator must be those of the labels, or their places."""
    x, y = some()
    other = regression(x, np.where(y == "late", "delayed", "punctual"))
    with pytest.raises(PackageError, match=r"classes are \['delayed', 'punctual'\].*'in time'"):
        packaged(other)
    three = xgboost_trees(x, np.arange(len(x)) % 3).get_booster()
    with pytest.raises(PackageError, match="it has 3 classes, but the labels have 2"):
        packaged(three)


def test_other_columns_are_refused() -> None:
    """Their number, and their order where the estimator knows names."""
    x, y = some()
    with pytest.raises(PackageError, match="trained on 3 columns, and there are 5 features"):
        packaged(regression(x[:, :3], y))
    late = (y == "late").astype(float)
    data = xgboost.DMatrix(x, late, feature_names=NAMES[::-1])
    turned = xgboost.train({"objective": "binary:logistic"}, data, 2)
    with pytest.raises(PackageError, match="name them in that order"):
        packaged(turned)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (xgboost.XGBClassifier(), "it is not fitted"),
        (LogisticRegression(), "LogisticRegression is not fitted"),
        (object(), "builtins.object is none of XGBoost, LightGBM, scikit-learn or ONNX"),
        (b"no graph", "ONNX Runtime cannot read it"),
        (Path("nowhere.onnx"), "nowhere.onnx cannot be read"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_estimator(given: Any, said: str) -> None:
    """Each is refused with a message that says what is wrong."""
    with pytest.raises(PackageError, match=said):
        packaged(given)


def test_a_regressor_is_refused() -> None:
    """Its answers are no log odds."""
    x, y = some()
    model = xgboost.XGBRegressor(n_estimators=2).fit(x, y == "late")
    with pytest.raises(PackageError, match="objective is 'reg:squarederror'; needed is one of"):
        packaged(model)


def test_a_linear_booster_is_refused() -> None:
    """It answers no arrays."""
    x, y = some()
    model = xgboost.XGBClassifier(booster="gblinear", n_estimators=2).fit(x, y == "late")
    with pytest.raises(PackageError, match=r"booster is 'gblinear'; needed is one of \['gbtree'"):
        packaged(model)


def test_features_without_names_are_asked_for() -> None:
    """An array says how many columns there are, not what they are called."""
    x, y = some()
    with pytest.raises(PackageError, match="there are none; name the 5 columns of the rows"):
        package_model("names", x, y, estimator=regression(x, y))


def test_a_conversion_that_answers_otherwise_is_refused() -> None:
    """Random forests take gaps in scikit-learn, and not in ONNX."""
    x, y = some()
    forest = RandomForestClassifier(10, random_state=0).fit(x, y)
    with pytest.raises(PackageError, match=r"from its file it answers .* rows otherwise"):
        packaged(forest)


@pytest.mark.parametrize(
    "more", [{"head": "fc"}, {"inputs": Images(size=(1, 1))}, {"builder": "a:b"}]
)
def test_arguments_of_networks_are_refused(
    trees: xgboost.XGBClassifier, more: dict[str, Any]
) -> None:
    """An estimator has no head, no builder and no inputs but rows."""
    with pytest.raises(PackageError, match=r"belong to a torch network|takes the place of"):
        packaged(trees, **more)


def test_a_gap_needs_a_nullable_column() -> None:
    """A NaN in a plain table is named, as it is for every model."""
    x, y = some()
    plain = [Column(name=name) for name in NAMES]
    with pytest.raises(PackageError, match=r"rows: row .* is nan"):
        package_model(
            "gaps", x, y, features=NAMES, columns=plain, estimator=xgboost_trees(x, y)
        )  # fmt: skip
