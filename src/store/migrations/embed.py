# SPDX-License-Identifier: Apache-2.0
"""Writes the migrations as rows of a C table: embed.py OUTPUT 0001_begin.sql ..."""
import json
import os
import sys

rows = []
for number, path in enumerate(sys.argv[2:], start=1):
    name = os.path.basename(path)
    if int(name[:4]) != number:
        sys.exit(f"{name}: migrations are numbered without a gap; {number:04} comes here")
    with open(path, encoding="ascii") as file:
        lines = "\n        ".join(json.dumps(line) for line in file)
    rows.append(f'    {{ {number}, "{name}",\n        {lines} }},\n')
with open(sys.argv[1], "w", encoding="ascii") as out:
    out.write("/* Made from src/store/migrations by embed.py. */\n"
              '#include "store/sqlite_inside.h"\n\n'
              "const struct migration sqlite_migrations[] = {\n" + "".join(rows) + "};\n"
              f"const unsigned sqlite_migration_count = {len(rows)};\n")
