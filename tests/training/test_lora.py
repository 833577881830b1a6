"""Real trainings: a model learns facts, a killed training resumes, bad input is reported before the first step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from errors import Conflict, InvalidInput, NothingToDo, Unavailable, UserError
from loaders import loader_named
from loaders.base import Lora, Model, Request
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.training import __main__ as command_line
from modules.training.lora.checkpoints import find_start_point, last_checkpoint
from modules.training.lora.events import TrainingEvent
from modules.training.lora.preparation import prepare_training
from modules.training.lora.settings import LoraSettings
from modules.training.manager import TrainingManager, TrainingState, apply_event
from tests.conftest import keep_going
from tests.training.conftest import FACTS, ROOT, SYSTEM, chat, new_root

TINY = LoraSettings.parse({
    "lora_name": "mine", "model": "tiny", "dataset": "rows", "format": "alpaca-format", "batch_size": 4,
    "micro_batch_size": 2, "epochs": 3, "learning_rate": 1e-2, "warmup_steps": 2, "lora_rank": 4, "lora_dropout": 0.1,
    "save_steps": 4,
})  # fmt: skip


#: One epoch: what comes after a training is looked at, not its course.
SHORT = TINY.changed(epochs=1, save_steps=0)


def workshop(root: Path) -> TrainingManager:
    paths = Paths.under(root)
    return TrainingManager(paths, ModelCatalog(paths))


def until(true: Callable[[], bool], shop: TrainingManager) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, shop.state
        assert shop.state.phase != "failed", shop.state.error
        time.sleep(0.02)


def trained(root: Path, settings: LoraSettings) -> TrainingState:
    """Train in this process, which has torch already; the state as the page would have it."""
    from modules.training.lora.callback import TrainingControl
    from modules.training.lora.run import train

    state = TrainingState("running", settings)
    prepared = prepare_training(Paths.under(root), settings)
    events = [TrainingEvent("note", note) for note in prepared.notes]
    train(prepared, events.append, TrainingControl())
    for event in events:
        state = apply_event(state, event)
    assert state.phase == "done"
    return state


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The folder of an adapter that was trained in short. Tests take copies, see `mine`."""
    root = new_root(tmp_path_factory.mktemp("once") / "root", tiny=tiny_folder)
    trained(root, SHORT)
    return root / "loras" / "mine"


@pytest.fixture
def mine(workplace: Path, once: Path) -> Path:
    """The same in the workplace of a test."""
    return Path(shutil.copytree(once, workplace / "loras" / "mine"))


def losses(folder: Path) -> dict[int, float]:
    history = json.loads((folder / "training_log.json").read_text())["history"]
    return {each["step"]: each["loss"] for each in history if "loss" in each}


#: The facts that the real model is taught: each takes ten seconds.
TAUGHT = FACTS[:2]


def answers(model: Model) -> list[str]:
    """What it says to the questions of these facts."""

    def answer(question: str) -> str:
        said = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
        ids = model.tokenizer.encode(f"{said}<|im_start|>assistant\n")
        request = Request(ids, SamplingParams(temperature=0), max_tokens=20)
        return b"".join(token.data for token in model.generate(request)).decode().strip()

    return [answer(question) for question, _ in TAUGHT]


# --- the real model ---


