#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Breaks the rules of docs/spec/command-register.md in the code, one clause at a
time, and those of docs/spec/page-ranges.md about memory that waits, and shows what
catches it.

mutations.txt lists the mutations. Each is put into a copy of the tree, in
build/mutations, which is built and tested: by unit tests, until one fails, and
by schedules of the simulator, until one does. A crash or a hang is a catch, a
mutant that does not compile is a fault of the list. The model cannot see the
code; where it has the same fault, that must be caught there as well. Prints a
table; exits 1 when a mutation is not caught.

usage: tests/mutations/run.py [NAME...]
       tests/mutations/run.py --list    names, rules and what they do
       tests/mutations/run.py --check   is the list still one of this tree?
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(TOP, "build", "mutations")
TREE = os.path.join(OUT, "tree")
BUILD = os.path.join(OUT, "build")
SPEC = "docs/spec/command-register.md"
BESIDE = "docs/spec/page-ranges.md"  # of its rules some are broken
SCHEDULES = 20000
SECONDS = 30  # limit of one test program, and of those schedules

# The unit tests that can see a mutation in these folders, the quick ones first.
UNIT = {
    "src/balloon": ["command_driver", "command_report", "command_both",
                    "command_register", "report", "report_ids", "report_hints",
                    "hold"],
    "src/migration": ["policy", "migration_hints", "migration_failures", "migration"],
    "src/virtio": ["virtio_device", "virtqueue"],
    "src/machine": ["balloon_device"],
}

# model: a check of tests/model, or None; places: of each the marks and lines.
Mutation = collections.namedtuple("Mutation", "name rules file says model places")


class Broken(Exception):
    """A fault of the list or the tree."""


# ------------------------------------------------------------------ the list

def parse_place(lines):
    """A list of (mark, line), as in a diff."""
    for line in lines:
        if line[:2] not in ("- ", "+ ", "  "):
            raise Broken(f"mutations.txt: what is \"{line}\"?")
    return [(line[0], line[2:].strip()) for line in lines]


def parse(text):
    head, file, says, *rest = text.splitlines()
    name, _, rules = head.partition(": ")
    model = rest.pop(0)[2:] if rest[0].startswith("= ") else None
    places = [parse_place(place.splitlines())
              for place in "\n".join(rest).split("\n@@\n")]
    return Mutation(name, rules.split(), file, says, model, places)


def mutations():
    with open(os.path.join(HERE, "mutations.txt"), encoding="utf-8") as file:
        blocks = re.sub(r"^#.*\n", "", file.read(), flags=re.M).split("\n\n")
    return [parse(block.strip("\n")) for block in blocks if block.strip()]


def find(place, lines):
    """Where in @lines the place is; it must be one."""
    old = [text for mark, text in place if mark != "+"]
    at = [i for i in range(len(lines) - len(old) + 1)
          if [line.strip() for line in lines[i:i + len(old)]] == old]
    if len(at) != 1:
        raise Broken(f"found {len(at)} times: {old[0]}")
    return at[0]


def mutate(mutation, text):
    lines = text.split("\n")
    for place in mutation.places:
        at = find(place, lines)
        for mark, new in place:
            if mark == "-":
                del lines[at]
                continue
            if mark == "+":
                lines.insert(at, "\t" + new)
            at += 1
    return "\n".join(lines)


# ------------------------------------------------------------------ the tree

def run(command, folder, seconds=None):
    """Returns status and output; None as status when it took too long."""
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=seconds, check=False)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        return None, (late.stdout or b"").decode(errors="replace")


def must(command, folder):
    status, text = run(command, folder)
    if status != 0:
        raise Broken(f"{command[0]}:\n{text[-2000:]}")
    return text


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def copy_tree():
    """What changed since the last time, so that only that is built again."""
    names = must(["git", "ls-files", "-z", "--cached", "--others",
                  "--exclude-standard"], TOP).split("\0")
    names = {name for name in names if os.path.isfile(os.path.join(TOP, name))}
    for folder, _, files in os.walk(TREE):
        for file in files:
            if os.path.relpath(os.path.join(folder, file), TREE) not in names:
                os.remove(os.path.join(folder, file))
    for name in names:
        there, here = os.path.join(TREE, name), os.path.join(TOP, name)
        if not os.path.exists(there) or read(there) != read(here):
            write(there, read(here))
            shutil.copymode(here, there)


def set_up():
    copy_tree()
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        must(["meson", "setup", "-Dwerror=false", BUILD, TREE], TOP)


def build(target):
    must(["ninja", target], BUILD)
    return os.path.join(BUILD, target)


# -------------------------------------------------------------- the catchers

def by_unit(programs):
    """Returns the test that fails first, or None."""
    for program in programs:
        status, text = run([build(f"tests/unit/test_{program}")], BUILD, SECONDS)
        failed = re.search(r"^not ok \d+ - (?:test_)?(.*)$", text, re.M)
        if status != 0:
            return f"{program}: " + (failed.group(1) if failed else
                                     "hangs" if status is None else "crashes")
    return None


