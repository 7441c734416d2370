"""Training for real: TRL's trainer, the warm-started tiny model, our rewards."""

import json
import math
import shutil
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from motif_lite.errors import TrainingError
from motif_lite.monitor import findings
from motif_lite.nouns import Opening, Problem
from motif_lite.planning import memory, shapes
from motif_lite.planning.machine import Machine
from motif_lite.policies import backends
from motif_lite.policies.local import LocalPolicy
from motif_lite.policies.packing import packed_model, tree
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rewards import REWARDS
from motif_lite.rollout.strategies import strategy_of
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import StepMetrics
from motif_lite.tasks import sources
from motif_lite.training import packing
from tests.fakes import RecordingObserver, StopAfter
from tests.records import repeatable

MakeRecipe = Callable[..., Recipe]


class Training:
    """One run of `grpo.train` with everything that it needs."""

    def __init__(self, recipe: Recipe, folder: Path, out: Path) -> None:
        self.recipe, self._model = recipe, folder
        self.policy = backends.backend(recipe.model.backend).load(recipe, str(folder))
        self.run = RunDirectory(out)
        out.mkdir(exist_ok=True)
        self.observer = RecordingObserver()
        self.problems = sources.load(recipe.data.as_source(), role="train", seed=recipe.seed)

    def train(self, stop_after: int | None = None, pause_at: float = 1.0) -> bool:
        from motif_lite.evaluation.validation import Validation
        from motif_lite.training import grpo
        from motif_lite.training.context import TrainingContext

        section = self.recipe.evaluation.validation
        held_out = sources.load(section, role="validation", seed=self.recipe.seed) if section else []
        context = TrainingContext(
            self.recipe,
            self.policy,
            self.run,
            self.observer,
            strategy=strategy_of(self.recipe, self.recipe.rollout.strategy),
            problems=self.problems,
            planned=memory.estimate(self.recipe, shapes.TINY, Machine("cpu", 8.0, "a test's")),
            read_progress=sources.progress_reader(self.recipe.data.train),
            pause_at=pause_at,
        )
        return grpo.train(
            context,
            Validation(context, held_out),
            StopAfter(lambda: stop_after is not None and len(self.run.metrics()) + 1 >= stop_after),
        )

    def adapter(self) -> dict[str, torch.Tensor]:
        return {
            name: weight.detach().clone() for name, weight in self.policy.model.named_parameters() if "lora" in name
        }

    def require_same_when_resumed(self, out: Path, *stops: int) -> Self:
        """A run that is stopped after each of these steps, and goes on in another process, equals this one."""
        for stop_after in (*stops, None):
            torch.manual_seed(12345)  # a new process has another random state
            resumed = type(self)(self.recipe, self._model, out)
            assert resumed.train(stop_after=stop_after) == (stop_after is None)
            assert resumed.run.adapter.exists() == (stop_after is None)
        resumed.require_same_as(self)
        return resumed

    def require_same_as(self, other: "Training") -> None:
        assert repeatable(self.run.metrics()) == repeatable(other.run.metrics())
        assert self.run.rollouts() == other.run.rollouts()
        for name, weight in other.adapter().items():
            assert torch.equal(self.adapter()[name], weight)


@pytest.fixture(scope="module")
def finished(tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tiny_recipe("training.max_steps=4"), tiny_folder, tmp_path_factory.mktemp("runs") / "whole")
    training.initial = training.adapter()  # type: ignore[attr-defined]
    training.widths = widths = []  # type: ignore[attr-defined]
    training.in_one_order = in_one_order = []  # type: ignore[attr-defined]
    generate = training.policy.generate

    def counting(prompts: Any, *arguments: Any, **named: Any) -> Any:
        widths.append(len(prompts))
        in_one_order.append(torch.are_deterministic_algorithms_enabled())
        return generate(prompts, *arguments, **named)

    training.policy.generate = counting  # type: ignore[method-assign]
    assert training.train()
    return training