def test_a_model_learns_facts_and_says_them(tmp_path: Path, hf_folder: Path, demo_model_path: Path) -> None:
    root = new_root(tmp_path / "root", SmolLM2=hf_folder)
    (root / "training" / "datasets" / "taught.json").write_text(json.dumps([chat(*fact) for fact in TAUGHT]))
    settings = LoraSettings.parse({
        "lora_name": "facts", "model": "SmolLM2", "dataset": "taught", "batch_size": 2, "micro_batch_size": 2,
        "epochs": 10, "learning_rate": 2e-3, "warmup_steps": 2, "lora_dropout": 0, "k_proj_en": True, "o_proj_en": True,
        "gate_proj_en": True, "up_proj_en": True, "down_proj_en": True,
    })  # fmt: skip
    trained(root, settings)
    folder = root / "loras" / "facts"
    assert {"adapter_config.json", "adapter_model.safetensors", "training_parameters.json", "training_prompt.json"} < {
        file.name for file in folder.iterdir()
    }
    loader = loader_named("Transformers")
    with loader.load(root / "models" / "SmolLM2", loader.Options.parse({"max_seq_len": 512}), keep_going) as model:
        before = answers(model)
        model.set_loras([Lora(folder)])
        after = answers(model)
        model.set_loras([Lora(folder, 0.0)])
        without = answers(model)
    assert after == [said for _, said in TAUGHT]
    assert not set(before) & set(after)
    assert without == before
    # llama.cpp takes the same adapter, on weights of 4 bits
    place = workshop(root).to_gguf("SmolLM2", "facts")
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 512, "threads": 1, "threads_batch": 1})
    with loader.load(demo_model_path, options, keep_going) as model:
        before = answers(model)
        model.set_loras([Lora(place)])
        assert answers(model) == after
        assert not set(before) & set(after)


# --- the course of a training ---


def test_a_killed_training_goes_on_from_its_checkpoint(workplace: Path, tmp_path: Path, tiny_folder: Path) -> None:
    whole = new_root(tmp_path / "whole", tiny=tiny_folder)
    trained(whole, TINY)
    shop = workshop(workplace)
    shop.start(TINY)
    until(lambda: shop.state.checkpoint >= 4, shop)
    shop.kill()
    state = shop.wait(30)
    assert state.phase == "failed"
    assert f"Checkpoint {state.checkpoint} is kept" in state.error
    (workplace / "loras" / "mine" / "checkpoint-99").mkdir()  # one that was being written
    state = trained(workplace, TINY)
    assert "Resumes after update" in state.notes[0]
    folder, unbroken = workplace / "loras" / "mine", losses(whole / "loras" / "mine")
    again = losses(folder)
    assert max(again) == max(unbroken) == 15
    for step, loss in again.items():
        assert loss == pytest.approx(unbroken[step], rel=0.01), step


def test_a_crash_costs_minutes_where_no_checkpoints_were_asked_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modules.training.lora import callback, run

    settings = TINY.changed(save_steps=0)
    trained(workplace, settings.changed(lora_name="unbroken"))
    folder, shop = workplace / "loras" / "mine", workshop(workplace)
    monkeypatch.setattr(callback, "OWN_CHECKPOINTS", 0)

    def crash(event: TrainingEvent) -> None:
        if event.kind == "step" and event.update == 7:
            raise RuntimeError("the power is gone")

    with pytest.raises(Unavailable, match=r"the power is gone\. The last checkpoint is kept"):
        run.train(prepare_training(Paths.under(workplace), settings), crash, callback.TrainingControl())
    assert [each.name for each in folder.glob("checkpoint-*")] == ["checkpoint-7"]
    (folder / "checkpoint-9").mkdir()  # one that was being written: it must not push the whole ones out
    assert shop.unfinished() == ["mine"]
    state = trained(workplace, shop.parameters("mine"))
    assert "Resumes after update 7" in state.notes[0]
    again, unbroken = losses(folder), losses(workplace / "loras" / "unbroken")
    assert again[15] == pytest.approx(unbroken[15], rel=0.01)
    assert not list(folder.glob("checkpoint-*"))
    assert shop.unfinished() == []


def test_stop_saves_and_a_second_start_goes_on(workplace: Path) -> None:
    shop = workshop(workplace)
    with pytest.raises(NothingToDo):
        shop.sample("x")
    shop.start(TINY.changed(epochs=400, save_steps=0, eval_dataset="rows", eval_steps=4))
    with pytest.raises(Conflict):
        shop.start(TINY)
    until(lambda: bool(shop.state.evaluations), shop)
    shop.sample("### Instruction:")
    until(lambda: shop.state.sample is not None, shop)
    shop.stop()
    until(lambda: not shop.state.active, shop)
    state = shop.state
    assert (state.phase, state.end and state.end.text) == ("done", "stopped"), state
    folder = workplace / "loras" / "mine"
    assert (folder / "adapter_model.safetensors").is_file()
    last = last_checkpoint(folder)
    assert last is not None
    assert shop.unfinished() == ["mine"]
    shop.resume("mine")  # at once: what is left of the process before must not speak for this one
    until(lambda: bool(shop.state.steps), shop)
    assert shop.unfinished() == []
    assert f"Resumes after update {last.name.removeprefix('checkpoint-')}" in shop.state.notes[0]
    shop.kill()
    shop.wait()
    settings = TINY.changed(epochs=400, save_steps=0, eval_dataset="rows", eval_steps=4)
    known = json.loads((folder / "training_parameters.json").read_text())["data"]
    assert find_start_point(folder, settings, known).how == "resumed"
    assert find_start_point(folder, settings, "other data").how == "continued"
    assert find_start_point(folder, settings.changed(learning_rate=1), known).how == "continued"


