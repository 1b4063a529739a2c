# SPDX-License-Identifier: MIT
"""What bench/balloon measured, read again: tables and pictures.

Rounds that warm up are left out; every other run counts. A ratio is of two runs of
one round and one rig; its median stands before the lowest and the highest."""

import collections
import os
import shutil
import statistics

from migration_report import QUIET_CORES, RESULTS, draw_panels, read, spread, table
from monitors import MIB

GIB = MIB << 10
TEXT = {"what", "warm_up", "who", "version", "rig", "pages", "way", "order", "right", "note",
        "host"}
PAGES = ("small", "huge")
MANY = 16
HINT_BAR_NS = 100

Kind = collections.namedtuple("Kind", "what rig who pages way buffers order",
                              defaults=("frames", 1, ""))


def number(row):
    return {key: value if key in TEXT else float(value) if value else None
            for key, value in row.items()}


def kind_of(row):
    return Kind(row["what"], row["rig"], row["who"], row["pages"], row["way"],
                int(row["buffers"] or 0), row["order"])


class Runs:
    """Those that count, by kind and round."""

    def __init__(self, rows):
        self.rows = [number(row) for row in rows]
        self.counted = [row for row in self.rows if not row["warm_up"]]
        self.cells = collections.defaultdict(dict)
        for row in self.counted:
            self.cells[kind_of(row)][row["round"]] = row

    def of(self, kind):
        """Round -> row, of runs that came to their end."""
        return {at: row for at, row in self.cells.get(kind, {}).items()
                if own_time(row) is not None}

    def values(self, kind, value):
        return [value(row) for row in self.of(kind).values()]

    def ratios(self, over, under, value):
        over, under = self.of(over), self.of(under)
        return [value(over[at]) / value(under[at]) for at in sorted(over)
                if at in under and value(under[at])]


def own_time(row):
    """Milliseconds: the guest's own where there is one, since the host hears of the end
    through a serial port, later by up to some milliseconds; else the program's."""
    return row["guest_ms"] if row.get("guest_ms") is not None else row["own_ms"]


def rate(row):
    """GiB/s of what was given back or taken."""
    return row["bytes"] / GIB / own_time(row) * 1000


def ns_a_hint(row):
    return own_time(row) * 1e6 / row["hints"]


def guest(who, pages, buffers=1, way="frames", what="inflate"):
    return Kind(what, "guest", who, pages, way, buffers)


def device(who, pages, buffers=1, order="buddy"):
    return Kind("inflate", "device", who, pages, "frames", buffers, order)


def reporting(who, pages):
    return Kind("report", "guest", who, pages, "", 1)


def hints(way):
    return Kind("hints", "device", "ring", "", way, 0)


def guest_hints(who):
    return Kind("hints", "guest", who, "", "move", 0)


LIMIT = {pages: guest("once", pages) for pages in PAGES}
RANGES = guest("aerostat", "huge", way="ranges")
# Hardly anything but the discard of memory that a guest has mapped.
MAPPED = guest("aerostat", "small", way="ranges")
ON_WAY = {1: "one buffer on the way", MANY: f"{MANY} on the way"}


# -------------------------------------------------------------------- bars ---

def bars(runs):
    """Lines of what is asked, its bar, what was measured, and whether it is met."""
    def line(what, values, bar, met, form="{:.2f}"):
        if values:
            yield [what, bar, spread(values, form), "met" if met else "**not met**"]

    def at_least(what, values, bar):
        yield from line(what, values, f"at least {bar:g}",
                        values and statistics.median(values) >= bar)

    for pages in PAGES:
        for buffers, words in ON_WAY.items():
            yield from at_least(
                f"guest, frame numbers, {pages} pages, {words}: rate over QEMU's",
                runs.ratios(guest("aerostat", pages, buffers), guest("QEMU", pages, buffers),
                            rate), 5)
    for buffers, words in ON_WAY.items():
        yield from at_least(
            f"guest, frame numbers, small pages, {words}: rate over one madvise()'s",
            runs.ratios(guest("aerostat", "small", buffers), LIMIT["small"], rate), 0.6)
    for buffers, words in ON_WAY.items():
        yield from at_least(
            f"guest, frame numbers, small pages, {words}: rate over that by ranges of 256 MiB",
            runs.ratios(guest("aerostat", "small", buffers), MAPPED, rate), 0.6)
    for buffers, words in ON_WAY.items():
        yield from at_least(
            f"device, buddy order, small pages, {words}: rate over one madvise()'s",
            runs.ratios(device("ring", "small", buffers), device("once", "small"), rate), 0.6)
    yield from at_least("guest, ranges, huge pages: rate over QEMU's by frame numbers",
                        runs.ratios(RANGES, guest("QEMU", "huge"), rate), 100)
    yield from at_least(
        "guest, ranges, huge pages: return with each page written, rate over QEMU's",
        runs.ratios(RANGES._replace(what="return"), guest("QEMU", "huge", what="return"),
                    rate), 3)
    for way, words in (("alone", "alone"), ("sender", "beside a sender")):
        values = runs.values(hints(way), ns_a_hint)
        yield from line(f"device, hints {words}: ns each", values, f"under {HINT_BAR_NS}",
                        values and statistics.median(values) < HINT_BAR_NS, "{:.0f}")


