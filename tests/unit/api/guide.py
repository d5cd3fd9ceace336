#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The programs in docs/DVK.md compile and link; the examples and calls that it names exist.

    guide.py SOURCE_ROOT CC LIBDVK_SO
"""
import os
import re
import subprocess
import sys
import tempfile

root, compiler, library = sys.argv[1:]
with open(os.path.join(root, "docs", "DVK.md"), encoding="utf-8") as file:
    guide = file.read()
programs = re.findall(r"^```c\n(.*?)^```$", guide, flags=re.M | re.S)
assert len(programs) >= 2, "there are no programs in the guide"
with tempfile.TemporaryDirectory() as work:
    for i, program in enumerate(programs):
        source = os.path.join(work, f"program{i}.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(program)
        subprocess.run([compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", os.path.join(root, "include"), "-o",
                        os.path.join(work, f"program{i}"), source, library, "-Wl,--allow-shlib-undefined"], check=True)
for name in set(re.findall(r"`((?:examples/)?\w+\.c)`", guide)) - {"shout_server.c", "shout_client.c"}:
    assert os.path.exists(os.path.join(root, "examples", os.path.basename(name))), f"there is no example {name}"
for name in set(re.findall(r"`(dvk_\w+)`", guide)):
    headers = os.listdir(os.path.join(root, "include", "dvk"))
    assert any(name + "(" in open(os.path.join(root, "include", "dvk", header), encoding="utf-8").read() for header in headers), \
        f"no header declares {name}"
