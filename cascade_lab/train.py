"""Train a recipe: the loop, in plain sight.

    python -m cascade_lab.train nano --data.root data/shapes --output runs/nano

Everything random is a pure function of (seed, step, index), so the state of a run is the number of its
step and a few tensors, and an interrupted run ends with the same bits as an uninterrupted one.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cascade_lab import __version__
from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.datasets.loader import Batch, training_batches
from cascade_lab.datasets.order import derive_seed, pictures_per_epoch
from cascade_lab.detector import Detector
from cascade_lab.engine import checkpoint, distributed, run_folder
from cascade_lab.engine.ema import Ema
from cascade_lab.engine.interrupt import stop_signals
from cascade_lab.engine.logger import RunLog
from cascade_lab.engine.optim import OptimConfig, build_optimizer, clip_gradients, gradient_norm, set_lr
from cascade_lab.engine.precision import autocast
from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.errors import InputError
from cascade_lab.fit import fit_to_pictures, statistics, steps_for_minutes
from cascade_lab.ops.dcnv3 import choose
from cascade_lab.overrides import describe, override
from cascade_lab.recipes import Recipe, from_dict, recipe, to_dict
from cascade_lab.targets.sampler import random_choice
from cascade_lab.weights import load_file

USAGE = """usage: cascade-lab train RECIPE --output RUN [options]

  RECIPE             nano (synthetic shapes, minutes), micro (real pictures on a laptop), ...
  --output RUN       folder for checkpoints, metrics.jsonl and recipe.json
  --data.root DIR    folder in COCO format to train on
  --weights FILE     start from a checkpoint: a detector's, or a classifier's for the backbone
  --resume           continue the run in RUN exactly where it stopped
  --seed N           another seed gives another start, order and augmentation
  --threads N        CPU threads (default: what PyTorch takes, usually all cores)
  --schedule.steps N, --optim.lr X, ...   any field of the recipe

cascade-lab train RECIPE --help lists every field of a recipe with its value."""

MAX_FAILURES = 3  # steps in a row whose gradients are not finite: one is bad luck, three are divergence
INTERRUPTED = 130  # exit code, as a shell reports Ctrl-C


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says beside the recipe."""

    output: str = ""
    weights: str = ""
    resume: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InputError(f"option --threads: {self.threads} must be 1 or more")