# ------------------------------------------------------------------ tables ---

def right(rows):
    return f"{sum(row['right'] == 'yes' for row in rows)} of {len(rows)}"


def mib(value):
    return f"{value / MIB:,.0f}"


def columns(runs, kind):
    done = list(runs.of(kind).values())

    def column(value, form="{:,.1f}"):
        return spread([value(row) for row in done if value(row) is not None], form)
    return [right(list(runs.cells[kind].values())),
            column(lambda row: row["bytes"] / MIB, "{:,.2f}"),
            column(lambda row: row["own_ms"]), column(lambda row: row["guest_ms"]),
            column(rate, "{:.2f}"), column(lambda row: row["cpu_s"], "{:.3f}")]


def huge_kept(runs, kind):
    done = list(runs.of(kind).values())
    return [mib(statistics.median(row[key] for row in done)) if done else "-"
            for key in ("huge_before", "huge_after")]


def guest_table(runs, what):
    lines = []
    for kind in sorted(each for each in runs.cells
                       if each.rig == "guest" and each.what == what and each.who != "once"):
        lines.append([kind.pages, kind.way, str(kind.buffers), kind.who, *columns(runs, kind),
                      *huge_kept(runs, kind)])
    for pages in PAGES:
        if what == "inflate" and LIMIT[pages] in runs.cells:
            lines.append([pages, "one madvise()", "-", "no guest", *columns(runs, LIMIT[pages]),
                          "-", "-"])
    return table(["host's pages", "by", "on the way", "monitor", "right", "MiB", "ms, host",
                  "ms, guest", "GiB/s", "CPU s", "AnonHugePages before, MiB", "after"], lines)


def device_table(runs):
    lines = []
    names = {"ring": "aerostat's device", "each": "a madvise() a page",
             "once": "one madvise() for all"}
    for kind in sorted(each for each in runs.cells
                       if each.rig == "device" and each.what == "inflate"):
        done = list(runs.of(kind).values())
        columns_ = columns(runs, kind)
        del columns_[3]  # there is no guest
        lines.append([
            kind.pages, kind.order if kind.who != "once" else "-", names[kind.who],
            str(kind.buffers) if kind.who == "ring" else "-", *columns_,
            f"{statistics.median(row['calls'] for row in done):,.0f}" if done else "-",
            spread(runs.ratios(kind, device("once", kind.pages), rate)),
            spread(runs.ratios(kind, device("each", kind.pages, order=kind.order), rate))])
    return table(["host's pages", "order", "what", "on the way", "right", "MiB", "ms", "GiB/s",
                  "CPU s", "discards", "rate over one madvise()", "over a madvise() a page"],
                 lines)


def hint_table(runs):
    lines = []
    for name, kind in [("device alone", hints("alone")),
                       ("device beside a sender", hints("sender")),
                       ("guest that moves, aerostat", guest_hints("aerostat")),
                       ("guest that moves, QEMU", guest_hints("QEMU"))]:
        rows = list(runs.of(kind).values())
        if rows:
            found = [row["runs"] for row in rows if row["runs"] is not None]
            lines.append([name, right(list(runs.cells[kind].values())),
                          spread([row["hints"] for row in rows], "{:,.0f}"),
                          spread([ns_a_hint(row) for row in rows], "{:,.1f}"),
                          spread(found, "{:,.0f}")])
    return table(["what", "right", "hints", "ns a hint",
                  "runs to send that the sender found meanwhile"], lines)


def ratio_table(runs):
    lines = []

    def add(name, kind):
        cpu = runs.ratios(kind, kind._replace(who="QEMU", way="frames" if kind.way else ""),
                          lambda row: row["cpu_s"] or 0)
        rates = runs.ratios(kind, kind._replace(who="QEMU", way="frames" if kind.way else ""),
                            rate)
        if rates:
            lines.append([name, spread(rates), spread(cpu)])
    for what in ("inflate", "return"):
        for pages in PAGES:
            for buffers, words in ON_WAY.items():
                add(f"{what}, frame numbers, {pages} pages, {words}",
                    guest("aerostat", pages, buffers, what=what))
        for pages in PAGES:
            add(f"{what}, ranges, {pages} pages; QEMU by frame numbers",
                guest("aerostat", pages, way="ranges", what=what))
    for pages in PAGES:
        add(f"reporting, {pages} pages", reporting("aerostat", pages))
    return table(["guest", "aerostat's rate over QEMU's", "CPU seconds over QEMU's"], lines)


