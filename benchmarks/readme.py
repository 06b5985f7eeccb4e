"""Write the tables of the README and the docs from the result files.

    python benchmarks/readme.py

No figure is typed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
README = Path(__file__).parent.parent / "README.md"


def streams_table(results: dict[str, Any]) -> str:
    """Each stream: what the baseline and what was served came to, an arrow between them."""
    rows = [
        "| stream | found at equal alarms | AUC | average precision | accuracy "
        "| commonest class | lift, 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        if isinstance(r, dict):
            mean, low, high = r["lift"]
            before, after = r["frozen"], r["served"]
            found = f"{before['caught']:,} → **{after['caught']:,}** of {after['to_catch']:,}"
            moved = (
                f"{before[key]:.3f} → {after[key]:.3f}"
                for key in ("auc", "average_precision", "accuracy")
            )
            rows.append(
                f"| {name} | {found}, {after['alarms']:,} alarms | {' | '.join(moved)} "
                f"| {r['majority']:.3f} "
                f"| {mean:+.3f} [{low:+.3f}, {high:+.3f}] |"
            )
    return "\n".join(rows)


GAINS = (
    ("demo: fraud changes its pattern", "streams", "demo, drift 2.2"),
    ("demo: the old sign of fraud turns", "streams", "demo, drift 3.5"),
    ("Elec2: prices of electricity, labels 100 rows late", "quality", "stream: Elec2, 100"),
    ("Elec2, labels 500 rows late", "quality", "stream: Elec2, 500"),
    ("insects: six species, warmer and warmer", "quality", "stream: insects_gradual, 100"),
    ("bird strikes, behind XGBoost", "inputs", "birdstrikes behind XGBoost"),
    ("images of digits that are rotated", "inputs", "images, rotated"),
    ("images of digits that are inverted", "inputs", "images, inverted"),
    ("texts: from libraries to programs", "inputs", "texts"),
)
"""Streams by the name that readers see: file of results, and entry in it."""


def gains_table(_: dict[str, Any]) -> str:
    """Accuracy and AUC of the baseline and of what was served, by stream, from three files."""
    files = {name: json.loads((RESULTS / f"{name}.json").read_text()) for _, name, _ in GAINS}
    rows = ["| stream | accuracy | AUC | commonest class |", "|---|---|---|---|"]
    for shown, file, entry in GAINS:
        found = files[file].get(entry)
        if found is not None:
            accuracy, auc = _before_and_after(found)
            most = "" if found.get("majority") is None else f"{found['majority']:.3f}"
            rows.append(f"| {shown} | {accuracy} | {auc} | {most} |")
    return "\n".join(rows)


def _before_and_after(found: dict[str, Any]) -> tuple[str, str]:
    """Accuracy and AUC, an arrow between the baseline's and that of what was served."""
    before, after = found.get("frozen", found.get("packaged")), found["served"]
    if isinstance(before, dict):
        pairs = [(before[key], after[key]) for key in ("accuracy", "auc")]
    else:
        pairs = [(before, after), (found.get("frozen_auc"), found.get("served_auc"))]
    accuracy, auc = (
        "" if old is None or new is None else f"{old:.3f} → **{new:.3f}**" for old, new in pairs
    )
    return accuracy, auc