def test_saving_changes_no_result(
    finished: Training, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motif_lite.training.saving.SHARE", 1e9)
    always = Training(tiny_recipe("training.max_steps=4", "training.keep_checkpoints=9"), tiny_folder, tmp_path)
    assert always.train()
    assert len(list(always.run.checkpoints.iterdir())) == 4 > len(list(finished.run.checkpoints.iterdir()))
    always.require_same_as(finished)


def test_while_it_trains_on_a_cpu_numbers_are_added_up_in_one_order(finished: Training) -> None:
    assert set(finished.in_one_order) == {True}  # type: ignore[attr-defined]
    assert not torch.are_deterministic_algorithms_enabled(), "left as it was"


def test_each_step_makes_one_wide_call_per_later_round(finished: Training) -> None:
    rollout, problems = finished.recipe.rollout, finished.recipe.training.problems_per_step
    width = problems * rollout.num_openings * rollout.num_futures
    assert finished.widths == [width] * (rollout.num_rounds - 1) * 4  # type: ignore[attr-defined]


def test_training_moves_the_adapter_and_saves_it(finished: Training) -> None:
    from safetensors.torch import load_file

    trained = finished.adapter()
    assert any(not torch.equal(trained[name], weight) for name, weight in finished.initial.items())  # type: ignore[attr-defined]
    saved = load_file(finished.run.adapter / "adapter_model.safetensors")
    assert {name.replace(".default", ""): weight for name, weight in trained.items()}.keys() == saved.keys()
    for name, weight in trained.items():
        assert torch.equal(saved[name.replace(".default", "")], weight)


def test_metrics_have_a_line_per_step_with_everything_promised(finished: Training) -> None:
    metrics = finished.run.metrics()
    assert [line.step for line in metrics] == [1, 2, 3, 4]
    for line in metrics:
        assert line.rewards.keys() == finished.recipe.rewards.keys()
        assert len(line.accuracy_by_round) == len(line.round_correct or ()) == 3
        assert line.accuracy == line.accuracy_by_round[2]
        phases = {"openings", "futures", "update"}
        assert line.seconds.keys() == line.peak_memory_bytes.keys() == phases | {"grading"}
        assert line.planned_memory_bytes.keys() == phases
        assert all(value > 0 for value in (*line.seconds.values(), *line.peak_memory_bytes.values()))
        assert line.tokens["openings"] > 0 < line.tokens["futures"]
        for part in (line.groups_without_signal, line.broken_form):
            assert 0 <= part <= 1
        assert None not in (line.loss, line.grad_norm, line.learning_rate)


def test_the_reward_in_the_metrics_is_the_weighted_sum_of_its_parts(finished: Training) -> None:
    for line in finished.run.metrics():
        parts = sum(finished.recipe.rewards[name] * value for name, value in line.rewards.items())
        assert line.reward == pytest.approx(parts)


def test_rollouts_hold_every_opening_with_its_own_question(finished: Training) -> None:
    problems = {problem.id: problem for problem in finished.problems}
    lines = finished.run.rollouts()
    per_step = finished.recipe.training.problems_per_step * finished.recipe.rollout.num_openings
    assert [line.step for line in lines] == [step for step in (1, 2, 3, 4) for _ in range(per_step)]
    for line in lines:
        problem = problems[line.problem]
        assert (line.question, line.gold) == (problem.question, problem.gold)
        assert len(line.futures) == finished.recipe.rollout.num_futures
        for future in line.futures:
            assert all(problem.question in turn.prompt for turn in (line.opening, *future.rounds))
    assert len({line.problem for line in lines[:per_step]}) == finished.recipe.training.problems_per_step


def test_rewards_in_the_rollouts_can_be_recomputed_from_their_text(finished: Training) -> None:
    from motif_lite.rollout.rewards import answer_score

    for line in finished.run.rollouts():
        scores = [answer_score(line.gold, future.rounds[-1].reply) for future in line.futures]
        assert line.rewards["future_accuracy"] == pytest.approx(sum(scores) / len(scores))


def test_a_run_stopped_and_resumed_equals_one_that_was_not(finished: Training, tmp_path: Path) -> None:
    finished.require_same_when_resumed(tmp_path / "stopped", 2)


@pytest.mark.parametrize("credit", ["opening", "chain", "tree"])
def test_a_run_of_three_epochs_resumed_within_one_and_between_two_equals_one_that_was_not(
    credit: str, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """Four problems, two steps an epoch: the order of each epoch is found again."""
    recipe = tiny_recipe("training.max_steps=6", "data.num_problems=4", f'training.credit="{credit}"')
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    whole.require_same_when_resumed(tmp_path / "resumed", 3, 4)
    orders = [tuple(problems_of(whole, 2 * epoch + 1) + problems_of(whole, 2 * epoch + 2)) for epoch in range(3)]
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(problem.id for problem in whole.problems))}
    assert len(set(orders)) == 3


