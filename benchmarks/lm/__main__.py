"""Times sampling and learning beside transformers, TRL and the machine's floor; a few minutes.

python -m benchmarks.lm --rounds 20     (TRL comes with `make oracles`)
"""

import argparse
import dataclasses

from benchmarks.lm.report import CONFIG, RANDOM_MODEL, open_model, report

parser = argparse.ArgumentParser(prog="python -m benchmarks.lm", description=__doc__.splitlines()[0] if __doc__ else "")
parser.add_argument("--rounds", type=int, default=20, help="turns of each contestant that count")
parser.add_argument("--model", help=f"folder, hub name or {RANDOM_MODEL}; default: the base model that is shipped")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where everything runs")
parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the arithmetic")
options = parser.parse_args()
config = dataclasses.replace(CONFIG, dtype=options.dtype)
for line in report(*open_model(options.model, options.device), rounds=options.rounds, config=config):
    print(line, flush=True)
