"""What keeps the memory of rollouts and updates small: the code keeps to it, and plans count on it, without torch."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from motif_lite.planning.adapter_folder import ConfigJson
from motif_lite.planning.machine import MIB

READ_TOKENS = 2048
"""Prompt tokens in one forward pass of the rollout engine; one prompt that is longer is read whole."""

READ_COLUMNS = 4 * READ_TOKENS
"""Tokens that those of one pass look back on, over all rows; those of one long prompt are no fewer than they are."""

CHECKED_TOKENS = 64
"""Of a prompt, that the engine's decoder is compared with the model on (`policies.engine.checking`)."""

DRAWN_TOGETHER = 2**18
"""Probabilities that a CPU draws from at a time: 1 MiB, which caches hold from one operation to the next."""

LOGIT_CHUNK_BYTES = 64 * MIB
"""Of the logits that an update of packed rows holds at a time, in each of four copies (`policies.packing`)."""

LARGEST_FOLDED_BYTES = 256 * MIB
"""Of the weights that an adapter is added into while replies are generated: a copy of them is what that costs."""

GROUPED_IN_UNSLOTH = frozenset({"2026.10.7"})
"""Versions of Unsloth whose token steps attend by grouped queries here (`policies.grouped_queries`)."""

PROVEN = ("gemma", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
"""Model types whose greedy replies were compared with those of `generate`. In others, attention may be given more than
we hand on (sinks, soft caps, other shapes of values), and what goes wrong is text, not an error."""

COUNTS_PADDING = ("gpt2",)
"""Model types whose positions are those of the row, padding included; `policies.positions` finds others as it loads."""

DECODED = ("llama", "mistral", "qwen2", "qwen3")
"""Model types that the engine takes through their layers itself, Unsloth's too (`policies.engine.decoder`)."""

LOOKS_AT_THE_BATCH = {"dynamic", "longrope"}
"""Rotary embeddings that hang on the longest position in the batch: rows would depend on each other."""

DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop")
"""What config.json calls them: with one, rows that share a token would share what it drops."""

_LONGROPE_OF_OLD = {"su", "yarn"}
"""What Phi-3's first config.json files call longrope."""

_SWITCHED = {"qwen2", "qwen3"}
"""Model types that ignore ``sliding_window`` unless ``use_sliding_window`` is set."""

_DEFAULT_WINDOWS = {"mistral": 4096}
"""Where config.json is silent; null is none."""


def groups_queries() -> bool:
    """Whether the installed version of Unsloth is one of `GROUPED_IN_UNSLOTH`; where there is none, it will be."""
    try:
        return version("unsloth") in GROUPED_IN_UNSLOTH
    except PackageNotFoundError:
        return True


def packs(config: ConfigJson) -> bool:
    """Whether an update of this model packs its rows, by its config.json alone.

    `policies.packing.packed_model.can_pack` decides: it also compares log-probabilities.
    """
    drops = any(config.get(key) for key in DROPOUTS)
    return sees_all(config) and not drops and config.get("logits_scaling", 1) == 1


def sees_all(config: ConfigJson) -> bool:
    """Whether the engine writes replies of such a model of transformers', by its config.json alone.

    `policies.engine.attention.sees_all` decides.
    """
    kind = config.get("model_type")
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rotary.get("rope_type", rotary.get("type")) if isinstance(rotary, Mapping) else None
    looks_at_batch = rope_type in LOOKS_AT_THE_BATCH or (kind == "phi3" and rope_type in _LONGROPE_OF_OLD)
    return kind in PROVEN and not (_has_windows(config) or looks_at_batch)


def why_padding_counts(model_type: object) -> str:
    """Why such a model cannot be trained, and what to take."""
    return (
        f"a {model_type} model counts padding as positions (or mixes it in), and the trainer pads prompts on the left: "
        f"what it learned from would be wrong; take a model with rotary positions, such as Qwen2.5, Llama 3 or SmolLM2"
    )


def decodes(config: ConfigJson) -> bool:
    """Whether the engine writes an Unsloth model's replies, by its config.json alone.

    `policies.engine.decoder.can_decode` decides, and a comparison with the model's own layers.
    """
    return config.get("model_type") in DECODED and packs(config)


def _has_windows(config: ConfigJson) -> bool:
    """Whether some layer attends to the latest tokens only."""
    kinds, kind = config.get("layer_types"), config.get("model_type")
    if isinstance(kinds, list) and any(each != "full_attention" for each in kinds):
        return True
    is_on = kind not in _SWITCHED or bool(config.get("use_sliding_window"))
    return is_on and config.get("sliding_window", _DEFAULT_WINDOWS.get(str(kind))) is not None
