"""What one token step of Qwen2.5-3B's shape costs on a GPU, piece by piece, each recorded as a CUDA graph and replayed.

    python benchmarks/token_step.py [--json FILE]

Takes half a minute and 4 GB of the GPU. Without a GPU it runs at tiny size, to see that it runs.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch.nn.functional import linear, rms_norm
from torch.nn.functional import scaled_dot_product_attention as attend

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere, without installation

from motif_lite.nouns import Sampling
from motif_lite.planning import shapes
from motif_lite.planning.shapes import ModelShape
from motif_lite.policies.engine import sampler

ROWS, RANK = 32, 64
DRAWS = {
    "draw, nucleus 0.95 at temperature 0.8": Sampling(max_tokens=1, temperature=0.8, top_p=0.95),
    "draw, temperature 1": Sampling(max_tokens=1, temperature=1.0),
    "draw, greedy": Sampling(max_tokens=1, temperature=0.0),
}

Piece = tuple[str, Callable[[], object]]


def milliseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Of one call, the median of five times `repeats`; on a GPU recorded and replayed."""
    run = _recorded(work) if torch.cuda.is_available() else work
    found = []
    for _ in range(6):
        _wait()
        started = time.perf_counter()
        for _ in range(repeats):
            run()
        _wait()
        found.append(1e3 * (time.perf_counter() - started) / repeats)
    return median(found[1:])


def _recorded(work: Callable[[], object]) -> Callable[[], object]:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def pieces(shape: ModelShape, device: str, dtype: torch.dtype) -> Iterator[Piece]:
    """Name and work of each piece."""
    size = shape.attention_dim // shape.num_heads
    heads, group = shape.kv_dim // size, shape.attention_dim // shape.kv_dim

    def noise(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, device=device, dtype=dtype)

    for columns in (1024, 3072):
        keys, values = (noise(ROWS, columns, heads, size).transpose(1, 2) for _ in range(2))
        query, mask = (
            noise(ROWS, shape.num_heads, 1, size),
            torch.zeros(ROWS, 1, 1, columns, device=device, dtype=dtype),
        )
        grouped = query.view(ROWS, heads, group, size)
        seen = mask == 0
        yield f"attention over {columns} columns, ours", lambda: attend(grouped, keys, values, attn_mask=mask)  # noqa: B023
        yield (
            f"attention over {columns} columns, Unsloth's call",
            lambda: attend(query, keys, values, attn_mask=seen, enable_gqa=True),  # noqa: B023
        )
    states, weight = noise(ROWS, shape.hidden_size), noise(shape.hidden_size)
    yield "norm", lambda: rms_norm(states, weight.shape, weight, 1e-6)
    yield "a small kernel", lambda: states.add_(0)
    products = {
        "queries, keys, values": (shape.hidden_size, shape.attention_dim + 2 * shape.kv_dim),
        "out": (shape.attention_dim, shape.hidden_size),
        "gate and up": (shape.hidden_size, 2 * shape.intermediate_size),
        "down": (shape.intermediate_size, shape.hidden_size),
        "output layer": (shape.hidden_size, shape.vocab_size),
    }
    for name, (inputs, outputs) in products.items():
        wide, given = noise(outputs, inputs), noise(ROWS, inputs)
        first, second = noise(RANK, inputs), noise(RANK, outputs)
        yield f"product: {name}", lambda: linear(given, wide)  # noqa: B023
        yield (
            f"product: {name}, with an adapter of rank {RANK}",
            lambda: linear(given, wide).addmm_(linear(given, first), second),  # noqa: B023
        )
    if device == "cuda":
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        wide = noise(2 * shape.intermediate_size, shape.hidden_size)
        packed, state = quantize_4bit(wide, quant_type="nf4", compress_statistics=True)
        yield "dequantise: gate and up", lambda: dequantize_4bit(packed, state, out=wide)
    logits, at = noise(ROWS, shape.vocab_size), torch.rand(ROWS, device=device)
    for name, sampling in DRAWS.items():
        yield name, lambda: sampler.draw(logits, sampling, at)  # noqa: B023


def ceilings(device: str, dtype: torch.dtype) -> dict[str, float]:
    """What the machine reaches: copying, read and written, and a large product."""
    on_gpu = device == "cuda"
    one, other = (torch.randn(2**28 if on_gpu else 2**20, device=device, dtype=dtype) for _ in range(2))
    copied = 2e-6 * one.nbytes / milliseconds(lambda: other.copy_(one), 5)
    side = 8192 if on_gpu else 256
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    multiplied = 2e-9 * side**3 / milliseconds(lambda: matrix @ matrix, 5)
    return {"copy, GB/s": copied, f"product of {side}, TFLOPS": multiplied}


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description="What one token step costs on a GPU, piece by piece.")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    shape = shapes.KNOWN["qwen2.5-3b-instruct"] if on_gpu else shapes.TINY
    found: dict[str, float | str] = {
        "machine": torch.cuda.get_device_name() if on_gpu else "CPU", "torch": torch.__version__,
        **ceilings(device, dtype),
    }  # fmt: skip
    for name, work in pieces(shape, device, dtype):
        found[f"{name}, ms"] = milliseconds(work)
        print(f"{found[f'{name}, ms']:9.4f} ms  {name}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps({name: value for name, value in found.items() if not name.endswith(", ms")}))


if __name__ == "__main__":
    main()