def main(arguments: Sequence[str], program: str = "cascade-lab train") -> int:
    """Run the command and return its exit code: 0, or 130 after Ctrl-C or SIGTERM.

    Raises:
        InputError: anything the user can mend.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    asked, rest = recipe(arguments[0]), list(arguments[1:])
    if {"-h", "--help"} & set(rest):
        print(f"{USAGE}\n\nrecipe {asked.name}:\n{describe(asked)}")
        return 0
    asked, options = override((with_free_length(asked, rest), RunOptions()), rest)
    if not options.output:
        raise InputError("option --output: missing; name the folder of the run, such as --output runs/nano")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        weights = Path(options.weights) if options.weights else None
        last, total = train(asked, Path(options.output), resume=options.resume, weights=weights)
    finally:
        distributed.cleanup()
    if last < total:
        again = [*program.split(), *(word for word in arguments if word != "--resume"), "--resume"]
        print(f"stopped after step {last} of {total}, all saved; continue with\n  {shlex.join(again)}")
        return INTERRUPTED
    run = shlex.quote(options.output)
    print(f"trained. Next:\n  cascade-lab evaluate {run}\n  cascade-lab report {run}")
    return 0


def train(asked: Recipe, output: Path, resume: bool = False, weights: Path | None = None) -> tuple[int, int]:
    """Train a recipe into the folder ``output``; return the steps done and the steps of the whole run.

    ``weights`` is a checkpoint file to start from: of a whole detector, or of a backbone alone.

    Raises:
        InputError: data, folder or recipe do not fit, or the training diverged.
    """
    device = distributed.setup()
    start = {"asked": to_dict(asked), "weights": _identity(weights)}
    run_folder.check(output, start, resume)  # early: opening a large data set takes long
    dataset = load_dataset(asked.data, asked.data.train_split, training=True)
    settled = _settled_before(asked, output) if resume else _settle(asked, dataset)
    pictures = pictures_per_epoch(dataset.sizes, settled.data.images_per_batch, settled.data.group_by_aspect)
    total = settled.schedule.total_steps(pictures, settled.data.images_per_batch)
    facts = {
        "recipe": to_dict(settled),
        **start,
        "classes": list(dataset.classes),
        "category_ids": list(dataset.category_ids),
        "training_images": len(dataset),
    }
    run_folder.check(output, facts, resume)
    facts["library_version"] = __version__
    torch.manual_seed(settled.seed)
    detector = Detector(settled.detector).to(device)
    if weights is not None and not checkpoint.paths(output / "checkpoints"):
        report = load_file(detector, weights)
        if distributed.is_main():
            print(f"{weights}:\n{report}", flush=True)
    distributed.barrier()  # until every process has looked at the folder
    if distributed.is_main():
        run_folder.write(output, facts, settled.seed)
        parameters = sum(parameter.numel() for parameter in detector.parameters())
        print(
            f"{settled.name}: {parameters:,} parameters, {len(dataset)} pictures, {len(dataset.classes)}"
            f" classes, {total} steps of {settled.data.images_per_batch}, {device.type},"
            f" {torch.get_num_threads()} threads, DCNv3 by {choose(device.type, torch.float32)},"
            f" seed {settled.seed} -> {output}",
            flush=True,
        )
    batches = partial(training_batches, dataset, settled.data, settled.seed)
    last = train_loop(
        detector,
        lambda first: batches(first, total, distributed.rank(), distributed.world_size()),
        optim=settled.optim,
        schedule=settled.schedule,
        total_steps=total,
        seed=settled.seed,
        run=output,
        facts=facts,
        image_ids=dataset.image_ids,
    )
    return last, total


def _identity(weights: Path | None) -> dict[str, str] | None:
    """Return what tells the file that a run starts from, wherever it lies."""
    if weights is None:
        return None
    if not weights.is_file():
        raise InputError(f"option --weights: {weights} is not there; cascade-lab weights get fetches it")
    return {"file": weights.name, "sha256": checkpoint.sha256(weights)}


def _settle(asked: Recipe, dataset: Dataset) -> Recipe:
    """Fill in what the recipe leaves to the pictures, and say what was chosen and why."""
    settled = replace(asked, detector=replace(asked.detector, num_classes=len(dataset.classes)))
    if settled.fit_to_data:
        settled, why = fit_to_pictures(settled, statistics(dataset))
        print("fitted to the pictures:", *why, sep="\n  ", flush=True)
    if settled.schedule.minutes is not None:
        settled, why = steps_for_minutes(settled, dataset)
        print(f"  {why}", flush=True)
    return settled


def _settled_before(asked: Recipe, output: Path) -> Recipe:
    """Return the recipe that the run in ``output`` settled on when it began; only the data may have moved."""
    began = from_dict(json.loads((output / "recipe.json").read_text(encoding="utf-8"))["recipe"])
    return replace(began, data=replace(began.data, root=asked.data.root))


def train_loop(
    detector: Detector,
    batches: Callable[[int], Iterable[Batch]],
    *,
    optim: OptimConfig,
    schedule: ScheduleConfig,
    total_steps: int,
    seed: int,
    run: Path,
    facts: Mapping[str, Any],
    image_ids: Sequence[int],
) -> int:
    """Train until ``total_steps``, from the newest checkpoint in ``run`` or else from step 0.

    Args:
        batches: called with the first step (from 0), yields that batch and all that follow.
        facts: plain values that every checkpoint carries besides its tensors.
        image_ids: what to call the pictures by that ``Batch.indices`` counts.

    Returns the number of finished steps: less than ``total_steps`` after Ctrl-C or SIGTERM.

    Raises:
        InputError: gradients were not finite in three steps in a row, or a checkpoint cannot be written.
    """
    device = next(detector.parameters()).device
    optimizer = build_optimizer(detector, optim)
    average = Ema(detector, schedule.ema, schedule.ema_warmup) if schedule.ema else None
    done = restore(run, detector, optimizer, average)
    if done >= total_steps:
        return done
    model = distributed.wrap(detector.train())
    every = schedule.checkpoint_every or max(total_steps // 10, 1)
    failures: list[str] = []
    with RunLog(run, done, total_steps, schedule.log_every) as log, stop_signals() as stop_asked:
        for batch in batches(done):
            torch.manual_seed(derive_seed("step", seed, batch.step, distributed.rank()))
            lr = optim.lr * lr_factor(batch.step, total_steps, schedule)
            set_lr(optimizer, lr)
            statistics = [buffer.clone() for buffer in detector.buffers()]
            optimizer.zero_grad()
            with autocast(optim.precision, device):
                targets = [target.to(device) for target in batch.targets]
                output = model(batch.images.to(device), targets, random_choice(batch.seeds))
            loss = output.total
            loss.backward()

            norm = gradient_norm(optimizer)  # after backward has averaged over processes: all agree
            finite = bool(norm.isfinite())
            if finite:
                if optim.clip_norm is not None:
                    clip_gradients(optimizer, optim.clip_norm, norm)
                optimizer.step()
                if average is not None:
                    average.update(detector, batch.step)
                failures.clear()
            else:  # forget the step: the weights are untouched, the batch norm statistics are put back
                for buffer, before in zip(detector.buffers(), statistics, strict=True):
                    buffer.copy_(before)
                pictures = ", ".join(str(image_ids[index]) for index in batch.indices)
                failures.append(f"{batch.step + 1} (pictures {pictures})")
            done = batch.step + 1

            metrics = {"lr": lr, "loss": loss.item()} | {n: v.item() for n, v in output.losses.items()}
            metrics |= {"gradient_norm": norm.item()} | ({} if finite else {"skipped": 1})
            log.step(done, metrics, important=not finite)
            if not finite:
                log.say(f"skipped step {failures[-1]}: its gradients are not finite")
            if len(failures) == MAX_FAILURES:
                raise InputError(divergence(failures, run, optim.lr))
            stop = distributed.any_process(stop_asked())
            if distributed.is_main() and (stop or done % every == 0 or done == total_steps):
                log.sync()
                checkpoint.save(run / "checkpoints", snapshot(done, detector, optimizer, average, facts))
            if stop:
                break
    distributed.barrier()
    return done


def snapshot(
    done: int,
    detector: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Ema | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all that a checkpoint holds: ``step`` finished steps, three states, and the plain ``facts``."""
    return {
        "step": done,
        "detector": detector.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": average.state if average is not None else None,
        **facts,
    }


