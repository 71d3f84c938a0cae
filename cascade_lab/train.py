"""Train a recipe: the loop, in plain sight.

    python -m cascade_lab.train nano --data.root data/shapes --output runs/nano

Everything random is a pure function of (seed, step, index), so the state of a run is the number of its
step and a few tensors, and an interrupted run ends with the same bits as an uninterrupted one.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cascade_lab import __version__
from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.datasets.loader import Batch, training_batches
from cascade_lab.datasets.order import derive_seed, pictures_per_epoch
from cascade_lab.detector import Detector, TrainOutput
from cascade_lab.engine import checkpoint, distributed, run_folder
from cascade_lab.engine.accumulate import add_up, split, whole_batch_divisors
from cascade_lab.engine.ema import Ema
from cascade_lab.engine.interrupt import stop_signals
from cascade_lab.engine.logger import RunLog
from cascade_lab.engine.optim import OptimConfig, build_optimizer, clip_gradients, gradient_norm, set_lr
from cascade_lab.engine.precision import autocast, loss_scaler, overflowed
from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.engine.snapshot import restore, snapshot
from cascade_lab.errors import InputError, explain
from cascade_lab.losses import Divisor
from cascade_lab.overrides import override
from cascade_lab.recipes import Recipe
from cascade_lab.recipes.asked import recipe_or_help
from cascade_lab.settle import facts_of, in_one_line, make_room, settle, start_of
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
  --keep N           how many checkpoints stay, the newest ones (default 2: one may be damaged)
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
    keep: int = checkpoint.KEPT

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise InputError(f"option --keep: {self.keep} must be 1 or more")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"option --threads: {self.threads} must be 1 or more")


def main(arguments: Sequence[str], program: str = "cascade-lab train") -> int:
    """Run the command and return its exit code: 0, or 130 after Ctrl-C or SIGTERM.

    Raises InputError for anything the user can mend.
    """
    named = recipe_or_help(arguments, USAGE)
    if named is None:
        return 0
    asked, options = override((make_room(named, arguments[1:]), RunOptions()), arguments[1:])
    if not options.output:
        raise InputError("option --output: missing; name the folder of the run, such as --output runs/nano")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        weights = Path(options.weights) if options.weights else None
        output = Path(options.output)
        last, total = train(asked, output, resume=options.resume, weights=weights, keep=options.keep)
        talks = distributed.is_main()
    finally:
        distributed.cleanup()
    again = [*program.split(), *(word for word in arguments if word != "--resume"), "--resume"]
    run = shlex.quote(options.output)
    if talks and last < total:
        print(f"stopped after step {last} of {total}, all saved; continue with\n  {shlex.join(again)}")
    elif talks:
        print(f"trained. Next:\n  cascade-lab evaluate {run}\n  cascade-lab report {run}")
    return INTERRUPTED if last < total else 0


def train(
    asked: Recipe,
    output: Path,
    resume: bool = False,
    weights: Path | None = None,
    keep: int = checkpoint.KEPT,
) -> tuple[int, int]:
    """Train a recipe into the folder ``output``; return the steps done and the steps of the whole run.

    ``weights`` is a checkpoint file to start from: of a whole detector, or of a backbone alone. ``keep`` is
    how many checkpoints stay.

    Raises:
        InputError: data, folder or recipe do not fit, or the training diverged.
    """
    device = distributed.setup()
    distributed.share(asked.data.images_per_batch)
    start = start_of(asked, weights)
    run_folder.check(output, start, resume)  # early: opening a large data set takes long
    dataset = load_dataset(asked.data, asked.data.train_split, training=True)
    settled = settle(asked, dataset, output, resume)
    pictures = pictures_per_epoch(dataset.sizes, settled.data.images_per_batch, settled.data.group_by_aspect)
    total = settled.schedule.total_steps(pictures, settled.data.images_per_batch)
    facts = start | facts_of(settled, dataset)
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
        print(f"{in_one_line(settled, dataset, detector, total)} -> {output}", flush=True)
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
        keep=keep,
    )
    return last, total


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
    keep: int = checkpoint.KEPT,
) -> int:
    """Train until ``total_steps``, from the newest checkpoint in ``run`` or else from step 0.

    Args:
        batches: called with the first step (from 0), yields that batch and all that follow.
        facts: plain values that every checkpoint carries besides its tensors.
        image_ids: what to call the pictures by that ``Batch.indices`` counts.
        keep: how many checkpoints stay in ``run``, the newest ones.

    Returns the number of finished steps: less than ``total_steps`` after Ctrl-C or SIGTERM.

    Raises:
        InputError: gradients were not finite in three steps in a row, or a checkpoint cannot be written.
    """
    device = next(detector.parameters()).device
    if optim.channels_last:
        detector.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(detector, optim)
    scaler = loss_scaler(optim.precision, device)
    average = Ema(detector, schedule.ema, schedule.ema_warmup) if schedule.ema else None
    done = restore(run, detector, optimizer, scaler, average)
    if done >= total_steps:
        return done
    model = distributed.wrap(detector.train())
    every = schedule.checkpoint_every or max(total_steps // 10, 1)
    failures: list[str] = []

    def look(network: torch.nn.Module, number: int, part: Batch, divisor: Divisor) -> TrainOutput:
        torch.manual_seed(derive_seed("step", seed, part.step, number))
        with autocast(optim.precision, device):
            targets = [target.to(device) for target in part.targets]
            return network(part.images.to(device), targets, random_choice(part.seeds), divisor)

    with RunLog(run, done, total_steps, schedule.log_every) as log, stop_signals() as stop_asked:
        for batch in batches(done):
            lr = optim.lr * lr_factor(batch.step, total_steps, schedule)
            set_lr(optimizer, lr)
            statistics = [buffer.clone() for buffer in detector.buffers()]
            optimizer.zero_grad()
            parts = split(batch, optim.images_at_once, distributed.rank())
            divisors = whole_batch_divisors(detector, [partial(look, detector, *part) for part in parts])
            losses = []
            for part, divisor in zip(parts, divisors, strict=True):
                with distributed.averaging(model, now=part is parts[-1]):
                    output = look(model, *part, divisor)
                    scaler.scale(output.total).backward()
                losses.append({"loss": output.total} | output.losses)

            scaler.unscale_(optimizer)
            norm = gradient_norm(optimizer)  # the last backward has averaged over processes: all agree
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
            scaler.update()
            done = batch.step + 1

            metrics = {"lr": lr} | add_up(losses) | {"gradient_norm": norm.item()}
            log.step(done, metrics if finite else metrics | {"skipped": 1}, important=not finite)
            if not finite and overflowed(scaler, metrics["loss"]):
                log.say(f"skipped step {done}: float16 overflowed; loss scale now {scaler.get_scale():g}")
            elif not finite:
                pictures = ", ".join(str(image_ids[index]) for index in distributed.from_all(batch.indices))
                failures.append(f"{done} (pictures {pictures})")
                log.say(f"skipped step {failures[-1]}: its gradients are not finite")
            if len(failures) == MAX_FAILURES:
                raise InputError(run_folder.divergence(failures, run, optim.lr))
            stop = distributed.any_process(stop_asked())
            if distributed.is_main() and (stop or done % every == 0 or done == total_steps):
                log.sync()
                state = snapshot(done, detector, optimizer, scaler, average, facts)
                checkpoint.save(run / "checkpoints", state, keep)
            if stop:
                break
    distributed.barrier()
    return done


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:], program="python -m cascade_lab.train"))
    except InputError as error:
        print(f"train: {explain(error)}", file=sys.stderr)
        sys.exit(2)
