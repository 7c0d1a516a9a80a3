#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what no compiler checks: who includes whom, lengths, banned calls, licence lines.

usage: tools/tidy.py [ROOT]     exit 0 and one line when all is well, else one line a fault

It is a test (`meson test --suite lint`). The rules are the tables below; STYLE.md says why.
"""
import io
import pathlib
import re
import subprocess
import sys
import tokenize

# A folder of src/ and the folders it may include. Order is the include order of ARCHITECTURE.md.
MAY_INCLUDE = {
    "base": "",
    "spec": "base",
    "policy": "base spec",
    "contract": "base",
    "sys": "base",
    "geo": "base",
    "io": "base sys",
    "proto": "base",
    "http": "base sys io proto",
    "store": "base spec sys",
    "replica": "base spec contract sys io proto http",
    "runtime": "base contract sys",
    "gateway": "base spec policy contract sys geo io proto http replica",
    "pop": "base spec policy contract sys geo io proto http store replica",
    "control": "base spec policy contract sys geo io proto http store",
    "dns": "base spec policy contract sys geo io proto",
    "fleet": "base spec policy sys geo io proto http",
    "supervisor": "base contract sys",
    "sim": "base spec policy contract sys geo io proto http store replica gateway pop control dns "
           "fleet supervisor",
    "cli": "base spec policy sys geo io proto http store replica",
    "bin": "*",
}
# A library's header and the folders that may name it; elsewhere it is hidden behind ours.
MAY_USE = {
    "uv.h": "io",
    "yaml.h": "base",
    "llhttp.h": "proto",
    "libknot/libknot.h": "proto",
    "sqlite3.h": "store",
    "seccomp.h": "sys",
    "curl/curl.h": "http",
    "maxminddb.h": "geo",
    "onnxruntime_c_api.h": "runtime",
}
LINE_MAX = 100
FUNCTION_MAX = 70
FILE_MAX = 800
BANNED = {
    "strcpy": "slices, or snprintf", "strcat": "slices, or snprintf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "gets": "getline", "strtok": "slices", "strtok_r": "slices",
    "atoi": "a parser that reports errors", "atol": "a parser that reports errors",
    "atoll": "a parser that reports errors", "atof": "a parser that reports errors",
    "strncpy": "slices, or snprintf", "system": "spawn", "popen": "spawn", "alloca": "an arena",
    "setjmp": "an error", "longjmp": "an error", "rand": "the env", "srand": "the env",
    "tmpnam": "mkostemp", "mktemp": "mkostemp", "usleep": "a timer", "sleep": "a timer",
    "localtime": "localtime_r", "gmtime": "gmtime_r", "strerror_r": "strerror",
}
# libjpeg reports errors by longjmp and in no other way.
NEEDED = {"src/cli/image.c": ("setjmp", "longjmp")}
CLOCKS = ("clock_gettime", "gettimeofday", "time", "clock")
CLOCK_FOLDERS = ("sys", "io", "runtime", "cli")  # the last two are never simulated
CLOCK_FILES = ("src/base/log.c",)

# Split, so that this file does not find itself.
MACHINE = re.compile(r"(?<![\w.])/(?:wo" r"rk|far" r"m|ro" r"ot)/[\w.]")
REGISTRY = re.compile(r"\b(?:pyp" r"i\.org|pythonhos" r"ted\.org|npm" r"js\.(?:org|com)|"
                      r"(?:deb|security)\.deb" r"ian\.org|crates" r"\.io)\b")
CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
# A document named in a comment: with a path from the root, or by its name alone.
DOCUMENT = re.compile(r"(?<![\w./:-])[\w.-]+(?:/[\w.-]+)*\.md\b")
WITH_LICENCE = {".c", ".h", ".py", ".sh", ".def", ""}
NO_LICENCE = {"LICENSE", "VERSION"}


def tracked(root):
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=False, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.decode().split("\0")
    else:  # an unpacked archive
        names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        names = [name for name in names if not name.startswith((".git/", "build"))]
    return sorted(name for name in names if name and (root / name).is_file())


def bare_code(text):
    """Comments and literals are blanked; line numbers stay."""
    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] * 2
        return "\n" * found.count("\n") or " "

    # 60'000 is a number, not the beginning of a character.
    return CODE.sub(blank, re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text))


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_includes(name, text):
    folder = name.split("/")[1]
    if folder not in MAY_INCLUDE:
        yield 1, f"src/{folder} is not in the table of folders (tools/tidy.py, ARCHITECTURE.md)"
        return
    allowed = MAY_INCLUDE[folder].split() + [folder]
    for match in INCLUDE.finditer(text):
        ours, theirs = match.groups()
        line = line_of(text, match.start(1 if ours else 2))
        if ours:
            target = ours.split("/")[0] if "/" in ours else None
            if target is None:
                yield line, f'"{ours}": our headers are included by path ("{folder}/{ours}")'
            elif "*" not in allowed and target not in allowed:
                yield line, f'src/{folder} may not include "{ours}": only {" ".join(allowed)}'
        elif theirs in MAY_USE and folder not in MAY_USE[theirs].split():
            yield line, f"<{theirs}> belongs to src/{{{MAY_USE[theirs].replace(' ', ',')}}}"


def check_map(text):
    """ARCHITECTURE.md's code map says what the table here does."""
    rows = dict(re.findall(r"^\| `(\w+)/` \|.*\| ([^|]+) \|$", text, re.M))
    said = {"base": "nothing of ours", "sim": "everything above but runtime", "bin": "everything"}
    missing = [folder for folder in MAY_INCLUDE if folder not in rows]
    if missing:
        yield 1, f"the code map lacks {'/, '.join(missing)}/"
    for folder, found in rows.items():
        allowed = said.get(folder, MAY_INCLUDE.get(folder))
        if found != allowed:
            yield 1, f"the code map lets {folder}/ include '{found}', tools/tidy.py '{allowed}'"


