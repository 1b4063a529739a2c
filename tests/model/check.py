#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The models of the free page report protocols, checked by spin.

Each check prints one TAP line with the states that were looked at and the
seconds it took. A model that is right is searched exhaustively, nothing hashed
away; a fault must be caught, and the line says by which property. Everything a
check made is left in build/model/NAME.

usage: tests/model/check.py [full|list|NAME...]
       default: all but the long ones; full: those too; list: names and flags
       NAME: checks whose name begins so
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "model")
SECONDS = 900  # limit of one check
MEGABYTES = 4000

# holds: must hold in every state; ltl: must come about, under weak fairness;
# fault: a property must be violated, or, where `ltl` says so, that formula.
# big: a fault far from the start, whose search is worth a better compiled one.
Check = collections.namedtuple("Check", "name model kind flags ltl full big",
                               defaults=(None, False, False))


def holds(name, model, flags="", full=False):
    return Check(name, model, "holds", flags.split(), None, full)


def comes(model, formula, flags="", full=False):
    return Check(f"{model}-{formula.replace('_', '-')}", model, "ltl",
                 ["-DBARE", "-DLIVE"] + flags.split(), formula, full)


def fault(model, bug, flags="", formula=None, suffix="", big=False):
    name = f"{model}-fault-{bug.lower().replace('_', '-')}{suffix}"
    if formula:
        flags += " -DBARE -DLIVE"
    return Check(name, model, "fault", [f"-DBUG_{bug}"] + flags.split(), formula,
                 big=big)


def expected(name, model, flags, big=False):
    return Check(name, model, "fault", flags.split(), big=big)


REQUESTS = "-DBARE -DTARGETS"
CHECKS = [
    holds("command_register-pages", "command_register", "-DZEROING -DRESET"),
    holds("command_register-requests", "command_register", f"{REQUESTS} -DSLOTS=2"),
    holds("command_register-requests-quiet", "command_register",
          f"{REQUESTS} -DSLOTS=2 -DQUIET_REPEAT"),
    holds("command_register-requests-full", "command_register", REQUESTS, True),
    holds("command_register-all-full", "command_register", "-DTARGETS -DZEROING", True),
    holds("command_register-two-pages-full", "command_register", "-DPAGES=2", True),
    holds("command_register-slots-full", "command_register", "-DSLOTS=4", True),
    comes("command_register", "sign_comes"),
    comes("command_register", "start_made"),
    comes("command_register", "start_answered", "-DPATIENT"),
    comes("command_register", "done_acknowledged"),
    comes("command_register", "given_back"),
    comes("command_register", "target_read", "-DTARGETS -DSLOTS=2", True),

    fault("command_register", "ACK_AFTER_READ", REQUESTS),
    fault("command_register", "BIT_BEFORE_REGISTER", REQUESTS),
    fault("command_register", "CONCURRENT_HANDLERS", REQUESTS, suffix="-requests"),
    fault("command_register", "CONCURRENT_HANDLERS"),
    fault("command_register", "SIGN_BY_CONFIG"),
    fault("command_register", "SIGN_BY_CONFIG", "-DPAGES_ONLY", suffix="-pages",
          big=True),
    fault("command_register", "START_WHILE_SIGN_DUE"),
    fault("command_register", "START_WHILE_STOP_PENDING"),
    fault("command_register", "START_WHILE_DONE_PENDING"),
    fault("command_register", "IDLE_ON_TAKING"),
    fault("command_register", "COUNT_AFTER_STOP"),
    fault("command_register", "DESTINATION_FORGETS"),
    fault("command_register", "DESTINATION_FORGETS_REQUESTS", REQUESTS),
    fault("command_register", "NO_INTERRUPT_AGAIN"),
    fault("command_register", "HINT_CLEARS_LOG"),
    fault("command_register", "ARM_AFTER_PUBLISH"),
    fault("command_register", "START_BETWEEN_GET_AND_CLEAR"),
    fault("command_register", "UNLOGGED_COUNTS", "-DZEROING"),
    fault("command_register", "WORKER_CLEARS_STOP"),
    fault("command_register", "ONE_BUFFER"),
    fault("command_register", "NO_SLOT_KEPT"),
    fault("command_register", "HANDLER_RELEASES"),
    fault("command_register", "WORKER_CLEARS_STOP", "", "sign_comes", "-comes"),
    fault("command_register", "START_WHILE_STOP_PENDING", "", "sign_comes", "-comes"),
    fault("command_register", "HANDLER_RELEASES", "", "given_back", "-comes"),
    fault("command_register", "NO_INTERRUPT_AGAIN", "", "done_acknowledged", "-comes"),

    holds("standard-pages", "standard", "-DZEROING"),
    holds("standard-requests", "standard", REQUESTS),
    holds("standard-all-full", "standard", "-DTARGETS -DZEROING", True),
    holds("standard-slots-full", "standard", "-DSLOTS=4", True),
    comes("standard", "stop_seen"),
    comes("standard", "start_answered", "-DPATIENT"),
    comes("standard", "given_back"),
    fault("standard", "HINT_CLEARS_LOG"),
    fault("standard", "ARM_AFTER_PUBLISH"),
    fault("standard", "START_BETWEEN_GET_AND_CLEAR"),
    fault("standard", "COUNT_AFTER_STOP", "-DPAGES_ONLY"),
    fault("standard", "ID_REUSED", "-DBUG_NO_DRAIN -DPAGES_ONLY"),
    fault("standard", "ID_REUSED", "-DPATIENT", "start_answered", "-comes"),
    fault("standard", "REGISTER_SHOWS_STOP", REQUESTS),
    fault("standard", "NO_INTERRUPT_AGAIN", "", "given_back", "-comes"),
    fault("standard", "NO_DRAIN", "-DONE_WORD -DSLOTS=4 -DPAGES_ONLY", big=True),
    holds("standard-one-word", "standard", "-DONE_WORD -DPAGES_ONLY"),
    holds("standard-one-word-slots-full", "standard", "-DONE_WORD -DSLOTS=4 -DPAGES_ONLY", True),

    expected("v17-fault-order", "v17", ""),
    holds("v17-closed-pages", "v17", "-DCLOSE_AT_STOP -DZEROING"),
    expected("v17-fault-uncounted", "v17", "-DCLOSE_AT_STOP -DEXPECT_ALL_COUNTED"),
    expected("v17-fault-late-stop", "v17", "-DCLOSE_AT_STOP -DEXPECT_OWN_STOP"),
]