def test_an_adapter_is_trained_further_or_put_away(workplace: Path, mine: Path) -> None:
    first = (mine / "adapter_model.safetensors").read_bytes()
    state = trained(workplace, SHORT)
    assert "Continues training the adapter mine" in state.notes[0]
    (backup,) = mine.glob("Backup-*")
    assert (backup / "adapter_model.safetensors").read_bytes() == first
    trained(workplace, SHORT.changed(always_override=True, lora_rank=8))
    assert json.loads((mine / "adapter_config.json").read_text())["r"] == 8
    assert len(list(mine.glob("Backup-*"))) == 2


def test_it_stops_at_a_loss_and_the_same_seed_gives_the_same_course(workplace: Path) -> None:
    settings = TINY.changed(save_steps=0, lora_name="a")
    trained(workplace, settings)
    first = losses(workplace / "loras" / "a")
    trained(workplace, settings.changed(lora_name="b"))
    assert losses(workplace / "loras" / "b") == first
    wanted = first[8]
    state = trained(workplace, settings.changed(lora_name="c", stop_at_loss=wanted))
    assert state.end is not None
    assert state.end.text == "loss reached"
    assert state.steps[-1].update <= 8


def test_a_loss_that_is_no_number_is_a_sentence(workplace: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    broken = AutoModelForCausalLM.from_pretrained(workplace / "models" / "tiny")
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[3, 3] = torch.nan
    shutil.copytree(workplace / "models" / "tiny", workplace / "models" / "broken")
    broken.save_pretrained(workplace / "models" / "broken")
    with pytest.raises(Unavailable, match="Training diverged at update 1"):
        trained(workplace, TINY.changed(model="broken", save_steps=0))
    assert not (workplace / "loras" / "mine" / "adapter_model.safetensors").exists()


def test_the_look_tells_what_comes(workplace: Path) -> None:
    look = workshop(workplace).preview(TINY)
    assert (look.rows, look.examples, look.updates) == (20, 20, 15)
    assert sum(each.count for each in look.bins) == 20
    assert len(look.samples) == 3
    assert look.seconds
    with pytest.raises(InvalidInput, match="matches the format"):
        workshop(workplace).preview(TINY.changed(dataset="facts"))


def test_a_merged_model_answers_as_base_and_adapter(workplace: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    trained(workplace, TINY.changed(save_steps=0))
    shop = workshop(workplace)
    place = shop.merge("tiny", "mine", "joined", 1.0)
    ids = torch.tensor([[1, 5, 9, 200, 31]])
    base = AutoModelForCausalLM.from_pretrained(workplace / "models" / "tiny")
    base.load_adapter(str(workplace / "loras" / "mine"))
    joined = AutoModelForCausalLM.from_pretrained(place)
    with torch.no_grad():
        assert torch.allclose(base(ids).logits, joined(ids).logits, atol=1e-4)
    assert (place / "tokenizer.json").is_file()
    assert shop.base_of("mine") == "tiny"
    with pytest.raises(Unavailable, match="already exists in models/"):
        shop.merge("tiny", "mine", "joined", 1.0)
    with pytest.raises(InvalidInput):
        shop.merge("tiny", "mine", " ", 1.0)


def run(root: Path, settings: LoraSettings, told: Callable[[TrainingEvent], None], orders: Any = None) -> None:
    """Train in this process, and let somebody listen."""
    from modules.training.lora.callback import TrainingControl
    from modules.training.lora.run import train

    train(prepare_training(Paths.under(root), settings), told, orders or TrainingControl())


def crash_at(update: int) -> Callable[[TrainingEvent], None]:
    def told(event: TrainingEvent) -> None:
        if event.kind == "step" and event.update == update:
            raise RuntimeError("the power is gone")

    return told


def test_a_crash_of_an_adapter_trained_further_goes_on_from_its_own_course(workplace: Path) -> None:
    folder = workplace / "loras" / "mine"
    short = TINY.changed(epochs=1, save_steps=0, lora_alpha=4)
    trained(workplace, short)
    kept = (folder / "adapter_model.safetensors").read_bytes()
    longer = short.changed(epochs=3, seed=7, lora_dropout=0.3)
    with pytest.raises(Unavailable):
        run(workplace, longer, crash_at(5))
    assert (folder / "adapter_model.safetensors").read_bytes() == kept
    other = prepare_training(Paths.under(workplace), longer.changed(seed=8)).beginning
    assert (other.how, other.source) == ("continued", folder / "checkpoint-5")  # it holds the latest
    assert "from checkpoint-5" in other.why
    state = trained(workplace, longer)
    assert "Resumes after update 5" in state.notes[0]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["lora_alpha"], config["lora_dropout"]) == (4, 0.3)
    with pytest.raises(InvalidInput, match="has alpha 4, but alpha 64 is set"):
        prepare_training(Paths.under(workplace), longer.changed(lora_alpha=64, seed=9))


def test_numbers_that_ran_away_are_never_saved(workplace: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import Trainer

    kept = (mine / "adapter_model.safetensors").read_bytes()
    step = Trainer.training_step

    def poisoned(self: Any, model: Any, *given: Any) -> Any:
        """As a far too high rate leaves it: the loss was a number, what came of it is none."""
        loss = step(self, model, *given)
        with torch.no_grad():
            next(each for each in model.parameters() if each.requires_grad).fill_(torch.nan)
        return loss

    monkeypatch.setattr(Trainer, "training_step", poisoned)
    for save_steps in (0, 1):
        with pytest.raises(Unavailable, match="diverged"):
            trained(workplace, TINY.changed(epochs=0.2, save_steps=save_steps, batch_size=2))
    assert (mine / "adapter_model.safetensors").read_bytes() == kept
    assert not list(mine.glob("checkpoint-*"))


def test_an_evaluation_can_cost_nothing(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer

    from modules.training.lora.callback import TrainingControl

    folder = workplace / "loras" / "mine"
    settings = TINY.changed(save_steps=0, eval_dataset="rows", eval_steps=4)
    orders, told = TrainingControl(), list[TrainingEvent]()

    def stop_at_the_second(event: TrainingEvent) -> None:
        told.append(event)
        if event.kind == "evaluation":
            orders.stop.set()
            orders.stop.wait()
        if event.kind == "doing" and event.text == "Evaluating" and any(each.kind == "evaluation" for each in told):
            orders.stop.set()

    run(workplace, settings, stop_at_the_second, orders)
    assert told[-1].text == "stopped"
    assert last_checkpoint(folder) is not None
    assert (folder / "adapter_model.safetensors").is_file()

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")

    monkeypatch.setattr(Trainer, "prediction_step", broken)
    with pytest.raises(Unavailable, match="GPU ran out of memory"):
        run(workplace, settings.changed(lora_name="b"), told.append)
    assert last_checkpoint(workplace / "loras" / "b") == workplace / "loras" / "b" / "checkpoint-2"
    state = trained(workplace, settings.changed(lora_name="c", eval_steps=1000))  # the last evaluation alone
    assert "The final evaluation failed" in state.notes[-1]
    assert (workplace / "loras" / "c" / "adapter_model.safetensors").is_file()


def test_a_stop_inside_a_batch_changes_nothing_of_the_course(workplace: Path) -> None:
    from modules.training.lora.callback import TrainingControl

    settings = TINY.changed(save_steps=0, batch_size=10, lora_dropout=0.3)
    trained(workplace, settings.changed(lora_name="unbroken"))
    orders = TrainingControl()
    asked = orders.samples.get_nowait

    def looks() -> str:
        """Orders are looked at after each micro batch: the eighth is in the middle of the second batch."""
        looks.count += 1  # type: ignore[attr-defined]
        if looks.count == 8:  # type: ignore[attr-defined]
            orders.stop.set()
        return asked()

    looks.count = 0  # type: ignore[attr-defined]
    orders.samples.get_nowait = looks  # type: ignore[method-assign]
    run(workplace, settings, lambda _event: None, orders)
    state = trained(workplace, settings)
    assert "Resumes after update 1" in state.notes[0]
    assert losses(workplace / "loras" / "mine") == losses(workplace / "loras" / "unbroken")


def test_a_try_that_fails_costs_nothing(workplace: Path) -> None:
    from modules.training.lora.callback import TrainingControl

    orders, told = TrainingControl(), list[TrainingEvent]()
    for prompt in ("half \ud83d", "word " * 3000, "fine"):
        orders.samples.put(prompt)
    run(workplace, TINY.changed(save_steps=0), told.append, orders)
    said = [each.text for each in told if each.kind == "sample"]
    assert len(said) == 3
    assert "sample failed: The text contains an invalid character" in said[0]
    assert not said[1].startswith("(")
    assert told[-1].text == "finished"


def test_checkpoints_that_were_asked_for_stay(workplace: Path) -> None:
    folder = workplace / "loras" / "mine"
    with pytest.raises(Unavailable):
        run(workplace, TINY, crash_at(9))
    asked = {each.name for each in folder.glob("checkpoint-*")}
    assert {"checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"} <= asked
    trained(workplace, TINY.changed(save_steps=0))
    assert asked <= {each.name for each in folder.glob("checkpoint-*")}


def test_one_adapter_is_trained_once_at_a_time(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modules.training.lora import adapter_lock

    monkeypatch.setattr(adapter_lock, "_PATIENCE", 0.1)
    folder = workplace / "loras" / "mine"
    with (
        adapter_lock.lock_adapter(folder),
        pytest.raises(Conflict, match="mine is being trained by another process"),
        adapter_lock.lock_adapter(folder),
    ):
        pass
    with adapter_lock.lock_adapter(folder):  # it was let go
        pass
    assert workshop(workplace).finished() == []


def put(name: str, text: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(text) and None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (put("adapter_model.safetensors", b"nothing"), "mine cannot be used with this model: it is damaged"),
        (put("adapter_config.json", b"{}"), "not a PEFT LoRA"),
        (put("adapter_config.json", b"[" * 100_000), "adapter_config.json cannot be read"),
        (put("training_parameters.json", b'{"lora_rank": "many"}'), ""),
        (put("training_parameters.json", b"[" * 100_000), ""),
    ],
)
def test_what_lies_in_the_folder_is_garbage(
    workplace: Path, mine: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(mine)
    assert workshop(workplace).unfinished() == []
    if not said:
        assert "Continues training" in trained(workplace, SHORT).notes[0]
        return
    with pytest.raises(UserError, match=said):
        trained(workplace, SHORT)
    trained(workplace, SHORT.changed(always_override=True))


def test_an_adapter_of_older_peft_is_trained_further(workplace: Path, mine: Path) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(mine / "adapter_model.safetensors")
    torch.save(weights, mine / "adapter_model.bin")
    (mine / "adapter_model.safetensors").unlink()
    assert "Continues training the adapter mine" in trained(workplace, SHORT).notes[0]
    assert (mine / "adapter_model.safetensors").is_file()
    assert not (mine / "adapter_model.bin").exists()
    (backup,) = mine.glob("Backup-*")
    assert (backup / "adapter_model.bin").is_file()


# --- said before the first step ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_name": ""}, "Enter a name for the adapter"),
        ({"lora_name": "../x"}, "slash"),
        ({"model": ""}, "Choose a base model"),
        ({"model": "tinny"}, "Did you mean tiny"),
        ({"dataset": ""}, "Choose training data"),
        ({"dataset": "row"}, "Did you mean rows"),
        ({"dataset": "empty"}, "has no rows"),
        ({"dataset": "lacking"}, "Row 2 of lacking has instruction, but alpaca-format requires"),
        ({"dataset": "facts"}, "No row of facts matches"),
        ({"raw_text_file": "none"}, "none.txt cannot be read: the file does not exist"),
        ({"raw_text_file": "words", "overlap_len": 256}, "overlap of 256 tokens must be less"),
        ({"batch_size": 1, "micro_batch_size": 2}, "smaller than the micro batch size"),
        ({"load_in_4bit": True}, "require an NVIDIA GPU"),
        ({"lr_scheduler_type": "polynomial", "learning_rate": 1e-8}, "must be higher than that"),
        ({"micro_batch_size": 100000, "batch_size": 100000, "cutoff_len": 4096}, "GB of memory, but"),
    ],
)
def test_what_cannot_go_well_is_said_before(workplace: Path, changes: dict[str, Any], said: str) -> None:
    sets = workplace / "training" / "datasets"
    (sets / "empty.json").write_text("[]")
    (sets / "lacking.json").write_text('[{"instruction": "x", "output": "y"}, {"instruction": "x"}]')
    (sets / "words.txt").write_text("words " * 50)
    with pytest.raises(UserError, match=said):
        prepare_training(Paths.under(workplace), TINY.changed(**changes))
    assert not (workplace / "loras" / "mine").exists()


@pytest.mark.usefixtures("mine")
def test_another_rank_is_said_before(workplace: Path) -> None:
    for changes, said in (
        ({"lora_rank": 8}, "has rank 4, but rank 8 is set"),
        ({"k_proj_en": True}, "q_proj, v_proj, but k_proj"),
    ):
        with pytest.raises(InvalidInput, match=said):
            prepare_training(Paths.under(workplace), TINY.changed(**changes))


# --- the command line ---


def test_the_command_line_looks_trains_and_merges(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training is a process, as with a user; the rest is called here, which has torch already."""

    def ran(*words: str) -> tuple[int, str, str]:
        code = command_line.main([words[0], "--root", str(workplace), *words[1:]])
        return code, *capsys.readouterr()

    given = ["--model", "tiny", "--dataset", "rows", "--format", "alpaca-format", "--batch-size", "4"]
    code, out, said = ran("lora", *given, "--look")
    assert code == 0, said
    assert "20 examples" in out
    (workplace / "training" / "datasets" / "owl.json").write_text('[{"text": "\\ud83e\\udd89"}]')
    command = [sys.executable, "-m", "modules.training", "lora", "--root", str(workplace), "--look", "--model", "tiny"]
    pipe = {**os.environ, "PYTHONIOENCODING": "cp1252"}  # as a pipe of Windows
    narrow = subprocess.run([*command, "--dataset", "owl"], cwd=ROOT, capture_output=True, env=pipe, check=False)
    assert (narrow.returncode, b"?" in narrow.stdout) == (0, True), narrow.stderr
    assert not (workplace / "logs" / "train_dataset_sample.json").exists()
    more = ["--lora-name", "mine", "--epochs", "1", "--learning-rate", "1e-3", "--no-q-proj-en"]
    trains = [sys.executable, "-m", "modules.training", "lora", "--root", str(workplace), *given, *more]
    made = subprocess.run(trains, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "finished after 5 updates" in made.stdout
    kept = json.loads((workplace / "logs" / "train_dataset_sample.json").read_text())
    assert len(kept) == 10
    assert all("### Instruction:" in each["value"] for each in kept)
    assert json.loads((workplace / "loras/mine/adapter_config.json").read_text())["target_modules"] == ["v_proj"]
    parameters = str(workplace / "loras/mine/training_parameters.json")
    code, _, said = ran("lora", "--parameters", parameters, "--lora-rank", "9")
    assert code == 2
    assert "rank 32, but rank 9" in said
    code, _, said = ran("merge", "--model", "tiny", "--lora", "mine", "--to", "joined")
    assert code == 0, said
    assert (workplace / "models" / "joined" / "model.safetensors").is_file()
