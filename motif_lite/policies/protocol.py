"""The policy: the model being trained, as rollouts, training and evaluation see it.

Rollouts know a policy only by the `Policy` protocol, so they run on anything that writes replies. What trains
adds the `TrainablePolicy` part. The table of backends is in `backends`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from motif_lite.errors import ModelError
from motif_lite.nouns import Conversation, OnText, OnTokens, Reply, Sampling
from motif_lite.policies.facts import PolicyFacts, Token

if TYPE_CHECKING:
    from motif_lite.recipe.schema import Recipe


ADAPTER_FILE = "adapter_model.safetensors"
"""What PEFT calls an adapter's weights."""

TRAINED = "default"
"""PEFT's name of the adapter that is trained; with `training.beta` TRL adds another, which it is compared with."""


class Policy(Protocol):
    """Writes replies to prompts."""

    context_tokens: int
    """Most tokens of a prompt and its reply together."""
    device_type: str
    """``cuda`` or ``cpu``."""
    text_start: str
    """The mark that the tokenizer sets before a text of itself, and a chat template in what it renders; often none."""

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation, chat template applied, ready for the reply.

        If the last message is the assistant's, it is the beginning of the reply, which the policy continues. Whatever
        the messages hold is text: none of it becomes one of the template's own marks.
        """

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a rendered text."""

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens and of whole characters."""

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
        on_text: OnText | None = None,
    ) -> list[Reply]:
        """One reply per rendered prompt, in order, as many at once as the width limit allows.

        Args:
            prompts: Fastest if those with a common prefix are next to each other.
            sampling: For all of them.
            seeds: One per prompt, of its random stream: a reply depends on policy, prompt, sampling and seed, and on
                nothing else in the call (rounding aside). Random state elsewhere is left alone.
            on_progress: Told of the tokens read and written.
            on_text: Told what replies say as they are written; by what cannot do that, when they are complete. If it
                raises `NotWanted`, that reply ends there, or where its backend cannot do that, as usual. What else it
                or ``on_progress`` raises ends the call.
        """


class TrainablePolicy(Policy, Protocol):
    """A policy that TRL can train and that can be kept."""

    model: Any
    """The PEFT model."""
    tokenizer: Any
    on_openings: OnTokens | None
    """Told of the openings that TRL asks the model for."""
    writes_openings: bool
    """Whether `write_rows` gives the openings that TRL trains; otherwise TRL asks the model's own `generate`."""
    trainer_options: Mapping[str, Any]
    """What GRPOConfig is told for this backend alone."""

    def plain(self, conversation: Conversation) -> Conversation:
        """The conversation as `render` writes it, for who applies the chat template on his own."""

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, as `generate` reads it."""

    def encode_reply(self, text: str) -> list[int]:
        """The token ids of a whole reply, with those that end its turn, as a reply to be imitated."""

    def write_rows(self, prompts: Sequence[list[int]], sampling: Sampling, *, seeds: Sequence[int]) -> list[Reply]:
        """A reply to each prompt of token ids, for TRL to train, from a random stream of its own.

        Each reply is as long as what was written: TRL ends rows at an end of turn only, not at a stop text.
        """

    def read_reply(self, ids: list[int], stop: Sequence[str] = ()) -> Reply:
        """Generated token ids as a reply; what follows the first end of turn is left out.

        Args:
            stop: Texts that end a reply, too.
        """

    def facts(self) -> PolicyFacts:
        """What was found out about the model as it was loaded."""

    def tokens(self, text: str) -> list[Token]:
        """A rendered text token by token, as `generate` reads it."""

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's format, safetensors."""

    def load_adapter(self, folder: Path) -> None:
        """Replace the adapter's weights with saved ones.

        Raises:
            ModelError: The folder holds no adapter, or one that does not fit this model and recipe.
        """

    def close(self) -> None:
        """Give back what it holds outside this process; nothing is asked of it afterwards. Raises no error."""


class Backend(Protocol):
    """What a module named in `BACKENDS` provides."""

    def require(self, recipe: "Recipe") -> None:
        """Refuse at once, before anything is downloaded, what cannot be done on this machine.

        Raises:
            MissingHardwareError: The recipe asks for a device or a package that is not here.
        """

    def load(self, recipe: "Recipe", model_name: str) -> TrainablePolicy:
        """Load a model by hub name or folder, with a fresh adapter; the server's gives a `Policy` alone.

        Raises:
            MissingHardwareError: It needs a device that is not here.
            ModelError: The model cannot be loaded.
        """


def trainable(policy: Policy) -> TrainablePolicy:
    """The policy as one that trains and takes adapters.

    Raises:
        ModelError: It is a server's.
    """
    if not hasattr(policy, "load_adapter"):
        raise ModelError(
            "model.backend = 'server': its model is neither trained here nor given an adapter; set model.backend to "
            "'transformers' or 'unsloth', or have the server load the adapter"
        )
    return cast(TrainablePolicy, policy)