class Broken(Exception):
    """A check that could not be carried out."""


def run(command, folder, what):
    try:
        return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Broken(f"{what} took more than {SECONDS} s") from None


def compile_model(check, folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name in os.listdir(HERE):
        if name.endswith(".pml"):
            shutil.copy(os.path.join(HERE, name), folder)
    done = run(["spin", "-a"] + check.flags + [check.model + ".pml"], folder, "spin")
    if done.returncode or not os.path.exists(os.path.join(folder, "pan.c")):
        raise Broken("spin: " + done.stdout.strip())
    defines = [f"-DMEMLIM={MEGABYTES}"]
    if check.full or check.big:
        defines.append("-DCOLLAPSE")
    if check.ltl:
        defines.append("-DNFAIR=3")
    else:
        defines += ["-DSAFETY", "-DNOCLAIM"]
    # Breadth first: the way to a fault is as short as can be.
    if check.kind == "fault" and not check.ltl:
        defines.append("-DBFS")
    quick = check.kind == "fault" and not check.big and not check.full
    done = run(["gcc", "-O0" if quick else "-O2", "-w", "-o", "pan", "pan.c"] + defines,
               folder, "gcc")
    if done.returncode:
        raise Broken("gcc: " + done.stdout.strip())


def search(check, folder):
    command = ["./pan", "-w25" if check.full else "-w23",
               "-m20000000" if check.full else "-m4000000"]
    if check.ltl:
        command += ["-a", "-f", "-N", check.ltl]
    text = run(command, folder, "the search").stdout
    with open(os.path.join(folder, "pan.out"), "w", encoding="utf-8") as file:
        file.write(text)
    states = re.search(r"^\s*(\d+) states, stored", text, re.M)
    errors = re.search(r"errors: (\d+)", text)
    if not states or not errors:
        raise Broken("the search ended early: " + text.strip()[-400:])
    return text, int(states.group(1)), int(errors.group(1))


def replay_command(check):
    return " ".join(["spin -t -p -g -l"] + check.flags + [check.model + ".pml"])


def violated(check, text, folder):
    """Which property, in the words that stand beside it in the model."""
    if "acceptance cycle" in text:
        return check.ltl.replace("_", " ") + ", never"
    if "pan:1: invalid end state" in text:
        return "invalid end state"
    replay = run(["spin", "-t"] + check.flags + [check.model + ".pml"], folder, "replay")
    at = re.search(r"spin: (\S+\.pml):(\d+), Error: assertion", replay.stdout)
    if not at:
        raise Broken("the counterexample does not replay: " + replay.stdout[-400:])
    with open(os.path.join(folder, at.group(1)), encoding="utf-8") as file:
        lines = file.read().splitlines()[:int(at.group(2))]
    words = (re.search(r"/\* (.*) \*/", lines[-1]) or
             re.search(r"^\s*/\* (.*) \*/$", lines[-2]))
    return words.group(1) if words else lines[-1].strip()


def steps(text):
    depth = re.search(r"\(at depth (\d+)\)", text)
    return f" in {depth.group(1)} steps" if depth else ""


def not_exhausted(text):
    for words in ("max search depth too small", "out of memory", "reached -DMEMLIM",
                  "Search not completed"):
        if words in text:
            return words
    return None


def unreached(text):
    """Statements no state came to, beside ends and what is never to be."""
    return {f"{at} {what}" for at, what in
            re.findall(r'^\t(\S+\.pml:\d+), state \d+, "(.*)"$', text, re.M)
            if what != "-end-" and not what.startswith(("assert(", "id = "))}


def one(check, idle):
    """Returns (passed, what to say)."""
    folder = os.path.join(OUT, check.name)
    started = time.monotonic()
    compile_model(check, folder)
    text, states, errors = search(check, folder)
    took = f"{states} states, {time.monotonic() - started:.0f} s"
    again = f"\n# cd {folder} && {replay_command(check)}"
    if check.kind == "fault":
        name = check.name.split("-fault-")[1]
        if not errors:
            return False, f"fault {name} NOT caught: {took}"
        by = violated(check, text, folder)
        return True, f"fault {name} caught by \"{by}\"{steps(text)}: {took}"
    if errors:
        return False, f"violated: {violated(check, text, folder)}: {took}{again}"
    short = not_exhausted(text)
    if short:
        return False, f"not exhausted ({short}): {took}"
    if check.kind == "holds":
        idle.setdefault(check.model, []).append(unreached(text))
    return True, took


def say(number, passed, what):
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)
    return 0 if passed else 1


