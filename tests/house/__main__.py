"""python -m tests.house: files and lines of code by room, arrows between rooms, functions that are long or wide."""

from __future__ import annotations

from collections import Counter

from tests.house.count import LONG, MANY, arrows, parameters, sources

found = sources()
files, lines = Counter(source.room for source in found), Counter[str]()
long, wide = [], []
for source in found:
    lines[source.room] += source.code
    for function in source.functions():
        length, given = (function.end_lineno or 0) - function.lineno + 1, parameters(function)
        if length > LONG:
            long.append(f"{source.path}:{function.lineno} {function.name}: {length} lines")
        if given > MANY:
            wide.append(f"{source.path}:{function.lineno} {function.name}: {given} parameters")
between = arrows(found)
print(f"{'room':28} files  code  arrows out (imports)")
for room in sorted(files):
    out = [count for (one, _), count in between.items() if one == room]
    print(f"{room:28} {files[room]:5} {lines[room]:5}  {len(out)} ({sum(out)})")
print(f"{'all':28} {sum(files.values()):5} {sum(lines.values()):5}  {len(between)} ({sum(between.values())})")
print(f"\n{len(long)} functions of more than {LONG} lines", *long, sep="\n  ")
print(f"\n{len(wide)} functions of more than {MANY} parameters", *wide, sep="\n  ")
