#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up a directory of results: unit.json and threads.json (Meson's test logs) and system.xml (pytest's JUnit file). Prints the last
line of ./test; exit code 0 only if something passed and nothing failed. A file that cannot be read is a failure."""
import json
import os
import sys
import xml.etree.ElementTree as ElementTree


def unit_counts(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            result = json.loads(line)["result"]
            passed += result in ("OK", "EXPECTEDFAIL")
            skipped += result == "SKIP"
            failed += result not in ("OK", "EXPECTEDFAIL", "SKIP")
    return passed, failed, skipped


def system_counts(path):
    total = failed = skipped = 0
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return max(total - failed - skipped, 0), failed, skipped


def main():
    passed = failed = skipped = 0
    for name, count in (("unit.json", unit_counts), ("threads.json", unit_counts), ("system.xml", system_counts)):
        path = os.path.join(sys.argv[1], name)
        if not os.path.exists(path):
            continue
        try:
            counts = count(path)
        except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
            print(f"{name}: the results cannot be read: {error}", file=sys.stderr)
            counts = (0, 1, 0)
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