def check_functions(text):
    """A function's body stands between braces in the first column; switches do not count."""
    start, begun, counted, in_switch = None, None, 0, False
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line == "{":
            begun, counted, in_switch = number, 0, False
            start = lines[number - 2].strip() if number > 1 else ""
        elif line.startswith("}") and begun:
            if counted > FUNCTION_MAX:
                yield begun, f"'{start[:60]}' has {counted} lines, at most {FUNCTION_MAX}"
            begun = None
        elif begun:
            if re.match(r"    switch \(", line):
                in_switch = True
            elif in_switch and line == "    }":
                in_switch = False
            elif not in_switch:
                counted += 1


def check_calls(name, code):
    calls = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(map(re.escape, BANNED)))
    for match in calls.finditer(code):
        # A declaration of our own ends the name differently (strcpy_x); a member is not a call.
        called = match.group(1)
        if called in NEEDED.get(name, ()):
            continue
        yield line_of(code, match.start()), f"{called}() is banned: use {BANNED[called]}"
    if not name.startswith("src/") or name in CLOCK_FILES or name.split("/")[1] in CLOCK_FOLDERS:
        return
    for match in re.finditer(r"(?<![\w.>])(%s)\s*\(" % "|".join(CLOCKS), code):
        # `time(...)` as a pointer's or a declaration's name is not the clock.
        if match.group(1) in ("time", "clock") and not re.match(
                r"\s*(NULL|0|&\w+)?\s*\)", code[match.end():]):
            continue
        yield (line_of(code, match.start()),
               f"{match.group(1)}() above io/: time comes through struct env (or sys/)")


def check_c(name, text):
    code = bare_code(text)
    if name.startswith("src/"):
        yield from check_includes(name, text)
    if name.endswith(".h") and not re.search(r"^#pragma once$", text, re.M):
        yield 1, "a header begins with #pragma once"
    yield from check_functions(code)
    if name.startswith(("src/", "include/")):
        yield from check_calls(name, code)


def is_python(name, text):
    return name.endswith(".py") or text.startswith("#!/usr/bin/env python3\n")


def comments(name, text):
    """(line, text) of each; of Python what stands between three quotes as well."""
    if not is_python(name, text):
        for match in CODE.finditer(text):
            if match.group(0)[0] == "/":
                yield line_of(text, match.start()), match.group(0)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.string.startswith('"""'):
            yield token.start[0], token.string


def check_documents(name, text, documents):
    """What a comment sends the reader to is in the repository."""
    for begin, comment in comments(name, text):
        for match in DOCUMENT.finditer(comment):
            if match.group(0) not in documents:
                yield (begin + line_of(comment, match.start()) - 1,
                       f"sends the reader to {match.group(0)}, which is not here")


def check_text(name, text):
    path = pathlib.PurePath(name)
    lines = text.split("\n")
    python = is_python(name, text)
    source = python or path.suffix in (".c", ".h", ".sh", ".build")
    ruled = python or path.suffix in (".c", ".h")
    if path.suffix in WITH_LICENCE and path.name not in NO_LICENCE and not name.startswith("."):
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(lines[:2]):
            yield 1, "the SPDX-License-Identifier line is missing"
    if source and len(lines) - 1 > FILE_MAX:
        yield 1, f"{len(lines) - 1} lines, at most {FILE_MAX}: is it one concept?"
    by_hand = False  # a table kept by hand between clang-format's off and on may be wider
    for number, line in enumerate(lines, 1):
        if "clang-format o" in line:
            by_hand = "clang-format off" in line
        if ruled and len(line) > LINE_MAX and not by_hand:
            yield number, f"{len(line)} columns, at most {LINE_MAX}"
        if "\t" in line and ruled:
            yield number, "a tab"
        if line != line.rstrip() and ruled:
            yield number, "a blank at the line's end"
        if MACHINE.search(line):
            yield number, "names a path of somebody's machine"
        if REGISTRY.search(line):
            yield number, "names a package registry's host"
    if name.startswith("tests/system/") and path.suffix == ".py":
        for number, line in enumerate(lines, 1):
            if re.search(r"\btime\.sleep\(|(?<![\w.])sleep\(", line):
                yield number, "a test waits on events, not by the clock"


def check(root):
    faults = []
    names = tracked(root)
    paths = {name for name in names if name.endswith(".md")}
    documents = paths | {name.split("/")[-1] for name in paths}
    for name in names:
        if name.startswith("tests/fuzz/corpus/"):
            continue
        data = (root / name).read_bytes()
        if b"\0" in data:
            continue
        text = data.decode("utf-8", errors="replace")
        found = list(check_text(name, text))
        if name.endswith((".c", ".h")):
            found += check_c(name, text)
        if name.endswith((".c", ".h")) or is_python(name, text):
            found += check_documents(name, text, documents)
        if name == "ARCHITECTURE.md":
            found += check_map(text)
        faults += [f"{name}:{line}: {what}" for line, what in found]
    return faults


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    root = root if root.is_dir() else root.parent.parent
    faults = check(root)
    print("\n".join(faults) or "tidy: all is well")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
