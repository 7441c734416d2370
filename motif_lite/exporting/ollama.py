"""A Modelfile for Ollama: the chat template in Ollama's language, ends, limits, and the rounds' system prompt."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from motif_lite.errors import ModelError
from motif_lite.exporting.gguf import MODEL
from motif_lite.nouns import Conversation, Problem
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.strategies import strategy_of

if TYPE_CHECKING:
    from motif_lite.policies.local import LocalPolicy

MODELFILE = "Modelfile"

_SYSTEM, _PROMPT, _RESPONSE = "{{ .System }}", "{{ .Prompt }}", "{{ .Response }}"
_MARKS = {"system": "SYSTEMTEXT", "user": "USERTEXT", "assistant": "REPLYTEXT"}


def modelfile(recipe: Recipe, policy: "LocalPolicy") -> str:
    """The text of a Modelfile.

    Raises:
        ModelError: The chat template cannot be said in Ollama's language.
    """
    first = strategy_of(recipe, recipe.rollout.strategy).first_messages(Problem("", "", ""))
    system = next((message["content"] for message in first if message["role"] == "system"), "")
    lines = [
        "# Each message to this model is one round; several rounds: run.py solve (docs/solve.md).",
        f"FROM ./{MODEL}",
        f"TEMPLATE {_quoted(template(policy))}",
        *([f"SYSTEM {_quoted(system)}"] if system else []),
        *(f"PARAMETER stop {_quoted(text)}" for text in _stops(recipe, policy)),
        f"PARAMETER num_ctx {recipe.model.max_seq_length}",
        f"PARAMETER num_predict {recipe.rollout.futures.max_tokens}",
        f"PARAMETER temperature {recipe.evaluation.temperature:g}",
        f"PARAMETER top_p {recipe.evaluation.top_p:g}",
    ]
    return "\n".join(lines) + "\n"


def template(policy: "LocalPolicy") -> str:
    """The chat template for a system prompt, a question and a reply, which is checked against the model's own.

    Raises:
        ModelError: It cannot be taken apart.
    """
    name = policy.model.name_or_path
    full, bare = (_rendered(policy, has_system=has_system) for has_system in (True, False))
    if "{{" in full + bare or full.count(_MARKS["user"]) != 1 or bare.count(_MARKS["user"]) != 1:
        raise ModelError(f"{name}: its chat template cannot be written for Ollama; export it with --format gguf")
    before_system, found, rest = full.partition(_MARKS["system"])
    asks_bare, _, tail = bare.partition(_MARKS["user"])
    if not found:
        return f"{asks_bare}{_PROMPT}{tail}{_RESPONSE}"
    between, _, tail_full = rest.partition(_MARKS["user"])
    if tail_full != tail:
        raise ModelError(f"{name}: its chat template cannot be written for Ollama; export it with --format gguf")
    with_system, without = f"{before_system}{_SYSTEM}{between}", asks_bare
    shared = _common_end(with_system, without)
    head = f"{{{{ if .System }}}}{with_system[: len(with_system) - shared]}"
    other = without[: len(without) - shared]
    head += f"{{{{ else }}}}{other}{{{{ end }}}}" if other else "{{ end }}"
    return f"{head}{without[len(without) - shared :]}{_PROMPT}{tail}{_RESPONSE}"


def _rendered(policy: "LocalPolicy", *, has_system: bool) -> str:
    """A first message as the model sees it, without the beginning of a text, which llama.cpp adds by itself."""
    messages: Conversation = [{"role": "system", "content": _MARKS["system"]}] if has_system else []
    messages.append({"role": "user", "content": _MARKS["user"]})
    return without_beginning(policy, policy.render(messages))


def without_beginning(policy: "LocalPolicy", text: str) -> str:
    """A rendered text less the token that the tokenizer, and so llama.cpp, puts before every text."""
    ids = policy.tokenizer("x")["input_ids"]
    adds_one = bool(ids) and ids[0] == policy.tokenizer.bos_token_id
    return text.removeprefix(policy.tokenizer.bos_token) if adds_one else text


def _stops(recipe: Recipe, policy: "LocalPolicy") -> Iterator[str]:
    texts = [policy.tokenizer.convert_ids_to_tokens(token) for token in policy.stop_ids]
    yield from dict.fromkeys([*filter(None, texts), *policy.turn_ends.texts, *recipe.rollout.futures.stop])


def _common_end(one: str, other: str) -> int:
    """How many characters two texts have in common at their ends."""
    size = 0
    while size < min(len(one), len(other)) and one[-1 - size] == other[-1 - size]:
        size += 1
    return size


def _quoted(text: str) -> str:
    """A text as a Modelfile has it: Ollama takes the quotation marks off and reads no escapes in between.

    Raises:
        ModelError: Nothing can quote it there.
    """
    if '"""' in text:
        raise ModelError('three quotation marks in a row (""") cannot be written in a Modelfile; change the text')
    return f'"""{text}"""'
