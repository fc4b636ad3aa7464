"""Writes the Grafana dashboards: what dashboards.py says in short becomes dashboards/*.json, and the page ../docs/dashboards.md.

In: dashboards.py, and the sections of ../docs/runbooks.md. Out: one file a dashboard, the same bytes for the same input. Never: a
panel without a unit and a description, a query that is written twice.

    python deploy/grafana/generate.py            writes them
    python deploy/grafana/generate.py --check    tells which are not as they would be written

Grafana's own foundation SDK builds the JSON, so that what Grafana does not know does not get in.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

FOLDER = Path(__file__).parent
RUNBOOKS = FOLDER.parent / "docs" / "runbooks.md"
PAGE = FOLDER.parent / "docs" / "dashboards.md"
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS_UID = "iguazu-runbooks"

GREEN, YELLOW, RED = "green", "#EAB839", "red"


@dataclass
class Panel:
    """One panel. `what` says what it shows, `knob` which setting moves it; `alert` names the runbook section that belongs to it."""

    title: str
    unit: str
    what: str
    queries: list[tuple[str, str]]
    knob: str = ""
    alert: str = ""
    kind: str = "lines"
    # Rising: from this value on this colour. A list that begins with red says that more is better.
    steps: list[tuple[float | None, str]] = field(default_factory=list)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)
    least: float | None = 0
    most: float | None = None
    width: int = 8
    stacked: bool = False


@dataclass
class Variable:
    """A choice at the top of a dashboard; its values are those of a label."""

    name: str
    label: str
    series: str
    multiple: bool = True


@dataclass
class Row:
    """Panels under one heading."""

    title: str
    panels: list[Panel]


@dataclass
class Dashboard:
    """A dashboard; `about` is its one sentence."""

    uid: str
    title: str
    about: str
    variables: list[Variable]
    rows: list[Row]


def main() -> int:
    sections = runbook_sections()
    sys.path.insert(0, str(FOLDER))
    from dashboards import ALL

    folder = FOLDER / "dashboards"
    written = {folder / f"{board.uid}.json": as_text(build(board, sections)) for board in ALL}
    written[folder / f"{RUNBOOKS_UID}.json"] = as_text(build_runbooks(sections))
    written[PAGE] = page(ALL)
    there = {path: path.read_text() for path in [*folder.glob("*.json"), PAGE] if path.exists()}
    if "--check" in sys.argv[1:]:
        stale = sorted(path for path in there.keys() | written.keys() if there.get(path) != written.get(path))
        for path in stale:
            print(f"{path} is not what dashboards.py says; run deploy/grafana/generate.py", file=sys.stderr)
        return 1 if stale else 0
    folder.mkdir(exist_ok=True)
    for path in there.keys() - written.keys():
        path.unlink()
    for path, content in written.items():
        path.write_text(content)
    return 0


def page(boards: list[Dashboard]) -> str:
    """The dashboards for people who read, with which setting moves which panel."""
    parts = [
        "# Dashboards\n\n"
        "Grafana's dashboards are in [`deploy/grafana`](../grafana): `provisioning` says where Prometheus is and where they are, `dashboards`\n"
        "has them. They are written by `python deploy/grafana/generate.py` from the short definitions of `dashboards.py`, as is this page. The rules that\n"
        "they need are those of [`deploy/prometheus`](../prometheus), and each panel links to its [runbook](runbooks.md). The pictures are not\n"
        "Grafana's own: they are drawn from the panels' queries, answered by a Prometheus that looked at a few minutes in which senders err, a\n"
        "cluster goes down and comes back, a record is refused and a topic is changed by hand (`tests/it/dashboards.rs`).\n"
    ]
    for board in boards:
        parts.append(f"\n## {board.title}\n\n{board.about}\n\n![{board.title}](pictures/{board.uid}.png)\n")
        parts.append("\n| panel | what it shows | which knob moves it | runbook |\n|---|---|---|---|\n")
        for panel in (panel for row in board.rows for panel in row.panels):
            alert = f"[{panel.alert.removeprefix('Iguazu')}](runbooks.md#{panel.alert.lower()})" if panel.alert else ""
            parts.append(f"| {panel.title} | {panel.what} | {panel.knob} | {alert} |\n")
    return "".join(parts)


def as_text(built: dashboard.Dashboard) -> str:
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def runbook_sections() -> dict[str, str]:
    """Each alert's section, without its heading."""
    parts = re.split(r"^## (Iguazu\w+)\n", RUNBOOKS.read_text(), flags=re.MULTILINE)
    return {name: content.strip() for name, content in zip(parts[1::2], parts[2::2])}


