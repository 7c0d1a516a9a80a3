#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/tidy.py finds what it is there for: each row is a small tree with one fault, or none."""
import pathlib
import subprocess
import sys
import tempfile

TIDY = pathlib.Path(__file__).resolve().parents[1] / "tools" / "tidy.py"
HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n"
PROGRAM = "#!/usr/bin/env python3\n# SPDX-License-Identifier: Apache-2.0\n"
LONG = "int f(void)\n{\n" + "    g();\n" * 71 + "}\n"

# file, its text, words of the fault (None: there is none)
ROWS = (
    ("src/gateway/a.c", '#include "proto/http.h"\n#include "io/loop.h"\n', None),
    ("src/base/a.c", '#include "io/loop.h"\n', 'a.c:2: src/base may not include "io/loop.h"'),
    ("src/io/a.h", '#pragma once\n\n#include "gateway/core.h"\n',
     'a.h:4: src/io may not include "gateway/core.h": only base sys io'),
    ("src/runtime/a.c", '#  include "http/server.h"\n', 'may not include "http/server.h"'),
    ("src/cli/a.c", '#include "runtime/runtime.h"\n', 'src/cli may not include "runtime/'),
    ("src/bin/a.c", '#include "runtime/runtime.h"\n#include "cli/cli.h"\n', None),
    ("src/gateway/a.c", '#include "core.h"\n', "our headers are included by path"),
    ("src/gateway/a.c", "#include <uv.h>\n", "<uv.h> belongs to src/{io}"),
    ("src/io/a.c", "#include <uv.h>\n", None),
    ("src/novel/a.c", "\n", "src/novel is not in the table of folders"),
    ("src/base/a.h", "int a;\n", "a header begins with #pragma once"),
    ("src/base/a.c", "int a = atoi(b);\n", "a.c:2: atoi() is banned"),
    ("src/base/a.c", '/* atoi() */ char *a = "atoi()";\n', None),
    ("src/pop/a.c", "int64_t a = time(NULL);\n", "time comes through struct env"),
    ("src/base/a.c", LONG, "'int f(void)' has 71 lines, at most 70"),
    ("src/base/a.c", "int a;\n" * 800, "801 lines, at most 800"),
    ("src/base/a.c", "int a" + " " * 96 + ";\n", "102 columns, at most 100"),
    ("tests/system/a.py", "# SPDX-License-Identifier: Apache-2.0\nsle" "ep(1)\n",
     "a test waits on events"),
    ("src/base/a.c", "/* As plan.md 2 says. */\n",
     "a.c:2: sends the reader to plan.md, which is not here"),
    ("src/base/a.c", "// docs/gone.md\n", "sends the reader to docs/gone.md"),
    ("src/base/a.c", 'char *a = "plan.md";\n', None),
    ("tools/a", PROGRAM + 'f("plan.md")\n', None),
    ("tools/a", PROGRAM + "# plan.md\n", "a:3: sends the reader to plan.md"),
    ("tests/a.py", '# SPDX-License-Identifier: Apache-2.0\n"""Of\nplan.md."""\n',
     "a.py:3: sends the reader to plan.md"),
    ("tools/a", PROGRAM + "f(" + " " * 98 + ")\n", "101 columns, at most 100"),
    ("bench/a", PROGRAM + "f() \n", "a blank at the line's end"),
    ("tools/a", PROGRAM + "f()\n" * 800, "802 lines, at most 800"),
    ("ARCHITECTURE.md", "# Map\n", "the code map lacks base/, spec/"),
    ("docs/a.md", "see /wo" "rk/main\n", "names a path of somebody's machine"),
)


def said(name, text):
    """(status, output) of tidy over a tree of this file alone."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        file = pathlib.Path(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((HEAD if name.startswith("src/") else "") + text)
        done = subprocess.run([sys.executable, TIDY, folder], capture_output=True, text=True,
                              check=False)
        return done.returncode, done.stdout + done.stderr


def main():
    wrong = 0
    for name, text, words in ROWS:
        status, output = said(name, text)
        right = status == (1 if words else 0) and (words or "all is well") in output
        if not right or len(output.splitlines()) != 1:
            print(f"{name}: {text[:60]!r}: {status}\n{output}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
