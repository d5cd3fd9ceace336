#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check the linked personality: what its signal handling relies on must be true of the code that the compiler made.

 - the two windows of entry/entry.S hold no call: a helper outside the window would escape the handler's test of RIP
 - system calls are made in the assembler stubs only
 - no vector or x87 register is used: the guest's must survive
 - everything executable lies between personality_text_start and personality_text_end
"""
import re
import subprocess
import sys

STUBS = {"host_call", "host_blocking", "blocking_check", "host_clone", "host_sigreturn", "host_restorer"}
VECTOR = re.compile(r"%(?:[xyz]mm\d+|mm\d|st\b|k[0-7]\b)")


def main() -> int:
    binary, stamp = sys.argv[1:3]
    symbols = {}
    for line in subprocess.run(["nm", binary], check=True, capture_output=True, text=True).stdout.splitlines():
        address, _, name = line.split()
        symbols[name] = int(address, 16)
    windows = [(symbols["blocking_check"], symbols["blocking_done"]), (symbols["exit_check"], symbols["exit_end"])]
    text = symbols["personality_text_start"], symbols["personality_text_end"]
    problems, function = [], ""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", binary], check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        label = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        if label:
            function = label[1]
            continue
        code = re.match(r"\s*([0-9a-f]+):\s+(.*)$", line)
        if not code:
            continue
        address, instruction = int(code[1], 16), code[2]
        if not text[0] <= address < text[1]:
            problems.append(f"{address:x}: code outside the text: {instruction}")
        if instruction.startswith("syscall") and function not in STUBS:
            problems.append(f"{address:x}: system call in {function}")
        if VECTOR.search(instruction):
            problems.append(f"{address:x}: vector register in {function}: {instruction}")
        if instruction.split()[0] in ("call", "callq") and any(low <= address < high for low, high in windows):
            problems.append(f"{address:x}: call inside a window: {instruction}")
    for problem in problems:
        print(f"{binary}: {problem}", file=sys.stderr)
    if not problems:
        with open(stamp, "w", encoding="utf-8") as out:
            out.write("checked\n")
    return 1 if problems else 0


sys.exit(main())
