# SPDX-License-Identifier: MIT
"""One run of bench/balloon: a guest gives memory to its host and takes it back, or
the device does its part of that without a guest. What was given is counted by the
host's own figures of the guest's memory."""

import collections
import os
import subprocess
import tempfile
import time

import moves
from monitors import MIB, PAGE, Aerostat, Failure, Qemu

HOLD_SECONDS = 0.2
SEED = 5
SPARE_MIB = 256
HINT_GIB, REPORTS = 64, 16
USED_MIB = 512  # while it moves
WARM_UP = 32 * MIB

COLUMNS = [
    "what", "round", "place", "warm_up", "who", "version", "rig", "pages", "way", "buffers",
    "order", "asked", "bytes", "own_ms", "guest_ms", "cpu_s", "calls", "hints", "runs",
    "huge_before", "huge_after", "resident", "busy_cores", "steal_ms", "right", "note", "host",
]

# pages: of the host, "small" or "huge". way: "frames" or "ranges". buffers: on the
# way at a time.
Setting = collections.namedtuple("Setting", "pages way buffers reporting hinting",
                                 defaults=(False, False))
HINTING = Setting("huge", "hinting", 1, hinting=True)


# ----------------------------------------------------------------- monitors ---

class Giving:
    """A monitor whose machine is made for one Setting."""

    def _before(self, setting):
        return [self.paths["small-pages"]] if setting.pages == "small" else []

    def _append(self, setting):
        # A driver that sleeps would be what is measured.
        return "idle=spin" if setting.hinting else ""


class GivingAerostat(Giving, Aerostat):
    def _balloon(self, setting):
        return (f"hinting={'on' if setting.hinting else 'off'},stats=off,"
                f"reporting={'on' if setting.reporting else 'off'},"
                f"page-ranges={'on' if setting.way == 'ranges' else 'off'}")


class GivingQemu(Giving, Qemu):
    def _balloon(self, setting):
        return (f"free-page-reporting={'on' if setting.reporting else 'off'},"
                f"free-page-hint={'on' if setting.hinting else 'off'}")


MONITORS = [GivingAerostat, GivingQemu]


