"""Times training steps of a recipe for the benchmarks of single passes."""
import json
import subprocess
import sys


def measure(program, recipe, override, steps, data, more=()):
    """What `espalier bench --json` says of a recipe with one key overridden, KEY=VALUE; `more`: further flags."""
    command = [program, "bench", recipe, "--json", "--steps", str(steps), "--warmup", str(max(3, steps // 10)),
               "--set", override, *more, *(x for d in data for x in ("--data", d))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)
