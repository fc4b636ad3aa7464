"""Draws dashboards as pictures, for the documentation and so that a person can look at them without Grafana.

In: a folder with a JSON file for each dashboard, its panels' definitions and what Prometheus answered to their queries. Out: a PNG
beside each. Never: asks Prometheus itself, or draws a panel otherwise than its definition says (unit, limits, kind).
"""

import json
import math
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402

COLOURS = ["#5794F2", "#73BF69", "#F2CC0C", "#FF9830", "#F2495C", "#B877D9", "#8AB8FF", "#96D98D", "#FFEE52", "#FFB357"]
NAMED = {"green": "#56A64B", "red": "#E02F44", "#EAB839": "#EAB839"}
WIDTH, ROW_HEIGHT = 14.0, 0.42
TEXT, FAINT = "#24292e", "#6e7781"


def main() -> None:
    for file in sorted(Path(sys.argv[1]).glob("*.json")):
        draw(json.loads(file.read_text()), file.with_suffix(".png"))


def draw(board: dict, picture: Path) -> None:
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["rows"])
    height = bottom * ROW_HEIGHT * 0.8 + 0.5
    plt.rcParams.update({"font.size": 7, "font.family": "DejaVu Sans", "text.color": TEXT})
    figure = plt.figure(figsize=(WIDTH, height), dpi=80, facecolor="white")
    figure.text(0.012, 1 - 0.22 / height, board["title"], fontsize=12, weight="bold", va="center")
    unit = (height - 0.5) / bottom / height

    def place(grid: dict) -> tuple[float, float, float, float]:
        return grid["x"] / 24, 1 - 0.5 / height - (grid["y"] + grid["h"]) * unit, grid["w"] / 24, grid["h"] * unit

    for row in board["rows"]:
        if row["type"] == "row":
            x, y, _, h = place(row["gridPos"])
            figure.text(x + 0.012, y + h / 2, row["title"], fontsize=9, weight="bold", va="center", color=FAINT)
    for shown in board["panels"]:
        x, y, w, h = place(shown["panel"]["gridPos"])
        inch_x, inch_y = 1 / WIDTH, 1 / height
        axes = figure.add_axes((x + 0.5 * inch_x, y + 0.42 * inch_y, w - 0.66 * inch_x, h - 0.72 * inch_y))
        axes.set_title(shown["panel"]["title"], fontsize=8, loc="left", weight="bold", pad=3)
        {"timeseries": lines, "stat": number, "state-timeline": states, "table": rows, "bargauge": bars}[shown["panel"]["type"]](axes, shown)
    figure.savefig(picture, pil_kwargs={"optimize": True})
    plt.close(figure)
    palette(picture)


def palette(picture: Path) -> None:
    """Few colours: a quarter of the bytes."""
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


def series_of(shown: dict) -> list[tuple[str, list[float], list[float]]]:
    """Name, seconds since the beginning, values; the beginning is that of everything shown."""
    found = []
    for query in shown["queries"]:
        for series in query["series"]:
            label = lambda match: series["metric"].get(match.group(1), "")  # noqa: E731
            name = re.sub(r"\{\{\s*(\w+)\s*\}\}", label, query["legend"]).strip()
            points = [(float(at), float(value)) for at, value in series["values"]]
            found.append((name, [at for at, _ in points], [value for _, value in points]))
    begin = min((times[0] for _, times, _ in found if times), default=0)
    return [(name, [at - begin for at in times], values) for name, times, values in found]


