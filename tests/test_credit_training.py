"""Training with each credit for real: what TRL is given to train, and what it makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from motif_lite.evaluation.best_mark import best_mark
from motif_lite.nouns import Reply
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import sealing
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.parts import Parts
from motif_lite.runs.records import Mark, MeasuredPart
from motif_lite.runs.rollout_lines import RolloutLine, RolloutTurn
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]

SHORT = [{"question": "a1=", "answer": "1"}, {"question": "a0b4c5d3e1f7g2h9i3=", "answer": "4"}] * 16
"""Chains for one round and for two; so many that some openings finish, whatever the tiny model is like here."""


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the trainer makes of each step's rollouts, before it is cut into micro-batches."""
    from motif_lite.training.trainer import Trainer

    seen: list[dict[str, Any]] = []
    score = Trainer._generate_and_score_completions

    def watched(self: Trainer, inputs: Any) -> Any:
        seen.append(score(self, inputs))
        return seen[-1]

    monkeypatch.setattr(Trainer, "_generate_and_score_completions", watched)
    return seen


def one_step(make: MakeRecipe, folder: Path, out: Path, *changes: str) -> Training:
    training = Training(make("training.max_steps=1", *changes), folder, out)
    assert training.train()
    return training


def rows(step: dict[str, Any]) -> list[tuple[list[int], list[int], float]]:
    """Prompt, completion and advantage of every row, without padding."""
    return [
        (prompt[there.bool()].tolist(), reply[written.bool()].tolist(), advantage)
        for prompt, there, reply, written, advantage in zip(
            step["prompt_ids"], step["prompt_mask"], step["completion_ids"], step["completion_mask"],
            step["advantages"].tolist(), strict=True,
        )
    ]  # fmt: skip


def turns(training: Training) -> list[RolloutTurn]:
    """Every round in rollouts.jsonl that was trained."""
    lines = training.run.rollouts()
    found = [turn for line in lines for turn in (line.opening, *later(line)) if turn.advantage is not None]
    assert found
    return found


def later(line: RolloutLine) -> list[RolloutTurn]:
    return [turn for future in line.futures for turn in future.rounds]


