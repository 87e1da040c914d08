"""Memory that stays with the process between the steps of a training."""

import subprocess
import sys
import sysconfig

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""),
    reason="only glibc gives memory back so eagerly",
)

# Pages that the kernel has to clear for 40 tensors of 50 MB, one after the other: 12207 of 4 KiB for each at first.
PROGRAM = """
import resource, threading
import torch
from helpers.allocator import kept_memory

def count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(12_500_000)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

counts = []
count()
with kept_memory():
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    count()
    many = [torch.ones(12_500_000) for _ in range(40)]
    del many
resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(*counts, resident)
"""


def test_freed_memory_is_used_again_and_given_back_at_the_end():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    before, in_a_thread, inside, resident = map(int, answer.split())
    # Huge pages would make all these numbers smaller, by the same factor.
    assert in_a_thread < before / 2
    assert inside < before / 10
    assert resident < 1 << 30  # 2 GB were kept
