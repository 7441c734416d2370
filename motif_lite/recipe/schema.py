"""What a recipe may say: its sections, their keys with types, defaults and documentation.

The docstring under a field is its documentation: ``docs/recipe.md`` and the JSON schema are made of them. Names that
stand for code (backends, strategies, rewards, credits) are checked against the tables of the modules that own them,
which the caller passes in (`tables`), so that adding one does not touch this file. Rules between sections are in
`rules`, those of a credit with the credit.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from motif_lite.nouns import MaxTokens, Sampling, Temperature, TopP
from motif_lite.recipe.data import DataSection, SourceSection, ValidationSection
from motif_lite.recipe.model import ModelSection
from motif_lite.recipe.section import Auto, Finite, PositiveInt, Section, one_of
from motif_lite.recipe.training import TrainingSection
from motif_lite.recipe.values import ServerUrl

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a decoder of the Llama family."""

ALL_LINEAR: Literal["all-linear"] = "all-linear"
"""PEFT's name for all linear layers of a model but its output head."""

FINAL_INSTRUCTION = "Provide a final answer."
"""The reference's."""

MOST_REPLIES = 1024
"""Openings of a problem, and futures of an opening."""

_NOTICE_TOKENS, _BYTES_PER_TOKEN = 32, 3
"""Room for what is said around the progress in later rounds, which takes about 25 tokens of Qwen2.5's tokenizer with
the reference's final instruction; those of a longer one are estimated by its bytes."""


class LoraSection(Section):
    """The low-rank adapter, the only weights that are trained."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 64
    """Rank r of each update."""
    alpha: PositiveInt = 64
    """Scale: the update is multiplied by alpha / rank."""
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = ALL_LINEAR
    """Names of the linear layers that get an adapter, e.g. `["q_proj", "v_proj"]`, or `all-linear`: all those of the \
language model but its output head."""


class FuturesSampling(Sampling):
    """How tokens of later rounds are sampled; defaults are the reference's, also for keys that a table leaves out."""

    max_tokens: MaxTokens = 2048
    temperature: Temperature = 0.8
    top_p: TopP = 0.95


class RolloutSection(Section):
    """How problems are solved: rounds, openings and futures."""

    strategy: Annotated[str, one_of("strategy", own=True)] = "multi_round"
    """`multi_round` (MOTIF); `single_round` (vanilla GRPO: the opening is the whole reply); `delethink` (one text in \
chunks), `refine` (each round improves the solution) or `parallel` (drafts, distilled), see strategies.md; or one of \
your own, `FILE.py:NAME` (see extending.md)."""
    num_rounds: Annotated[int, Field(ge=2, le=100)] = 3
    """Rounds n of all strategies but single_round."""
    num_openings: Annotated[int, Field(ge=2, le=MOST_REPLIES)] = 8
    """Openings m per problem: the group that advantages are relative to."""
    num_futures: Annotated[int, Field(ge=1, le=MOST_REPLIES)] = 4
    """Futures k sampled per opening; its reward is their mean. Credit `chain` always samples one."""
    allocation: Literal["fixed", "adaptive"] = "fixed"
    """`fixed`: k futures per opening, as in the paper. `adaptive`: openings of a group that pass on the same progress \
share their futures, and the rest of the m*k go where they most improve the advantages; a group whose openings all \
agree has no signal and gets one future per opening."""
    early_finish: bool = False
    """End a trajectory early when a reply has a boxed answer inside `<answer>`."""
    max_prompt_tokens: PositiveInt = 1024
    """Limit for the first prompt; problems with a longer one are dropped, with a message."""
    head_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Strategy `delethink`: tokens that later rounds see of the beginning of the text."""
    tail_tokens: PositiveInt = 512
    """Strategy `delethink`: tokens that the next round sees of the end of the text so far."""
    system_prompt: str | None = None
    """Replaces the built-in system prompt; an empty text means none."""
    final_instruction: Annotated[str, Field(max_length=2000)] = FINAL_INSTRUCTION
    """Strategy `multi_round`: the end of the last round's message, by default the reference's. A small model may need \