def by_simulator():
    """Returns in how many schedules it is found, and what does not hold."""
    command = [build("tests/sim/sim"), "--protocol", "command-register",
               "--seeds", str(SCHEDULES)]
    status, text = run(command, BUILD, SECONDS)
    found = re.search(r"^seed (\d+): ([^:]*):", text, re.M)
    if status == 0:
        return None
    return (f"{found.group(1)}: {found.group(2)}" if found else
            "hangs" if status is None else "crashes")


models = {}


def by_model(check):
    """Whether the model's fault of that name is caught."""
    if check not in models:
        status, text = run([os.path.join(TREE, "tests", "model", "check.py"), check],
                           TREE)
        models[check] = ("not caught" if status else "skipped"
                         if "# SKIP" in text else check.split("-fault-")[1])
    return models[check]


def catchers(mutation):
    return [by_unit(UNIT[os.path.dirname(mutation.file)]),
            mutation.model and by_model(mutation.model), by_simulator()]


def check_unbroken():
    """Without a mutation all pass, or every mutation would be caught."""
    found = by_unit([program for programs in UNIT.values() for program in programs])
    found = found or by_simulator()
    if found:
        raise Broken(f"without a mutation it fails: {found}")


def try_one(mutation):
    path = os.path.join(TREE, mutation.file)
    original = read(path)
    try:
        write(path, mutate(mutation, original.decode()).encode())
        return catchers(mutation)
    finally:
        write(path, original)


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def run_all(chosen):
    missed = []
    set_up()
    check_unbroken()
    row("rule", "mutation", "unit test that fails", "model", "schedules: simulator")
    row(*["---"] * 5)
    for mutation in chosen:
        try:
            unit, model, simulator = try_one(mutation)
        except Broken as broken:
            raise Broken(f"{mutation.name}: {broken}") from None
        if not unit and not simulator or model == "not caught":
            missed.append(mutation.name)
        row(" ".join(mutation.rules), mutation.name, unit or "-", model or "-",
            simulator or "-")
    print(f"\n{len(chosen)} mutations, {len(chosen) - len(missed)} caught, "
          f"{len(missed)} not" + "".join(f"\nnot: {name}" for name in missed))
    return 1 if missed else 0


# ----------------------------------------------------------------- the check

def lines_are_there(listed):
    for mutation in listed:
        try:
            text = read(os.path.join(TOP, mutation.file)).decode()
            if mutate(mutation, text) == text:
                yield f"{mutation.name}: changes nothing"
        except (Broken, OSError) as fault:
            yield f"{mutation.name}: {fault}"


def rules_of(spec):
    return re.findall(r"^\*\*([DMGP]-\d+)\*\*",
                      read(os.path.join(TOP, spec)).decode(), re.M)


def rules_are_broken(listed):
    rules = rules_of(SPEC)
    broken = {rule for mutation in listed for rule in mutation.rules}
    yield from (f"{rule}: no mutation" for rule in rules if rule not in broken)
    yield from (f"{rule}: no such rule"
                for rule in sorted(broken - set(rules + rules_of(BESIDE))))


def checks_exist(listed):
    checks = {line.split()[0] for line in
              must([os.path.join(TOP, "tests", "model", "check.py"), "list"],
                   TOP).splitlines()}
    yield from (f"{mutation.name}: no check {mutation.model}" for mutation in listed
                if mutation.model and mutation.model not in checks)


def table_is_of_the_list(listed):
    rows = re.findall(r"^\| [DMGP][-\dDMGP ]* \| ([\w-]+) \|",
                      read(os.path.join(HERE, "README.md")).decode(), re.M)
    names = [mutation.name for mutation in listed]
    yield from (f"{name}: no row" for name in names if name not in rows)
    yield from (f"{name}: a row, and no mutation" for name in rows if name not in names)
    yield from (f"{name}: twice" for name in set(names) if names.count(name) > 1)


def check(listed):
    wrong = 0
    checks = {"each mutation's lines are found once": lines_are_there,
              f"each rule of {SPEC} is broken": rules_are_broken,
              "the model has the checks that are named": checks_exist,
              "README.md has a row for each mutation": table_is_of_the_list}
    for number, (what, faults) in enumerate(checks.items(), 1):
        found = list(faults(listed))
        wrong += bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - {what}" +
              "".join(f"\n# {line}" for line in found))
    print(f"1..{len(checks)}")
    return 1 if wrong else 0


def main():
    listed, words = mutations(), sys.argv[1:]
    if words == ["--list"]:
        for mutation in listed:
            print(f"{mutation.name}: {' '.join(mutation.rules)}: {mutation.says}")
        return 0
    if words == ["--check"]:
        return check(listed)
    unknown = set(words) - {mutation.name for mutation in listed}
    if unknown:
        raise Broken(f"no mutation is called {', '.join(sorted(unknown))}; see --list")
    return run_all([m for m in listed if not words or m.name in words])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        print(f"tests/mutations/run.py: {broken}", file=sys.stderr)
        sys.exit(2)
