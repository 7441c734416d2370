"""`run.py export`: what is written loads elsewhere and is adapter and base, and what is not is refused."""

import json
import re
import shutil
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from motif_lite import cli
from motif_lite.errors import ModelError, RunError
from motif_lite.exporting import check, gguf, ollama, places, writing
from motif_lite.exporting.records import FILE, Bound, Difference, ExportRecord
from motif_lite.exporting.writing import write_merged
from motif_lite.jobs import checking, export_job, train_job
from motif_lite.nouns import Sampling
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.views import exports, model_card
from tests import records
from tests.chats import CHATML, CHATML_MARKS, chat_tokenizer
from tests.fakes import RecordingObserver
from tests.hub_server import HubServer
from tests.random_models import write_random
from tests.test_policies import load, rendered

ROOT = Path(__file__).parents[1]
SETTINGS = (
    "rollout.num_openings=4", "rollout.num_futures=2", "training.problems_per_step=2", "training.micro_batch_size=8",
    "training.max_steps=2", "data.num_problems=16", "evaluation.before=false", "evaluation.after=false",
    "training.learning_rate=0.02", "training.lr_schedule='constant'", "training.warmup_fraction=0.0",
)  # fmt: skip
needs_gguf = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("llama_cpp", "gguf", "sentencepiece")),
    reason="needs requirements-export.txt",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after two steps at a learning rate that leaves nothing as it was."""
    root = tmp_path_factory.mktemp("runs") / "tiny"
    train_job.job(ROOT / "recipes" / "tiny_cpu.toml", SETTINGS, root).perform(RecordingObserver())
    return root


def export(run: Path, to: Path, name: str, number: str | None = None) -> ExportRecord:
    return export_job.job(run, to, name, number, None, []).perform(RecordingObserver())


@pytest.mark.parametrize(
    ("name", "number", "mean"), [("adapter", None, 1e-6), ("merged", "f32", 1e-4), ("merged", None, 0.05)]
)
def test_what_was_exported_is_adapter_and_base(
    run: Path, tmp_path: Path, name: str, number: str | None, mean: float
) -> None:
    found = export(run, tmp_path / "out", name, number)
    assert found.difference.mean <= mean
    assert found.difference.effect > 0.01, "the adapter matters"
    assert found.difference.can_tell
    assert abs(found.difference.lost or 0.0) < 0.2
    assert ExportRecord.model_validate_json((tmp_path / "out" / FILE).read_text()) == found
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert found.number == (number or (None if name == "adapter" else "bf16"))
    lines = list(exports.lines(found, tmp_path / "out"))
    assert lines[-1].startswith("next")


def with_a_best_adapter(run: Path, policy: LocalPolicy) -> None:
    """One that writes otherwise than the last."""
    policy.load_adapter(run / "adapter")
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            weight.mul_(-1.0 if "lora_B" in name else 1.0)
    directory = RunDirectory(run)
    directory.save_adapter(1, policy.save_adapter, directory.best_adapter)


@pytest.mark.parametrize(("folder", "asked"), [("adapter", None), ("adapter_best", "best")])
def test_the_merged_model_writes_in_plain_transformers_what_adapter_and_base_write(
    run: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe], tiny_folder: Path, folder: str, asked: str | None
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = Path(shutil.copytree(run, tmp_path / "run"))
    policy = load(tiny_folder, tiny_recipe())
    with_a_best_adapter(run, policy)
    export_job.job(run, tmp_path / "out", "merged", "f32", None, [], asked).perform(RecordingObserver())
    policy.load_adapter(run / folder)
    prompts = rendered(policy, 3, min_digits=13, max_digits=14)
    expected = policy.generate(prompts, Sampling(max_tokens=30, temperature=0.0), seeds=range(3))
    model, tokenizer = (
        kind.from_pretrained(tmp_path / "out") for kind in (AutoModelForCausalLM, AutoTokenizer)
    )  # fmt: skip
    for prompt, reply in zip(prompts, expected, strict=True):
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        written = model.generate(ids, do_sample=False, max_new_tokens=30)[0, ids.shape[1] :]
        assert tuple(written.tolist()[: reply.num_tokens]) == reply.token_ids


def without_adapter(policy: LocalPolicy, folder: Path, dtype: torch.dtype) -> None:
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            weight.mul_(0.0 if "lora_B" in name else 1.0)
    write_merged(policy, folder, dtype)


def one_layer_doubled(policy: LocalPolicy, folder: Path, dtype: torch.dtype) -> None:
    with torch.no_grad():
        weight = next(weight for name, weight in policy.model.named_parameters() if "down_proj.lora_B" in name)
        weight.mul_(2.0)
    write_merged(policy, folder, dtype)


@pytest.mark.parametrize(
    ("broken", "number"), [(without_adapter, "f32"), (without_adapter, "bf16"), (one_layer_doubled, "f32")]
)
def test_a_broken_merge_is_refused_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, number: str
) -> None:
    monkeypatch.setattr(writing, "write_merged", broken)
    with pytest.raises(ModelError, match=r"is not the trained model: .*nothing was exported"):
        export(run, tmp_path / "out", "merged", number)
    assert list(tmp_path.iterdir()) == []


def test_a_lost_adapter_is_found_by_its_effect_where_it_is_within_the_bound() -> None:
    torch.manual_seed(0)
    effect, rounding = 0.02 * torch.randn(800), 0.005 * torch.randn(800)
    reference = torch.randn(800)
    lost = check.difference(reference + effect + rounding, reference, reference + effect, 8)
    kept = check.difference(reference + rounding, reference, reference + effect, 8)
    wide = Bound(1.0, 10.0)
    assert lost.lost == pytest.approx(1.0, abs=0.05)
    assert kept.lost == pytest.approx(0.0, abs=0.05)
    check.require_equal(kept, wide, "out")
    with pytest.raises(ModelError, match=r"it lacks .* % of what the adapter changes"):
        check.require_equal(lost, wide, "out")
    small = check.difference(reference + rounding, reference, reference + effect / 1000, 8)
    assert not small.can_tell, "less than rounding"
    assert check.difference(reference, reference, reference, 8).lost is None


def test_a_negative_share_is_not_called_lacking() -> None:
    found = Difference(replies=8, tokens=80, mean=0.01, largest=0.1, effect=0.5, lost=-0.013, lost_error=0.002)
    record = ExportRecord(
        run="r", base="tiny", format="merged", adapter="", difference=found, mean_bound=1.0, largest_bound=9.0
    )
    told = "\n".join(exports.lines(record, Path("out")))
    assert "of that the export lacks nothing: it has 101.3 % (standard error 0.2)" in told
    less = record.model_copy(update={"difference": found.model_copy(update={"lost": 0.013})})
    assert "of that the export lacks 1.3 % (standard error 0.2)" in "\n".join(exports.lines(less, Path("out")))


def test_numbers_that_are_none_are_refused() -> None:
    nothing = torch.full((4,), float("nan"))
    with pytest.raises(ModelError, match="computes infinities"):
        check.difference(nothing, torch.zeros(4), torch.ones(4), 1)


def test_a_tokenizer_of_bytes_is_not_taken_for_one_of_sentencepiece(tmp_path: Path) -> None:
    """transformers writes a fallback to bytes into tokenizers that it has read from GGUF files."""
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(chat_tokenizer(CHATML_MARKS, CHATML).backend_tokenizer.to_str())
    for pre_tokenizer, falls_back in ((tokenizer["pre_tokenizer"], False), ({"type": "Metaspace"}, True)):
        model = tokenizer["model"] | {"byte_fallback": True}
        path.write_text(json.dumps(tokenizer | {"model": model, "pre_tokenizer": pre_tokenizer}))
        gguf._say_byte_level(path)
        assert json.loads(path.read_text())["model"]["byte_fallback"] is falls_back


@needs_gguf
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"llama.cpp's converter cannot write this model as GGUF .* --format merged"):
        export(run, tmp_path / "out", "gguf")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ Ollama

LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '|' + m['content'] | trim + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant|' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def obeyed(template: str, system: str, prompt: str) -> str:
    """What Ollama makes of a template that has one condition at most."""
    if "{{ if .System }}" in template:
        before, _, rest = template.partition("{{ if .System }}")
        inside, _, after = rest.partition("{{ end }}")
        with_system, _, without = inside.partition("{{ else }}")
        template = before + (with_system if system else without) + after
    return template.replace("{{ .System }}", system).replace("{{ .Prompt }}", prompt).replace("{{ .Response }}", "")


@pytest.mark.parametrize("source", [None, LLAMA, DEFAULT_SYSTEM])
def test_ollamas_template_says_what_the_models_own_says(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe], source: str | None
) -> None:
    folder = write_random(tmp_path, "llama", **({"template": source} if source else {}))
    policy = load(folder, tiny_recipe("lora.rank=4"))
    template = ollama.template(policy)
    for system in ("Think in rounds.", ""):
        messages: Any = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": "1+1?"}]
        assert obeyed(template, system, "1+1?") == policy.render(messages)


def test_a_modelfile_has_ends_limits_and_the_rounds_prompt(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    stops = 'rollout.futures.stop=["數", "\\n\\nUser:"]'
    recipe = tiny_recipe("lora.rank=4", "rollout.system_prompt='Three rounds.'", stops)
    text = ollama.modelfile(recipe, load(write_random(tmp_path, "llama"), recipe))
    lines = text.splitlines()
    assert lines[1] == "FROM ./model.gguf"
    assert 'SYSTEM """Three rounds."""' in lines
    lasting = [f'PARAMETER stop """{stop}"""\n' for stop in ("<|im_end|>", "數", "\n\nUser:")]
    assert "".join(lasting) in text, "without escapes, which Ollama would take for the text"
    assert text.count("PARAMETER stop") == 3
    assert "PARAMETER num_ctx 256" in lines


# ------------------------------------------------------------------------------------------------------- command line


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["export", *arguments])


def test_the_command_prints_what_was_found(run: Path, tmp_path: Path) -> None:
    done = invoke("--run", str(run), "--to", str(tmp_path / "out"), "--format", "adapter")
    assert done.exit_code == 0, done.stderr
    assert "difference  of log-probabilities: mean 0 (bound 0.001)" in done.stdout
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_wrong_commands_are_one_message(run: Path, tmp_path: Path) -> None:
    full, copied = tmp_path / "full", tmp_path / "untrained"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    shutil.copytree(run, copied, ignore=shutil.ignore_patterns("adapter"))
    quantised = tmp_path / "quantised"
    quantised.mkdir()
    (quantised / "config.json").write_text(json.dumps({"quantization_config": {"load_in_4bit": True}}))
    out = str(tmp_path / "out")
    in_4_bits = ["--run", str(run), "--to", out, "--format", "merged", "--set", "model.load_in_4bit=true", "--base"]
    for arguments, message in (
        (["--run", str(run), "--to", out, "--format", "merge"], "there is no format 'merge' (did you mean 'merged'?)"),
        (["--run", str(run), "--to", str(full), "--format", "merged"], "is not empty; choose another --to"),
        (["--run", str(tmp_path / "gone"), "--to", out, "--format", "merged"], "holds no run"),
        (["--run", str(copied), "--to", out, "--format", "merged"], "has no trained adapter yet"),
        (["--run", str(run), "--to", out, "--format", "merged", "--quantisation", "q8_0"], "takes bf16, f16, f32"),
        (["--run", str(run), "--to", out, "--format", "adapter", "--quantisation", "f16"], "stay as they are"),
        (
            ["--run", str(run), "--to", out, "--format", "merged", "--base", "some/model"],
            "and this run's, tiny, was not",
        ),
        ([*in_4_bits, str(quantised)], "model that they were made from with --base"),
        ([*in_4_bits, "/gone"], "--base /gone: there is no such folder"),
        ([*in_4_bits, "no/such/model"], "--base no/such/model: there is no such folder"),
        (["--run", str(run), "--to", out], "Missing option '--format'"),
    ):
        done = invoke(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), message
        assert message in " ".join(done.stderr.replace("│", " ").split())
    done = invoke(*in_4_bits, str(full))
    assert (done.exit_code, f"{full}: the model cannot be loaded" in " ".join(done.stderr.split())) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unwritable", ["/proc/x", "file/out", "~nobody-of-this-name/out", "a\0b", "loop/out", "."])
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unwritable: str
) -> None:
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    if unwritable != ".":
        (folder / "file").touch()
        (folder / "loop").symlink_to("loop")
    with pytest.raises(RunError, match=r"(cannot be written|is the current folder).*; choose another --to"):
        export_job.job(run, Path(unwritable), "merged", None, None, [])
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_only_a_folder_that_an_export_was_killed_in_is_removed(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.unfinished"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"out.unfinished: is in the way, and no unfinished export; move it"):
        export_job.job(run, tmp_path / "out", "adapter", None, None, [])
    assert (folder / "mine.txt").read_text() == "mine"
    shutil.rmtree(folder)
    places._make(folder)
    (folder / "half.safetensors").write_text("half")
    export(run, tmp_path / "out", "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not {path.name for path in (tmp_path / "out").iterdir()} & {places._MARK, "half.safetensors"}


def test_a_link_to_an_empty_folder_and_a_place_taken_meanwhile(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    export(run, tmp_path / "link", "adapter")
    assert (tmp_path / "empty" / FILE).is_file()
    job = export_job.job(run, tmp_path / "out", "adapter", None, None, [])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"out: cannot be written \(.*not empty"):
        job.perform(RecordingObserver())
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "link", "out"}


def test_what_the_disk_has_no_room_for_is_refused_before_it_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=1000))
    with pytest.raises(RunError, match=r"needs .* GiB, and its disk has 0.0 GiB left"):
        export(run, tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == []


def test_gguf_without_its_packages_names_the_file_that_has_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motif_lite.exporting.gguf.find_spec", lambda name: None)
    done = invoke("--run", str(run), "--to", str(tmp_path / "out"), "--format", "ollama")
    assert done.exit_code == 2
    assert "pip install -r requirements-export.txt" in done.stderr


# ------------------------------------------------------------------------------------------------------------- the hub


def push(run: Path, to: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, *more: str) -> Result:
    """``export --push`` to a hub on this machine."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    given = ["export", "--run", str(run), "--to", str(to), "--format", "adapter", "--push", "me/it", *more]
    return CliRunner().invoke(cli.app, given)