def format_of(unit: str):
    def scaled(value: float, steps: list[tuple[float, str]]) -> str:
        for size, name in steps:
            if abs(value) >= size:
                return f"{value / size:.3g} {name}".strip()
        return f"{value:.3g}"

    def text(value: float, _=None) -> str:
        if not math.isfinite(value):
            return "none"
        if unit == "percentunit":
            return f"{value * 100:.4g} %"
        if unit == "s":
            if value == 0:
                return "0"
            return scaled(value, [(31536000, "a"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")])
        if unit in ("bytes", "Bps"):
            end = "/s" if unit == "Bps" else ""
            return scaled(value, [(2**30, "GiB" + end), (2**20, "MiB" + end), (2**10, "KiB" + end), (1, "B" + end)])
        return scaled(value, [(1e6, "M"), (1e3, "k"), (1, "")]) + (" /s" if unit == "reqps" else "")

    return text


def defaults(shown: dict) -> dict:
    return shown["panel"]["fieldConfig"]["defaults"]


def steps_of(shown: dict) -> list[dict]:
    return defaults(shown).get("thresholds", {}).get("steps", [])


def colour_of(shown: dict, value: float) -> str:
    colour = TEXT
    for step in steps_of(shown):
        if step["value"] is None or value >= step["value"]:
            colour = NAMED.get(step["color"], step["color"])
    return colour


def lines(axes, shown: dict) -> None:
    found = series_of(shown)
    stacked = defaults(shown).get("custom", {}).get("stacking", {}).get("mode") == "normal"
    found.sort(key=lambda one: -max((value for value in one[2] if math.isfinite(value)), default=0))
    if stacked:
        times = sorted({at for _, moments, _ in found for at in moments})
        columns = [dict(zip(moments, values)) for _, moments, values in found]
        tidy = [[0 if not math.isfinite(column.get(at, 0)) else column.get(at, 0) for at in times] for column in columns]
        axes.stackplot(times, tidy, labels=[name for name, _, _ in found], colors=COLOURS, alpha=0.75, linewidth=0)
    else:
        for (name, times, values), colour in zip(found, COLOURS * 9):
            axes.plot(times, values, label=name, color=colour, linewidth=1.1)
    style(axes, shown)
    low, high = axes.get_ylim()
    for step in steps_of(shown):
        if step["value"] is not None and low <= step["value"] <= high:
            axes.axhline(step["value"], color=NAMED.get(step["color"], step["color"]), linewidth=0.8, linestyle="--")
    handles, names = axes.get_legend_handles_labels()
    # What is nothing all the time needs no name beside what is something.
    busy = sum(1 for _, _, values in found if any(value and math.isfinite(value) for value in values)) or 3
    handles, names = handles[:busy], names[:busy]
    axes.legend(handles[:6], [name[:38] for name in names[:6]], loc="upper left", fontsize=5.5, frameon=True, framealpha=0.7, edgecolor="none", ncols=1 + (len(names) > 3), borderpad=0.2, labelspacing=0.25, handlelength=1.2)


def style(axes, shown: dict) -> None:
    axes.grid(color="#e5e7eb", linewidth=0.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d0d7de")
    axes.tick_params(length=0, labelcolor=FAINT, labelsize=6.5)
    limits = defaults(shown)
    low, high = axes.get_ylim()
    if limits.get("min") == 0:
        axes.set_ylim(0, max(high, 1e-12) * 1.25)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(format_of(limits.get("unit", "short"))))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02d}"))


def last(values: list[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)


def number(axes, shown: dict) -> None:
    axes.set_axis_off()
    found = series_of(shown)
    if not found:
        return
    _, times, values = found[0]
    value = last(values)
    colour = colour_of(shown, value)
    axes.fill_between(times, values, min(values), color=colour, alpha=0.12, linewidth=0)
    axes.text(0.5, 0.5, format_of(defaults(shown).get("unit", "short"))(value), transform=axes.transAxes, fontsize=17, weight="bold", color=colour, ha="center", va="center")


def states(axes, shown: dict) -> None:
    names = {}
    for mapping in defaults(shown).get("mappings", []):
        names.update({float(value): (result["text"], NAMED.get(result["color"], result["color"])) for value, result in mapping["options"].items()})
    found = series_of(shown)
    for height, (_, times, values) in enumerate(found):
        step = times[1] - times[0] if len(times) > 1 else 1
        for at, value in zip(times, values):
            axes.barh(height, step * 1.02, left=at, height=0.6, color=names.get(value, ("", FAINT))[1], linewidth=0)
    axes.set_ylim(-0.7, len(found) - 0.3)
    style(axes, {"panel": {"fieldConfig": {"defaults": {}}}})
    axes.set_yticks(range(len(found)), [name[:16] for name, _, _ in found], rotation=90, va="center", fontsize=6)
    axes.grid(False)
    used = {value for _, _, values in found for value in values}
    handles = [plt.Rectangle((0, 0), 1, 1, color=names[value][1], label=names[value][0]) for value in sorted(used & names.keys())]
    axes.legend(handles=handles, loc="upper right", fontsize=6, frameon=True, framealpha=0.7, edgecolor="none")


def rows(axes, shown: dict) -> None:
    axes.set_axis_off()
    metrics = [series["metric"] for query in shown["queries"] for series in query["series"]]
    columns = ["event", "owner", "cluster", "topic"]
    cells = [[metric.get(column, "") for column in columns] for metric in metrics[:9]]
    if cells:
        table = axes.table(cellText=cells, colLabels=columns, loc="upper left", cellLoc="left", edges="horizontal")
        table.auto_set_font_size(False)
        table.set_fontsize(7)


def bars(axes, shown: dict) -> None:
    found = series_of(shown)
    values = [last(values) for _, _, values in found]
    axes.barh(range(len(found)), values, color=[colour_of(shown, value) for value in values], height=0.55)
    style(axes, shown)
    axes.set_ylim(-0.6, max(len(found), 1) - 0.4)
    axes.set_xlim(0, defaults(shown).get("max", max(values, default=1)))
    axes.xaxis.set_major_formatter(FuncFormatter(format_of(defaults(shown).get("unit", "short"))))
    axes.set_yticks([])
    for height, ((name, _, _), value) in enumerate(zip(found, values)):
        axes.text(0.01, height, f" {name}: {format_of(defaults(shown).get('unit', 'short'))(value)}", transform=axes.get_yaxis_transform(), va="center", fontsize=7)


if __name__ == "__main__":
    main()
