#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the container.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv bubblewrap
python3 -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --no-cache-dir @PIP@ -r "$root/source/requirements.txt"
"$root/venv/bin/python" -c "import torch, torchvision"
