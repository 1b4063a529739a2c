#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make demo: a stock Debian guest moves between two aerostat processes, once
without and once with free page hinting. Shows how it goes, ends with a table,
leaves build/demo/result.json."""

import json
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(TOP, "build", "demo")
MIB = 1 << 20


def mib(value):
    return f"{value / MIB:,.0f} MiB"


def milliseconds(value):
    return f"{value:,} ms"


def left_out(result):
    pages = result["pages_hinted"] + result["pages_absent"] + result["pages_zero"]
    return mib(pages * 4096)


def table(result):
    """Rows of (what, without hinting, with hinting)."""
    without, hinted = result["without"], result["with"]
    used = mib(result["in_use_bytes"])
    both = (without, hinted)
    return [
        ("", "without hinting", "with hinting"),
        ("guest memory", *[mib(r["ram_bytes"]) for r in both]),
        ("in use by the guest", used, used),
        ("sent", *[mib(r["bytes_sent"]) for r in both]),
        ("left out (free, absent, zero)", *[left_out(r) for r in both]),
        ("total time", *[milliseconds(r["total_ms"]) for r in both]),
        ("downtime", *[milliseconds(r["downtime_ms"]) for r in both]),
        ("resident at the destination", *[mib(r["destination_rss_bytes"]) for r in both]),
        ("sent / in use", *[f"{r['bytes_sent'] / result['in_use_bytes']:.2f}" for r in both]),
    ]


def main():
    command = [sys.executable, os.path.join(TOP, "lab", "run"), "--tries", "3",
               "--timeout", "250", "--out", OUT,
               os.path.join(TOP, "tests", "e2e", "demo.sh")]
    status = subprocess.run(command).returncode
    if status:
        print(f"demo: failed; logs are in {os.path.relpath(OUT)}", file=sys.stderr)
        return status
    with open(os.path.join(OUT, "result.json")) as file:
        result = json.load(file)
    print()
    for what, without, hinted in table(result):
        print(f"  {what:<32}{without:>18}{hinted:>18}")
    print(f"\n  memory checked in the guest: {result['check']}")
    print(f"  {os.path.relpath(OUT)}/result.json has all figures")
    return 0 if result["check"] == "ok" else 1


sys.exit(main())
