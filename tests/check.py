#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make check: every test there is, and one line of counts at the end.

Unit tests run by meson; scenarios (tests/e2e/*.sh) run by lab/run, which finds
a place with KVM; two of them at a time, since each lab keeps one CPU busy. A
scenario counts once for each line "ok - ..." it prints, and once as failed when
it ends with another status than 0. A skip prints its reason and counts as such.

Models of the protocols are searched by spin (tests/model), and simulated schedules
run for a million seeds or a minute (tests/sim), each fault that can be put into
either must be found. tests/mutations breaks the rules of the code itself.

Everything runs once as it is shipped; unit tests and some scenarios again under
AddressSanitizer with UBSan ("asan") and ThreadSanitizer ("tsan"), each in a
build of its own.

usage: tests/check.py [unit|mutations|model|sim|e2e|asan|tsan|full|NAME...]
       default: all of them; full: and the whole matrix, and the long searches
"""

import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
UNKNOWN_COMMAND = re.compile(r"\.sh: (line )?\d+: .*not found$")

# A build under a sanitizer: its folder, its name, meson's options, and what the
# programs find in their environment.
SANITIZERS = {
    "asan": (os.path.join(TOP, "build-asan"), "ASan and UBSan",
             ["-Db_sanitize=address,undefined", "-Db_lundef=false"],
             {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
              "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}),
    "tsan": (os.path.join(TOP, "build-tsan"), "TSan",
             ["-Db_sanitize=thread", "-Db_lundef=false"],
             {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66"}),
}

# seconds: limit; memory: of the lab, in MiB; build: None or a sanitizer;
# full: only where all of the matrix is asked for
Scenario = collections.namedtuple(
    "Scenario", "script arguments needs seconds memory build full",
    defaults=(None, False))

# Linux guests of the matrix as kernel:CPUs:backing:features. The short list has
# each pair of two columns' values at least once.
CELLS = [f"{kernel}:{cpus}:{backing}:{features}"
         for kernel in ("6.1", "6.12") for cpus in (1, 4)
         for backing in ("anonymous", "memfd", "hugetlb")
         for features in ("on", "off")]
SHORT = ["6.1:1:anonymous:on", "6.1:4:memfd:off", "6.1:4:hugetlb:on",
         "6.12:4:anonymous:off", "6.12:1:memfd:on", "6.12:1:hugetlb:off"]


# The same with the bare guest, and protocols instead of kernels.
BARE_CELLS = [(protocol, backing, cpus, features)
              for protocol in ("standard", "command-register", "v17")
              for backing in ("anonymous", "memfd", "hugetlb")
              for cpus in ("1", "4") for features in ("on", "off")]
BARE_SHORT = [("standard", "anonymous", "1", "on"), ("standard", "memfd", "4", "off"),
              ("standard", "hugetlb", "4", "on"), ("standard", "anonymous", "4", "off"),
              ("command-register", "anonymous", "4", "on"),
              ("command-register", "memfd", "1", "on"),
              ("command-register", "hugetlb", "1", "off"),
              ("command-register", "anonymous", "1", "on"), ("v17", "memfd", "4", "on")]


# Debian guests under load: driver, protocol, kernel, moves.
LOADS = [["module", "command-register", "6.1", "10"], ["module", "command-register", "6.12", "10"],
         ["stock", "standard", "6.1", "10"], ["stock", "standard", "6.1", "10", "zeroing"]]


def cells(words, full):
    return Scenario("linux-matrix.sh", words, "linux", 60 * len(words), 3072,
                    None, full)


SCENARIOS = {
    "command-line": Scenario("command-line.sh", [], "host", 60, 0),
    "bad-input": Scenario("bad-input.sh", [], "bare", 240, 3072),
    "console": Scenario("console.sh", [], "bare", 120, 3072),
    "stats": Scenario("bare-stats.sh", [], "bare", 120, 3072),
    "reuse": Scenario("bare-reuse.sh", ["standard", "100"], "bare", 800, 3072),
    "reuse-commands": Scenario("bare-reuse.sh", ["command-register", "20"],
                               "bare", 300, 3072),
    "reuse-v17": Scenario("bare-reuse.sh", ["v17", "10"], "bare", 300, 3072),
    "request-cost": Scenario("request-cost.sh", ["bare", "0"], "bare", 300, 3072),
    "there-and-back": Scenario("bare-moves.sh", ["20"], "bare", 300, 3072),
    "balloon": Scenario("bare-balloon.sh", ["choices", "frames", "statistics"],
                        "bare", 300, 3072),
    "balloon-pages": Scenario("bare-balloon.sh", ["reporting", "poison", "rogue"],
                              "bare", 300, 3072),
    "huge": Scenario("bare-huge.sh", [], "bare", 300, 3072),
    "inflated": Scenario("bare-inflated.sh", [], "bare", 400, 3072),
    "reset-standard": Scenario("bare-reset.sh", ["standard"], "bare", 300, 3072),
    "reset-commands": Scenario("bare-reset.sh", ["command-register"], "bare", 300, 3072),
    "reset-v17": Scenario("bare-reset.sh", ["v17"], "bare", 300, 3072),
    "large": Scenario("bare-large.sh", [], "bare", 400, 3072),
    **{"matrix-" + "-".join(cell): Scenario("bare-matrix.sh", list(cell), "bare", 150,
                                            3072, None, cell not in BARE_SHORT)
       for cell in BARE_CELLS},

    "linux": Scenario("linux.sh", [], "linux", 300, 3072),
    "demo": Scenario("demo.sh", [], "linux", 300, 5120),
    "linux-inflate": Scenario("linux-balloon.sh", ["inflate", "oom"], "linux", 300, 5120),
    "linux-huge": Scenario("linux-balloon.sh", ["huge", "pool"], "linux", 300, 5120),
    "linux-reporting": Scenario("linux-balloon.sh", ["reporting"], "linux", 400, 5120),
    "linux-stats": Scenario("linux-balloon.sh", ["stats", "stats612"], "linux", 300, 3072),
    "linux-guests": Scenario("linux-guests.sh", ["6.1", "1", "alloc0", "alloc1", "free1"],
                             "linux", 400, 3072),
    "linux-guests-4": Scenario("linux-guests.sh", ["6.1", "4", "alloc1", "reboot"],
                               "linux", 400, 3072),
    "linux-poison": Scenario("linux-guests.sh", ["generic", "1", "poison"],
                             "linux", 300, 3072),
    "linux-events": Scenario("linux-guests.sh", ["6.1", "1", "resize", "pause", "cancel"],
                             "linux", 300, 3072),
    "linux-reboots": Scenario("linux-guests.sh", ["6.1", "1", "reboot"],
                              "linux", 300, 3072),
    "linux-guests-6.12": Scenario("linux-guests.sh", ["6.12", "1", "alloc0", "alloc1", "free1"],
                                  "linux", 400, 3072),
    "linux-events-6.12": Scenario("linux-guests.sh", ["6.12", "1", "resize", "pause", "cancel"],
                                  "linux", 300, 3072),
    "linux-reboots-6.12": Scenario("linux-guests.sh", ["6.12", "1", "reboot"],
                                   "linux", 300, 3072),
    "linux-module": Scenario("linux-module.sh", ["command-register", "6.1", "2"],
                             "linux", 400, 3072),
    "linux-module-standard": Scenario("linux-module.sh", ["standard", "6.12", "2", "ranges"],
                                      "linux", 400, 3072),
    "linux-load-module": Scenario("linux-load.sh", ["module", "command-register", "6.1", "3"],
                                  "linux", 400, 3072),
    "linux-load-stock": Scenario("linux-load.sh", ["stock", "standard", "6.12", "2", "zeroing"],
                                 "linux", 400, 3072),
    **{"linux-load-" + "-".join(words): Scenario("linux-load.sh", words, "linux", 900, 3072,
                                                 None, True)
       for words in LOADS},
    "linux-matrix-1": cells(SHORT[:3], False),
    "linux-matrix-2": cells(SHORT[3:], False),
    **{f"linux-matrix-full-{i // 6}": cells(CELLS[i:i + 6], True)
       for i in range(0, len(CELLS), 6)},

    "command-line-asan": Scenario("command-line.sh", [], "host", 120, 0, "asan"),
    "bad-input-asan": Scenario("bad-input.sh", [], "bare", 400, 3072, "asan"),
    "there-and-back-asan": Scenario("bare-moves.sh", ["4"], "bare", 300, 3072, "asan"),
    "linux-asan": Scenario("linux.sh", [], "linux", 400, 3072, "asan"),

    "balloon-pages-asan": Scenario("bare-balloon.sh", ["reporting", "poison", "rogue"],
                                   "bare", 400, 3072, "asan"),
    "reset-commands-asan": Scenario("bare-reset.sh", ["command-register"],
                                    "bare", 400, 3072, "asan"),

    "there-and-back-tsan": Scenario("bare-moves.sh", ["4"], "bare", 300, 3072, "tsan"),
    "reuse-tsan": Scenario("bare-reuse.sh", ["standard", "4"], "bare", 300, 3072, "tsan"),
    "balloon-tsan": Scenario("bare-balloon.sh", ["choices", "frames", "statistics"],
                             "bare", 400, 3072, "tsan"),
    "balloon-pages-tsan": Scenario("bare-balloon.sh", ["reporting", "poison", "rogue"],
                                   "bare", 400, 3072, "tsan"),
    "reset-standard-tsan": Scenario("bare-reset.sh", ["standard"], "bare", 400, 3072,
                                    "tsan"),
    "reset-commands-tsan": Scenario("bare-reset.sh", ["command-register"], "bare", 400,
                                    3072, "tsan"),
}

counts = {"passed": 0, "failed": 0, "skipped": 0}
failures = []  # names of what failed, and their ends
lock = threading.Lock()


def say(line):
    with lock:
        print(line, flush=True)


def count(kind, number=1):
    with lock:
        counts[kind] += number


def failed(name, lines, number=1):
    """Said now, and once more at the end, where a reader of the log looks first."""
    count("failed", number)
    failures.append((name, lines[-25:]))
    say(f"{name}: FAILED; its end:")
    for line in lines[-25:]:
        say(f"    {line}")


def run(command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)


def count_tap(name, log):
    """One test's output: TAP lines, or just its result."""
    lines = [line.strip() for line in log.get("stdout", "").splitlines()]
    skips = [l for l in lines if l.startswith("ok ") and "# SKIP" in l.upper()]
    passed = sum(l.startswith("ok ") for l in lines) - len(skips)
    broken = sum(l.startswith("not ok ") for l in lines)
    good = log["result"] in ("OK", "SKIP")
    if not good and not broken:
        broken = 1
    if good and not passed and not skips:
        passed = 1
    count("passed", passed)
    count("skipped", len(skips))
    for line in skips:
        say(f"  skipped: {name}: {line}")
    if broken:
        failed(name, lines + log.get("stderr", "").splitlines(), broken)


def unit_tests(build, title, environment):
    started = time.monotonic()
    path = os.path.join(build, "meson-logs", "testlog.json")
    # What an earlier run left must not speak for this one.
    if os.path.exists(path):
        os.unlink(path)
    done = run(["meson", "test", "-C", build, "--suite", "unit"],
               env=dict(os.environ, **environment))
    if not os.path.exists(path):
        failed(title, done.stdout.splitlines())
        return
    with open(path) as file:
        logs = [json.loads(line) for line in file]
    for log in logs:
        count_tap(log["name"], log)
    say(f"{title}: {len(logs)} programs in {time.monotonic() - started:.0f} s")


def tap_program(title, command):
    """A program that prints TAP."""
    started = time.monotonic()
    done = run(command)
    count_tap(title, {"stdout": done.stdout, "result": "FAIL" if done.returncode else "OK"})
    say(f"{title}: {time.monotonic() - started:.0f} s")


def mutations(full):
    """The list is looked at; what it breaks is seen where all is asked for."""
    program = [sys.executable, os.path.join(TOP, "tests", "mutations", "run.py")]
    tap_program("mutations, the list", program + ["--check"])
    if not full:
        return
    started = time.monotonic()
    done = run(program)
    say(done.stdout)
    if done.returncode:
        failed("mutations", done.stdout.splitlines())
    else:
        count("passed")
    say(f"mutations: {time.monotonic() - started:.0f} s")


def models(full):
    tap_program("models", [sys.executable, os.path.join(TOP, "tests", "model", "check.py")]
                + ["full"] * full)


def simulator():
    program = os.path.join(BUILD, "tests", "sim", "sim")
    done = run(["ninja", "-C", BUILD, "--quiet", "tests/sim/sim"])
    if done.returncode:
        failed("simulator, build", done.stdout.splitlines())
        return
    for what, arguments in (("schedules", ["--seconds", "60", "--seeds", "1000000"]),
                            ("faults", ["--faults"])):
        started = time.monotonic()
        done = run([program] + arguments)
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            failed(f"simulator, {what}", lines + [f"status {done.returncode}"])
            continue
        found = sum(" found in " in line for line in lines)
        count("passed", found or 1)
        say(f"simulator: {f'{found} faults found' if found else lines[0]}, "
            f"{time.monotonic() - started:.0f} s")


def scenario_command(name):
    wanted = SCENARIOS[name]
    path = os.path.join(TOP, "tests", "e2e", wanted.script)
    if wanted.needs == "host":
        return ["sh", path] + wanted.arguments
    return [sys.executable, os.path.join(TOP, "lab", "run"), "--tries", "3",
            "--quiet", "--need", wanted.needs, "--timeout", str(wanted.seconds),
            "--memory", str(wanted.memory),
            "--out", os.path.join(BUILD, "check", name), path] + wanted.arguments


def scenario_environment(name):
    wanted = SCENARIOS[name]
    environment = dict(os.environ)
    build = BUILD
    if wanted.build:
        build, _, _, more = SANITIZERS[wanted.build]
        environment.update(more)
    environment["AEROSTAT"] = os.path.join(build, "aerostat")
    if wanted.needs == "host":
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
    # A shell goes on behind a word it does not know, and what was to be checked
    # there was not.
    unknown = [l for l in lines if UNKNOWN_COMMAND.search(l)]
    if done.returncode == 0 and passed + skipped and not unknown:
        say(f"{name}: {len(passed)} passed in {took}")
        return
    failed(name, lines + unknown + [f"status {done.returncode} after {took}"])


def two_at_a_time(jobs):
    """Jobs: functions and their arguments."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(*job) for job in jobs]:
            future.result()


def build_with(sanitizer):
    folder, _, flags, _ = SANITIZERS[sanitizer]
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        done = run(["meson", "setup"] + flags + [folder], cwd=TOP)
        if done.returncode:
            failed(f"meson for {folder}", done.stdout.splitlines())
            return False
    done = run(["ninja", "-C", folder, "--quiet"])
    if done.returncode:
        failed(f"build of {folder}", done.stdout.splitlines())
    return done.returncode == 0


def sanitized_unit_tests(sanitizer):
    folder, title, _, environment = SANITIZERS[sanitizer]
    if build_with(sanitizer):
        unit_tests(folder, f"unit tests under {title}", environment)
        return True
    return False


GROUPS = ["unit", "mutations", "model", "sim", "e2e", *SANITIZERS]


def main():
    what = sys.argv[1:] or GROUPS
    full = "full" in what
    if full:
        what = GROUPS
    unknown = [word for word in what if word not in SCENARIOS and word not in GROUPS]
    if unknown:
        print(f"tests/check.py: there is no {unknown[0]}; there are {', '.join(GROUPS)}, "
              f"full and {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    names = [name for name in what if name in SCENARIOS]
    for build in {SCENARIOS[name].build for name in names} - {None, *what}:
        build_with(build)
    if "unit" in what:
        unit_tests(BUILD, "unit tests", {})
    if "mutations" in what:
        mutations(full)
    for group in ["e2e", *SANITIZERS]:
        if group not in what:
            continue
        build = None if group == "e2e" else group
        if build and not sanitized_unit_tests(build):
            continue
        names += [name for name, wanted in SCENARIOS.items()
                  if wanted.build == build and (full or not wanted.full)]
    # The longest first, so that the two at a time end together.
    names.sort(key=lambda name: -SCENARIOS[name].seconds)
    jobs = [(scenario, name) for name in names]
    if "sim" in what:
        jobs.insert(0, (simulator,))
    if "model" in what:
        jobs.insert(0, (models, full))
    two_at_a_time(jobs)
    for name, lines in failures:
        print("\n    ".join([f"failed: {name}", *lines]))
    print(f"{counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped", flush=True)
    return 1 if counts["failed"] or not counts["passed"] else 0


sys.exit(main())