def chosen(words):
    if not words or words == ["full"]:
        return [c for c in CHECKS if words or not c.full]
    return [c for c in CHECKS if any(c.name.startswith(word) for word in words)]


def main():
    words = sys.argv[1:]
    if words == ["list"]:
        for check in CHECKS:
            print(check.name, check.kind, *check.flags, check.ltl or "")
        return 0
    checks = chosen(words)
    if not checks:
        print(f"tests/model/check.py: no check begins with {words[0]}; see list",
              file=sys.stderr)
        return 2
    for tool in ("spin", "gcc"):
        if not shutil.which(tool):
            print(f"1..0 # SKIP {tool} is not installed")
            return 0
    failed, number, idle = 0, 0, {}
    for check in checks:
        number += 1
        try:
            passed, what = one(check, idle)
        except Broken as broken:
            passed, what = False, str(broken).replace("\n", "\n# ")
        failed += say(number, passed, f"{check.model}: {what}" if check.kind == "fault"
                      else f"{check.name}: {what}")
    # What no search of a model came to was not checked.
    for model, sets in sorted(idle.items()) if not words or words == ["full"] else []:
        never = sorted(set.intersection(*sets))
        number += 1
        failed += say(number, not never,
                      f"{model}: every statement is reached" +
                      "".join(f"\n# not: {line}" for line in never))
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