to be shown the box here: see recipes/laptop_gsm8k.toml."""
    server: ServerUrl | None = None
    """Backend `transformers`: the address of a vLLM server that writes all replies, e.g. `http://gpu2:8000/v1`; it is \
given the adapter after every step (see rollout-server.md). By default they are written here."""
    server_folder: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]*$")] | None = None
    """With `server`: a folder that this machine and the server's see under the same path, for adapters."""
    max_width: Auto | PositiveInt = "auto"
    """Maximum number of replies generated at once. It affects time and memory, not results; after running out of \
memory it is halved. `auto` is the largest value that fits the memory plan."""
    weights: Literal["auto", "4bit", "16bit", "32bit"] = "auto"
    """How weights are held while replies are generated. A 4-bit model of Unsloth's: `16bit` dequantises it once per \
call, for two bytes per weight; `4bit` dequantises layer by layer at every token, which takes longer; `auto` is 16bit \
where the memory plan then has room for 32 replies at a time, or for all there are. A model in 32 bits on a CPU: \
`16bit` keeps a second copy of the weights and multiplies in bfloat16, which rounds more; `32bit` takes the weights as \
they are; `auto` is 16bit where `training.autocast` is bfloat16, as the update then rounds as much, and the memory \
plan has room for the copy."""
    openings: Sampling = Sampling(max_tokens=1024)
    """Sampling of first rounds in training."""
    futures: FuturesSampling = FuturesSampling()
    """Sampling of later rounds in training."""

    @property
    def notice_tokens(self) -> int:
        """Room for what a later round's message says around the progress."""
        longer = len(self.final_instruction.encode(errors="replace")) - len(FINAL_INSTRUCTION)
        return _NOTICE_TOKENS + max(0, -(-longer // _BYTES_PER_TOKEN))


class WarmStartSection(Section):
    """What the adapter imitates before GRPO: the base's own right solutions, cut into rounds."""

    num_problems: PositiveInt = 64
    """Training problems that are asked, drawn with the recipe's seed; all where there are fewer."""
    num_samples: Annotated[int, Field(ge=1, le=1024)] = 4
    """Most solutions of a problem that are sampled; one with a right solution that could be cut is not asked again."""
    instruction: Annotated[str, Field(max_length=10_000)] = (
        "Solve the problem step by step, and put the final answer into \\boxed{}."
    )
    """What follows the question. There is no system prompt but the chat template's own; an empty text leaves the \
question alone."""
    max_tokens: Annotated[int, Field(ge=1, le=131_072)] | None = None
    """Maximum tokens of a solution; by default as many as the rounds of a run have together, within the context."""
    temperature: Annotated[float, Field(gt=0, le=5), Finite] = 0.7
    """Temperature of solutions."""
    top_p: Annotated[float, Field(gt=0, le=1), Finite] = 0.95
    """Nucleus of solutions."""
    num_steps: PositiveInt = 20
    """Supervised steps, with the optimizer of `training`; examples are repeated, in another order each time."""
    examples_per_step: PositiveInt = 16
    """Rounds that one step imitates. They go through the model one at a time."""
    learning_rate: Annotated[float, Field(gt=0, le=1), Finite] = 1e-4
    """Of the first supervised step; it falls to zero in a line."""


class EvaluationSection(Section):
    """What is evaluated before and after training."""

    before: bool = True
    """Evaluate the policy before training; without it no gain can be claimed."""
    after: bool = True
    """Evaluate the trained policy."""
    strategies: Annotated[list[Annotated[str, one_of("strategy", own=True)]], Field(min_length=1)] = ["multi_round"]
    """Strategies to evaluate; all use the token limits of `rollout`."""
    greedy: bool = True
    """Evaluate with greedy decoding (pass@1)."""
    num_samples: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Samples per problem for avg@n; 0 is off."""
    temperature: Annotated[float, Field(gt=0, le=5), Finite] = 1.0
    """Temperature of the samples, in every round."""
    top_p: Annotated[float, Field(gt=0, le=1), Finite] = 1.0
    """Nucleus of the samples, in every round."""
    confidence: Annotated[float, Field(gt=0, lt=1), Finite] = 0.95
    """Coverage of the intervals."""
    audit: bool = False
    """Also count what was measured by the reference's substring rule and, where there are samples, by a majority vote \
over all of them and over as many as cost the tokens of one multi-round answer; see recipes.md."""
    memorisation: Annotated[float, Field(gt=0, lt=1), Finite] | None = None
    """Also show the model, before training, this share of each benchmark's questions, e.g. `0.6`: how many it \
completes word for word, and how many it answers all the same, kept in `memorisation.jsonl`; see controls.md."""
    validation: ValidationSection | None = None
    """A table `[evaluation.validation]` with the keys below: problems that are evaluated during training with \
`rollout.strategy`, sampled if num_samples is on, otherwise greedy. Training leaves them out."""
    benchmarks: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)], SourceSection] = {}
    """One table per benchmark, `[evaluation.benchmarks.NAME]`, with the keys below."""

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError("strategies lists one twice; remove it")
        if self.benchmarks and not self.greedy and not self.num_samples:
            raise ValueError("benchmarks are named but neither greedy nor num_samples is on; set one of them")
        return self


