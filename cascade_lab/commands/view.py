"""Make a cascade viewer of your own run: ``cascade-lab view``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.datasets.picture import read_picture
from cascade_lab.errors import InputError
from cascade_lab.overrides import override, split_named
from cascade_lab.predict import check_pictures, detect
from cascade_lab.runs import Run, load_run
from cascade_lab.structures import Instances
from cascade_lab.widgets.cascade_viewer import CascadeViewer
from cascade_lab.widgets.stored_trace import View, save_views, view_from_trace

USAGE = """usage: cascade-lab view RUN [IMAGE...] --output FILE [options]

  RUN            folder that `cascade-lab train` wrote
  IMAGE...       pictures; without any, validation pictures with their true objects
  --output FILE  NAME.html: the viewer as one page that needs nothing else
                 NAME.npz: the stored trace, for `load_views` in a notebook
  --pictures N   how many validation pictures (default 3)
  --most N       boxes followed in each picture, best first (default 40)"""


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """The options of the command, as ``USAGE`` explains them."""

    output: str = ""
    pictures: int = 3
    most: int = 40

    def __post_init__(self) -> None:
        for name in ("pictures", "most"):
            if getattr(self, name) < 1:
                raise InputError(f"option --{name}: {getattr(self, name)} must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    named, rest = split_named(arguments)
    (options,) = override((ViewOptions(),), rest)
    if not named:
        raise InputError("arguments: name the run folder first, such as runs/demo")
    output, images = Path(options.output), [Path(word) for word in named[1:]]
    if output.suffix not in (".html", ".npz"):
        raise InputError(f"option --output: {options.output!r} must end in .html or .npz")
    if images:
        check_pictures(images, output.parent)
    run = load_run(named[0])
    if images:
        views = [view_of(run, read_picture(path), None, path.stem, options.most) for path in images]
    else:
        views = views_of_validation(run, options.pictures, options.most)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".html":
        CascadeViewer(views).to_html(output)
    else:
        save_views(output, views)
    print(f"{len(views)} {'picture' if len(views) == 1 else 'pictures'} -> {output}")
    return 0


def views_of_validation(run: Run, pictures: int, most: int) -> list[View]:
    """Return what the viewer shows of the validation pictures with the most objects."""
    dataset = load_dataset(run.recipe.data, run.recipe.data.val_split, training=False, classes=run.classes)
    fullest = sorted(range(len(dataset)), key=lambda i: -len(dataset.targets(i).objects()))[:pictures]
    views = []
    for index in fullest:
        picture, targets = dataset[index]
        views.append(view_of(run, picture, targets, dataset.path(index).stem, most))
    return views


def view_of(run: Run, picture: Tensor, targets: Instances | None, name: str, most: int) -> View:
    """Return what the viewer shows of one picture (3, H, W); ``targets`` are its true objects, if known."""
    found = detect(run, [picture])
    source = f"recipe {run.recipe.name}, {run.step} training steps, seed {run.recipe.seed}"
    return view_from_trace(
        picture, found.trace, found.instances[0], targets, run.classes, name=name, source=source, most=most
    )
