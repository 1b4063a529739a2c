# SPDX-License-Identifier: MIT
"""What bench/migration measured, read again: tables and pictures.

Rounds that warm up are left out; every other run counts. A ratio is of two runs of
one round; its median stands before the lowest and the highest."""

import collections
import csv
import os
import random
import shutil
import statistics
import subprocess

from monitors import TOP

RESULTS = os.path.join(TOP, "bench", "results")
VARIANTS = [("aerostat", "on"), ("QEMU", "on"), ("aerostat", "off"), ("QEMU", "off")]
OURS, THEIRS, _, THEIRS_WITHOUT = VARIANTS
PICTURED = ["idle", "freed", "interleaved", "writing"]
LINUX, UNZEROED = "linux", "linux-unzeroed"
LIMIT_MS = 300
OVERSHOT = 1.1
QUIET_CORES = 0.2
BOOTSTRAP_FROM = 15  # pairs; below that an interval says nothing
TEXT = {"scenario", "warm_up", "monitor", "version", "hinting", "cold", "intact", "note", "host"}


def read(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(row):
    return {key: value if key in TEXT else float(value) if value else None
            for key, value in row.items()}


def emulated(row):
    return "emulated" in (row["host"] or "")


class Runs:
    """Those that count, by scenario, size of RAM, variant and round."""

    def __init__(self, rows):
        self.rows = [number(row) for row in rows]
        self.counted = [row for row in self.rows if not row["warm_up"]]
        self.cells = collections.defaultdict(dict)
        for row in self.counted:
            key = (row["scenario"], row["memory_mib"], (row["monitor"], row["hinting"]))
            self.cells[key][row["round"]] = row

    def name(self, scenario):
        """As it is called in a table."""
        told = any(row["scenario"] == scenario and emulated(row) for row in self.rows)
        return f"{scenario}, emulated" if told else scenario

    def sizes(self, scenario):
        return sorted({memory for name, memory, (_, hinting) in self.cells
                       if name == scenario and hinting})

    def of(self, scenario, variant, memory=None):
        """Round -> row, of runs that came to their end."""
        for size in [memory] if memory else self.sizes(scenario):
            cell = self.cells.get((scenario, size, variant), {})
            return {at: row for at, row in cell.items() if row["own_ms"] is not None}
        return {}

    def copies(self, scenario):
        """Round -> bytes a second of a plain copy, the median of its copies."""
        rates = collections.defaultdict(list)
        for row in self.counted:
            if row["scenario"] == scenario and row["monitor"] == "copy":
                rates[row["round"]].append(row["bytes"] / row["own_ms"] * 1000)
        return {at: statistics.median(each) for at, each in rates.items()}

    def ratios(self, scenario, over, under, value="own_ms"):
        over, under = self.of(scenario, over), self.of(scenario, under)
        return [over[at][value] / under[at][value] for at in sorted(over)
                if at in under and over[at][value] is not None and under[at][value]]


# -------------------------------------------------------------------- text ---

def spread(values, form="{:.2f}"):
    if not values:
        return "-"
    text = form.format(statistics.median(values))
    if len(values) > 1:
        text += f" ({form.format(min(values))} to {form.format(max(values))})"
    if len(values) >= BOOTSTRAP_FROM:
        chance = random.Random(1)
        medians = sorted(statistics.median(chance.choices(values, k=len(values)))
                         for _ in range(2000))
        text += f", 95 %: {form.format(medians[50])} to {form.format(medians[1949])}"
    return text


def table(head, lines):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


# -------------------------------------------------------------------- bars ---

def parts(row, rate):
    """What a move is made of at best, in ms: arming, report, and its bytes at the
    rate of a plain copy."""
    return row["setup_ms"], row["report_ms"], row["bytes"] / rate * 1000


def over_parts(runs, scenario):
    ours, copies = runs.of(scenario, OURS), runs.copies(scenario)
    return [row["own_ms"] / sum(parts(row, copies[at])) for at, row in ours.items() if at in copies]


def wire_rates(runs, scenario):
    ours, copies = runs.of(scenario, OURS), runs.copies(scenario)
    return [row["bytes"] / row["sending_ms"] * 1000 / copies[at] for at, row in ours.items()
            if at in copies and row["sending_ms"]]


def sweep_growth(runs):
    sizes = runs.sizes("sweep")
    if len(sizes) < 2:
        return [], ""
    small, large = (runs.of("sweep", OURS, size) for size in (sizes[0], sizes[-1]))
    return ([large[at]["own_ms"] / small[at]["own_ms"] for at in large if at in small],
            f"{sizes[-1] / 1024:g} GiB to {sizes[0] / 1024:g} GiB")


def figures(runs, scenario, variant, value):
    return [row[value] for row in runs.of(scenario, variant).values() if row[value] is not None]


def bars(runs):
    """Lines of what is asked, its bar, what was measured, and whether it is met."""
    def at_most(what, values, bar, judged=statistics.median, form="{:.2f}"):
        if values:
            met = judged(values) <= bar
            yield [what, f"at most {bar:g}", spread(values, form), "met" if met else "**not met**"]

    def at_least(what, values, bar):
        if values:
            met = statistics.median(values) >= bar
            yield [what, f"at least {bar:g}", spread(values), "met" if met else "**not met**"]

    freed = [row["bytes"] / row["in_use"] for row in runs.of("freed", OURS).values()]
    growth, between = sweep_growth(runs)
    overshot = [row["downtime_ms"] / LIMIT_MS for row in runs.counted
                if row["monitor"] == "aerostat" and row["downtime_ms"] is not None
                and not emulated(row)]
    linux, debian = runs.of(LINUX, OURS).values(), runs.name(LINUX)
    yield from at_most("freed: bytes over bytes in use, in every run", freed, 1.02, max, "{:.4f}")
    yield from at_most("freed: time over QEMU's with hinting",
                       runs.ratios("freed", OURS, THEIRS), 0.8)
    yield from at_most("freed: time over QEMU's without",
                       runs.ratios("freed", OURS, THEIRS_WITHOUT), 0.04, form="{:.3f}")
    yield from at_most("freed: time over arming + report + bytes at the copy's rate",
                       over_parts(runs, "freed"), 1.25)
    yield from at_most("interleaved: time over QEMU's with hinting",
                       runs.ratios("interleaved", OURS, THEIRS), 0.5)
    yield from at_most(f"sweep: time, {between}", growth, 1.15)
    yield from at_least("freed: rate on the wire over a plain copy's into huge pages",
                        wire_rates(runs, "freed"), 0.85)
    yield from at_least("interleaved: the same, into small pages",
                        wire_rates(runs, "interleaved"), 0.85)
    yield from at_most("idle: heartbeat gap over QEMU's with hinting",
                       runs.ratios("idle", OURS, THEIRS, "gap_ms"), 0.5)
    yield from at_most(f"all but emulated: downtime over the limit of {LIMIT_MS} ms, in every run",
                       overshot, OVERSHOT, max)
    yield from at_most("writing: heartbeat gap over the limit, in every run",
                       [gap / LIMIT_MS for gap in figures(runs, "writing", OURS, "gap_ms")], 1, max)
    yield from at_most(f"{debian}: bytes over bytes in use, in every run",
                       [row["bytes"] / row["in_use"] for row in linux], 1.1, max)
    yield from at_most(f"{debian}: time over QEMU's with hinting",
                       runs.ratios(LINUX, OURS, THEIRS), 0.5)


# ------------------------------------------------------------------ tables ---

def intact(rows):
    tried = [row for row in rows if row["intact"]]
    return f"{sum(row['intact'] == 'yes' for row in tried)} of {len(tried)}"


def run_table(runs):
    lines = []
    for (scenario, memory, variant), cell in runs.cells.items():
        if not variant[1]:
            continue
        rows = list(cell.values())
        done = [row for row in rows if row["own_ms"] is not None]
        def column(value, form="{:,.0f}"):
            return spread([value(row) for row in done if value(row) is not None], form)
        lines.append([
            runs.name(scenario), f"{memory / 1024:g} GiB", variant[0], variant[1],
            f"{len(done)} of {len(rows)}", column(lambda row: row["own_ms"]),
            column(lambda row: row["downtime_ms"]), column(lambda row: row["gap_ms"]),
            column(lambda row: row["bytes"] / 1e6),
            column(lambda row: row["bytes"] / row["in_use"], "{:.2f}"),
            column(lambda row: row["cpu_source_s"], "{:.2f}"),
            column(lambda row: row["cpu_destination_s"], "{:.2f}"), intact(rows)])
    return table(["guest", "RAM", "monitor", "hinting", "arrived", "time, ms", "downtime, ms",
                  "heartbeat gap, ms", "MB sent", "sent / in use", "CPU s, source",
                  "CPU s, destination", "intact"], lines)


def ratio_table(runs):
    lines = []
    for scenario in PICTURED + [LINUX, UNZEROED]:
        for what, value in [("time", "own_ms"), ("bytes", "bytes"), ("heartbeat gap", "gap_ms")]:
            line = [spread(runs.ratios(scenario, OURS, other, value)) for other in VARIANTS[1:]]
            if line != ["-"] * 3:
                lines.append([runs.name(scenario), what, *line])
    return table(["guest", "aerostat with hinting over", "QEMU with hinting",
                  "aerostat without", "QEMU without"], lines)


def parts_table(runs):
    lines = []
    for scenario in PICTURED:
        copies = runs.copies(scenario)
        for at, row in runs.of(scenario, OURS).items():
            if at in copies:
                each = parts(row, copies[at])
                lines.append([scenario, f"{at:.0f}", *[f"{ms:.0f}" for ms in each],
                              f"{sum(each):.0f}", f"{row['sending_ms']:.0f}",
                              f"{row['own_ms']:.0f}", f"{copies[at] / 1e9:.2f}",
                              f"{row['own_ms'] / sum(each):.2f}"])
    return table(["guest", "round", "arming", "report", "bytes at the copy's rate", "sum",
                  "sending", "time", "copy, GB/s", "time / sum"], lines)


def remarks(runs):
    """What a reader must know before he believes a figure."""
    for host in sorted({row["host"] for row in runs.rows if row["host"]}):
        yield f"- Host: {host}."
    for monitor in ("aerostat", "QEMU"):
        versions = sorted({row["version"] for row in runs.rows if row["monitor"] == monitor})
        yield f"- {monitor}: {', '.join(versions) or 'not measured'}."
    if cold := sorted({row["scenario"] for row in runs.rows if row["cold"]}):
        yield (f"- {', '.join(cold)}: memory was not brought about before each move; the host's "
               "own way of finding it is part of the times.")
    disturbed = {(row["scenario"], row["round"]) for row in runs.counted
                 if (row["busy_cores"] or 0) > QUIET_CORES}
    all_rounds = {(row["scenario"], row["round"]) for row in runs.counted if row["round"]}
    yield (f"- Others kept more than {QUIET_CORES} CPUs busy at the beginning of "
           f"{len(disturbed)} of {len(all_rounds)} rounds.")
    wrong = [row for row in runs.rows if row["bytes_counted"] and row["bytes"] and
             abs(row["bytes_counted"] / row["bytes"] - 1) > 0.001]
    counted = sum(row["bytes_counted"] is not None for row in runs.rows)
    yield (f"- Bytes were counted independently in {counted} runs (by the destination, and in "
           f"warm-up by a relay); they differ by more than 0.1 % in {len(wrong)}.")
    for row in runs.rows:
        if row["note"]:
            yield (f"- {row['scenario']}, {row['memory_mib'] or 0:.0f} MiB, {row['monitor']}, "
                   f"hinting {row['hinting'] or '-'}, round {row['round'] or 0:.0f}: "
                   f"{row['note']}")


WHY_QEMU_SENDS_MORE = """\
Why QEMU sends more: it sends while the guest reports, so that what was freed goes out before a
hint of it comes. A guest that zeroes what it allocates (`init_on_alloc`, Debian's default)
writes each block that it is about to hint, under a log that is armed: a fault for each page
makes the report slow, and each page comes back dirty, to be scanned and sent as a zero page in
a later round. aerostat waits for the report without a log, arms it then, tests the pages and
sends nothing for those that are zero. The guest that does not zero (linux-unzeroed) shows both
monitors without that. Where it is emulated, the machine has one CPU, which the guest's report
and the sender share. In use is what the guest does not hold free, its kernel's own included."""


def linux_lines(runs):
    """Every run, as it was."""
    whole = ("own_ms", "downtime_ms", "gap_ms", "setup_ms", "report_ms", "sending_ms", "rounds",
             "hints", "pages_sent", "pages_zero")
    for row in runs.counted:
        if row["scenario"] not in (LINUX, UNZEROED):
            continue
        sent = row["bytes"] and f"{row['bytes'] / 1e6:,.1f}"
        share = sent and f"{row['bytes'] / row['in_use']:.3f}"
        yield [runs.name(row["scenario"]), f"{row['round']:.0f}", f"{row['place'] + 1:.0f}",
               row["monitor"], row["hinting"],
               *["-" if row[name] is None else f"{row[name]:,.0f}" for name in whole], sent or "-",
               f"{row['in_use'] / 1e6:,.1f}" if row["in_use"] else "-", share or "-",
               row["intact"] or "-"]


def reuse_lines(runs):
    for monitor in ("aerostat", "QEMU"):
        rows = [row for row in runs.counted
                if row["scenario"] == "reuse" and row["monitor"] == monitor]
        if rows:
            written = sum(row["taken"] or 0 for row in rows)
            window = sum(row["window"] or 0 for row in rows)
            yield [monitor, intact(rows), f"{written:.0f}", f"{window:.0f}"]


# ---------------------------------------------------------------- pictures ---

def draw_panels(name, data, body):
    """Two by two panels of columns, as SVG and PNG: `data` is gnuplot's blocks of it,
    `body` what plots them."""
    for suffix, terminal in [("svg", "svg size 1200,820 font 'sans-serif,12' background 'white'"),
                             ("png", "pngcairo size 1200,820 font 'sans-serif,10'")]:
        script = (f"set terminal {terminal}\n"
                  f"set output '{os.path.join(RESULTS, name + '.' + suffix)}'\n{data}"
                  "set multiplot layout 2,2\nset style data histograms\n"
                  "set style histogram clustered gap 1\nset style fill solid 0.9 border -1\n"
                  f"set boxwidth 0.9\nset grid ytics\nset key top left\n{body}")
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


def medians(runs, value, scale):
    """A gnuplot data block by scenario and variant."""
    lines = []
    for scenario in PICTURED:
        cells = [[each / scale for each in figures(runs, scenario, variant, value)]
                 for variant in VARIANTS]
        if any(cells):
            lines.append(f'"{scenario}" ' + " ".join(
                f"{statistics.median(cell):.2f}" if cell else "NaN" for cell in cells))
    return "\n".join(lines)


def sweep_data(runs):
    lines = []
    for size in runs.sizes("sweep"):
        cells = [[row["own_ms"] for row in runs.of("sweep", variant, size).values()]
                 for variant in VARIANTS]
        lines.append(f"{size / 1024:g} " + " ".join(
            f"{statistics.median(cell):.1f}" if cell else "NaN" for cell in cells))
    return "\n".join(lines)


def plots(name, style):
    """One curve or one column of each group for each variant."""
    colours = ["#2060a0", "#d07020", "#90b8e0", "#f0c090"]
    return "plot " + ", ".join(
        f'${name} using {style.format(i + 2)} lc rgb "{colour}" '
        f'title "{monitor}, hinting {hinting}"'
        for i, ((monitor, hinting), colour) in enumerate(zip(VARIANTS, colours))) + "\n"


def draw(runs):
    if not shutil.which("gnuplot"):
        print("migration: no pictures: gnuplot is not installed (gnuplot-nox)")
        return
    sweep = sweep_data(runs)
    panels = [("time", "Time of a move, ms", medians(runs, "own_ms", 1), True),
              ("bytes", "Sent, MB", medians(runs, "bytes", 1e6), False),
              ("gap", "Longest gap in the guest's heartbeat, ms", medians(runs, "gap_ms", 1), True)]
    panels = [each for each in panels if each[2]]
    data = "".join(f"${name} << END\n{block}\nEND\n" for name, _, block, _ in panels)
    body = "".join(
        f'set title "{title}"\n' +
        ("set logscale y\nset yrange [1:*]\n" if log else
         "unset logscale y\nset yrange [0:*]\nset offsets graph 0, 0, graph 0.35, 0\n") +
        plots(name, "{}:xtic(1)") + "unset offsets\n" for name, title, _, log in panels)
    if sweep:
        data += f"$sweep << END\n{sweep}\nEND\n"
        body += ('set title "Time of a move by size of RAM (GiB), the same in use, ms"\n'
                 "unset logscale y\nset logscale x 2\nset xtics auto\nset yrange [0:*]\n"
                 "set offsets 0, 0, graph 0.35, 0\n" +
                 plots("sweep", "1:{} with linespoints lw 2 pt 7"))
    draw_panels("migration", data, body)


def report(path):
    rows = read(path)
    if not rows:
        print("migration: nothing was measured yet")
        return
    runs = Runs(rows)
    lines = ["# Moves", "",
             "Of the bare guest; those called linux are of a Debian guest.", "", *remarks(runs), "",
             *table(["what must be shown", "bar", "measured", ""], bars(runs))]
    reuse = list(reuse_lines(runs))
    if reuse:
        lines += ["## Hint, then reuse", "", *table(
            ["monitor", "intact", "blocks taken back and written",
             "of these before the device saw the hint"], reuse)]
    debian = list(linux_lines(runs))
    if debian:
        lines += ["## The Debian guest", "", *table(
            ["guest", "round", "turn", "monitor", "hinting", "time, ms", "downtime, ms",
             "heartbeat gap, ms", "arming, ms", "report, ms", "sending, ms", "rounds", "hints",
             "pages sent", "zero pages", "MB sent", "MB in use", "sent / in use", "intact"],
            debian), WHY_QEMU_SENDS_MORE, ""]
    lines += ["## Every guest", "", *run_table(runs), "## Ratios", "", *ratio_table(runs),
              "## What a move with hinting is made of, ms", "", *parts_table(runs)]
    text = "\n".join(lines)
    with open(os.path.join(RESULTS, "migration.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print("\n" + text)
    draw(runs)
