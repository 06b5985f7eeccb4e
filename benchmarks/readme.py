"""Write the README's tables from the result files, so that no figure is typed by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
README = Path(__file__).parent.parent / "README.md"


def streams_table(results: dict[str, Any]) -> str:
    rows = [
        "| stream | frozen | served | last 10 batches | lift, 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for name, r in results.items():
        if isinstance(r, dict):
            mean, low, high = r["lift"]
            rows.append(
                f"| {name} | {r['frozen_accuracy']:.3f} | **{r['served_accuracy']:.3f}** "
                f"| {r['served_accuracy_last_10_batches']:.3f} "
                f"| {mean:+.3f} [{low:+.3f}, {high:+.3f}] |"
            )
    return "\n".join(rows)


def serving_table(results: dict[str, Any]) -> str:
    """Each row of the table with what is asked and what was measured; rows not there are left."""
    t, p = results.get("throughput", {}), results.get("p99_under_heals", {})
    f, s = results.get("feedback", {}), results.get("size", {})
    r, d = results.get("replicas", {}), results.get("disk", {})
    rows = [
        ("requests/s, 1 row: over plain BentoML", "1.6", t.get("over_plain_1_row")),
        ("requests/s, 100 rows: over plain BentoML", "1.8", t.get("over_plain_100_rows")),
        ("requests/s over LitServe: 1, 100, 1,000 rows", "1.0", _each(t.get("over_litserve"))),
        ("requests/s over FastAPI: 1, 100, 1,000 rows", "", _each(t.get("over_fastapi"))),
        (".npy, 1,000 rows: over JSON to plain BentoML", "5", t.get("npy_over_plain_json")),
        (".npy, 1,000 rows: over our own JSON", "", t.get("npy_over_own_json")),
        ("memory of a worker over a plain one", "at most 1.10", t.get("memory_over_plain")),
        ("p99 under heals over p99 without", "at most 1.10", p.get("ours", {}).get("p99_ratio")),
        ("the same, the article's design", "", p.get("article", {}).get("p99_ratio")),
        ("label acknowledged to serving, p95, s", "at most 1",
         results.get("label_to_serving", {}).get("p95_s")),
        ("labels/s durable, SQLite", "20,000", f.get("SQLite", {}).get("labels_a_second")),
        ("labels/s durable, PostgreSQL", "10,000", f.get("PostgreSQL", {}).get("labels_a_second")),
        ("predict p99, 10 million predictions in the store over none", "at most 1.2",
         s.get("p99_ratio")),
        ("join time a label, the same", "at most 1.2", s.get("join_ratio")),
        ("bytes on disk a prediction of 10 features", "at most 80", d.get("bytes_a_prediction")),
        ("leader killed: seconds to a new one, worst", "at most 10", r.get("new_leader_worst_s")),
        ("heals done twice", "0", r.get("double_heals")),
        ("promotion on all replicas, worst, s", "at most 2",
         r.get("promotion_on_all_replicas_worst_s")),
        ("promotions by a leader stopped past its lease", "0",
         r.get("promotions_by_stopped_leaders")),
    ]  # fmt: skip
    lines = ["| measured in one run | asked | measured |", "|---|---|---|"]
    lines += [f"| {what} | {asked} | {value} |" for what, asked, value in rows if value is not None]
    return "\n".join(lines)


def requests_table(results: dict[str, Any]) -> str:
    per = results.get("throughput", {}).get("requests_a_second", {})
    columns = list(dict.fromkeys(rows for found in per.values() for rows in found))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in per.items():
        lines.append(f"| {name} | " + " | ".join(_number(found.get(c)) for c in columns) + " |")
    return "\n".join(lines)


def steps_table(results: dict[str, Any]) -> str:
    per = results.get("steps", {})
    lines = ["| | 1 row | 100 rows |", "|---|---|---|"]
    for name, found in per.items():
        if isinstance(found, dict):
            lines.append(f"| {name} | {_number(found['1 rows'])} | {_number(found['100 rows'])} |")
    return "\n".join(lines)


def log_table(results: dict[str, Any]) -> str:
    lines = [
        "| store, rows a request | rows/s logged | bytes a row | rows/s the runner reads |",
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
    """What a billion predictions a day take, worked out from what one row was measured to cost."""
    rate = results.get("throughput", {}).get("requests_a_second", {}).get("bento_selfheal", {})
    lines = [
        "| | in requests of 100 | in requests of 1 |",
        "|---|---|---|",
    ]
    cells: dict[str, list[str]] = {}
    for rows, column in ((100, "100 rows"), (1, "1 row")):
        log = results.get("disk", {}).get(f"PostgreSQL, {rows} rows")
        if not log or column not in rate:
            return ""
        day = log["bytes_a_row"] * DAILY_ROWS / 1e9
        for name, value in {
            "workers at the peak, at half load": PEAK_ROWS / rows / rate[column] * 2,
            "PostgreSQL: share of one writer's time at the peak": PEAK_ROWS / log["rows_a_second"],
            "PostgreSQL: GB a day": day,
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
    rows = ["| row | figures | seconds |", "|---|---|---|"]
    for name, found in sorted(results.items()):
        if isinstance(found, dict):
            cells = ", ".join(f"{k} {_short(v)}" for k, v in found.items() if k != "seconds")
            rows.append(f"| {name} | {cells} | {found['seconds']:.0f} |")
    return "\n".join(rows)


def faults_table(results: dict[str, Any]) -> str:
    rows = ["| what was done | what came of it |", "|---|---|"]
    for name, found in results.items():
        if isinstance(found, dict):
            cells = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in found.items())
            rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return str(value)


def poisoning_table(results: dict[str, Any]) -> str:
    """A table for each stream: what each attack cost, and who was caught when."""
    lines = []
    for world in ("Elec2", "article"):
        found = results.get(world)
        if not found:
            continue
        one = next(iter(found.values()))
        lines += [
            f"**{world}**, mean of seeds: {one['seeds']}; served clean {_percent(one['clean'])}, "
            f"frozen {_percent(one['frozen'])}\n",
            "| lies | served | points lost | since the first lie | recall since, clean → lied to "
            "| AUC since | liars caught | after batches | honest quarantined | labels forgotten "
            "| promotions, rollbacks |",
            "|---" * 11 + "|",
        ]
        lines += [_attack(name, row) for name, row in found.items()]
        lines.append("")
    return "\n".join(lines[:-1])


def honest_table(results: dict[str, Any]) -> str:
    """What it costs that honest sources differ."""
    lines = [
        "| each source has a tenth of | served | honest quarantined | labels forgotten |",
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
        name, _percent(row["served"]),
        _points(row["loss"]), _points(row["loss_since"]),
        f"{row['recall_clean']:.2f} → {row['recall']:.2f}",
        f"{row['auc_clean']:.2f} → {row['auc']:.2f}",
        f"{row['caught']} of {row['liars']}", f"{min(waits)} to {max(waits)}" if waits else "never",
        row["honest_quarantined"], f"{row['labels_forgotten'] + row['honest_forgotten']:,}",
        f"{row['promotions']}, {row['rollbacks']}",
    )  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # no minus before a zero


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


TABLES = {
    "poisoning": {"poisoning": poisoning_table, "honest": honest_table},
    "streams": {"streams": streams_table},
    "quality": {"quality": quality_table},
    "faults": {"faults": faults_table},
    "serving": {
        "serving": serving_table,
        "requests": requests_table,
        "steps": steps_table,
        "log": log_table,
        "billion": billion_table,
    },
}


def update(name: str) -> None:
    """Put one result file's tables between their marks, wherever they stand."""
    results = json.loads((RESULTS / f"{name}.json").read_text())
    for mark, table in TABLES[name].items():
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
        for page in (README, *DOCS.glob("*.md")):
            text = page.read_text()
            body = table(results)
            page.write_text(re.sub(pattern, rf"\g<1>{body}\n\g<2>", text, flags=re.DOTALL))
