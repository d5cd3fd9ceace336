#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every error that a public header documents has a test, and no test claims one that is not documented.

    documented_errors.py SOURCE_DIR [--list]

Headers: the comment of a function has "Errors:" and behind it, up to a blank line, the names of what it returns (-EINVAL,
-DVK_ENODC); "those of dvk_x" or "as of dvk_x" stand for that function's, "the common ones" for the "Common errors:" at the
head of the file; "Errors: none" for a call that always succeeds.

Tests (any file below tests/): a comment "covers: CALLS: ERRORS: PLACES", where PLACES are
    local, remote   the other party of the call is on the same node, or on another
    here            the call has no other party, or fails before it looks for one
A call with another party needs local and remote, or here if the error is one that libdvk finds by itself.
"""
import os
import re
import sys

# Calls that name another endpoint, whose errors should not depend on where that is.
WITH_PARTY = {"dvk_" + name for name in (
    "sendrec send post call notify receive_from receive_request relay wait_bind wait_unbind info_endpoint watch_endpoint loan_get "
    "grant vcopy").split()}
FOUND_ALONE = {"-EINVAL", "-ENOMEM", "-DVK_EINTERRUPTED", "-DVK_EVERSION", "-ENOSPC"}
ONE_PLACE = {"-DVK_ENODEUNREACH": {"remote"}, "-DVK_EDEADLOCK": {"local"}}  # one's own node is never out of reach; see dvk_sendrec
# What no test of seconds brings about, and why.
NOT_SHOWN = {
    ("dvk_call", "-DVK_ETIMEDOUT"): "a cell that does not start within a minute",
    **{("dvk_" + name, "-EAGAIN"): "4096 calls of a process in the moment in which a cell or proxy starts"
       for name in ("sendrec", "send", "call", "post")},
    **{("dvk_migrate_" + name, error): "quorum or the backup is lost just in the moment; tests/model searches for what comes of that"
       for name in ("start", "commit", "rollback") for error in ("-DVK_ENOQUORUM", "-DVK_EUNKNOWN")},
    ("dvk_migrate_start", "-DVK_ENOTMIGRATING"): "the same",
    **{(f"dvk_{what}_privileges", "-DVK_ENODC"): "the DC ends between the call and dvkd's look" for what in ("get", "set")},
    ("dvk_migrate_commit", "-ENOMEM"): "asked as dvk_migrate_start asks, which shows it",
    **{("dvk_bind_" + name, "-EAGAIN"): "backups of thousands of endpoints" for name in ("backup", "replica")},
    ("dvk_info_endpoint", "-DVK_ETIMEDOUT"): "a dvkd that does not answer for 30 seconds",
    **{("dvk_stats_" + name, "-DVK_ETIMEDOUT"): "a dvkd that does not answer for 30 seconds" for name in ("endpoint", "dc", "node")},
    **{("dvk_stats_" + name, "-ENOSYS"): "a node of an older version" for name in ("endpoint", "dc", "node")},
    ("dvk_stats_node", "-DVK_ENODC"): "DC 0 is always there",
    ("dvk_find_dc", "-DVK_ENOTALLOWED"): "only a cell's servers are told so",
    ("dvk_bind", "-DVK_ENOSLOT"): "2^20 endpoints; test_slots.py shows it of pids",
}
# Where one place is all there is.
ONLY = {
    ("dvk_loan_get", "-DVK_ENOTBOUND"): "local",     # the way to another node is that to its proxy; the message itself is refused
    ("dvk_loan_get", "-DVK_ENOTALLOWED"): "local",
    ("dvk_relay", "-DVK_ENOTALLOWED"): "local",      # descriptors come from this node only, and guests
    ("dvk_wait_bind", "-EAGAIN"): "local",           # another node's would take 262144 waits of this one
    ("dvk_wait_unbind", "-EAGAIN"): "local",
    ("dvk_grant", "-ENOSPC"): "local",
    # said of our own endpoint only
    **{("dvk_" + name, "-DVK_ENOTBOUND"): "here" for name in ("notify", "watch_endpoint", "grant", "vcopy", "wait_unbind")},
    ("dvk_loan_get", "-EMSGSIZE"): "here",
    ("dvk_vcopy", "-DVK_ENODAEMON"): "here",         # our own dvkd is asked first
}
NAME = re.compile(r"-(?:DVK_)?E[A-Z0-9]+")
COVERS = re.compile(r"\bcovers: ([\w ]+): ([-\w ]+): ([a-z ]+)")


def errors_text(lines):
    """What stands behind "Errors:", up to a blank line; None: nothing."""
    found = None
    for line in lines:
        if found is not None:
            if not line.strip():
                break
            found += " " + line
        match = re.search(r"\b(?:Errors:|[Ee]rrors (?=as of ))(.*)", line)
        if found is None and match:
            found = match.group(1)
    return found


def documented(source):
    """{function: set of errors} and {function: header}, references resolved."""
    sys.path.insert(0, os.path.join(source, "src", "dvk"))
    from make_man import lines_of, pages # pylint: disable=import-outside-toplevel,import-error
    texts, commons, headers, mistakes = {}, {}, {}, []
    directory = os.path.join(source, "include", "dvk")
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            text = file.read()
        common = re.search(r"Common errors:(.*?)(?:\n \*\n|\*/)", text, re.S)
        commons[name] = set(NAME.findall(common.group(1))) if common else set()
        for names, prototypes, comment in pages(text):
            for prototype in prototypes:
                function = re.search(r"\b(dvk_\w+)\s*\(", prototype).group(1)
                if function not in names:
                    continue
                headers[function] = name
                texts[function] = errors_text(comment or [])
                if texts[function] is None and prototype.startswith("int "):
                    mistakes.append(f"{name}: {function} does not say which errors it has")
    assert lines_of
    known = {}

    def errors(function):
        if function not in known:
            text = texts.get(function) or ""
            known[function] = set(NAME.findall(text))
            if "the common ones" in text:
                known[function] |= commons[headers[function]]
            for other in re.findall(r"(?:those|others|as) of (dvk_\w+)", text):
                known[function] |= errors(other)
        return known[function]
    return {function: errors(function) for function in texts}, headers, mistakes


def claims(source):
    """{(function, error): places}"""
    found = {}
    for directory, _, names in os.walk(os.path.join(source, "tests")):
        for name in sorted(names):
            if not name.endswith((".py", ".c", ".h")) or name == os.path.basename(__file__):
                continue
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                for functions, errors, places in COVERS.findall(file.read()):
                    for function in functions.split():
                        for error in errors.split():
                            found.setdefault((function, error), set()).update(places.split())
    return found


def missing(function, error, shown):
    """The places that no test shows."""
    if (function, error) in NOT_SHOWN:
        return set()
    if function not in WITH_PARTY:
        return set() if shown else {"here"}
    if "here" in shown and error in FOUND_ALONE:
        return set()
    wanted = ONE_PLACE.get(error) or ({ONLY[function, error]} if (function, error) in ONLY else {"local", "remote"})
    return wanted - shown


def main():
    source = sys.argv[1]
    errors, headers, mistakes = documented(source)
    shown = claims(source)
    cells = [(function, error) for function in sorted(errors) for error in sorted(errors[function])]
    if "--list" in sys.argv:
        for function, error in cells:
            print(f"{headers[function]:12} {function:22} {error:20} {' '.join(sorted(shown.get((function, error), []))) or NOT_SHOWN.get((function, error), '')}")
    for function, error in cells:
        for place in sorted(missing(function, error, shown.get((function, error), set()))):
            mistakes.append(f"{headers[function]}: no test covers {function}: {error}: {place}")
    for function, error in sorted(shown):
        if function not in errors:
            mistakes.append(f"a test covers {function}, which no header declares")
        elif error not in errors[function]:
            mistakes.append(f"{headers[function]}: a test covers {function}: {error}, which is not documented")
    for function, error in sorted(set(NOT_SHOWN) | set(ONLY)):
        if error not in errors.get(function, ()):
            mistakes.append(f"{os.path.basename(__file__)} excepts {function}: {error}, which is not documented")
    if not cells or not shown:
        mistakes.append("nothing was found: are the headers and tests where they were?")
    if mistakes:
        sys.exit("\n".join(mistakes))
    print(f"{len(errors)} functions, {len(cells)} errors, each with a test")


if __name__ == "__main__":
    main()