def serving_table(results: dict[str, Any]) -> str:
    """Each measurement with its target; measurements that were not made are left out."""
    t, p = results.get("throughput", {}), results.get("p99_under_heals", {})
    f, s = results.get("feedback", {}), results.get("size", {})
    r, d = results.get("replicas", {}), results.get("disk", {})
    h, o = results.get("heavy_batched", {}), results.get("probes_under_heavy", {})
    rows = [
        ("requests/s with 1 row, relative to plain BentoML", "at least 1.6",
         t.get("over_plain_1_row")),
        ("requests/s with 100 rows, relative to plain BentoML", "at least 1.8",
         t.get("over_plain_100_rows")),
        ("requests/s with 1, 100 and 1,000 rows, relative to LitServe", "at least 1.0",
         _each(t.get("over_litserve"))),
        ("requests/s with 1, 100 and 1,000 rows, relative to FastAPI", "",
         _each(t.get("over_fastapi"))),
        (".npy with 1,000 rows, relative to JSON on plain BentoML", "at least 5",
         t.get("npy_over_plain_json")),
        (".npy with 1,000 rows, relative to JSON on this service", "", t.get("npy_over_own_json")),
        ("memory of a worker, relative to a plain BentoML worker", "at most 1.10",
         t.get("memory_over_plain")),
        ("p99 latency during heals, relative to no heals", "at most 1.10",
         p.get("ours", {}).get("p99_ratio")),
        ("the same, with the article's design", "", p.get("article", {}).get("p99_ratio")),
        ("seconds from a label's acknowledgement to serving, p95", "at most 1",
         results.get("label_to_serving", {}).get("p95_s")),
        ("durable labels/s, SQLite", "at least 20,000", f.get("SQLite", {}).get("labels_a_second")),
        ("durable labels/s, PostgreSQL", "at least 10,000",
         f.get("PostgreSQL", {}).get("labels_a_second")),
        ("predict p99 with 10 million stored predictions, relative to none", "at most 1.2",
         s.get("p99_ratio")),
        ("join time per label, the same comparison", "at most 1.2", s.get("join_ratio")),
        ("bytes on disk per prediction with 10 features", "at most 80",
         d.get("bytes_a_prediction")),
        ("seconds until a new leader takes over from a killed one, worst", "at most 10",
         r.get("new_leader_worst_s")),
        ("heals done twice", "0", r.get("double_heals")),
        ("seconds until a promotion serves on all replicas, worst", "at most 2",
         r.get("promotion_on_all_replicas_worst_s")),
        ("promotions by a leader that was stopped past its lease", "0",
         r.get("promotions_by_stopped_leaders")),
        ("heavy model, 64 clients: requests/s relative to BentoML with `batchable`", "at least 1.2",
         h.get("over_bentoml")),
        ("heavy model, 64 clients: requests/s relative to LitServe with batches", "at least 1.2",
         h.get("over_litserve")),
        ("heavy model, 64 clients: p99 latency relative to the better of both", "at most 1.0",
         h.get("p99_over_better")),
        ("milliseconds of `/livez` beside a model of 300 ms and 64 clients, slowest of 200",
         "at most 50", o.get("livez_slowest_ms")),
        ("milliseconds of `/feedback`, the same", "at most 200", o.get("feedback_slowest_ms")),
    ]  # fmt: skip
    lines = ["| measured in one run | target | measured |", "|---|---|---|"]
    lines += [
        f"| {what} | {target} | {value} |" for what, target, value in rows if value is not None
    ]
    return "\n".join(lines)


def requests_table(results: dict[str, Any]) -> str:
    per = results.get("throughput", {}).get("requests_a_second", {})
    columns = list(dict.fromkeys(rows for found in per.values() for rows in found))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in per.items():
        lines.append(f"| {name} | " + " | ".join(_number(found.get(c)) for c in columns) + " |")
    return "\n".join(lines)


STEP_NAMES = {
    "BentoML's stack": "BentoML's stack",
    "lane, with access log": "fast path, with access log",
    "lane": "fast path",
    "lane, 1 % logged": "fast path, 1 % of requests logged",
}
"""How a step of the results is shown."""


def steps_table(results: dict[str, Any]) -> str:
    per = results.get("steps", {})
    lines = ["| | 1 row | 100 rows |", "|---|---|---|"]
    for name, found in per.items():
        if isinstance(found, dict):
            shown = STEP_NAMES.get(name, name)
            lines.append(f"| {shown} | {_number(found['1 rows'])} | {_number(found['100 rows'])} |")
    return "\n".join(lines)


def log_table(results: dict[str, Any]) -> str:
    lines = [
        "| store, rows per request | rows/s logged | bytes per row | rows/s read by the runner |",
        "|---|---|---|---|",
    ]
    for name, found in results.get("disk", {}).items():
        if isinstance(found, dict):
            lines.append(
                f"| {name} | {_number(found['rows_a_second'])} | {found['bytes_a_row']} "
                f"| {_number(found['runner_rows_a_second'])} |"
            )
    return "\n".join(lines)


PEAK_ROWS = 35_000
DAILY_ROWS = 1e9