def test_the_papers_advantages_are_those_of_the_openings_rewards(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, scored: list[dict[str, Any]]
) -> None:
    training = one_step(tiny_recipe, tiny_folder, tmp_path)
    rewards = [sum(line.rewards.values()) for line in training.run.rollouts()]
    assert len(rewards) == 8
    expected = []
    for group in (rewards[:4], rewards[4:]):
        expected += [(reward - fmean(group)) / (stdev(group) + 1e-4) for reward in group]
    assert scored[0]["advantages"].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_openings_that_end_at_a_stop_text_are_trained_and_counted_as_long_as_they_are(
    tiny_recipe: MakeRecipe,
    tiny_folder: Path,
    tmp_path: Path,
    scored: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from motif_lite.policies.transformers_policy import TransformersPolicy

    written: list[list[int]] = []
    write = TransformersPolicy.write_rows

    def watched(self: TransformersPolicy, *arguments: Any, **named: Any) -> list[Reply]:
        replies = write(self, *arguments, **named)
        written.extend(list(reply.token_ids) for reply in replies)
        return replies

    monkeypatch.setattr(TransformersPolicy, "write_rows", watched)
    training = one_step(tiny_recipe, tiny_folder, tmp_path, 'rollout.openings.stop=["</answer>"]')
    assert len({len(row) for row in written}) > 1, "with replies of one length there is no padding"
    assert [reply for _, reply, _ in rows(scored[0])] == written
    openings = [line.opening for line in training.run.rollouts()]
    assert [turn.tokens for turn in openings] == [len(row) for row in written]
    assert {turn.reply.partition("</answer>")[2] for turn in openings if turn.finish == "stop"} == {""}
    assert "stop" in {turn.finish for turn in openings}
    assert training.run.metrics()[0].tokens["openings"] == sum(map(len, written))


@pytest.mark.parametrize(
    ("credit", "scaled", "loss"),
    [
        ("opening", '"group"', "bnpo"), ("opening", '"batch"', "grpo"), ("opening", '"none"', "dr_grpo"),
        ("opening", "apart", "bnpo"), ("chain", '"group"', "grpo"), ("chain", "apart", "bnpo"),
        ("tree", '"batch"', "bnpo"), ("tree", "apart", "dr_grpo"),
    ],
)  # fmt: skip
def test_equal_rewards_move_nothing_bit_for_bit(
    credit: str, scaled: str, loss: str, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """Of six equal rewards of 0.45 the mean in 32 bits is another number, and AdamW makes a whole step of the rest."""
    (tmp_path / "equal.py").write_text("def one(opening):\n    return 0.45\n\ndef other(opening):\n    return 0.3\n")
    name = tmp_path / "equal.py"
    apart = 'training.multi_objective_aggregation="normalize_then_sum"'
    recipe = tiny_recipe(
        f'rewards={{"{name}:one"=1.0, "{name}:other"=0.7}}', f'training.credit="{credit}"', "data.num_problems=8",
        f'training.loss_type="{loss}"', apart if scaled == "apart" else f"training.scale_rewards={scaled}",
        "training.max_steps=1", "training.warmup_fraction=0.0", "rollout.num_openings=6", "training.micro_batch_size=6",
        "rollout.openings.max_tokens=4", "rollout.futures.max_tokens=4", "training.weight_decay=0.1",
    )  # fmt: skip
    training = Training(recipe, tiny_folder, tmp_path / "run")
    before = training.adapter()
    assert training.train()
    assert training.run.metrics()[0].groups_without_signal == 1.0
    assert all(torch.equal(weight, before[name]) for name, weight in training.adapter().items())


def test_neither_momentum_nor_weight_decay_moves_anything_in_a_step_without_signal(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    name = tmp_path / "once.py"
    name.write_text("calls = []\n\ndef once(opening):\n    calls.append(1)\n    return float(min(len(calls), 9))\n")
    recipe = tiny_recipe(
        f'rewards={{"{name}:once"=1.0}}', "training.max_steps=3", "training.save_every=1", "training.weight_decay=0.1",
        "training.warmup_fraction=0.0", "rollout.openings.max_tokens=4", "rollout.futures.max_tokens=4",
    )  # fmt: skip
    training = Training(recipe, tiny_folder, tmp_path / "run")
    before = training.adapter()
    assert training.train()
    assert [line.groups_without_signal for line in training.run.metrics()] == [0.0, 1.0, 1.0]
    kept = load_file(training.run.root / "checkpoints" / "checkpoint-2" / ADAPTER_FILE)
    after = load_file(training.run.adapter / ADAPTER_FILE)
    assert any(not torch.equal(weight, before[name]) for name, weight in training.adapter().items())
    assert all(torch.equal(weight, kept[name]) for name, weight in after.items())


@pytest.mark.parametrize(("credit", "num_rounds"), [("chain", 24), ("tree", 40)])
def test_what_is_trained_are_the_rounds_as_they_were_written(
    credit: str,
    num_rounds: int,
    tiny_recipe: MakeRecipe,
    tiny_folder: Path,
    tmp_path: Path,
    scored: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prompt by prompt and token by token: what the policy read and wrote in each round is what gets its advantage."""
    from motif_lite.policies.local import LocalPolicy

    written: list[tuple[list[int], list[int]]] = []
    generate = LocalPolicy.generate

    def watched(self: LocalPolicy, prompts: Any, *arguments: Any, **named: Any) -> Any:
        replies = generate(self, prompts, *arguments, **named)
        written.extend(
            (self.encode(prompt), list(reply.token_ids)) for prompt, reply in zip(prompts, replies, strict=True)
        )
        return replies

    monkeypatch.setattr(LocalPolicy, "generate", watched)
    training = one_step(tiny_recipe, tiny_folder, tmp_path, f'training.credit="{credit}"')
    trained = rows(scored[0])
    assert len(trained) == num_rounds
    assert sorted((prompt, reply) for prompt, reply, _ in trained) == sorted(written)
    kept = [
        (training.policy.encode(turn.prompt), turn.tokens, (turn.advantage or 0.0) * (turn.weight or 0.0))
        for turn in turns(training)
    ]
    found = [(prompt, len(reply), advantage) for prompt, reply, advantage in trained]
    for ours, theirs in zip(sorted(kept), sorted(found), strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2] == pytest.approx(theirs[2], rel=1e-5, abs=1e-6)
    assert any(advantage for _, _, advantage in found)
    metrics = training.run.metrics()[0]
    assert metrics.trained_tokens == sum(len(reply) for _, reply, _ in trained)
    assert len((metrics.rewards_by_round or {})["tag_count"]) == 3


@pytest.mark.parametrize("credit", ["chain", "tree"])
def test_with_grpo_the_gradient_weighs_openings_alike_and_tokens_by_their_advantage(
    credit: str, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """Against the sum written out: of each trained round, its advantage times the gradient of its log-probability."""
    changes = (f'training.credit="{credit}"', 'training.loss_type="grpo"', "training.micro_batch_size=4")
    training = one_step(tiny_recipe, tiny_folder, tmp_path / "run", *changes)
    fresh = Training(tiny_recipe(*changes), tiny_folder, tmp_path / "fresh")
    policy, loss = fresh.policy, torch.zeros(())
    for line in training.run.rollouts():
        paths = [[line.opening, *future.rounds] for future in line.futures]
        for path in paths:
            num_tokens = sum(turn.tokens for turn in path)
            for turn in path:
                prompt = policy.encode(turn.prompt)
                ids = reply_ids(policy, turn)
                logits = policy.model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
                chosen = torch.log_softmax(logits, -1)[range(len(ids)), ids].sum()
                loss = loss - (turn.advantage or 0.0) * chosen / num_tokens / len(paths)
    (loss / len(training.run.rollouts())).backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad for weight in policy.model.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    assert training.run.metrics()[0].grad_norm == pytest.approx(float(norm), rel=1e-3)


def reply_ids(policy: Any, turn: RolloutTurn) -> list[int]:
    ids: list[int] = policy.encode(turn.reply)
    ids += [policy.stop_ids[0]] * (turn.finish == "stop")
    assert len(ids) == turn.tokens
    return ids


@pytest.mark.parametrize("credit", ["chain", "tree"])
def test_a_run_stopped_paused_and_resumed_equals_one_that_was_not(
    credit: str, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        f'training.credit="{credit}"', "training.max_steps=100", "training.until_tokens=2600",
        'evaluation.validation={source="chain_sum", num_problems=8, num_marks=3}',
    )  # fmt: skip
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    first = Training(recipe, tiny_folder, tmp_path / "stopped")
    assert not first.train(stop_after=1)
    torch.manual_seed(12345)
    assert not Training(recipe, tiny_folder, tmp_path / "stopped").train(pause_at=1 / 3)
    paused = RunDirectory(tmp_path / "stopped")
    assert not paused.adapter.exists()
    assert 1 / 3 <= (paused.metrics()[-1].share_done or 0) < 1
    assert paused.marks()[-1].step == paused.metrics()[-1].step, "what it is judged by is measured"
    torch.manual_seed(12345)
    second = Training(recipe, tiny_folder, tmp_path / "stopped")
    assert second.train()
    second.require_same_as(whole)
    assert [timeless(mark) for mark in second.run.marks()] == [timeless(mark) for mark in whole.run.marks()]
    assert kept_best(second) == kept_best(whole)


def test_a_resumed_run_with_a_kl_penalty_goes_on_with_what_it_has_trained(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """TRL's adapter "ref" lies in a subfolder of checkpoints then, which transformers would load in place of ours."""
    recipe = tiny_recipe("training.beta=0.1", "training.max_steps=3", "training.warmup_fraction=0.0")
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    resumed = whole.require_same_when_resumed(tmp_path / "stopped", 2)
    assert not (resumed.run.adapter / "ref").exists()


def kept_best(training: Training) -> str:
    """The sums of the files of ``adapter_best/``, which is that of the best mark."""
    found = best_mark(training.run.marks(), 0.95)
    assert found is not None
    assert training.run.best_step() == found.best.step
    return (training.run.best_adapter / sealing.MANIFEST).read_text()


def test_a_mark_that_was_interrupted_goes_on_with_its_next_part(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        "rollout.max_width=4", "training.max_steps=1", "training.micro_batch_size=8",
        'evaluation.validation={source="chain_sum", num_problems=24, num_marks=1}',
    )  # fmt: skip
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    parts = 0

    def interrupted(self: Parts, part: MeasuredPart) -> None:
        nonlocal parts
        add(self, part)
        parts += 1
        if parts == 2:
            raise KeyboardInterrupt

    add = Parts.add
    monkeypatch.setattr(Parts, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Training(recipe, tiny_folder, tmp_path / "killed").train()
    (tmp_path / "killed" / "evaluations" / "validation.step-7.jsonl.parts").touch()  # of steps that were lost
    again = Training(recipe, tiny_folder, tmp_path / "killed")
    assert again.train()
    assert parts == 2 + 1 + 3, "of three parts before the first step and three after the last, none was made twice"
    again.require_same_as(whole)
    assert [timeless(mark) for mark in again.run.marks()] == [timeless(mark) for mark in whole.run.marks()]
    assert not list((tmp_path / "killed" / "evaluations").iterdir())


def timeless(mark: Mark) -> dict[str, Any]:
    return mark.model_dump(exclude={"seconds", "evaluation_seconds", "peak_memory_bytes"})


def test_a_run_ends_with_its_tokens_and_measures_along_the_way(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        "training.max_steps=100", "training.until_tokens=4000",
        'evaluation.validation={source="chain_sum", num_problems=8, num_marks=2}',
    )  # fmt: skip
    training = Training(recipe, tiny_folder, tmp_path)
    assert training.train()
    metrics, marks = training.run.metrics(), training.run.marks()
    spent = [sum(line.tokens.values()) for line in metrics]
    assert sum(spent[:-1]) < 4000 <= sum(spent)
    assert [line.share_done for line in metrics][-1] == 1.0
    rates = [line.learning_rate or 0.0 for line in metrics]
    assert rates[0] == 0.0  # warm-up begins there
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert marks[0].step == 0
    assert marks[0].tokens == 0
    assert marks[-1].step == len(metrics)
    assert marks[-1].tokens == sum(spent)
    assert [mark.num_problems for mark in marks] == [8] * len(marks)
    assert len(training.observer.named("mark")) == len(marks)
    assert training.run.is_trained(recipe.training)


def test_trajectories_that_end_early_train_the_rounds_they_had(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, scored: list[dict[str, Any]]
) -> None:
    file = tmp_path / "short.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in SHORT))
    training = one_step(
        tiny_recipe, tiny_folder, tmp_path / "run", 'training.credit="chain"', "rollout.early_finish=true",
        f'data.train="{file}"', "data.num_problems=32", "training.problems_per_step=16",
    )  # fmt: skip
    lengths = [1 + len(line.futures[0].rounds) for line in training.run.rollouts()]
    assert 1 in lengths
    assert sum(lengths) < 64 * 3
    for line in training.run.rollouts():
        *earlier, _ = [line.opening, *later(line)]
        assert not any(boxed_inside(turn.reply) for turn in earlier)
    trained = rows(scored[0])
    assert len(trained) == 64 * 3
    unused = trained[sum(lengths) :]
    assert all(advantage == 0 and len(reply) == 1 for _, reply, advantage in unused)
    assert training.run.metrics()[0].trained_tokens == sum(len(reply) for _, reply, _ in trained) - len(unused)


def boxed_inside(reply: str) -> bool:
    from motif_lite.rollout.rewards import has_final_answer

    return has_final_answer(reply)
