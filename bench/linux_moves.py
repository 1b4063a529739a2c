# SPDX-License-Identifier: MIT
"""A round of bench/migration's linux scenarios: lab/run finds a place where Debian
guests run, and has bench/linux_round.py move them there."""

import json
import os
import shutil
import subprocess

from monitors import MIB, TOP, Qemu

OUT = os.path.join(TOP, "build", "bench", "linux-round")
LAB_DIED = 90
TRIES = 3  # of a lab that dies in a round
RUN_SECONDS = 240  # a limit for one move, the guest's boot and its preparation included
LAB_SPARE_MIB = 1024


def firmware():
    """Return: the files a machine of QEMU's needs, and what is not to be found"""
    places = subprocess.run([Qemu.PROGRAM, "-L", "help"], capture_output=True, text=True,
                            check=True).stdout.split("\n")
    found, missing = [], []
    for name in Qemu.FIRMWARE:
        files = [each for each in (os.path.join(place, name) for place in places if place)
                 if os.path.isfile(each)]
        (found if files else missing).extend(files[:1] or [name])
    return found, missing


def missing(paths):
    """Why no round can be run, or None."""
    for name in ("aerostat", "copy"):
        if not os.path.exists(paths[name]):
            return f"{paths[name]} is not built"
    if not os.path.exists(os.path.join(TOP, "build", "kernel", "complete")):
        return "no kernel for a Debian guest (scripts/setup.sh fetches it)"
    if not shutil.which(Qemu.PROGRAM):
        return f"the lab needs {Qemu.PROGRAM}"
    if firmware()[1]:
        return f"{Qemu.PROGRAM} has no {', '.join(firmware()[1])}"
    return None


def command(name, scenario, memory, variants):
    added = [word for file in [Qemu.PROGRAM] + firmware()[0] for word in ("--add", file)]
    return [os.path.join(TOP, "lab", "run"), "--quiet", "--out", OUT,
            "--memory", str(2 * memory // MIB + LAB_SPARE_MIB),
            "--timeout", str(RUN_SECONDS * len(variants)), *added,
            os.path.join(TOP, "bench", "linux_round.py"), name, str(memory // MIB),
            str(scenario.used), str(scenario.freed), *variants]


def rows_of_lab(asked, paths, rows):
    """Passes rows on as they come. Return: lab/run's status"""
    environment = {**os.environ, "AEROSTAT": paths["aerostat"], "COPY": paths["copy"]}
    with subprocess.Popen(asked, env=environment,
                          stdout=subprocess.PIPE, text=True) as lab:
        for line in lab.stdout:
            if line.startswith("row "):
                rows(json.loads(line[len("row "):]))
            else:
                print("  " + line, end="", flush=True)
    return lab.returncode


def play(name, scenario, memory, variants, paths, add):
    """A row for each (monitor's name, "on" or "off"), in this order. A lab that
    dies is booted again for those that are left, and that is printed."""
    left = list(variants)

    def one(row):
        left.remove((row["monitor"], row["hinting"]))
        add(row)

    why = ""
    for _ in range(TRIES):
        asked = command(name, scenario, memory, [":".join(each) for each in left])
        status = rows_of_lab(asked, paths, one)
        if not left:
            return
        why = "the lab died" if status == LAB_DIED else f"lab/run ended with status {status}"
        if status != LAB_DIED:
            break
        print(f"  the lab died; {len(left)} moves are left of this round", flush=True)
    for monitor, hinting in list(left):
        add({"monitor": monitor, "hinting": hinting, "note": why})