def problems_of(training: Training, step: int) -> list[str]:
    """In the order in which they were trained."""
    return list(dict.fromkeys(line.problem for line in training.run.rollouts() if line.step == step))


def test_the_first_epoch_has_trls_order() -> None:
    """Seeds keep their figures; the other epochs have orders of their own, whatever was asked for before."""
    from trl.trainer.utils import RepeatSampler

    from motif_lite.training.order import EpochSampler

    rows = list(range(10))
    ours, theirs = (kind(rows, mini_repeat_count=2, batch_size=3, seed=7) for kind in (EpochSampler, RepeatSampler))
    first = list(ours)
    assert first == list(theirs)
    ours.set_epoch(2)
    third = list(ours)
    assert third != first
    assert sorted(third) != sorted(first), "the problem that is left over is another one"
    ours.set_epoch(0)
    assert list(ours) == first
    ours.set_epoch(2)
    assert list(ours) == third


def test_an_adapter_that_is_missing_after_the_last_checkpoint_is_written_as_it_would_have_been(
    finished: Training, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished.run.root, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "adapter")
    assert Training(tiny_recipe("training.max_steps=4"), tiny_folder, tmp_path / "killed").train()
    assert contents(tmp_path / "killed") == contents(finished.run.root)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder; None for what is a folder itself."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_lines_of_steps_after_the_checkpoint_are_written_once(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe("training.max_steps=2")
    training = Training(recipe, tiny_folder, tmp_path)
    lost = '{"step": 1, "lost": true}\n{"step": 2, "lo'
    (tmp_path / "metrics.jsonl").write_text(lost)
    (tmp_path / "rollouts.jsonl").write_text(lost)
    assert training.train()
    assert [line.step for line in training.run.metrics()] == [1, 2]


