"""How long a student waits for `check("1.1")`, beside what no user of PyTorch avoids: `import torch, torchvision`.

python benchmarks/check.py [--json FILE] [--rounds N]

Cold is a new Python process with everything that it starts; warm is every later check in the same notebook. With
`FCOS_CHECK_SPAWN=1` it measures the checks of Windows and macOS.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WARM = 5
IMPORTS = "import torch, torchvision"
CHECKS = f"""
import contextlib, io, time
from autograder import check
check.use("solutions")
with contextlib.redirect_stdout(io.StringIO()):  # a script prints its cards
    assert check("1.1").passed
print(time.time())
for _ in range({WARM}):
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        check("1.1")
    print(time.perf_counter() - started)
"""


def run(code):
    """Seconds of the whole process, and the numbers that it prints."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - started, [float(line) for line in done.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    imports, cold, warm = [], [], []
    for _ in range(args.rounds):  # side by side, so that a slow minute of the machine slows all of them
        imports.append(run(IMPORTS)[0])
        started = time.time()
        _, (first, *later) = run(CHECKS)
        cold.append(first - started)
        warm += later
    base, cold, warm = map(statistics.median, (imports, cold, warm))
    print(f"import torch, torchvision  {base:6.2f} s")
    print(f'check("1.1") cold          {cold:6.2f} s   {cold / base:5.2f} x')
    print(f'check("1.1") warm          {warm:6.2f} s   {warm / base:5.2f} x')
    if args.json:
        ratios = {"cold_over_import": cold / base, "warm_over_import": warm / base}
        seconds = {"import": base, "cold": cold, "warm": warm}
        args.json.write_text(json.dumps({"ratios": ratios, "seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
