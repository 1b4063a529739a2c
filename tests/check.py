#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make check: every test there is, and one line of counts at the end.

Unit tests run by meson; scenarios (tests/e2e/*.sh) run by lab/run, which finds
a place with KVM; two of them at a time, since each lab keeps one CPU busy. A
scenario counts once for each line "ok - ..." it prints, and once as failed when
it ends with another status than 0. A skip prints its reason and counts as such.

usage: tests/check.py [unit|e2e|sanitizer|NAME...]   (default: all)
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
ASAN = os.path.join(TOP, "build-asan")
LAB_DIED = 90

# name: (script, arguments, needs, seconds, memory of the lab in MiB, asan)
SCENARIOS = {
    "command-line": ("command-line.sh", [], "host", 60, 0, False),
    "bad-input": ("bad-input.sh", [], "bare", 240, 3072, False),
    "console": ("console.sh", [], "bare", 120, 3072, False),
    "reuse": ("bare-reuse.sh", ["100"], "bare", 800, 3072, False),
    "there-and-back": ("bare-moves.sh", ["20"], "bare", 300, 3072, False),
    "linux": ("linux.sh", [], "linux", 300, 3072, False),
    "demo": ("demo.sh", [], "linux", 300, 5120, False),
    "command-line-asan": ("command-line.sh", [], "host", 120, 0, True),
    "bad-input-asan": ("bad-input.sh", [], "bare", 400, 3072, True),
    "there-and-back-asan": ("bare-moves.sh", ["4"], "bare", 300, 3072, True),
    "linux-asan": ("linux.sh", [], "linux", 400, 3072, True),
}

counts = {"passed": 0, "failed": 0, "skipped": 0}
lock = threading.Lock()


def say(line):
    with lock:
        print(line, flush=True)


def count(kind, number=1):
    with lock:
        counts[kind] += number


def run(command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)


def count_tap(name, log):
    """One meson test's output: TAP lines, or just its result."""
    lines = [line.strip() for line in log.get("stdout", "").splitlines()]
    skips = [l for l in lines if l.startswith("ok ") and "# SKIP" in l.upper()]
    passed = sum(l.startswith("ok ") for l in lines) - len(skips)
    failed = sum(l.startswith("not ok ") for l in lines)
    good = log["result"] in ("OK", "SKIP")
    if not good and not failed:
        failed = 1
    if good and not passed and not skips:
        passed = 1
    count("passed", passed)
    count("failed", failed)
    count("skipped", len(skips))
    for line in skips:
        say(f"  skipped: {name}: {line}")
    if failed:
        say(f"  FAILED: {name}")
        for line in lines + log.get("stderr", "").splitlines():
            say(f"    {line}")


def unit_tests(build, title):
    started = time.monotonic()
    path = os.path.join(build, "meson-logs", "testlog.json")
    # What an earlier run left must not speak for this one.
    if os.path.exists(path):
        os.unlink(path)
    done = run(["meson", "test", "-C", build, "--suite", "unit"])
    if not os.path.exists(path):
        say(done.stdout)
        count("failed")
        return
    with open(path) as file:
        logs = [json.loads(line) for line in file]
    for log in logs:
        count_tap(log["name"], log)
    say(f"{title}: {len(logs)} programs in {time.monotonic() - started:.0f} s")


def scenario_command(name):
    script, arguments, needs, seconds, memory, asan = SCENARIOS[name]
    path = os.path.join(TOP, "tests", "e2e", script)
    if needs == "host":
        return ["sh", path] + arguments
    return [sys.executable, os.path.join(TOP, "lab", "run"), "--tries", "3",
            "--quiet", "--need", needs, "--timeout", str(seconds),
            "--memory", str(memory),
            "--out", os.path.join(BUILD, "check", name), path] + arguments


def scenario_environment(name):
    asan = SCENARIOS[name][5]
    environment = dict(os.environ)
    environment["AEROSTAT"] = os.path.join(ASAN if asan else BUILD, "aerostat")
    if asan:
        environment["ASAN_OPTIONS"] = "detect_leaks=1:abort_on_error=0:exitcode=99"
        environment["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    if SCENARIOS[name][2] == "host":
        environment["OUT"] = os.path.join(BUILD, "check", name)
        os.makedirs(environment["OUT"], exist_ok=True)
    return environment


def scenario(name):
    started = time.monotonic()
    done = run(scenario_command(name), env=scenario_environment(name))
    lines = done.stdout.splitlines()
    passed = [l for l in lines if l.startswith("ok - ")]
    skipped = [l for l in lines if l.startswith("skip - ")]
    retries = [l for l in lines if "lab died" in l]
    took = f"{time.monotonic() - started:.0f} s"
    count("passed", len(passed))
    count("skipped", len(skipped))
    for line in skipped + retries:
        say(f"  {name}: {line}")
    if done.returncode == 0 and passed + skipped:
        say(f"{name}: {len(passed)} passed in {took}")
        return
    count("failed")
    say(f"{name}: FAILED with status {done.returncode} after {took}; its end:")
    for line in lines[-25:]:
        say(f"    {line}")


def scenarios(names):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(scenario, name) for name in names]:
            future.result()


def build_asan():
    if not os.path.exists(os.path.join(ASAN, "build.ninja")):
        done = run(["meson", "setup", "-Db_sanitize=address,undefined",
                    "-Db_lundef=false", ASAN], cwd=TOP)
        if done.returncode:
            say(done.stdout)
            return False
    done = run(["ninja", "-C", ASAN, "--quiet"])
    if done.returncode:
        say(done.stdout)
    return done.returncode == 0


def sanitizer():
    if not build_asan():
        count("failed")
        say("the sanitizer build failed")
        return []
    unit_tests(ASAN, "unit tests under ASan and UBSan")
    return [name for name in SCENARIOS if SCENARIOS[name][5]]


def main():
    what = sys.argv[1:] or ["unit", "e2e", "sanitizer"]
    names = [name for name in what if name in SCENARIOS]
    if "unit" in what:
        unit_tests(BUILD, "unit tests")
    if "sanitizer" in what:
        names += sanitizer()
    if "e2e" in what:
        names += [name for name in SCENARIOS if not SCENARIOS[name][5]]
    # The longest first, so that the two at a time end together.
    names.sort(key=lambda name: -SCENARIOS[name][3])
    scenarios(names)
    print(f"{counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped", flush=True)
    return 1 if counts["failed"] or not counts["passed"] else 0


sys.exit(main())
