# SPDX-License-Identifier: MIT
"""One move of bench/migration: the guest's memory is laid out, it moves, and every
word it holds is compared. And what the host says of itself meanwhile."""

import glob
import os
import socket
import subprocess
import tempfile
import threading
import time

from monitors import MIB, Failure

DOWNTIME_MS = 300
SEED = 7
SETTLE_SECONDS = 0.3  # of a guest's life looked at behind a move
CALM_SECONDS = 1.0  # and before it
SPARE_MIB = 256
QUIET_CORES = 0.2
BALLOON, F_REPORTING = 5, 5  # virtio's numbers
REPORT_SECONDS = 4

COLUMNS = [
    "scenario", "memory_mib", "round", "place", "warm_up", "monitor", "version", "hinting",
    "own_ms", "total_ms", "downtime_ms", "gap_ms", "calm_gap_ms", "bytes", "bytes_counted",
    "in_use", "cpu_source_s", "cpu_destination_s", "setup_ms", "report_ms", "sending_ms",
    "rounds", "hints", "hinted_pages", "hints_late", "pages_sent", "pages_zero",
    "destination_rss", "taken", "window", "busy_cores", "steal_ms", "cold", "intact", "note",
    "host",
]


class Bare:
    """The guest of guest/bare."""

    beat, beat_ms = "pulse", 1  # a line would take most of a millisecond
    boot_seconds = 30
    command_seconds = 120

    @staticmethod
    def in_use(console, _):
        info = console.command("meminfo")
        return (int(info["MemTotal"][0]) - int(info["MemFree"][0])) * 1024

    @staticmethod
    def counters(console):
        """What its driver says it reported."""
        counters = console.command("counters")
        return {name: int(counters[name.replace("_", "-")][0])
                for name in ("hints", "hinted_pages", "taken", "window")}


class Debian:
    """Debian's kernel with the agent of guest/agent. What it has in use is all that
    it does not hold free: MemTotal leaves out what the kernel took before."""

    append = "console=ttyS0 loglevel=4 panic=-1"
    beat, beat_ms = "beat", 50  # a line of output is dear where the guest's KVM is emulated
    boot_seconds = 180
    command_seconds = 300

    @staticmethod
    def in_use(console, memory):
        return memory - int(console.command("meminfo")["MemFree"][0]) * 1024

    @staticmethod
    def counters(_):
        """Its driver has none; what stands in their place is the monitor's."""
        return {}


class Unzeroed(Debian):
    append = Debian.append + " init_on_alloc=0"


class Scenario:
    """What is in the guest's memory. Sizes are MiB."""

    def __init__(self, about, commands, used, freed, copy, hintings=(True, False), guest=Bare):
        self.about = about
        self.commands = commands
        self.used = used
        self.freed = freed
        self.hintings = hintings
        self.guest = guest
        self.copy = copy  # pages a destination's memory can be made of; None: no copy


