"""Run a program that may await at its top level; name on standard output what ended it.

`python drive.py PROGRAM`
"""

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from types import TracebackType


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(f"! {kind.__name__}")
    sys.__excepthook__(kind, error, trace)


sys.excepthook = tell
text = Path(sys.argv[1]).read_text(encoding="utf-8")
code = compile(text, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
program = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(program):
    asyncio.run(program)
