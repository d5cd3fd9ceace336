#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A manual page of section 3 for each function that a public header declares, from the comment in front of it.

    make_man.py INCLUDE_DIR OUT_DIR DEPFILE VERSION

A function without a comment of its own shares the page of the one before it. OUT_DIR holds nothing but what this made.
"""
import os
import re
import shutil
import sys
import textwrap

ITEM = re.compile(r"/\*(?P<comment>.*?)\*/|(?P<code>[^/]+|/)", re.S)


def items(text):
    """("comment", text) and ("declaration", text) in order; bodies, types and directives are left out."""
    text = re.sub(r"^\s*#\s*ifdef\s+__cplusplus.*?^\s*#\s*endif", "", text, flags=re.S | re.M)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    code = ""
    for match in ITEM.finditer(text):
        if match.group("code") is not None:
            code += match.group("code")
            continue
        if code.count("{") > code.count("}"): # inside a structure: a field's comment
            continue
        yield from declarations(code)
        code = ""
        yield "comment", match.group("comment")
    yield from declarations(code)


def declarations(code):
    while re.search(r"\{[^{}]*\}", code):
        code = re.sub(r"\)\s*\{[^{}]*\}", ") INLINE;", code)
        code = re.sub(r"\{[^{}]*\}", " ", code)
    for statement in code.split(";"):
        statement = " ".join(statement.split())
        if statement:
            yield "declaration", statement + ";"


def lines_of(comment):
    """Its lines without the decoration."""
    lines = [re.sub(r"^\s*\* ?", "", line).rstrip() for line in comment.strip().splitlines()]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return lines


def pages(text):
    """(names, prototypes, comment lines) of what the header documents."""
    comment, names, prototypes = None, [], []
    for kind, content in items(text):
        if kind == "comment":
            if names:
                yield names, prototypes, comment
            names, prototypes = [], []
            comment = None if re.match(r"\s*-+ .* -+\s*$", content) else lines_of(content)
            continue
        typedef = content.startswith("typedef")
        match = re.search(r"\b(dvk_\w+)\s*\(", content)
        if not match or "INLINE" in content or content.startswith(("struct {", "enum")):
            continue
        prototypes.append(content)
        if not typedef:
            names.append(match.group(1))
    if names:
        yield names, prototypes, comment


def escaped(line):
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + line if line[:1] in (".", "'") else line


def roff(lines):
    """Paragraphs flow; lines that are set in by two or more, and lists, stay as they are."""
    out = []
    for line in lines:
        if not line.strip():
            out.append(".PP")
        elif re.match(r" {2,}|- ", line):
            out += [".nf", escaped(line), ".fi"]
        else:
            if out and re.match(r"(Errors|Returns|Order|Cost|Waits)\b", line):
                out.append(".PP")
            out.append(escaped(line))
    return out


def page(header, names, prototypes, comment, before, version):
    """before: the function before it in the header, which \"the same\" means."""
    text = list(comment or ["See the header."])
    text[0] = re.sub(r"^dvk_\w+(\(.*?\))?: ", "", text[0])
    summary = textwrap.shorten(re.split(r"(?<=[^A-Z])[.;:](?:\s|$)", " ".join(text))[0], 90, placeholder="")
    text[0] = text[0][:1].upper() + text[0][1:]
    out = ['.\\" made from ' + header, f'.TH {names[0].upper()} 3 "" "DVS {version}" "libdvk"', ".ad l", ".nh", ".SH NAME",
           ", ".join(names) + " \\- " + escaped(summary), ".SH SYNOPSIS", ".nf", f".B #include <{header}>", ".fi"]
    for prototype in prototypes:
        out += [".PP", f".B {escaped(prototype)}"]
    out += [".SH DESCRIPTION", *roff(text), ".PP", "What holds for all calls (threads, callbacks, pointers) stands at the head of", ".IR <dvk/dvk.h> .",
            ".SH SEE ALSO", *([f".BR {before} (3),"] if before else []), ".BR dvk (7)", ""]
    return "\n".join(out)


def main():
    include, out, depfile, version = sys.argv[1:]
    directory = os.path.join(include, "dvk")
    headers = sorted(name for name in os.listdir(directory) if name.endswith(".h"))
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for name in headers:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            found = list(pages(file.read()))
        before = None
        for names, prototypes, comment in found:
            with open(os.path.join(out, names[0] + ".3"), "w", encoding="utf-8") as file:
                file.write(page("dvk/" + name, names, prototypes, comment, before, version))
            before = names[-1]
            for other in names[1:]:
                with open(os.path.join(out, other + ".3"), "w", encoding="utf-8") as file:
                    file.write(f".so man3/{names[0]}.3\n")
    with open(depfile, "w", encoding="utf-8") as file:
        file.write(f"{out}: {' '.join([directory, *(os.path.join(directory, name) for name in headers)])}\n")


if __name__ == "__main__":
    main()
