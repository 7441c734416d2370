"""The shape of a model, which determines its memory: read from config.json, never from its weights."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

from motif_lite.errors import ModelError
from motif_lite.planning import adapter_folder, limits
from motif_lite.recipe.schema import ALL_LINEAR

Targets = str | list[str]
"""As `lora.targets`."""

_HUB_SECONDS = 10


class UntrainableError(ModelError):
    """Such a model cannot be trained, whether its memory is planned or not."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder of the Llama family: attention with grouped queries, and a gated MLP.

    Attributes:
        kv_dim: Width of the keys, and of the values, of one token in one layer.
        attention_dim: Width of the queries: heads times their dimension.
        tied_embeddings: The output head is the embedding.
        attention_bias: Queries, keys and values have a bias, as in Qwen2.
        packs: An update computes once what rows have in common (`limits.packs`).
        sees_all: The engine writes replies of transformers' model (`limits.sees_all`).
        decodes: It writes those of Unsloth's, too (`limits.decodes`).
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    attention_dim: int
    kv_dim: int
    vocab_size: int
    tied_embeddings: bool = True
    attention_bias: bool = True
    packs: bool = True
    sees_all: bool = True
    decodes: bool = True

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block by name, as (inputs, outputs)."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "q_proj": (hidden, self.attention_dim),
            "k_proj": (hidden, self.kv_dim),
            "v_proj": (hidden, self.kv_dim),
            "o_proj": (self.attention_dim, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }

    @property
    def num_linear_weights(self) -> int:
        """Weights of all blocks' linear layers: those that 4-bit loading quantises."""
        return self.num_layers * sum(inputs * outputs for inputs, outputs in self.projections.values())

    @property
    def num_largest_product(self) -> int:
        """Weights of the largest product of a block: what goes into the MLP's activation, and what is multiplied."""
        return 2 * self.hidden_size * self.intermediate_size

    @property
    def num_other_weights(self) -> int:
        """Embeddings, output head, norms and biases."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        biases = (self.attention_dim + 2 * self.kv_dim) if self.attention_bias else 0
        return embeddings + self.num_layers * (2 * self.hidden_size + biases) + self.hidden_size

    def targeted(self, targets: Targets) -> list[str]:
        """The projections of a block that an adapter is put on; unknown names count as nothing."""
        return [name for name in self.projections if targets == ALL_LINEAR or name in targets]

    def num_target_weights(self, targets: Targets) -> int:
        """Weights of the projections that an adapter is put on."""
        return self.num_layers * sum(math.prod(self.projections[name]) for name in self.targeted(targets))

    def num_lora_weights(self, rank: int, targets: Targets) -> int:
        """Weights of a LoRA adapter on these projections."""
        return self.num_layers * rank * sum(sum(self.projections[name]) for name in self.targeted(targets))

    @classmethod
    def from_config(cls, config: adapter_folder.ConfigJson, origin: str) -> Self:
        """Read the keys of a config.json.

        Raises:
            UntrainableError: It is of a kind that cannot be trained here.
            ModelError: A key is missing or not a number, or the model is of a kind that is not known here.
        """
        if config.get("model_type") in limits.COUNTS_PADDING:
            raise UntrainableError(f"{origin}: {limits.why_padding_counts(config['model_type'])}")
        if any("expert" in key and value for key, value in config.items()):
            raise ModelError(f"{origin}: a mixture of experts; its memory cannot be planned")

        def number(key: str, default: int | None = None) -> int:
            value = config.get(key)
            value = default if value is None else value
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
                raise ModelError(f"{origin}: {key} = {value!r:.40} is not a size; is this a language model?")
            return value

        if "hidden_size" not in config and isinstance(config.get("text_config"), Mapping):
            return cls.from_config(config["text_config"], origin)  # the language model in one that also sees
        hidden, heads = number("hidden_size"), number("num_attention_heads")
        head_dim = number("head_dim", hidden // heads or 1)
        kind = config.get("model_type")
        return cls(
            num_layers=number("num_hidden_layers"),
            hidden_size=hidden,
            intermediate_size=number("intermediate_size"),
            num_heads=heads,
            attention_dim=heads * head_dim,
            kv_dim=number("num_key_value_heads", heads) * head_dim,
            vocab_size=number("vocab_size"),
            tied_embeddings=bool(config.get("tie_word_embeddings", str(kind).startswith("gemma"))),
            attention_bias=bool(config.get("attention_bias", kind == "qwen2")),
            packs=limits.packs(config),
            sees_all=limits.sees_all(config),
            decodes=limits.decodes(config),
        )


TINY = ModelShape(2, 128, 384, num_heads=4, attention_dim=128, kv_dim=64, vocab_size=269)
"""The model that `tiny.py` builds; its vocabulary, here for three rounds, varies a little with them."""

# num_layers, hidden_size, intermediate_size, num_heads, attention_dim, kv_dim, vocab_size: each model's config.json
KNOWN = {
    "qwen2.5-0.5b-instruct": ModelShape(24, 896, 4864, 14, 896, 128, 151_936),
    "qwen2.5-1.5b-instruct": ModelShape(28, 1536, 8960, 12, 1536, 256, 151_936),
    "qwen2.5-3b-instruct": ModelShape(36, 2048, 11_008, 16, 2048, 256, 151_936),
    "qwen2.5-7b-instruct": ModelShape(28, 3584, 18_944, 28, 3584, 512, 152_064, tied_embeddings=False),
}
"""Shapes that need no download, by the last part of a hub name in small letters."""


def of(model_name: str) -> ModelShape:
    """The shape of a known model, of a local folder, or of a model on the hub, whose config.json alone is fetched.

    Raises:
        UntrainableError: It is of a kind that cannot be trained here.
        ModelError: It cannot be found or read.
    """
    if model_name == "tiny":
        return TINY
    try:
        folder = Path(model_name).expanduser()
        is_here = folder.exists()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        is_here = False
    if is_here:
        return _of_folder(folder)
    if model_name.startswith(("/", "./", "../", "~")):
        raise ModelError(f"{model_name}: there is no such folder; check model.name")
    known = KNOWN.get(model_name.rpartition("/")[2].lower().removesuffix("-bnb-4bit").removesuffix("-unsloth"))
    return known or _of_hub_model(model_name)


def _of_folder(folder: Path) -> ModelShape:
    if adapter_folder.is_adapter(folder):
        base = adapter_folder.base_of(folder)
        try:
            return of(base)
        except ModelError as error:
            raise ModelError(f"{folder}: is an adapter of a base model that cannot be found: {error}") from None
    path = folder / "config.json"
    try:
        return ModelShape.from_config(_table(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); a model's folder has a config.json") from None


def _of_hub_model(model_name: str) -> ModelShape:
    """From config.json in the hub's cache, or fetched: the hub's own download would retry for half a minute."""
    from huggingface_hub import constants, get_token, hf_hub_url, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(model_name, "config.json")
        if isinstance(cached, str):
            text = Path(cached).read_text(encoding="utf-8")
        elif constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set, and it is not in the cache")
        else:
            request = Request(hf_hub_url(model_name, "config.json"))
            if token := get_token():
                request.add_unredirected_header("Authorization", f"Bearer {token}")
            with urlopen(request, timeout=_HUB_SECONDS) as answer:
                text = answer.read().decode("utf-8")
        return ModelShape.from_config(_table(text), f"config.json of {model_name}")
    except (OSError, HTTPException, ValueError, RecursionError) as error:  # no such name, network, access, JSON
        raise ModelError(
            f"{model_name}: its config.json cannot be read ({error}); check model.name and the connection, or give a "
            f"local folder"
        ) from None


def _table(text: str) -> dict[str, Any]:
    config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError("it is not a table of settings")
    return config