def remarks(runs):
    """What a reader must know before he believes a figure."""
    for host in sorted({row["host"] for row in runs.rows if row["host"]}):
        yield f"- Host: {host}."
    for who in ("aerostat", "QEMU"):
        versions = sorted({row["version"] for row in runs.rows if row["who"] == who})
        yield f"- {who}: {', '.join(versions) or 'not measured'}."
    busy = sum((row["busy_cores"] or 0) > QUIET_CORES for row in runs.counted)
    yield (f"- Others kept more than {QUIET_CORES} CPUs busy before {busy} of "
           f"{len(runs.counted)} runs that count.")
    yield ("- guest: the bare guest with either monitor, its time by its own clock: from the "
           "host's word to the last buffer's way back. That holds the guest's own half: taking "
           "pages off its lists, exits, and in the return the writing of each page. Its virtual "
           "CPU does not sleep meanwhile, which is part of the CPU seconds. MiB are the resident "
           "set's.")
    both = [(row["guest_ms"], row["own_ms"]) for row in runs.counted
            if row["guest_ms"] is not None and row["own_ms"] is not None]
    if both:
        yield (f"- The guest's clock was ahead of the host's in "
               f"{sum(inner > outer for inner, outer in both)} of {len(both)} of its runs, and "
               f"behind by {spread([outer - inner for inner, outer in both], '{:.1f}')} ms, in "
               "which the host's word reaches it and its reply the host.")
    yield ("- device: no guest, only the queue, the balloon and the discard; memory that no "
           "guest maps. Its figures and the guest's are of different things.")
    wrong = [row for row in runs.rows if row["right"] != "yes"]
    for row in wrong:
        yield (f"- wrong: {row['what']}, {row['who']}, {row['pages']} pages, by {row['way']}, "
               f"round {row['round'] or 0:.0f}: {row['note']}")


# ---------------------------------------------------------------- pictures ---

def median_rate(runs, kind):
    values = runs.values(kind, rate)
    return f"{statistics.median(values):.3f}" if values else "NaN"


def guest_panel(runs, what):
    """Groups of pages and way, a column a monitor."""
    groups = [(pages, buffers, "frames") for pages in PAGES for buffers in (1, MANY)]
    lines = [f'"{pages}, {buffers}" ' + " ".join(
        median_rate(runs, guest(who, pages, buffers, way, what)) for who in ("aerostat", "QEMU"))
        for pages, buffers, way in groups]
    lines += [f'"{pages}, ranges" '
              + median_rate(runs, guest("aerostat", pages, way="ranges", what=what)) + " NaN"
              for pages in PAGES]
    return "\n".join(lines)


def device_panel(runs):
    lines = []
    for pages in PAGES:
        for order, buffers in (("buddy", MANY), ("shuffled", 256)):
            lines.append(f'"{pages}, {order}" ' + " ".join(
                median_rate(runs, kind) for kind in (
                    device("ring", pages, buffers, order), device("each", pages, 1, order),
                    device("once", pages))))
    return "\n".join(lines)


def report_panel(runs):
    return "\n".join(f'"{pages}" ' + " ".join(
        median_rate(runs, reporting(who, pages)) for who in ("aerostat", "QEMU"))
        for pages in PAGES)


def draw(runs):
    if not shutil.which("gnuplot"):
        print("balloon: no pictures: gnuplot is not installed (gnuplot-nox)")
        return
    monitors = ["aerostat", "QEMU"]
    panels = [
        ("inflate", "Guest gives memory, by host's pages and buffers on the way, GiB/s",
         guest_panel(runs, "inflate"), monitors),
        ("return", "Guest takes it back and writes each page, GiB/s",
         guest_panel(runs, "return"), monitors),
        ("device", "The device alone, by host's pages and order, GiB/s", device_panel(runs),
         ["aerostat's device", "a madvise() a page", "one madvise()"]),
        ("report", "Free page reporting, by host's pages, GiB/s", report_panel(runs), monitors)]
    colours = ["#2060a0", "#d07020", "#909090"]
    data = "".join(f"${name} << END\n{block}\nEND\n" for name, _, block, _ in panels)
    body = ""
    for name, title, block, columns_ in panels:
        if all(word == "NaN" for line in block.split("\n") for word in line.split()[-2:]):
            continue
        body += f'set title "{title}"\nplot ' + ", ".join(
            f'${name} using {i + 2}:xtic(1) lc rgb "{colour}" title "{column}"'
            for i, (column, colour) in enumerate(zip(columns_, colours))) + "\n"
    draw_panels("balloon", data,
                "set logscale y\nset yrange [0.1:*]\nset offsets graph 0, 0, graph 0.08, 0\n"
                f"set xtics rotate by 20 right\n{body}")


def report(path):
    rows = read(path)
    if not rows:
        print("balloon: nothing was measured yet")
        return
    runs = Runs(rows)
    lines = ["# Memory given and taken", "", *remarks(runs), "",
             *table(["what must be shown", "bar", "measured", ""], bars(runs)),
             "## Guest: inflation", "", *guest_table(runs, "inflate"),
             "## Guest: return, each page written", "", *guest_table(runs, "return"),
             "## Guest: free page reporting", "", *guest_table(runs, "report"),
             "## Guest: ratios", "", *ratio_table(runs),
             "## Device alone: inflation", "", *device_table(runs),
             "## Hints", "", *hint_table(runs)]
    text = "\n".join(lines)
    with open(os.path.join(RESULTS, "balloon.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print("\n" + text)
    draw(runs)
