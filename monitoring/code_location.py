"""Where an error came from, in names of code. Imports nothing, so that it works where nothing else does."""

from __future__ import annotations


def code_location(error: BaseException) -> str | None:
    """``module:line`` of the innermost frame: names of code, never of data."""
    trace = error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
