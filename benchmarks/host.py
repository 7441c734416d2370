"""What a token step costs the host: 36 layers that compute next to nothing, 32 rows, our decoder against the model.

    python benchmarks/host.py
    python benchmarks/host.py --adapter    with a LoRA adapter that is not folded into the weights

The model's own layers, in the same engine, are the peer; the two take turns. Milliseconds of processor time per token
step, medians, one thread. On a GPU this is what the card waits for.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import session  # noqa: E402  # the line above finds it

session.prepare_libraries()

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

from motif_lite.nouns import Sampling  # noqa: E402
from motif_lite.policies.engine.engine import Engine  # noqa: E402
from motif_lite.policies.engine.sampler import Endings, Request  # noqa: E402

NUM_ROWS, NUM_TOKENS = 32, 40
SAMPLING = Sampling(max_tokens=NUM_TOKENS, temperature=1.0, top_p=1.0)


def model(*, adapter: bool) -> Any:
    """36 layers of Qwen 2, 16 wide."""
    config = AutoConfig.for_model(
        "qwen2", hidden_size=16, intermediate_size=24, num_hidden_layers=36, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=64, max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(config).eval()
    return get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear")).eval() if adapter else plain


def milliseconds(engine: Engine, *, decodes: bool) -> float:
    """Of one token step, prompts of four tokens included."""
    engine.decodes = decodes
    requests = [Request(index, [1, 2, 3, 4 + index % 8], index) for index in range(NUM_ROWS)]
    never = Endings([], (), None, torch.device("cpu"))
    started = time.process_time()
    list(engine.sequences(requests, SAMPLING, never, width=NUM_ROWS, report=lambda progress: None))
    return (time.process_time() - started) / NUM_TOKENS * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    engine = Engine(model(adapter=given.adapter))
    pairs = [
        (milliseconds(engine, decodes=True), milliseconds(engine, decodes=False)) for _ in range(given.repeats + 1)
    ][1:]
    ours, own = (median(each) for each in zip(*pairs, strict=True))
    ratio = median(second / first for first, second in pairs)
    print(f"ms of processor time per token step: decoder {ours:.1f}, model's own layers {own:.1f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
