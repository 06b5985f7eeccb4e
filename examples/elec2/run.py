# %% [markdown]
# # Elec2: electricity prices, half-hour by half-hour
#
# Electricity prices in New South Wales, 1996 to 1998: 45,312 half-hours, six features, and whether
# the price goes UP or DOWN compared with the mean of the last day. A model is trained on the first
# tenth and served. Every label arrives 100 rows late. The market changes, and the service heals the
# model.
#
# As a script: `python run.py PATH/TO/elec.csv [ROWS]`, where ROWS is how many rows to stream at
# most. As a notebook: set the environment variables `ELEC2` and `ELEC2_ROWS`.

# %%
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np

from bento_selfheal import Client, FeedbackItem, package_model
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import read_table

notebook = "ipykernel" in sys.modules
arguments = [] if notebook else sys.argv[1:]
path = Path(arguments[0] if arguments else os.environ.get("ELEC2", "elec.csv"))
most = int(arguments[1] if len(arguments) > 1 else os.environ.get("ELEC2_ROWS", 50_000))
if not path.is_file():
    raise SystemExit(
        f"{path} does not exist: download elec.csv from the repository "
        "scikit-multiflow/streaming-datasets on GitHub and pass its path"
    )

# %% [markdown]
# ## Train on the first tenth, and package the model
#
# `read_table` reads any CSV or Parquet file in time order. Without a model of your own,
# `package_model` trains the default one. Three of the features are constant in the first tenth, so
# the trained model cannot know what they will mean later.

# %%
known, stream = read_table(path, "class").split(0.1)
home = Path(tempfile.mkdtemp(prefix="elec2-"))
use_home(home)
package = package_model("elec2", known.rows, known.labels, features=known.features)
print(f"{package.tag.split(':')[0]}: accuracy {package.info.accuracy:.3f} on the reference set")
constant = [
    name for name in known.features if np.ptp(known.rows[:, known.features.index(name)]) == 0
]
print(f"constant in the training data: {', '.join(constant)}")

# %% [markdown]
# ## Serve it, and stream the rest
#
# `bentoml serve` runs in a process of its own, as it would in production. For each batch of 100
# rows, the service predicts the rows, and then gets the labels of the batch before. Every figure
# below comes from answers that were given before their label was sent. The frozen model, the
# baseline, answers the same rows. In the market there is half an hour between two rows. Here the
# next batch waits only until the service has learned from the labels.

# %%
BATCH = 100
target = "bento_selfheal.default_service:SelfHealing"
env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_WORKERS": "1", "SELFHEAL_HEAL_SHARE": "1"}


def learned(client: Client, labels: int) -> dict:
    """Wait until the labels are learned and what they promoted serves. Returns the status."""
    while True:
        status = client.status()
        joined = (status.get("labels") or {}).get("joined", 0)
        follows = status["serving"]["version"] == status["worker"]["serving_version"]
        if joined >= labels and follows and status["state"] != "HEALING":
            return status
        time.sleep(0.01)


batches = min(len(stream.rows), most) // BATCH
served, frozen, versions = [], [], []
owed: deque[FeedbackItem] = deque()
with (
    ServedService(target, home=home, log=home / "server.log", env=env) as server,
    Client(server.url) as client,
):
    for number in range(batches):
        part = slice(number * BATCH, (number + 1) * BATCH)
        rows, labels = stream.rows[part], stream.labels[part]
        answer = client.predict(rows)
        served.append(np.mean(np.asarray(answer.decisions) == labels))
        classes = np.asarray(package.info.classes)
        frozen.append(np.mean(classes[(package.baseline(rows) >= 0.5).astype(int)] == labels))
        versions.append(answer.model_version)
        if owed:
            client.feedback([owed.popleft() for _ in range(BATCH)])
            status = learned(client, number * BATCH)
        owed.extend(
            FeedbackItem(prediction_id=i, label=label)
            for i, label in zip(answer.prediction_ids, labels.tolist(), strict=True)
        )
    reasons = [(p.version, p.kind.value, p.reason) for p in client.promotions()]

# %% [markdown]
# ## What healing gained
#
# The accuracy in each eighth of the stream: of what was served, and of the frozen model on the
# same rows.

# %%
print("batches        frozen  served  snapshot")
for chunk in np.array_split(np.arange(batches), 8):
    first, last = chunk[0], chunk[-1]
    print(
        f"{first:4d} to {last:4d}   {np.mean(frozen[first : last + 1]):.3f}   "
        f"{np.mean(served[first : last + 1]):.3f}   {versions[last]:5d}"
    )
lift = np.mean(served) - np.mean(frozen)
print(f"all            {np.mean(frozen):.3f}   {np.mean(served):.3f}   lift {lift:+.3f}")
print(
    f"{status['heals']} heals, {status['promotions']} promotions, {status['rollbacks']} rollbacks"
)

# %% [markdown]
# ## Why
#
# The promotion log says why each snapshot was promoted. The first and the last ones:

# %%
for version, kind, reason in [*reasons[:3], *reasons[-3:]]:
    print(f"snapshot {version}, {kind}: {reason}")