def build(board: Dashboard, sections: dict[str, str]) -> dashboard.Dashboard:
    built = frame(board.uid, board.title, board.about)
    for variable in board.variables:
        built.with_variable(choice(variable))
    number = 0
    for row in board.rows:
        number += 1
        built.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            if panel.alert and panel.alert not in sections:
                raise SystemExit(f"{board.uid}: {panel.title}: runbooks.md has no section {panel.alert}")
            built.with_panel(draw(panel, number, list(sections)))
    return built


def build_runbooks(sections: dict[str, str]) -> dashboard.Dashboard:
    """The runbooks as a dashboard, so that a panel can link to what to do wherever Grafana runs."""
    built = frame(RUNBOOKS_UID, "Iguazu / Runbooks", "What each alert means, how to see it, what to do, how to undo it.")
    for number, (name, content) in enumerate(sections.items(), 1):
        panel = text.Panel().id(number).title(name).mode(TextMode.MARKDOWN).content(content).height(12).span(12)
        built.with_panel(panel)
    return built


def frame(uid: str, title: str, about: str) -> dashboard.Dashboard:
    firing = (
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color(RED)
        .expr('ALERTS{alertname=~"Iguazu.*", alertstate="firing"}')
        .title_format("{{alertname}}")
        .text_format("{{cluster}} {{event}} {{instance}}")
    )
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus").hide(VariableHide.DONT_HIDE)
    others = (
        dashboard.DashboardLink("Iguazu")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["iguazu"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
        .icon("external link")
        .placement(None)
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["iguazu"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(source)
        .annotation(firing)
        .link(others)
    )


def choice(variable: Variable) -> dashboard.QueryVariable:
    every = VariableOption(selected=True, text="All", value="$__all")
    built = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(PROMETHEUS)
        .query(f"label_values({variable.series}, {variable.name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if variable.multiple:
        built.multi(True).include_all(True).all_value(".*").current(every)
    return built


def draw(panel: Panel, number: int, sections: list[str]) -> object:
    """A panel as Grafana wants it."""
    kinds = {"lines": lines, "number": big_number, "states": states, "table": rows, "bars": bars}
    built = kinds[panel.kind](panel)
    description = panel.what
    if panel.knob:
        description += f"\n\n**Knob:** {panel.knob}"
    built.id(number).title(panel.title).description(description).datasource(PROMETHEUS).unit(panel.unit).span(panel.width)
    built.no_value("none")
    if panel.least is not None:
        built.min(panel.least)
    if panel.most is not None:
        built.max(panel.most)
    if panel.alert:
        link = dashboard.DashboardLink(f"Runbook: {panel.alert}").type(DashboardLinkType.LINK)
        built.links([link.url(f"/d/{RUNBOOKS_UID}?viewPanel={sections.index(panel.alert) + 1}")])
    for letter, (expression, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        query = prometheus.Dataquery().ref_id(letter).datasource(PROMETHEUS).expr(expression).legend_format(legend)
        if panel.kind == "table":
            query.instant().format(PromQueryFormat.TABLE)
        else:
            query.range()
        built.with_target(query)
    return built


def limits(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=value, color=color) for value, color in panel.steps or [(None, GREEN)]]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def lines(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    built = (
        timeseries.Panel()
        .height(8)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .show_points(VisibilityMode.NEVER)
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 8)
        .thresholds(limits(panel))
    )
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if panel.steps:
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return built


def big_number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .height(4)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .thresholds(limits(panel))
    )


def states(panel: Panel) -> statetimeline.Panel:
    results = {str(value): ValueMappingResult(text=name, color=color) for value, (name, color) in panel.names.items()}
    built = statetimeline.Panel().height(8).show_value(VisibilityMode.AUTO).fill_opacity(70).mappings([ValueMap(options=results)])
    return built.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS)).thresholds(limits(panel))


def rows(panel: Panel) -> table.Panel:
    return table.Panel().height(8).thresholds(limits(panel))


def bars(panel: Panel) -> bargauge.Panel:
    return (
        bargauge.Panel()
        .height(8)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(VizOrientation.HORIZONTAL)
        .thresholds(limits(panel))
    )


if __name__ == "__main__":
    sys.exit(main())
