"""What processes of a run tell each other, over gloo between threads; tests/faults/test_shared_runs.py has the runs."""

import math
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch._C._distributed_c10d import HashStore
from torch.distributed import ProcessGroupGloo

from motif_lite.commands import plan as plan_command
from motif_lite.errors import MissingHardwareError, MotifError, RecipeError, RunError, TrainingError
from motif_lite.jobs import checking, launching
from motif_lite.nouns import Opening, Problem, Reply, Trajectory, Turn
from motif_lite.planning import driver, one_card
from motif_lite.planning.driver import Driver, Gpu
from motif_lite.policies.led import Wanted, help_until, led, want
from motif_lite.ranks import ALONE, Followed, Ranks, of_environment
from motif_lite.rollout import counting
from motif_lite.training import step
from motif_lite.training.loss_figures import LossFigures
from motif_lite.training.reward_noise import reward_noise
from motif_lite.training.sharing import evenly, own_rows, shared, sum_of
from tests import fakes
from tests.fakes import ScriptedPolicy

T = TypeVar("T")

TINY = Path("recipes/tiny_cpu.toml")


def in_each(act: Callable[[Ranks], T], count: int = 2) -> list[T | Exception]:
    """What some processes do, or what they raise, by their number."""
    store, found = HashStore(), dict[int, T | Exception]()

    def run(number: int) -> None:
        try:
            group = ProcessGroupGloo(store, number, count, timedelta(seconds=30))
            found[number] = act(Ranks(number, count, group))
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(count)]


def test_all_processes_have_what_each_has_made() -> None:
    turn = Turn("a prompt \ud800 ☃", Reply("a reply", 2, "stop", (5, 2**17), (-0.1, math.nan)))
    made = Opening(Problem("p/1", "1 + 1?", "2"), turn, (Trajectory(Problem("p/1", "1 + 1?", "2"), (turn,)),))

    def act(ranks: Ranks) -> list[tuple[int, list[Opening]]]:
        return ranks.gather(tuple[int, list[Opening]], lambda: (ranks.number, [made] * ranks.number))

    for found in in_each(act, 3):
        assert found == [(0, []), (1, [made]), (2, [made, made])], "floats that are no numbers and any text included"
    assert ALONE.gather(int, lambda: 7) == [7]


def test_an_error_of_one_process_is_everybodys_and_names_it() -> None:
    def act(ranks: Ranks) -> list[int]:
        def make() -> int:
            if ranks.number == 1:
                raise TrainingError("no room")
            return 1

        return ranks.gather(int, make)

    main, helper = in_each(act)
    assert isinstance(main, TrainingError)
    assert str(main) == "in process 2 of 2: no room"
    assert isinstance(helper, Followed), "the main process tells"


def test_the_main_process_raises_its_own_error() -> None:
    def act(ranks: Ranks) -> None:
        ranks.together(lambda: 1 / ranks.number)

    main, helper = in_each(act)
    assert isinstance(main, ZeroDivisionError)
    assert isinstance(helper, Followed)


def test_a_fault_of_a_helper_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def act(ranks: Ranks) -> None:
        ranks.together(lambda: 1 / (1 - ranks.number))

    main, helper = in_each(act)
    assert isinstance(main, RunError)
    assert str(main) == "in process 2 of 2: ZeroDivisionError: division by zero"
    assert isinstance(helper, Followed)
    assert "Traceback" in capfd.readouterr().err, "for who looks for the fault"


def test_tensors_become_their_sums_and_keep_their_types() -> None:
    def act(ranks: Ranks) -> list[torch.Tensor]:
        parts = [torch.full((2, 2), 1.0 + ranks.number), torch.full((3,), 2.0, dtype=torch.bfloat16)]
        ranks.add_up(parts)
        return parts

    for found in in_each(act, 3):
        assert isinstance(found, list)
        assert found[0].tolist() == [[6.0, 6.0], [6.0, 6.0]]
        assert found[1].dtype == torch.bfloat16
        assert found[1].tolist() == [6.0, 6.0, 6.0]


def test_shares_are_whole_groups_and_together_all() -> None:
    shares = [Ranks(number, 4).share(8 * 6) for number in range(4)]
    assert [(share.start, share.stop) for share in shares] == [(0, 12), (12, 24), (24, 36), (36, 48)]
    assert ALONE.share(5) == slice(0, 5)


@pytest.mark.parametrize(
    "lengths", [[5] * 8, [1000, 1, 1, 1], [1, 1, 1, 1000], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [7, 7, 1, 1, 1, 1]]
)
def test_rows_are_dealt_out_by_their_tokens_and_everybody_has_one(lengths: list[int]) -> None:
    parts = [evenly(lengths, Ranks(number, 4)) for number in range(4)]
    assert [row for part in parts for row in part] == [*range(len(lengths))]
    assert all(parts)
    most = max(sum(lengths[row] for row in part) for part in parts)
    assert most <= sum(lengths) / 4 + max(lengths)


