"""Draws what `cargo bench --bench compare` measured.

In: its results as JSON, and a folder. Out: `compare-cpu.svg` (CPU per record, by program and load) and `compare-latency.svg` there.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# Text as text, and the same file for the same numbers.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "iguazu", "font.size": 9})
from matplotlib import pyplot  # noqa: E402

# Distinguishable also without colour vision (Okabe and Ito); Iguazu is blue in all its forms.
COLOURS = ["#999999", "#0072B2", "#56B4E9", "#004C75", "#8FC8E8", "#D55E00", "#E69F00", "#009E73"]


def main(results: str, folder: str) -> None:
    rows = json.loads(Path(results).read_text())["rows"]
    peers = list(dict.fromkeys(label(row) for row in rows))
    closed = [row for row in rows if not row["open_loop"]]
    loads = list(dict.fromkeys(row["cell"] for row in closed))

    figure, axes = pyplot.subplots(1, len(loads), figsize=(3.4 * len(loads), 0.42 * len(peers) + 1.1), layout="constrained")
    for at, (axis, load) in enumerate(zip([axes] if len(loads) == 1 else axes, loads)):
        values = {label(row): row["cpu_us_per_record"] for row in closed if row["cell"] == load}
        bars(axis, peers, values, load, at == 0)
    figure.suptitle("CPU per record, µs (user + system of the program under test); shorter is better")
    save(figure, Path(folder) / "compare-cpu.svg")

    opened = [row for row in rows if row["open_loop"]]
    if opened:
        figure, axes = pyplot.subplots(1, 3, figsize=(10.2, 0.42 * len(peers) + 1.1), layout="constrained")
        for at, (axis, key) in enumerate(zip(axes, ("p50", "p99", "p999"))):
            values = {label(row): row[f"{key}_ms"] for row in opened}
            bars(axis, peers, values, key.replace("p999", "p99.9"), at == 0)
        figure.suptitle(f"Latency, ms ({opened[0]['cell']}, counted from when a request was due)")
        save(figure, Path(folder) / "compare-latency.svg")


def label(row: dict) -> str:
    waits = "" if row["waits"] in ("acknowledged", "nothing") else f" ({row['waits']})"
    return row["peer"] + waits


def bars(axis, peers: list[str], values: dict, title: str, with_names: bool) -> None:
    widths = [values.get(peer) or 0 for peer in peers]
    drawn = axis.barh(range(len(peers)), widths, color=[COLOURS[n % len(COLOURS)] for n in range(len(peers))])
    axis.bar_label(drawn, [f" {w:.1f}" if w else " -" for w in widths])
    axis.set_yticks(range(len(peers)), peers if with_names else [""] * len(peers))
    axis.invert_yaxis()
    axis.set_xlim(0, max(widths) * 1.25 or 1)
    axis.set_title(title)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
