"""The start of a process: ``python -m benchmarks.cold CODE [BEFORE]`` tells what the code takes and what it loads.

Nothing but two built-in modules and what ``BEFORE`` imports is loaded then.
"""

import sys
import time


def measure(code: str) -> tuple[float, list[str]]:
    """Seconds, and the top-level modules that are neither the standard library's nor this package's."""
    compiled, before = compile(code, "cold", "exec"), set(sys.modules)
    began = time.perf_counter()
    exec(compiled, {})
    seconds = time.perf_counter() - began
    names = {module.partition(".")[0] for module in set(sys.modules) - before}
    return seconds, sorted(names - set(sys.stdlib_module_names) - {"monitoring", "benchmarks"})


if __name__ == "__main__":
    exec("".join(sys.argv[2:]), {})
    found = measure(sys.argv[1])
    import json

    print(json.dumps({"seconds": found[0], "modules": found[1]}), flush=True)