def restore(
    run: Path, detector: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Ema | None
) -> int:
    """Load the newest intact checkpoint of ``run``, if there is one, and return its finished steps."""
    state = checkpoint.load_newest(run / "checkpoints")
    if state is None:
        return 0
    detector.load_state_dict(state["detector"])
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.load(state["ema"])
    return state["step"]


def divergence(failures: Sequence[str], run: Path, lr: float) -> str:
    saved = checkpoint.paths(run / "checkpoints")
    kept = f"{saved[-1]} is kept" if saved else "there is no checkpoint yet"
    return (
        f"{run}: the gradients were not finite {len(failures)} times in a row, in steps"
        f" {', '.join(failures)}; {kept}; look at these pictures or lower --optim.lr (now {lr:g})"
    )


def with_free_length(asked: Recipe, arguments: Sequence[str]) -> Recipe:
    """Let one option say how long to train: it takes the place of the length that the recipe has."""
    for length in ("steps", "epochs", "minutes"):
        if any(word.split("=")[0] == f"--schedule.{length}" for word in arguments):
            free = dict.fromkeys(("steps", "epochs", "minutes")) | {length: 1}
            return replace(asked, schedule=replace(asked.schedule, **free))
    return asked


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:], program="python -m cascade_lab.train"))
    except InputError as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(2)