def billion_table(results: dict[str, Any]) -> str:
    """What a billion predictions a day need, computed from the measured cost of one row."""
    rate = results.get("throughput", {}).get("requests_a_second", {}).get("bento_selfheal", {})
    lines = [
        "| | requests of 100 rows | requests of 1 row |",
        "|---|---|---|",
    ]
    cells: dict[str, list[str]] = {}
    for rows, column in ((100, "100 rows"), (1, "1 row")):
        log = results.get("disk", {}).get(f"PostgreSQL, {rows} rows")
        if not log or column not in rate:
            return ""
        day = log["bytes_a_row"] * DAILY_ROWS / 1e9
        for name, value in {
            "workers at the peak, each at half load": PEAK_ROWS / rows / rate[column] * 2,
            "PostgreSQL: share of one writer's time, at the peak": PEAK_ROWS / log["rows_a_second"],
            "PostgreSQL: GB per day": day,
            "PostgreSQL: TB for 30 days": day * 30 / 1000,
            "cores that read the log, at the peak": PEAK_ROWS / log["runner_rows_a_second"],
        }.items():
            cells.setdefault(name, []).append(f"{value:.2g}" if value < 10 else f"{value:,.0f}")
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in cells.items()]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _each(by_rows: dict[str, float] | None) -> str | None:
    return None if by_rows is None else ", ".join(str(v) for v in by_rows.values())


def quality_table(results: dict[str, Any]) -> str:
    rows = ["| experiment | results |", "|---|---|"]
    for name, found in sorted(results.items()):
        if isinstance(found, dict) and not name.startswith(STREAM):
            cells = ", ".join(_figure(k, v) for k, v in found.items() if k != "seconds")
            rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


STREAM = "stream: "
"""Begins the names of streams that the peers ran on as well."""