class Recipe(Section):
    """Everything a run depends on.

    Only `loading` makes one, because it checks the rules between sections, too.
    """

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 3407
    """Fixes all randomness: data order, adapter, sampling, the tiny model."""
    logging: list[Annotated[str, one_of("logger")]] = []
    """Programs that also get the figures of `metrics.jsonl`: `tensorboard`, `wandb`, `trackio` (see logging.md)."""
    model: ModelSection
    lora: LoraSection = LoraSection()
    data: DataSection
    rollout: RolloutSection = RolloutSection()
    rewards: Annotated[
        dict[Annotated[str, one_of("reward", own=True)], Annotated[float, Field(ge=-1000, le=1000), Finite]],
        Field(min_length=1),
    ] = {
        "future_accuracy": 1.0, "tag_count": 1.0, "soft_format": 1.0, "strict_format": 1.0,
    }  # fmt: skip
    """Weight of each reward by name; rewards that are not named are not computed. The four of the default are the \
paper's. `gated_accuracy` is `future_accuracy` where the reply has both sections in order, else 0. `random_accuracy` \
is a control with a coin in place of the grader. `"FILE.py:NAME"` is a function of your own (see extending.md)."""
    code: dict[str, str] = {}
    """Filled in by the program: the path of each Python file that this recipe names. A file name is relative to the \
recipe that names it."""
    warm_start: WarmStartSection | None = None
    """A table `[warm_start]` with the keys below: before GRPO begins, the adapter imitates the base's own right \
solutions, cut into rounds; by default it does not (see warm-start.md). The tokens and seconds of it are taken off \
`until_tokens` and `until_seconds`."""
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="before")
    @classmethod
    def _validation_has_a_source(cls, settings: Any) -> Any:
        """Where it is not given, that of the training problems."""
        data, evaluation = settings.get("data"), settings.get("evaluation")
        validation = evaluation.get("validation") if isinstance(evaluation, dict) else None
        if not isinstance(validation, dict) or not isinstance(data, dict):
            return settings
        if validation.get("source", "data.train") != "data.train":
            return settings
        shared = {key: data[key] for key in ("question_column", "answer_column", "twins", "options") if key in data}
        source = {"source": data["train"]} if "train" in data else {}
        return settings | {"evaluation": evaluation | {"validation": shared | validation | source}}

    @property
    def openings_per_step(self) -> int:
        """Openings of all problems of a step: one call of TRL, and one optimiser step."""
        return self.training.problems_per_step * self.rollout.num_openings

    def sampling_of(self, section: WarmStartSection) -> Sampling:
        """Of the solutions of its warm start."""
        rollout = self.rollout
        num_later = 0 if rollout.strategy == "single_round" else rollout.num_rounds - 1
        together = rollout.openings.max_tokens + num_later * rollout.futures.max_tokens
        most = min(together, self.model.max_seq_length - rollout.max_prompt_tokens)
        return Sampling(max_tokens=section.max_tokens or most, temperature=section.temperature, top_p=section.top_p)


def decided(value: int | Auto) -> int:
    """The number behind a key that may say ``auto``; a recipe that is run has been through the plan."""
    assert value != "auto", "planning.planner.make decides this before anything runs"
    return value
