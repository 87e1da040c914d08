"""How long grading takes, beside what no grader of PyTorch code can avoid: `import torch, torchvision`.

python benchmarks/grade.py [--json FILE] [--rounds N]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUNCTION_TASKS = ["1.1", "1.2", "2.1", "2.2", "2.3", "2.4", "3.1", "4.1", "4.2"]  # all but 3.2, which trains


def seconds(command):
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    imports = [sys.executable, "-c", "import torch, torchvision"]
    grading = [sys.executable, "-m", "tools.cli", "grade", "solutions"]
    for task in FUNCTION_TASKS:
        grading += ["--task", task]
    times = {"import torch, torchvision": [], "kit grade, all but 3.2": []}
    for _ in range(args.rounds):  # side by side, so that a slow minute of the machine slows both
        times["import torch, torchvision"].append(seconds(imports))
        times["kit grade, all but 3.2"].append(seconds(grading))
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["import torch, torchvision"]
    for name, value in medians.items():
        print(f"{name:28} {value:6.2f} s   {value / base:5.2f} x")
    if args.json:
        ratios = {"grade_over_import": medians["kit grade, all but 3.2"] / base}
        args.json.write_text(json.dumps({"ratios": ratios, "seconds": medians}, indent=2) + "\n")


if __name__ == "__main__":
    main()