def test_the_hub_gets_exactly_the_files_that_a_dry_run_lists(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "token")
    with HubServer() as hub:
        dry = push(run, tmp_path / "dry", hub, monkeypatch, "--dry-run")
        assert (dry.exit_code, hub.files, hub.created) == (0, {}, []), dry.output
        found = push(run, tmp_path / "out", hub, monkeypatch, "--private")
        assert found.exit_code == 0, found.output
        assert f"pushed to   {hub.url}/me/it" in found.output
    listed = re.findall(r"^ {12}(\S+)  [\d,]+$", dry.output, flags=re.MULTILINE)
    assert sorted(hub.files) == sorted(listed)
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(listed)
    assert "export.json" not in listed, "it names folders of this machine"
    for name, content in hub.files.items():
        assert (tmp_path / "out" / name).read_bytes() == content
    assert hub.created == [{"name": "it", "organization": "me", "visibility": "private"}]


def test_the_card_tells_the_run_and_no_folder_of_this_machine(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer() as hub:
        assert push(run, tmp_path / "out", hub, monkeypatch, "--dry-run").exit_code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\n")
    for part in (
        "# me/it", "`tiny`", "`chain_sum`", "in 3 rounds", "rank 64, alpha 64", "2 steps", "It was not evaluated.",
        "sees the question and the progress of the round before",
        "run.py solve --recipe recipe.toml --adapter me/it", "licence of the base model | unknown", "max_steps = 2",
    ):  # fmt: skip
        assert part in card, part
    assert str(tmp_path) not in card
    assert str(run.parent) not in card
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(card.partition("````toml\n")[2].partition("````")[0])
    assert checking.check(recipe, []).training.max_steps == 2, "the recipe in the card can be used"


def test_the_card_says_what_the_asterisk_of_a_gain_means(tmp_path: Path) -> None:
    found, recipe = records.evaluation(), checking.check(ROOT / "recipes" / "tiny_cpu.toml", [])
    sampled = records.measurement(0.5, decoding="sampled")
    gains = [found.comparisons[0].model_copy(update={"p_value_holm": 0.002})]
    gains.append(gains[0].model_copy(update={"decoding": "sampled", "p_value": 0.03, "p_value_holm": 0.06}))
    about = "\\* also after Holm's correction over 2 gains; a gain without \\* is a hint"
    difference = Difference(replies=1, tokens=1, mean=0.0, largest=0.0, effect=0.1)
    made = ExportRecord.model_construct(format="adapter", difference=difference)
    for number, is_told in ((2, True), (1, False)):
        run = RunDirectory(tmp_path)
        run.write_evaluation(
            found.model_copy(
                update={"measurements": (*found.measurements, sampled), "comparisons": tuple(gains[:number])}
            )
        )
        card = model_card.text(model_card.Published("me/it", recipe, run, made, None))
        assert (about in card, "+50.0 [+40.0, +60.0] \\* |" in card) == (is_told, is_told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("seed=1", "8 first rounds per problem, 4 continuations each |"),
        ('training.credit="chain"', "8 first rounds per problem, 1 continuation each |"),
        ('rollout.strategy="single_round"', "8 first rounds per problem |"),
    ],
)
def test_the_card_counts_the_continuations_that_there_were(tmp_path: Path, change: str, told: str) -> None:
    recipe = checking.check(ROOT / "recipes" / "tiny_cpu.toml", [change])
    difference = Difference(replies=1, tokens=1, mean=0.0, largest=0.0, effect=0.1)
    made = ExportRecord.model_construct(format="adapter", difference=difference)
    assert told in model_card.text(model_card.Published("me/it", recipe, RunDirectory(tmp_path), made, None))


