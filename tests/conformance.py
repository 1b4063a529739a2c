#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Holds docs/conformance.md to what it says: each number of the standard's
statements and of the hazards has one row, each test that a row names exists and
is run, and what the device must do is cited by one of its tests. Prints each
fault; exits 1 when there is one.

usage: tests/conformance.py
"""

import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NUMBERS = ([f"D{n}" for n in range(1, 43)] + [f"V{n}" for n in range(1, 15)] +
           [f"L{n}" for n in range(1, 10)] + [f"R{n}" for n in range(1, 31)])
RESULTS = {"shown", "theirs", "n/a"}


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def unit_tests():
    """Functions that a main() lists, and their files' texts. It may list one
    by a macro that takes the name in another place."""
    listed = {}
    for name in os.listdir(os.path.join(TOP, "tests", "unit")):
        if not re.fullmatch(r"test_\w+\.c", name):
            continue
        text = read("tests", "unit", name)
        main = text[text.rindex("int main(void)"):]
        for test in re.findall(r"^static void (test_\w+)\(void \*\*", text,
                               re.MULTILINE):
            if re.search(rf"\b{test}\b", main) or \
                    re.search(rf"\b{test.removeprefix('test_')}\b", main):
                listed[test] = listed.get(test, "") + text
    return listed


def cites(text, number):
    """"V7", or a range: "D16 to D19"."""
    kind, value = number[0], int(number[1:])
    return re.search(rf"\b{number}(\b|_)|_{number}_", text) or any(
        int(first) <= value <= int(last) for first, last in
        re.findall(rf"\b{kind}(\d+) to {kind}(\d+)\b", text))


def faults():
    tests = unit_tests()
    check = read("tests", "check.py")
    seen = []
    for line in read("docs", "conformance.md").splitlines():
        row = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(row) != 4 or not re.fullmatch(r"[DVLR]\d+", row[0]):
            continue
        number, _, shown_by, result = row
        seen.append(number)
        if result not in RESULTS:
            yield f"{number}: result '{result}'"
        names = re.findall(r"`([\w.-]+)`", shown_by)
        named, texts = 0, ""
        for name in names:
            if name.startswith("test_"):
                named += 1
                if name not in tests:
                    yield f"{number}: no unit test lists {name}"
                texts += tests.get(name, "")
            elif name.endswith(".sh"):
                named += 1
                if not os.path.exists(os.path.join(TOP, "tests", "e2e", name)):
                    yield f"{number}: there is no tests/e2e/{name}"
                else:
                    texts += read("tests", "e2e", name)
                    if f'"{name}"' not in check:
                        yield f"{number}: tests/check.py does not run {name}"
        if result != "n/a" and not named:
            yield f"{number}: is shown by no test"
        if result == "shown" and not cites(texts, number):
            yield f"{number}: none of its tests cites it"
    for number in NUMBERS:
        if seen.count(number) != 1:
            yield f"{number}: {seen.count(number)} rows"
    for number in sorted(set(seen) - set(NUMBERS)):
        yield f"{number}: no such number"


found = list(faults())
for fault in found:
    print(f"docs/conformance.md: {fault}")
sys.exit(1 if found else 0)
