"""Examples of good answers, for the OpenAPI page."""

from __future__ import annotations

STATUS = {
    "state": "DRIFTING", "mode": "heal", "paused": False,
    "model": "selfheal-demo:wwzzpchhi2ajuax4", "classes": [0, 1],
    "serving": {"version": 7, "phase": "post-heal",
                "tag": "selfheal-demo-adapter:1a565b-000007-post-heal"},
    "signals": {"z": 1.41, "feature": "V14", "conflicts": 41, "distance": 5.2,
                "differing": ["country"], "drifting": True, "error": "", "fidi_threshold": 1.0,
                "conflict_min": 5, "distance_limit": 3.9},
    "labels": {"joined": 1500, "corrected": 0, "waiting": 0, "unmatched": 0,
               "delay_seconds": 3600.0},
    "unread": {"requests": 0, "labels": 0, "seconds": 0.0}, "behind": None,
    "cpu": {"share": 1.0, "starved": False, "raised": False},
    "lift": {"mean": 0.31, "low": 0.23, "high": 0.39},
    "heals": 9, "promotions": 2, "rollbacks": 0, "runner_alive": True,
    "worker": {"pid": 71, "serving_version": 7, "serving_since": 1795442638.0,
               "threshold": 0.5, "queue_rows": 0, "dropped_rows": 0},
}  # fmt: skip
REVIEW = {
    "rule": "queue", "classes": [0, 1], "budget": 200, "left": 150,
    "rows": [{
        "prediction_id": "jBVCu9BvFXxJTBuyAAABRbGnIJZ6vM1N.0", "features": {"amount": 12.5},
        "probability": 0.48, "decision": 0, "review_probability": 0.07,
        "why": "the challenger disagrees", "time": 1795442638.0,
    }],
}  # fmt: skip
SNAPSHOT = {
    "version": 7, "tag": "selfheal-demo-adapter:1a565b-000007-post-heal", "phase": "post-heal",
    "sha256": "9f2c…", "heal": 3, "batch": 8, "reason": "z=0.54 on V14, conflicts=8",
    "time": 1795442638.0, "accuracy": 0.86, "f1": 0.24, "rows": 400, "serving": True,
    "previous": False, "share": 1.0,
}  # fmt: skip
PROMOTION = {
    "kind": "promote", "version": 7, "tag": "selfheal-demo-adapter:1a565b-000007-post-heal",
    "sha256": "9f2c…", "reason": "loss lower by 0.0954 on 100 new labels",
    "time": 1795442638.0, "by": "runner", "trace": None, "seq": 3, "share": 1.0,
    "evidence": {"log_e": 4.17, "log_e_needed": 3.0, "rows": 100, "mean_gain": 0.0954,
                 "standard_error": 0.0191, "first_label": 801, "last_label": 900,
                 "thresholds": {"rollback_f1_drop": 0.08, "rollback_acc_drop": 0.1}},
}  # fmt: skip
EVENT = {
    "kind": "heal", "time": 1795442638.0, "batch": 8, "seq": 12,
    "detail": {"heal": 3, "version": 7, "reason": "z=0.54 on V14, conflicts=8", "rows": 800,
               "losses": {"real": 0.33, "total": 0.33}},
}  # fmt: skip
MEASUREMENT = {
    "time": 1795442638.0, "batch": 8, "labelled_batch": 7, "scored": True, "seq": 15,
    "figures": {"state": "DRIFTING", "version": 7, "z": 1.41, "conflicts": 41, "accuracy": 0.84,
                "shadow_accuracy": 0.45, "challenger_accuracy": 0.85, "lift": 0.39},
}  # fmt: skip
