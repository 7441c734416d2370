"""Token steps on a CPU by our engine, with an adapter, and by llama.cpp, on the same model, in turns.

    python benchmarks/llama_cpp.py MODEL_FOLDER --bench build/bin/llama-batched-bench --gguf MODEL-Q4_K_M.gguf

The second and third come from llama.cpp itself: `cmake -B build -DGGML_NATIVE=ON`, its targets llama-batched-bench and
llama-quantize, and `convert_hf_to_gguf.py`. Of llama.cpp only what its own benchmark times is counted: a forward pass
for each token of every row; it draws no tokens and has no adapter. Ours draws at temperature 1, and its adapter is of
rank 32.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere, without installation

from benchmarks import bf16_rollout, provenance

import torch  # isort: skip  # the line above prepares for it


def main() -> None:
    """Measure and print a line for each repetition, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--bench", type=Path, required=True, help="llama.cpp's llama-batched-bench")
    parser.add_argument("--gguf", type=Path, required=True, help="the same model for it")
    for name, default in (("rows", 32), ("prompt", 200), ("tokens", 48), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    policy = bf16_rollout.load(given.model, "bfloat16", given.rows)
    prompts = bf16_rollout.prompts_of(given.rows, given.prompt)
    bf16_rollout.written(policy, prompts, 2)  # what is prepared once
    ratios = []
    for _ in range(given.repeats):
        ours = given.rows / bf16_rollout.step(policy, prompts, given.tokens)
        theirs = of_llama_cpp(given.bench, given.gguf, given.rows, given.prompt, given.tokens)
        ratios.append(ours / theirs)
        print(f"tokens a second: ours {ours:.0f}, llama.cpp {theirs:.0f}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio: {median(ratios):.2f} ({given.gguf.name}, {torch.get_num_threads()} threads)")
    print(f"load {os.getloadavg()[0]:.1f}, {provenance.processor()}, commit {provenance.commit()}")


def of_llama_cpp(bench: Path, gguf: Path, rows: int, prompt: int, tokens: int) -> float:
    """Tokens a second that llama.cpp generates for so many sequences at once."""
    context, threads = rows * (prompt + tokens), torch.get_num_threads()
    options = {"m": gguf, "c": context, "npp": prompt, "ntg": tokens, "npl": rows, "t": threads, "tb": threads}
    command = [str(bench), *(part for name, value in options.items() for part in (f"-{name}", str(value)))]
    done = subprocess.run([*command, "--output-format", "jsonl"], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not found:
        sys.exit(f"{bench} ended with {done.returncode} and no result:\n{done.stderr[-2000:]}")
    speed: float = found[-1]["speed_tg"]
    return speed


if __name__ == "__main__":
    main()