def peers_table(results: dict[str, Any]) -> str:
    """Accuracy of everybody by stream, and AUC of what was served beside the baseline's."""
    names = ("frozen", "served", "challenger", "majority", "logistic", "hat", "arf10",
             "retrain_all_weights")  # fmt: skip
    shown = ("baseline", "served", "challenger", "commonest class", "logistic regression",
             "Hoeffding tree", "ARF, 10 trees", "retraining")  # fmt: skip
    rows = [
        "| stream, labels late | " + " | ".join(shown) + " | ahead of the best | AUC |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for name, r in results.items():
        if name.startswith(STREAM):
            cells = [f"{r[key]:.3f}" for key in names]
            cells[1] = f"**{cells[1]}**"
            auc = [r["frozen_auc"], r["served_auc"]]
            ranks = "" if None in auc else f"{auc[0]:.3f} to {auc[1]:.3f}"
            cells += [f"{r['ahead_of_best']:+.3f}", ranks]
            rows.append(f"| {name.removeprefix(STREAM)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def faults_table(results: dict[str, Any]) -> str:
    rows = ["| fault | result |", "|---|---|"]
    for name, found in results.items():
        if isinstance(found, dict):
            cells = ", ".join(_figure(k, v) for k, v in found.items())
            rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


FIGURE_NAMES = {
    # quality.json
    "frozen": "baseline",
    "full": "lift with all labels",
    "few": "lift with 5 % of them",
    "kept": "share of the lift kept",
    "kept_by_seed": "by seed",
    "served_by_seed": "served by seed",
    "clean": "honest labels",
    "clean_quarantined": "quarantined then",
    "poisoned": "with the random source",
    "poisoned_quarantined": "quarantined",
    "loss": "accuracy lost",
    "harmful_share": "share with a harmful promotion",
    "runs_with_promotion": "runs with a promotion",
    "arf10": "adaptive random forest (10 trees)",
    "hat": "Hoeffding adaptive tree",
    "logistic": "logistic regression",
    "tent": "TENT",
    "retrain_all_weights": "retraining all weights",
    "retrain_daily": "retraining daily",
    "article_recipe": "the article's recipe",
    "auc": "AUC",
    # faults.json
    "slowest_s": "slowest (s)",
    "slowest_seconds": "slowest (s)",
    "others_slowest_s": "slowest for others (s)",
    "given_up_after_s": "closed after (s)",
    "successor_heals_after_s": "successor heals after (s)",
    "unverified": "answers not verified",
    "passed": "tests passed",
    "most_examples": "examples at most",
    "requests_a_second": "requests per second",
    "disk_megabytes_most": "disk megabytes at most",
    "log_megabytes_asked": "log megabytes allowed",
    "led": "times each runner led",
    "announced": "size announced",
    "deep": "deep JSON",
}
"""How a key of the results is shown; the others are shown as they are."""


def _figure(key: str, value: Any) -> str:
    return f"{FIGURE_NAMES.get(key, key.replace('_', ' '))} {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return str(value)


def alpha_table(results: dict[str, Any]) -> str:
    """Of each kind of run, how many promoted what is no better, and what that cost at most."""
    lines = [
        "| runs in which nothing is better | runs | with a promotion | 95 % interval "
        "| largest loss served | mean loss served |",
        "|---" * 6 + "|",
    ]
    for name, found in results.items():
        if isinstance(found, dict):
            low, high = found["interval"]
            lines.append(
                f"| {name} | {found['runs']:,} | {_percent(found['share'])} "
                f"| {_percent(low)} to {_percent(high)} | {100 * found['largest_loss']:.2f} "
                f"| {100 * found['mean_loss']:.3f} |"
            )
    return "\n".join(lines)


def poisoning_table(results: dict[str, Any]) -> str:
    """A table for each stream: what each attack cost, and which sources were quarantined when."""
    lines = []
    for world in ("Elec2", "article"):
        found = results.get(world)
        if not found:
            continue
        one = next(iter(found.values()))
        lines += [
            f"**{world}**, mean of {one['seeds']} seeds; accuracy served with honest labels "
            f"{_percent(one['clean'])}, baseline {_percent(one['frozen'])}\n",
            "| attack | served | points lost | lost since the attack began "
            "| recall since, honest → attacked | AUC since, honest → attacked "
            "| attackers quarantined | after batches | honest sources quarantined "
            "| labels forgotten | promotions, rollbacks |",
            "|---" * 11 + "|",
        ]
        lines += [_attack(name, row) for name, row in found.items()]
        lines.append("")
    return "\n".join(lines[:-1])


def honest_table(results: dict[str, Any]) -> str:
    """Honest sources whose rows differ: the accuracy served, and how many are quarantined."""
    lines = [
        "| each source labels a tenth of | served | honest sources quarantined "
        "| labels forgotten |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {feature} | {_percent(row['served'])} | {row['honest_quarantined']} of 10 "
        f"| {row['labels_forgotten']:,} |"
        for feature, row in results.get("honest", {}).items()
    ]
    return "\n".join(lines)


def _attack(name: str, row: dict[str, Any]) -> str:
    waits = row["batches_to_quarantine"]
    cells = (
        name.replace("at once", "sudden").replace("slowly", "gradual"), _percent(row["served"]),
        _points(row["loss"]), _points(row["loss_since"]),
        f"{row['recall_clean']:.2f} → {row['recall']:.2f}",
        f"{row['auc_clean']:.2f} → {row['auc']:.2f}",
        f"{row['caught']} of {row['liars']}", f"{min(waits)} to {max(waits)}" if waits else "never",
        row["honest_quarantined"], f"{row['labels_forgotten'] + row['honest_forgotten']:,}",
        f"{row['promotions']}, {row['rollbacks']}",
    )  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def heal_cost_table(results: dict[str, Any]) -> str:
    """What a heal costs by width and recipe, and what it does to accuracy."""
    lines = [
        "| hidden width | recipe | CPU of a heal (ms) | target | weights of the layer "
        "| snapshot (kB) | accuracy, calm: frozen → healed | after a change: frozen → healed |",
        "|---" * 8 + "|",
    ]
    targets = {64: "at most 30", 2048: "at most 100"}
    rows = sorted(
        (r for r in results.values() if isinstance(r, dict)), key=lambda r: int(r["width"])
    )
    lines += [_heal(row, targets.get(row["width"], "")) for row in rows]
    return "\n".join(lines)


def _heal(row: dict[str, Any], target: str) -> str:
    return (
        f"| {row['width']:,} | `{row['recipe']}` | {row['milliseconds']:.1f} | {target} "
        f"| {row['layer_weights']:,} | {row['snapshot_bytes'] / 1000:,.0f} "
        f"| {_percent(row['calm_frozen'])} → {_percent(row['calm_healed'])} "
        f"| {_percent(row['changed_frozen'])} → {_percent(row['changed_healed'])} |"
    )


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # no minus before a zero


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def inputs_table(results: dict[str, Any]) -> str:
    """Each file: what the baseline, what was served and boosted trees came to."""
    shown = {
        "frozen": "baseline", "served": "**served**", "trees": "boosted trees, frozen",
        "trees_anew": "boosted trees, trained anew each 1,000 rows",
    }  # fmt: skip
    return _files_table({k: r for k, r in results.items() if "trees" in r}, shown)


def behind_table(results: dict[str, Any]) -> str:
    """Each file behind XGBoost: what its trees, what was served and trees trained anew came to."""
    shown = {
        "packaged": "XGBoost, frozen", "served": "**served**",
        "trained_anew": "XGBoost, trained anew each 1,000 rows",
    }  # fmt: skip
    behind = {k.removesuffix(" behind XGBoost"): r for k, r in results.items() if "packaged" in r}
    return _files_table(behind, shown)


def _files_table(files: dict[str, Any], shown: dict[str, str]) -> str:
    rows = ["| file | | accuracy | AUC | average precision |", "|---|---|---|---|---|"]
    for name, r in files.items():
        rows += [
            f"| {name} | {label} | "
            + " | ".join(f"{r[key][f]:.3f}" for f in ("accuracy", "auc", "average_precision"))
            + " |"
            for key, label in shown.items()
        ]
    return "\n".join(rows)


def api_page_table(results: dict[str, Any]) -> str:
    """How requests are answered that schemathesis makes as valid from the API page."""
    rows = ["| package | requests | answered 200 | 5xx |", "|---|---|---|---|"]
    for name, seen in results["api_page"].items():
        total = sum(seen.values())
        failed = sum(count for status, count in seen.items() if status >= "500")
        rows.append(f"| {name} | {total:,} | {seen.get('200', 0) / total:.1%} | {failed} |")
    return "\n".join(rows)


def row_reading_table(results: dict[str, Any]) -> str:
    """How long a body of typed rows and one of plain numbers take to read."""
    ms = results["row_reading"]
    rows = ["| rows | typed | plain |", "|---|---|---|"]
    rows += [
        f"| {n} | {ms[f'typed, {n} rows']:.3f} | {ms[f'plain, {n} rows']:.3f} |"
        for n in ("1", "1,000")
    ]
    return "\n".join(rows)


def images_table(results: dict[str, Any]) -> str:
    """Accuracy after images changed."""
    lines = ["| images become | frozen | **served** | all weights finetuned |", "|---|---|---|---|"]
    for name, seen in results.items():
        if name.startswith("images, "):
            said = " | ".join(f"{seen[who]:.3f}" for who in ("frozen", "served", "finetuned"))
            lines.append(f"| {name.removeprefix('images, ')} | {said} |")
    return "\n".join(lines)


def texts_table(results: dict[str, Any]) -> str:
    """Accuracy after words changed."""
    seen = results["texts"]
    said = " | ".join(f"{seen[who]:.3f}" for who in ("frozen", "served", "finetuned"))
    alike, posted = seen["posted"]["as_offline"], seen["posted"]["texts"]
    return (
        "| texts | frozen | **served** | all weights finetuned | raw texts answered as offline |\n"
        f"|---|---|---|---|---|\n| {seen['texts']} | {said} | {alike} of {posted} |"
    )


def runner_memory_table(results: dict[str, Any]) -> str:
    """Megabytes of the runner with either model, and the ratio."""
    seen, lines = results["runner_memory"], ["| MB | after heals | at the peak |", "|---|---|---|"]
    for name, shown in {"article": "the article's model", "large": "25 million weights"}.items():
        lines.append(f"| {shown} | {seen[name]['after']:.0f} | {seen[name]['peak']:.0f} |")
    ratio = seen["ratio"]
    return "\n".join([*lines, f"| ratio | {ratio['after']:.3f} | {ratio['peak']:.3f} |"])


KILLED = ("kill -9, a file of labels", "kill -9, requests with keys", "kill -9, feeds of labels")
"""Faults of ways in which labels come."""


def labels_table(results: dict[str, Any]) -> str:
    """What keys cost a prediction, labels by key a second, and what is served where one class is
    never reported, with their targets."""
    rows = ["| measured in one run | target | measured |", "|---|---|---|"]
    rows += [
        f"| requests/s with keys, {name}, relative to none | at least 0.90 "
        f"| {seen['ratio']:.2f} ({seen['with_keys']:,} and {seen['without']:,}) |"
        for name, seen in results.get("requests", {}).items()
    ]
    if "labels" in results:
        rate = results["labels"]["labels_a_second"]
        rows.append(f"| durable labels/s by key, SQLite | at least 15,000 | {rate:,} |")
    if "bulk" in results:
        seen = results["bulk"]
        rows.append(
            f"| seconds to label and join a file of {seen['rows']:,} rows | at most 60 "
            f"| {seen['seconds']:.0f} (the runner peaks at {seen['peak_megabytes']['runner']} MB) |"
        )
    if "unreported" in results:
        seen = results["unreported"]
        each = ", ".join(f"{run['ratio']:.3f}" for run in seen["seeds"].values())
        rows.append(
            "| fraud handbook, frauds alone reported, matured after 7 days: average precision "
            f"served, relative to all labels, mean of {len(seen['seeds'])} seeds "
            f"| at least {seen['asked']} | {seen['ratio']:.3f} ({each}) |"
        )
    faults = json.loads((RESULTS / "faults.json").read_text())
    rows += [
        f"| {name} at {faults[name]['kills']} instants: lost, doubled | 0, 0 "
        f"| {faults[name]['lost']}, {faults[name]['doubled']} |"
        for name in KILLED
        if name in faults
    ]
    return "\n".join(rows)


def review_table(results: dict[str, Any]) -> str:
    """What is shown, learned and let through where few rows are looked at."""
    rows = ["| measured | target | measured |", "|---|---|---|"]
    for world, one in results.get("review", {}).items():
        if "truth" not in one:
            share, without = one["share"], one["share_without_weights"]
            rows.append(
                f"| {one['streams']:,} {world}: share with a false promotion (without weights) "
                f"| at most {one['alpha']:g} | {share:.4f} ({without:.3f}) |"
            )
            continue
        rows += [
            f"| {world}: mean error of {name}, points (of one draw, typically; naive) "
            f"| at most 0.5; naive at least 3 | {one['mean_error'][name]:+.2f} "
            f"({one['typical_error'][name]:.2f}; {one['naive_mean_error'][name]:+.1f}) |"
            for name in one["truth"]
        ]
        rows.append(
            f"| {world}: served average precision over that with all labels | at least 0.90 "
            f"| {one['ratio']:.3f} |"
        )
    return "\n".join(rows)


def queue_table(results: dict[str, Any]) -> str:
    """Labels that the review queue needs for its lift, over those of random choice."""
    rows = [
        "| stream, seeds | labels | lift, points | random choice needs | target | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for stream, one in results.get("review_queue", {}).items():
        for m in one["means"]:
            if m["kind"] == "queue":
                needed = f"{'over ' * m['beyond']}{m['random_labels']:,.0f}"
                rows.append(
                    f"| {stream}, {m['seeds']} | {m['labels']:,.0f} "
                    f"| {m['lift']:+.2f} ± {m['standard_error']:.2f} | {needed} | at most 0.5 "
                    f"| {_ratio(m)} |"
                )
    return "\n".join(rows)


def _ratio(one: dict[str, Any]) -> str:
    """Labels over those of random choice; a bound where no budget of random choice tells."""
    bound = "under " * one["beyond"] + "over " * one["below"]
    return f"{bound}{one['ratio']:.2f}"


def operate_table(results: dict[str, Any]) -> str:
    """What daily use costs, beside its baselines."""
    rows = ["| measured in one run | target | measured |", "|---|---|---|"]
    if seen := results.get("async client"):
        rows.append(
            "| requests/s of `AsyncClient`, 64 at once, relative to aiohttp alone "
            f"| at least {seen['asked']} | {seen['ratio']:.3f} "
            f"({seen['requests_a_second']:,} and {seen['aiohttp']:,}) |"
        )
    return "\n".join(rows)


def proof_table(results: dict[str, Any]) -> str:
    """What is proven of the served models, a line for each figure."""
    rows = ["| measured | figure |", "|---|---|"]
    if seen := results.get("segment harm"):
        rows += [
            f"| harm in one of 50 segments is found, of {seen['runs']} runs "
            f"| {100 * seen['blocked']:.1f} % |",
            "| labels of the segment until then, median and 90th percentile "
            f"| {_whole(seen['labels_in_segment_median'])} and "
            f"{_whole(seen['labels_in_segment_90th'])} |",
            "| runs without harm in which a segment is left out "
            f"| {100 * seen['false_blocks']:.1f} % |",
            "| lift kept beside no test, with harm and without "
            f"| {100 * seen['lift_kept']:.1f} % and {100 * seen['lift_kept_without_harm']:.1f} % |",
        ]
    if seen := results.get("planted drifts"):
        rows += [
            f"| {seen['plants']} planted drifts, {seen['runs']} runs: seen by a signal "
            f"| {100 * seen['seen']:.0f} % |",
            f"| right column first, and right kind | {100 * seen['column']:.0f} % and "
            f"{100 * seen['kind']:.0f} % |",
            *(
                f"| {name}: right column first, and right kind | {100 * one['column']:.0f} % and "
                f"{100 * one['kind']:.0f} % |"
                for name, one in seen["by_kind"].items()
            ),
            f"| a column, and a change of meaning, named of {seen['calm_drifts']} drifts where "
            "nothing moved (at most 1 % each expected) "
            f"| {100 * seen['calm_moved']:.1f} % and {100 * seen['calm_changed']:.1f} % |",
        ]
    if seen := results.get("many models"):
        rows += [
            f"| memory of {seen['models']} models in one service, and of 1 "
            f"| {seen['megabytes_20']:,.0f} MB and {seen['megabytes_1']:,.0f} MB |",
            "| p99 of a quiet model beside one under load, and alone "
            f"| {seen['p99_beside_ms']:.2f} ms and {seen['p99_alone_ms']:.2f} ms |",
        ]
    if seen := results.get("candidate gate"):
        kinds = {"better": "better by 2 points", "worse": "worse by 2 points", "equal": "as good"}
        rows += [
            f"| a candidate that is {words} is promoted, of {seen['runs']} runs "
            f"| {100 * seen[kind]['promoted']:.1f} % |"
            for kind, words in kinds.items()
        ]
        rows += [
            "| labels until a better one is promoted, median and 90th percentile "
            f"| {_whole(seen['better']['labels_median'])} and "
            f"{_whole(seen['better']['labels_90th'])} |"
        ]
    if seen := results.get("candidate ramps"):
        rows += [
            f"| failed requests over {seen['ramps']} ramps of candidates that raise, hang, answer "
            f"NaN or leak | {seen['failed']} |",
            "| p99 with such a candidate, and without "
            f"| {seen['p99_with_ms']:.2f} ms and {seen['p99_without_ms']:.2f} ms |",
            "| until the last of 6 workers in 3 replicas has let go, median and worst "
            f"| {seen['rollback_s_median']:.2f} s and {seen['rollback_s_worst']:.2f} s |",
        ]
    if seen := results.get("canary steps"):
        rows += [
            f"| a canary that is {worse}, of {seen['runs']} runs: rolled back, and labels until it "
            f"is, or answers all, median | {100 * one['rolled_back']:.1f} % and "
            f"{_whole(one['labels_median'])} |"
            for worse, one in seen.items()
            if isinstance(one, dict)
        ]
    if seen := results.get("canary lift"):
        rows += [
            f"| lift over all rows, {how} | {100 * seen[how]:.1f} points |"
            for how in ("all at once", "50 percent first", "10 percent first")
        ]
    return "\n".join(rows)


def _whole(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}"


TABLES: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "proof": {"proof": proof_table},
    "operate": {"operate": operate_table},
    "labels": {"labels": labels_table, "review": review_table, "queue": queue_table},
    "inputs": {
        "inputs": inputs_table,
        "behind": behind_table,
        "api_page": api_page_table,
        "row_reading": row_reading_table,
        "images": images_table,
        "texts": texts_table,
        "runner_memory": runner_memory_table,
        "gains": gains_table,
    },
    "alpha": {"alpha": alpha_table},
    "poisoning": {"poisoning": poisoning_table, "honest": honest_table},
    "streams": {"streams": streams_table, "gains": gains_table},
    "quality": {"gains": gains_table, "quality": quality_table, "peers": peers_table},
    "faults": {"faults": faults_table},
    "heal_cost": {"heal_cost": heal_cost_table},
    "serving": {
        "serving": serving_table,
        "requests": requests_table,
        "steps": steps_table,
        "log": log_table,
        "billion": billion_table,
    },
}


def update(name: str) -> None:
    """Write the tables of one result file between their markers, in every page that has them."""
    results = json.loads((RESULTS / f"{name}.json").read_text())
    for mark, table in TABLES[name].items():
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
        for page in (README, *DOCS.glob("*.md")):
            text = page.read_text()
            body = table(results)
            page.write_text(re.sub(pattern, rf"\g<1>{body}\n\g<2>", text, flags=re.DOTALL))


if __name__ == "__main__":
    for result in TABLES:
        update(result)
