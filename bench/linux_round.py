#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Moves a Debian guest, once for each MONITOR:HINTING (aerostat:on, QEMU:off), in
this order. A scenario of lab/run: bench/migration has it run where Linux guests do.
Prints a line "row JSON" for each, with columns of moves.COLUMNS.

usage: linux_round.py SCENARIO RAM_MIB USED_MIB FREED_MIB MONITOR:HINTING..."""

import json
import os
import shutil
import sys

import moves
from monitors import MIB, MONITORS, Qemu


def paths_here(scenario):
    """What lab/run gives; QEMU's firmware is beside QEMU where that was brought along."""
    return {"aerostat": os.environ["AEROSTAT"], "guest": os.environ["KERNEL"],
            "initrd": os.environ["INITRD"], "append": scenario.guest.append,
            "copy": os.environ["COPY"],
            "firmware": os.path.dirname(shutil.which(Qemu.PROGRAM) or "")}


def main():
    ram, used, freed = map(int, sys.argv[2:5])
    scenario = moves.debian(used, freed)[sys.argv[1]]
    paths = paths_here(scenario)
    host = moves.describe_host() + (", emulated" if os.environ.get("EMULATED") else "")
    # Once for all: what the machine below has brought about it does not take back.
    moves.touch(paths["copy"], 2 * (used + freed + moves.SPARE_MIB))
    monitors = {monitor.name: monitor for monitor in MONITORS}
    for word in sys.argv[5:]:
        name, hinting = word.split(":")
        row = moves.run(monitors[name], paths, scenario, ram * MIB, hinting == "on", False, True)
        print("row " + json.dumps({**row, "monitor": name, "hinting": hinting, "host": host}))


if __name__ == "__main__":
    main()