def held(machine, memory):
    """Bytes of the guest's memory that the host holds, and those in huge pages."""
    resident = huge = 0
    inside = False
    with open(f"/proc/{machine.pid}/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):
                first, last = (int(each, 16) for each in words[0].split("-"))
                inside = last - first >= memory
            elif inside and words[0] == "Rss:":
                resident += int(words[1]) * 1024
            elif inside and words[0] == "AnonHugePages:":
                huge += int(words[1]) * 1024
    return resident, huge


# ------------------------------------------------------------------- guests ---

class Guest:
    """A machine whose memory is all there, but for `absent` bytes at most."""

    def __init__(self, machine, memory, setting):
        self.machine = machine
        self.memory = memory
        machine.console.ready(moves.Bare.boot_seconds)
        machine.console.command(f"buffers {setting.buffers}")
        if not setting.reporting:
            # The driver's own memory is there from here on, too.
            self.balloon(WARM_UP, WARM_UP)
            self.balloon(0, WARM_UP)
        free = int(machine.console.command("meminfo")["MemFree"][0])
        machine.console.command(f"dirty {free // 1024} {SEED}", seconds=120)
        self.absent = free % 1024 * 1024

    def timed(self, command, start):
        """The guest obeys `command` once `start` was called. Return: its words, and a
        row of what that took and moved."""
        machine = self.machine
        resident, huge = held(machine, self.memory)
        cpu, stolen = machine.cpu_seconds(), moves.cpu_times()[1]
        machine.console.ask(command)
        began = start()
        words = machine.console.answer(command, seconds=120)
        row = {"own_ms": round((machine.console.signs[-1] - began) * 1000, 2),
               "cpu_s": round(machine.cpu_seconds() - cpu, 4),
               "steal_ms": round((moves.cpu_times()[1] - stolen) * 1000),
               "huge_before": huge}
        # A part of a huge page waits a tenth of a second for the rest, with aerostat.
        time.sleep(HOLD_SECONDS)
        row["resident"], row["huge_after"] = held(machine, self.memory)
        row["bytes"] = resident - row["resident"]
        return words, row

    def balloon(self, asked, to):
        """Its balloon shall hold so many bytes."""
        pages = asked // PAGE

        def start():
            # The guest is looking already, and the host's word is all it waits for.
            time.sleep(0.02)
            began = time.monotonic()
            self.machine.qmp.call("balloon", {"value": self.memory - asked})
            return began

        words, row = self.timed(f"await {pages}", start)
        row.update(asked=to, guest_ms=int(words["actual"][2]) / 1000)
        if int(words["actual"][0]) != pages:
            raise Failure(f"the guest says {words['actual'][0]} pages and not {pages}")
        return row


def judge_inflated(row, guest, asked):
    """All of it, but for what never was there."""
    if not asked - guest.absent <= row["bytes"] <= asked:
        raise Failure(f"{row['bytes']} bytes were given back of {asked}, "
                      f"{guest.absent} of them never there")


def judge_returned(row, guest, inflated, asked):
    """Each page was written, holds what was written, and none was used early."""
    row["bytes"] = -row["bytes"]
    if not inflated["bytes"] <= row["bytes"] <= asked + guest.absent:
        raise Failure(f"{row['bytes']} bytes are back of {asked}")
    checked = guest.machine.console.command("check")["pages"]
    if checked != [str(asked // PAGE), "bad", "0"]:
        raise Failure(f"the guest finds {' '.join(checked)} of {asked // PAGE}")
    early = int(guest.machine.console.command("counter early-uses")["early-uses"][0])
    if early:
        raise Failure(f"{early} pages were used while they were on the way")


def attempt(row, judge, *arguments):
    row["right"] = "yes"
    try:
        judge(row, *arguments)
    except Failure as failure:
        row.update(right="no", note=str(failure))


def give_and_take(machine, memory, setting, asked):
    """Rows of an inflation, and of the return whose pages are written at once."""
    guest = Guest(machine, memory, setting)
    machine.console.command("take-deflated 1")
    inflated = {"what": "inflate", **guest.balloon(asked, asked)}
    attempt(inflated, judge_inflated, guest, asked)
    yield inflated
    returned = {"what": "return", **guest.balloon(0, asked)}
    attempt(returned, judge_returned, guest, inflated, asked)
    yield returned


def report(machine, memory, setting, asked):
    """The row of a report of all that is free."""
    guest = Guest(machine, memory, setting)
    words, row = guest.timed("report-now", time.monotonic)
    reported = int(words["reported-pages"][0]) * PAGE
    row.update(what="report", asked=reported, guest_ms=int(words["reported-pages"][2]) / 1000)

    def judge(row):
        if reported < asked or not reported - guest.absent <= row["bytes"] <= reported:
            raise Failure(f"{row['bytes']} bytes were given back of {reported}")
    attempt(row, judge)
    yield row


def run(monitor, paths, setting, asked):
    """Rows of one machine's life, however it went."""
    memory = asked + asked // 4
    steps = report if setting.reporting else give_and_take
    common = {"who": monitor.name, "rig": "guest", "pages": setting.pages, "way": setting.way,
              "buffers": setting.buffers}
    moves.touch(paths["copy"], memory // MIB + SPARE_MIB)
    with tempfile.TemporaryDirectory(prefix="balloon-") as where:
        try:
            with monitor(paths, where, "machine", memory, setting) as machine:
                for row in steps(machine, memory, setting, asked):
                    yield {**common, **row}
        except Failure as failure:
            yield {**common, "what": "report" if setting.reporting else "inflate",
                   "right": "no", "note": str(failure)}


def move_with_hints(source, destination, path):
    """A move, for the sake of its report. Return: the row of the report"""
    source.console.ready(moves.Bare.boot_seconds)
    source.console.command(f"keep {USED_MIB} {SEED}")
    source.migrate(path, moves.DOWNTIME_MS)
    source.figures()
    source.quit()
    counters = destination.console.command("counters")
    row = {"hints": int(counters["hints"][0]), "guest_ms": int(counters["report-us"][0]) / 1000,
           "bytes": int(counters["hinted-pages"][0]) * PAGE}

    def judge(_):
        destination.console.command("check")
        if int(counters["hints-returned"][0]) != row["hints"]:
            raise Failure(f"{counters['hints-returned'][0]} of {row['hints']} hints came back")
    attempt(row, judge)
    return row


def run_guest_hints(monitor, paths, memory):
    common = {"what": "hints", "who": monitor.name, "rig": "guest", "way": "move",
              "asked": memory}
    moves.touch(paths["copy"], 2 * USED_MIB + SPARE_MIB)
    with tempfile.TemporaryDirectory(prefix="balloon-") as where:
        arrival = os.path.join(where, "move")
        try:
            with (monitor(paths, where, "source", memory, HINTING) as source,
                  monitor(paths, where, "destination", memory, HINTING, arrival) as destination):
                yield {**common, **move_with_hints(source, destination, arrival)}
        except Failure as failure:
            yield {**common, "right": "no", "note": str(failure)}


# --------------------------------------------------------------------- rigs ---

def run_rig(program, *words):
    """Return: the numbers it prints, or why it failed"""
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise Failure(done.stderr.strip() or f"{os.path.basename(program)} ended with "
                      f"{done.returncode}")
    return [int(each) for each in done.stdout.split()]


def run_inflate(paths, how, order, pages, buffers, asked):
    """The row of a device that has no guest, or of what it is measured by."""
    row = {"what": "inflate", "who": how, "rig": "device", "pages": pages, "way": "frames",
           "buffers": buffers, "order": order, "asked": asked, "right": "yes"}
    moves.touch(paths["copy"], asked // MIB + SPARE_MIB)
    try:
        numbers = run_rig(paths["inflate"], how, order, pages, asked // MIB, buffers)
    except Failure as failure:
        return {**row, "right": "no", "note": str(failure)}
    return {**row, "bytes": numbers[0], "own_ms": numbers[1] / 1e6, "cpu_s": numbers[2] / 1e9,
            "calls": numbers[3], "huge_before": numbers[4]}


def run_hints(paths, who):
    row = {"what": "hints", "who": "ring", "rig": "device", "way": who, "right": "yes",
           "asked": HINT_GIB << 30}
    try:
        hints, ns, runs = run_rig(paths["hints"], who, HINT_GIB, REPORTS)
    except Failure as failure:
        return {**row, "right": "no", "note": str(failure)}
    return {**row, "hints": hints, "own_ms": ns / 1e6, "runs": runs}
