"""Evidently and NannyML as their documentation uses them: ``python benchmarks/drift_tools.py NAME FOLDER``.

Run by the interpreter of an environment of their own. Tells as JSON, for each file of series in the folder, the months
in which each column drifted, and what it took. Every threshold, method and option is at its default.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

REFERENCE_MONTHS = 12


def evidently(frames, shifted):
    """`DataDriftPreset`: each month against the reference; it picks Kolmogorov-Smirnov at p < 0.05 for so few rows."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def drifted(reference, month):
        found = Report([DataDriftPreset()]).run(month, reference).dict()
        columns = [one["config"] for one in found["metrics"] if "column" in one["config"]]
        values = [one["value"] for one in found["metrics"] if "column" in one["config"]]
        return [config["column"] for config, value in zip(columns, values, strict=True) if value < config["threshold"]]

    def judge(frame, since=None):
        reference = frame[frame.month < REFERENCE_MONTHS].drop(columns=["month", "time"])
        found, costs = [], []
        for month in range(since or 0, frame.month.max() + 1 - REFERENCE_MONTHS):
            began = time.process_time()
            its = frame[frame.month == REFERENCE_MONTHS + month].drop(columns=["month", "time"])
            found += [(month, column) for column in drifted(reference, its)]
            costs.append(time.process_time() - began)
            if found and since is not None:  # which is all that is asked
                break
        return found, costs

    return {"Evidently, DataDriftPreset by month": told(frames, shifted, judge)}


def nannyml(frames, shifted):
    """`UnivariateDriftCalculator` by months, fitted on the reference: Jensen-Shannon distances, held to mean + 3 SD."""
    import nannyml as nml

    def judge(frame, since=None):
        columns = [name for name in frame.columns if name not in ("month", "time")]
        calculator = nml.UnivariateDriftCalculator(column_names=columns, timestamp_column_name="time", chunk_period="M")
        calculator.fit(frame[frame.month < REFERENCE_MONTHS])
        later = frame[frame.month >= REFERENCE_MONTHS]
        began = time.process_time()
        calculator.calculate(later[later.month == REFERENCE_MONTHS])
        cost = time.process_time() - began
        made = calculator.calculate(later).filter(period="analysis").to_df()
        found = [
            (month, column)
            for column in columns
            for month, alert in enumerate(made[column, "jensen_shannon", "alert"])
            if alert and month >= (since or 0)
        ]
        return sorted(found), [cost]

    return {"NannyML, UnivariateDriftCalculator by month": told(frames, shifted, judge)}


def told(frames, shifted, judge):
    """Alarms and months over the unchanged series, CPU seconds, and exams until each shift was noticed."""
    alarms, months, costs, began = 0, 0, [], time.process_time()
    for frame in frames:
        found, cost = judge(frame)
        alarms, months, costs = alarms + len(found), months + frame.month.max() + 1 - REFERENCE_MONTHS, costs + cost
    seconds = time.process_time() - began
    delays = []
    for frame, since in shifted:
        found = judge(frame, since)[0]
        delays.append(30 * (found[0][0] + 1 - since) if found else None)
    return {
        "alarms": alarms, "years": int(months) / 12, "seconds_all": seconds / len(frames),
        "seconds_month": sorted(costs)[len(costs) // 2], "delays": delays,
    }  # fmt: skip


if __name__ == "__main__":
    tool, folder = sys.argv[1], Path(sys.argv[2])
    cpu = time.process_time()
    __import__(tool)
    imported = {"import_cpu": time.process_time() - cpu}
    import pandas as pd

    plan = json.loads((folder / "plan.json").read_text())
    read = {name: pd.read_csv(folder / name, parse_dates=["time"]) for name in plan["unchanged"] + plan["shifted"]}
    results = {}
    for kind in plan["kinds"]:
        unchanged = [read[name] for name in plan["unchanged"] if name.startswith(kind)][: plan["most"].get(tool)]
        later = [(read[name], plan["shift_after_months"]) for name in plan["shifted"] if name.startswith(kind)]
        results[kind] = {"evidently": evidently, "nannyml": nannyml}[tool](unchanged, later)
    versions = {name: version(name) for name in (tool, "pandas", "numpy", "scipy")}
    print("drift: " + json.dumps({"results": results, "versions": versions, **imported}))
