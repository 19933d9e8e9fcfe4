"""The report as one page that needs nothing else: no scripts, no fonts, no pictures from elsewhere."""

from html import escape
from importlib.resources import files

from growth.load import charts, text
from growth.load.formatting import counted, duration, milliseconds
from growth.load.report import SpikeReport

STYLE = "page.css"
VERDICTS = {True: ("pass", "PASS"), False: ("fail", "FAIL"), None: ("untold", "not told")}


def page(report: SpikeReport) -> str:
    """Return the HTML."""
    style = (files("growth.load") / STYLE).read_text(encoding="utf-8")
    body = "".join((_top(report), _cards(report), _plots(report), _table(report), _laws(report), _foot(report)))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Flash sale under load, {report.made_at:%Y-%m-%d %H:%M} UTC</title>"
        f"<style>{style}</style><main>{body}</main></html>\n"
    )


def _top(report: SpikeReport) -> str:
    kind = "fail" if report.broken else "pass" if report.is_measured else "untold"
    word = {"fail": "FAIL", "pass": "PASS", "untold": "PASS, but not at this rate"}[kind]
    return (
        f'<header class="{kind}"><p class="verdict">{word}</p><h1>{escape(text.headline(report))}</h1>'
        f"<p>A flash sale under load at {escape(report.base_url)}, {report.made_at:%Y-%m-%d %H:%M:%S} UTC.</p></header>"
    )


def _cards(report: SpikeReport) -> str:
    found = report.recording.outcomes
    server = report.cpu[0].milliseconds.get("server") if report.cpu else None
    sold = report.seconds_to_sell_out
    errors = found["error"].count if "error" in found else 0
    cards = [
        (f"{report.rate:,.0f}/s", "requests due at full rate"),
        (duration(sold) if sold is not None else "—", f"to sell {counted(report.options.units, 'unit')}"),
        (text.slowest(found, "won"), "p99 of a claim won"),
        (text.slowest(found, "sold_out"), "p99 of “sold out”"),
        (f"{server:.0f} µs" if server is not None else "—", "server CPU a request"),
        (f"{errors:,}", "errors"),
    ]
    return (
        '<section class="cards">' + "".join(f"<div><b>{v}</b><span>{n}</span></div>" for v, n in cards) + "</section>"
    )


def _section(title: str, sentence: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(sentence)}</p>{content}</section>"


def _plots(report: SpikeReport) -> str:
    timeline = report.recording.timeline
    slot = timeline.slot_seconds
    time = charts.Time(report.phases[-1].end, report.opens_at, report.phases)
    slots = len(timeline.offered)
    answered = [sum(values[number] for values in timeline.outcomes.values()) for number in range(slots)]
    names = [(name, name.replace("_", " ")) for name in timeline.outcomes]
    sections = [
        _section(
            "Did the service keep up?",
            text.rates(report),
            charts.legend([("offered", "due"), ("answered", "answered")])
            + charts.rates(time, slot, timeline.offered, answered),
        ),
        _section(
            "What did people get?",
            text.outcomes(report),
            charts.legend(names) + charts.stacked(time, slot, timeline.outcomes),
        ),
        _section(
            "How long did they wait?",
            text.by_outcome(report),
            charts.latency_by_outcome(report.recording.outcomes),
        ),
        _section(
            "When was it slow?",
            text.over_time(report),
            charts.legend([("p99", "p99: one in a hundred waited longer"), ("p50", "p50: half waited longer")])
            + charts.latency_over_time(time, slot, timeline.p50_us, timeline.p99_us),
        ),
    ]
    if report.cpu:
        processes = [(name, name) for name in report.cpu[0].milliseconds]
        sections.append(
            _section("Who paid for it?", text.cpu(report), charts.legend(processes) + charts.cpu_bars(report.cpu))
        )
    if report.steps:
        sections.append(
            _section(
                "Where does it bend?",
                text.staircase(report.steps),
                charts.legend([("p99", "p99"), ("p50", "p50")]) + charts.staircase(report.steps),
            )
        )
    return "".join(sections)


def _table(report: SpikeReport) -> str:
    head = "".join(
        f"<th>{name}</th>" for name in ("outcome", "count", "share", "a second", "p50", "p90", "p99", "p99.9", "max")
    )
    seconds = max(report.phases[-1].end, 0.001)
    rows = []
    for name, found in report.recording.outcomes.items():
        figures = (found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us)
        cells = [
            f'<i class="swatch {name}"></i>{name.replace("_", " ")}',
            f"{found.count:,}",
            f"{found.count / max(report.offered, 1):.2%}",
            f"{found.count / seconds:,.1f}",
            *(milliseconds(figure) for figure in figures),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    details = "".join(
        f"<li>{count:,} times {escape(reason)}</li>" for reason, count in report.recording.details.items()
    )
    more = f"<p>Reasons of “other” and “error”:</p><ul>{details}</ul>" if details else ""
    table = f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{more}'
    waited = report.recording.waiting
    sentence = (
        "Latencies in milliseconds, from the due time to the end of the answer. Of that, "
        f"{milliseconds(waited.p50_us)} (p50) and {milliseconds(waited.p99_us)} (p99) passed before the request could "
        "be sent: all connections were busy, or the generator was."
    )
    return _section("All figures", sentence, table)


def _laws(report: SpikeReport) -> str:
    rows = []
    for law in report.laws:
        kind, word = VERDICTS[law.held]
        cells = (f'<b class="{kind}">{word}</b>', escape(law.sentence), escape(law.detail))
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = f'<table class="laws"><tbody>{"".join(rows)}</tbody></table>'
    return _section("Laws", text.laws(report), table)


def _foot(report: SpikeReport) -> str:
    return f"<footer><h2>How it was measured</h2><p>{escape(text.setup(report))}</p></footer>"