def test_a_led_policy_writes_in_all_processes_what_it_writes_in_one() -> None:
    prompts, sampling = [f"prompt {number}" for number in range(5)], checking.check(TINY, []).rollout.futures
    alone = ScriptedPolicy(lambda prompt, _: f"to {prompt}").generate(prompts, sampling, seeds=[*range(5)])

    def act(ranks: Ranks) -> list[Reply] | str:
        policy = ScriptedPolicy(lambda prompt, _: f"to {prompt}")
        if not ranks.is_main:
            return help_until(policy, ranks).what
        found = led(policy, ranks).generate(prompts, sampling, seeds=[*range(5)])
        want(ranks, Wanted("go on"))
        assert policy.widths == [2]
        return found

    assert in_each(act) == [alone, "go on"]
    policy = ScriptedPolicy(lambda prompt, _: f"to {prompt}")
    assert led(policy, ALONE) is policy


# ------------------------------------------------------------------------------------------ what is asked for


def test_torchruns_variables_say_which_process_this_is() -> None:
    assert of_environment({}) is ALONE
    assert of_environment({"RANK": "0", "WORLD_SIZE": "1"}) is ALONE
    assert of_environment({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}) == Ranks(1, 2)


@pytest.mark.parametrize(
    "left", [{"WORLD_SIZE": ""}, {"WORLD_SIZE": " ", "RANK": "5"}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": ""}]
)
def test_variables_that_say_nothing_are_taken_out_for_the_libraries_that_would_read_them(left: dict[str, str]) -> None:
    assert of_environment(left) is ALONE
    assert left == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"WORLD_SIZE": "b"}, "WORLD_SIZE = 'b' in the environment is no number of processes; unset it"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE = '-2' in the environment is no number"),
        ({"LOCAL_WORLD_SIZE": "1.5"}, "LOCAL_WORLD_SIZE = '1.5' in the environment is no number"),
        ({"LOCAL_WORLD_SIZE": "1"}, "start them here with --processes 2, or unset WORLD_SIZE"),
        ({"LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE does not say that all are on this machine"),
        ({"RANK": "2"}, "RANK = '2' is none of the 2 processes that WORLD_SIZE tells of"),
        ({"RANK": ""}, "RANK = '' is none of the 2 processes"),
    ],
)
def test_variables_that_do_not_fit_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        of_environment({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"} | changes)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['model.device="cuda:1"', "training.problems_per_step=3", "training.micro_batch_size=24"],
         "names one GPU; leave --processes out, or --set model.device=\"'auto'\""),
        (['rollout.server="http://127.0.0.1:8000/v1"', 'rollout.server_folder="/tmp"'],
         "one process sends its adapter to rollout.server, which writes all replies; leave --processes out"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused_with_the_remedy(changes: list[str], message: str) -> None:
    with pytest.raises(MotifError) as refused:
        launching.require_shareable(checking.check(TINY, changes), 3, trains=True)
    assert message in str(refused.value)


def test_unsloth_is_refused_with_the_remedy() -> None:
    recipe = checking.check(Path("recipes/motif_gsm8k.toml"), [])
    with pytest.raises(RecipeError, match=r"one GPU; leave --processes out, or --set model\.backend=\"'transf"):
        launching.require_shareable(recipe, 2, trains=True)
    launching.require_shareable(recipe, 1, trains=True)


RTX_3090 = "NVIDIA GeForce RTX 3090"

CARDS = [
    Gpu("Tesla T4", 15.0, "GPU-a", capability=(7, 5)),
    Gpu(RTX_3090, 24.0, "GPU-b", capability=(8, 6)),
    Gpu(RTX_3090, 24.0, "GPU-c", capability=(8, 6)),
]


def test_each_process_takes_a_gpu_the_best_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = checking.check(TINY, [])
    assert [one_card.choose(recipe, CARDS, Ranks(number, 2)) for number in (0, 1)] == [CARDS[1], CARDS[2]]
    monkeypatch.setattr(driver, "ask", lambda: Driver(tuple(CARDS)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    told = one_card.use(recipe, Ranks(1, 2))
    assert told == "this run uses 2 GPUs: cuda:1 NVIDIA GeForce RTX 3090, cuda:2 NVIDIA GeForce RTX 3090"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-c"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ask", lambda: Driver(tuple(CARDS[1:2])))
    monkeypatch.setattr(launching, "torch_build", lambda: "CUDA")
    recipe = checking.check(TINY, [])
    with pytest.raises(
        MissingHardwareError, match=r"only NVIDIA GeForce RTX 3090; take --processes 1, or train on the CPU"
    ):
        launching.require_shareable(recipe, 2, trains=True)
    launching.require_shareable(checking.check(TINY, ['model.device="cpu"']), 2, trains=True)


def test_processes_share_the_cores_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "usable_cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launching._variables(4)["OMP_NUM_THREADS"] == "4"
    assert launching._variables(32)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launching._variables(4)["OMP_NUM_THREADS"] == "3"


# ------------------------------------------------------------------------------------------ the plan


SHARED = ['model.backend="transformers"', "training.problems_per_step=2", "rollout.max_width=16"]


def test_a_second_card_buys_time_and_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path("recipes/motif_gsm8k.toml")
    one, two = (checking.memory_plan(recipe, SHARED, None, "RTX 3090", count) for count in (1, 2))
    assert two.estimate == one.estimate
    assert two.num_tokens == one.num_tokens
    assert 0.45 < sum(two.seconds.values()) / sum(one.seconds.values()) < 0.7
    plan_command.show(recipe, SHARED, None, "RTX 3090", None, 2)
    printed = " ".join(capsys.readouterr().out.split())
    assert "by 2 processes: each has a GPU of its own, which has to hold all of the above" in printed
    assert "one process: about" in printed


def test_processes_of_a_cpu_share_its_memory_and_its_speed() -> None:
    one, two = (checking.memory_plan(TINY, [], None, None, count) for count in (1, 2))
    assert two.usable_bytes == pytest.approx(one.usable_bytes / 2, rel=1e-6)
    assert two.speed.flops_per_second < 0.8 * one.speed.flops_per_second


def test_rounds_that_futures_begin_with_are_counted_once_after_they_came_from_another_process() -> None:
    first, second = fakes.turn("one"), fakes.turn("two2")
    futures = [Trajectory(fakes.problem(), (first, second, fakes.turn(last))) for last in ("3", "33")]
    own = Opening(fakes.problem(), first, tuple(futures))
    [come] = in_each(lambda ranks: ranks.gather(Opening, lambda: own)[1])[:1]
    assert come == own
    counted = [counting.generated_tokens([each])["futures"] for each in (own, come, step.sharing(come, 2))]
    assert counted == [7, 11, 7]


def test_futures_that_openings_share_are_the_same_ones_after_they_came_from_another_process() -> None:
    """Two openings that pass on the same, one of whose futures say the same, too, and a third one."""
    first, other = fakes.turn("one"), fakes.turn("another")
    told = [(first, boxed(3), boxed(3)), (first, boxed(3), "?"), (other, "?", boxed(3))]
    a, b, c = (
        [Trajectory(fakes.problem(gold="3"), (turn, fakes.turn(last))) for last in lasts] for turn, *lasts in told
    )
    own = [
        Opening(fakes.problem(gold="3"), first, tuple(a), shared=tuple(b)),
        Opening(fakes.problem(gold="3"), first, tuple(b), shared=tuple(a)),
        Opening(fakes.problem(gold="3"), other, tuple(c)),
    ]
    [come] = in_each(lambda ranks: ranks.gather(list[Opening], lambda: own)[1])[:1]
    assert isinstance(come, list)
    assert come == own
    assert reward_noise(come, 3) != reward_noise(own, 3), "copies are taken for draws of their own"
    assert reward_noise(step.borrowing(come), 3) == reward_noise(own, 3)


def boxed(answer: int) -> str:
    return f"<answer>\\boxed{{{answer}}}</answer>"


def test_rows_that_processes_have_in_different_orders_are_refused() -> None:
    def own(ranks: Ranks, order: list[int]) -> list[int]:
        rows = torch.tensor([[5, 6], [7, 8], [9, 10], [11, 12]])[order]
        batch = {"prompt_mask": torch.ones(4, 3), "completion_mask": torch.ones(4, 2), "completion_ids": rows}
        figures = LossFigures({})
        shared(ranks, torch.nn.Linear(1, 1), lambda: (torch.zeros(()), figures, sum_of(batch, ranks)))
        return [int(token) for token in own_rows(batch, ranks)["completion_ids"].flatten()]

    assert in_each(lambda ranks: own(ranks, [2, 0, 1, 3])) == [[9, 10, 5, 6], [7, 8, 11, 12]]
    main, helper = in_each(lambda ranks: own(ranks, [2, 0, 1, 3] if ranks.number else [0, 1, 2, 3]))
    assert isinstance(main, TrainingError)
    assert "to continue with one process, --resume without --processes" in str(main)
    assert isinstance(helper, Followed), "one process tells it"
