"""Time and memory against other libraries, and surveys whose tables the lessons quote.

    python tests/benchmark.py                  (`make bench`; writes data/results/speed.csv and .md, and README's table)
    python tests/benchmark.py --completeness   (writes outputs/completeness.csv, about an hour)
    python tests/benchmark.py --alignment      (writes outputs/alignment.csv, some minutes)
    python tests/benchmark.py --bfloat16       (writes data/results/bfloat16.csv and .md, some minutes)
    python tests/benchmark.py --cheaper        (writes data/results/cheaper.csv and .md, some minutes)
    python tests/benchmark.py --scale          (writes data/results/scale.csv and book/scale.md, some minutes)

With a number behind it each is a try, which writes into outputs/ only.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SURVEYS = {
    "rounds": ("bench_speed", "rounds of the comparison with other libraries"),
    "alignment": ("bench_alignment", "scenes: where Grad-CAM's cells lie"),
    "bfloat16": ("bench_bfloat16", "photographs: what bfloat16 costs and saves"),
    "cheaper": ("bench_cheaper", "photographs: what antithetic noise and a shared pass would save"),
    "scale": ("bench_scale", "pictures: how many a second, in one process and with Ray"),
}


def count(text: str) -> int:
    """For argparse: a number from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory against other libraries, or a survey.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--completeness", action="store_true", help="the completeness survey over data/ instead")
    for name, (_, what) in SURVEYS.items():
        choice.add_argument(f"--{name}", type=count, nargs="?", const=0, metavar="N", help=what)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    if args.completeness:
        importlib.import_module("bench_completeness").main()
        return
    name = next((name for name in SURVEYS if getattr(args, name) is not None), "rounds")
    importlib.import_module(SURVEYS[name][0]).main(getattr(args, name) or None)


if __name__ == "__main__":
    main()