def scenarios(used, freed, writer, rate):
    keep = f"keep {used} {SEED}"
    dirty = f"dirty {freed} {SEED + 1}"
    # A sixteenth, so that there can be many moves.
    small_used, small_freed = max(used // 16, 1), max(freed // 16, 1)
    return {
        "idle": Scenario(f"{used} MiB in use, the rest never touched", [keep], used, 0,
                         "huge"),
        "freed": Scenario(f"{used} MiB in use, {freed} MiB dirtied and freed", [keep, dirty],
                          used, freed, "huge"),
        "interleaved": Scenario(
            f"the same, used and free by turns: {4096 * used // (used + freed)} KiB of each 4 MiB "
            "are used", [f"interleave {used} {freed} {SEED}"], used, freed, "small"),
        "writing": Scenario(
            f"as freed, and {writer} MiB of it written at {rate} MiB/s",
            [keep, dirty, f"writer {writer} {rate} {SEED + 2}"], used + writer, freed, "huge"),
        "sweep": Scenario(f"{used} MiB in use, the rest never touched, by size of RAM", [keep],
                          used, 0, None),
        "reuse": Scenario(
            f"{small_used} MiB in use, {small_freed} MiB dirtied and freed, every third block "
            "that is hinted taken back and written at once",
            [f"keep {small_used} {SEED}", f"dirty {small_freed} {SEED + 1}", "take 3"],
            small_used, small_freed, None, hintings=(True,)),
        **debian(max(used // 4, 1), max(freed // 2, 1)),
    }


def debian(used, freed):
    """As it comes, its kernel zeroes what its driver is about to hint (init_on_alloc)."""
    def scenario(about, hintings, guest):
        return Scenario(about, [f"keep {used} {SEED}", f"dirty {freed} {SEED + 1}"], used, freed,
                        None, hintings, guest)
    return {
        "linux": scenario(
            f"a Debian guest, {used} MiB and what Linux needs in use, {freed} MiB dirtied and "
            "freed; where lab/run finds a place for it", (True, False), Debian),
        "linux-unzeroed": scenario(
            "the same guest told not to zero what it allocates (init_on_alloc=0)", (True,),
            Unzeroed),
    }


# ------------------------------------------------------------------- host ---

def describe_host():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        words = file.read().split()
    with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
        huge = file.read().partition("[")[2].partition("]")[0]
    kvm = "svm" if "svm" in words else "vmx" if "vmx" in words else "in software"
    return (f"Linux {os.uname().release}, {os.cpu_count()} CPUs, KVM {kvm}, "
            f"transparent huge pages {huge}")


def cpu_times():
    """Seconds of all CPUs: busy, stolen."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(each) / os.sysconf("SC_CLK_TCK") for each in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], ticks[7]


def wait_until_quiet(patience):
    """Return: CPUs that others keep busy"""
    until = time.monotonic() + patience
    while True:
        before = cpu_times()[0]
        time.sleep(1)
        busy = cpu_times()[0] - before
        if busy < QUIET_CORES or time.monotonic() > until:
            return busy


def host_reports_free_pages():
    """Is it a guest whose balloon reports them?"""
    for device in glob.glob("/sys/bus/virtio/devices/*"):
        with open(f"{device}/device", encoding="ascii") as number, \
                open(f"{device}/features", encoding="ascii") as features:
            if int(number.read(), 16) == BALLOON and features.read()[F_REPORTING] == "1":
                return True
    return False


def await_reports():
    """What machines that have ended left free is reported two seconds later, and all
    CPUs stand still meanwhile for up to 30 ms at a time, again and again: let that be
    over. The memory of touch() is reported when the move has long ended."""
    if host_reports_free_pages():
        time.sleep(REPORT_SECONDS)


def touch(copy, mib):
    """A host may be a guest itself, whose host has taken back what is free here:
    have it bring memory about before somebody's time counts."""
    subprocess.run([copy, "touch", str(mib)], check=True)


def plain_copy(copy, kind, mib, cold):
    """The row of a copy that does nothing else."""
    if not cold:
        touch(copy, 2 * mib + SPARE_MIB)  # both ends are new
    output = subprocess.run([copy, kind, str(mib)], capture_output=True, text=True,
                            check=True).stdout.split()
    return {"monitor": "copy", "version": kind, "bytes": int(output[0]),
            "own_ms": round(int(output[1]) / 1e6, 2)}


class Relay:
    """Stands between source and destination and counts what goes by. Only runs that
    do not count go through it: it costs time."""

    def __init__(self, path, to):
        self.to = to
        self.bytes = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        source, _ = self.listener.accept()
        destination = socket.socket(socket.AF_UNIX)
        destination.connect(self.to)
        threading.Thread(target=self._pass, args=(destination, source, False),
                         daemon=True).start()
        self._pass(source, destination, True)

    def _pass(self, from_, to, count):
        try:
            while data := from_.recv(MIB):
                self.bytes += len(data) if count else 0
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


# -------------------------------------------------------------------- move ---

def longest_gap(signs, since, until):
    """Milliseconds between two signs of life."""
    signs = sorted(each for each in signs if since <= each <= until)
    return round(max(b - a for a, b in zip(signs, signs[1:])) * 1000, 1) if len(signs) > 1 else ""


def move(source, destination, path, guest, touch_now):
    """Return: figures of one move"""
    await_reports()
    source.console.command(f"{guest.beat} {guest.beat_ms}")
    time.sleep(CALM_SECONDS)
    calm = time.monotonic()
    touch_now()
    cpu_source, cpu_destination = source.cpu_seconds(), destination.cpu_seconds()
    stolen = cpu_times()[1]
    began = time.monotonic()
    source.migrate(path, DOWNTIME_MS)
    row = source.figures()
    if not destination.console.lived.wait(10):
        raise Failure("no sign of life at the destination")
    arrived = destination.console.signs[0]
    row["cpu_destination_s"] = round(destination.cpu_seconds() - cpu_destination, 4)
    row["cpu_source_s"] = round(source.quit() - cpu_source, 4)
    row["steal_ms"] = round((cpu_times()[1] - stolen) * 1000)
    row["destination_rss"] = destination.rss()
    row["own_ms"] = round((arrived - began) * 1000, 1)
    time.sleep(SETTLE_SECONDS)
    signs = source.console.signs + destination.console.signs
    row["gap_ms"] = longest_gap(signs, began - guest.beat_ms / 1000, arrived + SETTLE_SECONDS)
    row["calm_gap_ms"] = longest_gap(signs, calm - CALM_SECONDS, calm)
    return row


def judge(console, scenario):
    """What the guest says once it is there."""
    console.command(f"{scenario.guest.beat} 0")
    row = {**scenario.guest.counters(console), "intact": "yes"}
    writes = any(each.startswith("writer") for each in scenario.commands)
    for command in ["check"] + ["writer-check"] * writes:
        try:
            console.command(command, scenario.guest.command_seconds)
        except Failure as failure:
            row.update(intact="no", note=str(failure))
    return row


def run(monitor, paths, scenario, memory, hinting, relayed, cold):
    """Return: the row of one move, however it went"""
    row = {}
    with tempfile.TemporaryDirectory(prefix="migration-") as where:
        arrival = os.path.join(where, "move")
        try:
            with monitor(paths, where, "source", memory, hinting) as source:
                source.console.ready(scenario.guest.boot_seconds)
                for command in scenario.commands:
                    source.console.command(command, scenario.guest.command_seconds)
                row["in_use"] = scenario.guest.in_use(source.console, memory)
                with monitor(paths, where, "destination", memory, hinting,
                             incoming=arrival) as destination:
                    relay = relayed and Relay(arrival + "-relay", arrival)
                    needed = 0 if cold else scenario.used + scenario.freed + SPARE_MIB
                    row.update(move(source, destination, arrival + "-relay" * bool(relay),
                                    scenario.guest,
                                    lambda: needed and touch(paths["copy"], needed)))
                    if relay:
                        row["bytes_counted"] = relay.bytes
                    row.update(judge(destination.console, scenario))
        except Failure as failure:
            row["note"] = str(failure)
    return row