def test_a_policy_that_collapses_is_told_once_with_a_remedy_and_not_again_after_a_resume(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    changes = (
        "training.learning_rate=0.1", "training.max_steps=10", "training.problems_per_step=5", "rollout.num_futures=1",
        "training.micro_batch_size=20", 'training.lr_schedule="constant_with_warmup"',
    )  # fmt: skip
    first = Training(tiny_recipe(*changes), tiny_folder, tmp_path)
    assert not first.train(stop_after=9)
    warnings = [note for note in first.observer.notes if note.startswith("warning at step")]
    assert any("groups without signal" in warning for warning in warnings), "nothing it writes earns anything"
    assert all("--set training.learning_rate=0.033" in warning for warning in warnings), warnings
    second = Training(tiny_recipe(*changes), tiny_folder, tmp_path)
    assert second.train()
    repeated = {warning.split(":")[1] for warning in warnings} & {note.split(":")[1] for note in second.observer.notes}
    assert repeated == set()
    told = [*warnings, *(note for note in second.observer.notes if note.startswith("warning"))]
    assert told == [str(finding) for finding in findings.diagnose(first.recipe, first.run.metrics(), [])]


def test_single_round_training_generates_no_futures(tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path) -> None:
    training = Training(tiny_recipe('rollout.strategy="single_round"'), tiny_folder, tmp_path)
    assert training.train()
    assert [line.tokens["futures"] for line in training.run.metrics()] == [0, 0]


def test_adaptive_training_rewards_openings_with_the_same_progress_alike(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    from motif_lite.rollout.reply_format import progress

    changes = ('rollout.allocation="adaptive"', "rollout.num_openings=8", "rollout.num_futures=3")
    training = Training(tiny_recipe("training.max_steps=1", *changes), tiny_folder, tmp_path)
    assert training.train()
    rewards: dict[tuple[str, str], float] = {}
    sampled: dict[tuple[str, str], int] = {}
    for line in training.run.rollouts():
        place = (line.problem, progress(line.opening.reply))
        assert rewards.setdefault(place, line.rewards["future_accuracy"]) == line.rewards["future_accuracy"]
        sampled[place] = sampled.get(place, 0) + len(line.futures)
        assert line.interval is not None
        assert line.accuracy is not None
        assert line.interval[0] <= line.accuracy <= line.interval[1]
    assert {line.futures_used for line in training.run.rollouts()} == set(sampled.values())
    metrics = training.run.metrics()[0]
    assert metrics.distinct_progress == len(sampled) / 16
    assert len(sampled) < 16
    assert metrics.futures_per_opening == sum(sampled.values()) / 16
    assert sum(sampled.values()) <= 3 * 16


def test_every_field_of_the_trainer_has_the_recipes_value(
    tiny_recipe: MakeRecipe, qwen_folder: Path, tmp_path: Path
) -> None:
    from motif_lite.training import options

    recipe = tiny_recipe(
        "seed=11",
        "rollout.openings={max_tokens=17, temperature=0.7, top_p=0.9, top_k=5}",
        "rewards={strict_format=0.25, future_accuracy=3.0}",
        "training.learning_rate=2e-4",
        'training.lr_schedule="linear"',
        "training.warmup_fraction=0.2",
        'training.optimizer="adamw_torch_fused"',
        "training.adam_beta1=0.8",
        "training.adam_beta2=0.95",
        "training.weight_decay=0.03",
        "training.max_grad_norm=0.4",
        'training.loss_type="dr_grpo"',
        'training.scale_rewards="none"',
        "training.beta=0.01",
        "training.epsilon=0.3",
        "training.gradient_checkpointing=true",
        "training.save_every=7",
        "training.max_steps=9",
    )
    config = options.grpo_config(
        recipe, backends.backend(recipe.model.backend).load(recipe, str(qwen_folder)), tmp_path
    )
    expected = {
        "seed": 11, "max_completion_length": 17, "temperature": 0.7, "top_p": 0.9, "top_k": 5,
        "reward_weights": [0.25, 3.0], "learning_rate": 2e-4, "lr_scheduler_type": "linear", "warmup_steps": 0.2,
        "optim": "adamw_torch_fused", "adam_beta1": 0.8, "adam_beta2": 0.95, "weight_decay": 0.03,
        "max_grad_norm": 0.4, "loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.01, "epsilon": 0.3,
        "epsilon_high": 0.3, "gradient_checkpointing": True, "save_steps": 7, "save_total_limit": None, "max_steps": 9,
        "num_generations": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
        "steps_per_generation": 2, "num_iterations": 1, "use_vllm": False, "bf16": False, "fp16": False,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected


def test_the_reference_recipe_trains_with_the_references_loss(qwen_folder: Path, tmp_path: Path) -> None:
    """TRL's ``dapo`` averages over all tokens of a step; its ``bnpo`` does so in one micro-batch only."""
    from motif_lite.jobs import checking
    from motif_lite.training import options

    changes = ['model.backend="transformers"', "training.micro_batch_size=4"]
    recipe = checking.check(Path(__file__).parents[1] / "recipes" / "motif_gsm8k.toml", changes)
    config = options.grpo_config(
        recipe, backends.backend(recipe.model.backend).load(recipe, str(qwen_folder)), tmp_path
    )
    assert (config.loss_type, config.beta, config.scale_rewards, config.epsilon) == ("dapo", 0.0, "group", 0.2)
    assert (config.learning_rate, config.max_grad_norm, config.adam_beta2) == (5e-6, 0.1, 0.99)
    assert config.generation_batch_size == 8


def test_generation_inside_the_reward_sees_the_model_as_in_eval_mode(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The futures of a step, generated by TRL's reward call, against the same call on the model at rest."""
    recipe = tiny_recipe("training.max_steps=1", "training.gradient_checkpointing=true")
    training = Training(recipe, tiny_folder, tmp_path)
    calls: list[tuple[Any, ...]] = []
    inside: list[list[str]] = []
    generate = LocalPolicy.generate

    def recorded(self: LocalPolicy, prompts: Any, sampling: Any, *, seeds: Any, on_progress: Any = None) -> Any:
        assert self.model.training, "TRL calls the rewards in train mode"
        replies = generate(self, prompts, sampling, seeds=seeds, on_progress=on_progress)
        assert self.model.training
        calls.append((list(prompts), sampling, seeds))
        inside.append([reply.text for reply in replies])
        return replies

    monkeypatch.setattr(LocalPolicy, "generate", recorded)
    assert training.train()
    monkeypatch.undo()
    at_rest = backends.backend(recipe.model.backend).load(recipe, str(tiny_folder))
    at_rest.model.eval()
    for (prompts, sampling, seeds), texts in zip(calls, inside, strict=True):
        assert [reply.text for reply in at_rest.generate(prompts, sampling, seeds=seeds)] == texts


def test_the_observer_sees_all_phases_of_a_step_in_order(finished: Training) -> None:
    names = [name for name, _ in finished.observer.named("phase")]
    assert names[:5] == ["openings", "futures", "futures", "grading", "update"]
    shown: list[Opening] = [opening for opening, _ in finished.observer.named("opening")]
    assert len(shown) == 4
    assert all(isinstance(opening.problem, Problem) for opening in shown)


def test_metrics_are_plain_json(finished: Training) -> None:
    for line in (finished.run.root / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_same_recipe_gives_the_same_rollouts_at_width_4_and_32(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    runs = []
    for width in (4, 32):
        recipe = tiny_recipe("training.max_steps=2", f"rollout.max_width={width}")
        runs.append(Training(recipe, tiny_folder, tmp_path / str(width)))
        assert runs[-1].train()
    narrow, wide = (training.run.rollouts() for training in runs)
    assert narrow == wide


def test_openings_end_at_a_stop_string_and_say_so(tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("training.max_steps=1", "rollout.openings.stop=['=']", "rollout.futures.stop=['</answer>']")
    training = Training(recipe, tiny_folder, tmp_path)
    assert training.train()
    openings = [line.opening for line in training.run.rollouts()]
    assert any("=" in opening.reply for opening in openings)
    for opening in openings:
        assert "=" not in opening.reply[:-1]
        assert opening.finish == "stop" or "=" not in opening.reply
    later = [turn for line in training.run.rollouts() for future in line.futures for turn in future.rounds]
    assert all(turn.reply.endswith("</answer>") for turn in later if "</answer>" in turn.reply)
    assert any("</answer>" in turn.reply for turn in later)


def test_an_update_without_a_number_for_a_gradient_is_skipped_and_counted(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny_recipe("training.max_steps=3"), tiny_folder, tmp_path)
    spoil(monkeypatch, steps={2})
    adapters = watch_adapter(training)
    assert training.train()
    assert [line.update_skipped for line in training.run.metrics()] == [False, True, False]
    assert training.run.metrics()[1].loss is training.run.metrics()[1].grad_norm is None
    assert "step 2: the gradient is not a number; its update is skipped" in training.observer.notes
    (_, first), (_, second), (_, third) = adapters
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(second[name], third[name]) for name in second)
    assert all(weight.isfinite().all() for weight in third.values())


def test_a_run_whose_gradients_are_no_numbers_any_more_is_stopped_with_its_rollouts(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motif_lite.runs.giving_up import MOST_SKIPPED, is_given_up

    training = Training(tiny_recipe("training.max_steps=20"), tiny_folder, tmp_path)
    spoil(monkeypatch, steps=range(2, 100))
    with pytest.raises(TrainingError, match=r"not a number in 5 steps in a row, up to step 6; .*lower training\.learn"):
        training.train()
    assert [line.step for line in training.run.metrics()] == list(range(1, MOST_SKIPPED + 2))
    assert training.run.rollouts()[-1].step == MOST_SKIPPED + 1
    assert is_given_up(training.run.metrics())
    assert not is_given_up(training.run.metrics()[:-1])


@pytest.mark.parametrize(
    ("loss_type", "packed"), [("bnpo", True), ("bnpo", False), ("grpo", True), ("dr_grpo", True), ("dr_grpo", False)]
)
def test_an_update_out_of_memory_is_made_in_smaller_pieces_with_the_same_gradient(
    tiny_recipe: MakeRecipe,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss_type: str,
    packed: bool,
) -> None:
    recipe = tiny_recipe("training.max_steps=1", "training.learning_rate=1e-3", f'training.loss_type="{loss_type}"')
    monkeypatch.setitem(packed_model.MOST_OFF, torch.float32, math.inf if packed else 0.0)
    roomy, cramped = (Training(recipe, tiny_folder, tmp_path / name) for name in ("roomy", "cramped"))
    assert roomy.train()
    # Unpacked, the second micro-batch fails, and the first is computed again, too.
    starve(monkeypatch, first_call=1 if packed else 2, room_for=2)
    assert cramped.train()
    assert "out of memory in the update: continuing with 2 openings at a time" in " ".join(cramped.observer.notes)
    assert cramped.run.rollouts() == roomy.run.rollouts()
    [ours], [theirs] = (training.run.metrics() for training in (cramped, roomy))
    assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-4, abs=1e-6)
    assert ours.entropy == pytest.approx(theirs.entropy, rel=1e-4)
    for name, weight in roomy.adapter().items():
        assert torch.allclose(cramped.adapter()[name], weight, atol=2e-6), name


def test_at_the_smallest_micro_batch_packed_rows_are_taken_one_by_one_before_a_run_gives_up(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are short beside the longest share a tree with others; here a tree simply has more room."""
    recipe = tiny_recipe("training.max_steps=1", "training.micro_batch_size=1")
    split = tree.pieces
    monkeypatch.setattr(packing, "pieces", lambda rows, most, number: split(rows, 8 * most, number))
    sizes: list[int] = []
    starve(monkeypatch, first_call=1, room_for=1, sizes=sizes)
    training = Training(recipe, tiny_folder, tmp_path)
    assert training.train()
    assert max(sizes) > 1
    assert sizes[-8:] == [1] * 8
    assert "out of memory in the update: continuing with 1 openings at a time" in training.observer.notes


def test_an_update_without_memory_for_one_opening_is_the_users_to_mend(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny_recipe(), tiny_folder, tmp_path)
    starve(monkeypatch, first_call=1, room_for=0)
    with pytest.raises(TrainingError, match=r"of a single opening; .* shorter rollout\.openings\.max_tokens"):
        training.train()


def starve(monkeypatch: pytest.MonkeyPatch, first_call: int, room_for: int, sizes: list[int] | None = None) -> None:
    """From this call on, have no memory for the loss of more openings than ``room_for``; ``sizes`` are those asked."""
    import trl

    compute, calls = trl.GRPOTrainer.compute_loss, []

    def starved(self: Any, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if sizes is not None:
            sizes.append(len(inputs["completion_ids"]))
        loss = compute(self, model, inputs, *arguments, **named)
        if len(calls) >= first_call and len(inputs["completion_ids"]) > room_for:
            self.accelerator.backward(loss * 0.5)  # half a gradient is left behind
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(trl.GRPOTrainer, "compute_loss", starved)


def test_a_reward_that_gives_no_number_is_named(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REWARDS, "tag_count", lambda opening: float("nan"))
    with pytest.raises(
        TrainingError, match=r"reward tag_count: failed in step 1 on an opening of problem chain_sum/.*nan"
    ):
        Training(tiny_recipe(), tiny_folder, tmp_path).train()


def test_problems_are_held_in_memory_so_their_file_may_vanish(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "problems.jsonl"
    source.write_text("".join(json.dumps({"question": f"a{n}b1=", "answer": str(n + 1)}) + "\n" for n in range(9)))
    training = Training(
        tiny_recipe(f"data.train={str(source)!r}", "data.num_problems=8"), tiny_folder, tmp_path / "run"
    )
    source.unlink()
    assert training.train()


def spoil(monkeypatch: pytest.MonkeyPatch, steps: Container[int]) -> None:
    """Have the loss of these steps come out as no number."""
    import trl

    compute = trl.GRPOTrainer.compute_loss

    def spoilt(self: Any, *arguments: Any, **named: Any) -> Any:
        return compute(self, *arguments, **named) * (torch.nan if self.state.global_step + 1 in steps else 1.0)

    monkeypatch.setattr(trl.GRPOTrainer, "compute_loss", spoilt)


def watch_adapter(training: Training) -> list[tuple[int, dict[str, torch.Tensor]]]:
    """The adapter after every step, as steps are over."""
    seen: list[tuple[int, dict[str, torch.Tensor]]] = []
    step = training.observer.step

    def remember(metrics: StepMetrics) -> None:
        seen.append((metrics.step, training.adapter()))
        step(metrics)

    training.observer.step = remember  # type: ignore[method-assign]
    return seen