def test_a_full_disk_under_the_card_is_one_message(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, out = model_card.text, tmp_path / "out"

    def with_a_full_disk(about: model_card.Published) -> str:
        (out / "README.md").unlink(missing_ok=True)  # PEFT's
        (out / "README.md").symlink_to("/dev/full")
        return text(about)

    monkeypatch.setattr(model_card, "text", with_a_full_disk)
    with HubServer() as hub:
        found = push(run, out, hub, monkeypatch, "--dry-run")
    assert found.exit_code == 2
    assert "cannot be written (No space left on device)" in " ".join(found.output.split())
    assert "repeat with another --to" in " ".join(found.output.split())


def test_names_of_this_machine_are_told_by_their_last_part() -> None:
    names = ["/home/me/models/qwen", "~/data/mine.jsonl", "../mine.jsonl", "a/b/c.jsonl", "Qwen/Qwen2.5-3B", "gsm8k"]
    assert [model_card.public_name(name) for name in names] == [
        "qwen", "mine.jsonl", "mine.jsonl", "c.jsonl", "Qwen/Qwen2.5-3B", "gsm8k",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--format", "gguf"], "--push goes with --format adapter or merged, not gguf"),
        (["--push", "a/b/c"], "a/b/c: is not a name on the hub"),
        (["--push", "a--b"], "is not a name on the hub"),
    ],
)
def test_what_cannot_be_pushed_is_refused_at_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], expected: str
) -> None:
    with HubServer() as hub:
        found = push(run, tmp_path / "out", hub, monkeypatch, *more)
    assert found.exit_code == 2
    assert expected in " ".join(found.output.split())
    assert list(tmp_path.iterdir()) == []
    plain = CliRunner().invoke(
        cli.app, ["export", "--run", str(run), "--to", str(tmp_path / "x"), "--format", "adapter", "--dry-run"]
    )
    assert (plain.exit_code, "go with --push NAME" in plain.output) == (2, True)


def test_a_hub_that_refuses_is_one_message_and_the_wrong_token_is_told_before_the_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with HubServer() as hub:
        found = push(run, tmp_path / "early", hub, monkeypatch)
    assert (found.exit_code, "hf auth login" in " ".join(found.output.split())) == (2, True)
    assert not (tmp_path / "early").exists()
    monkeypatch.setenv("HF_TOKEN", "token")
    with HubServer(refuses=True) as hub:
        found = push(run, tmp_path / "late", hub, monkeypatch)
    assert (found.exit_code, "the hub refuses" in " ".join(found.output.split())) == (2, True)
    assert (tmp_path / "late" / "adapter_model.safetensors").exists(), "the export stays"
