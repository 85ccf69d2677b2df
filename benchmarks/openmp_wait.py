"""The cost of waiting OpenMP threads on a machine that is busy: `python benchmarks/openmp_wait.py`.

Times a decode-like chain of small matrix products under OpenMP's default and passive wait policies, alone and next to
one busy process, each in a process of its own; prints milliseconds a step (median of several processes) and ratios.
"""

import os
import statistics
import subprocess
import sys

CHAIN = """
import time, torch
x, w1, w2 = torch.randn(100, 576), torch.randn(1536, 576), torch.randn(576, 1536)
def step():
    y = x
    for _ in range(30):
        y = torch.nn.functional.silu(y @ w1.T) @ w2.T * 0.01
for _ in range(5):
    step()
start = time.perf_counter()
for _ in range(40):
    step()
print((time.perf_counter() - start) / 40 * 1e3)
"""
BUSY = "while True: pass"
PROCESSES = 5


def milliseconds(policy: str | None) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    runs = [
        float(subprocess.run([sys.executable, "-c", CHAIN], env=environment, capture_output=True, check=True).stdout)
        for _ in range(PROCESSES)
    ]
    return statistics.median(runs)


def main() -> None:
    for name, busy in (("alone", False), ("next to one busy process", True)):
        other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
        try:
            default, passive = milliseconds(None), milliseconds("PASSIVE")
        finally:
            if other:
                other.kill()
        print(f"{name}: default {default:.0f} ms, passive {passive:.0f} ms, ratio {default / passive:.2f}")


if __name__ == "__main__":
    main()
