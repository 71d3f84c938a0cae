"""Write the synthetic data set: ``cascade-lab shapes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from cascade_lab.datasets.shapes import LEVELS, ShapesConfig, write_shapes
from cascade_lab.errors import InputError
from cascade_lab.overrides import describe, override

USAGE = f"""usage: cascade-lab shapes [options]

  --root DIR           folder to write (default: data/shapes)
  --level NAME         {", ".join(LEVELS)} (default: moderate)
  --seed N             the same seed gives the same bytes (default: 0)
  --train N, --val N   number of pictures (default: 1000, 250)
  --shapes.noise X, ...   any knob of the pictures; all of them, as they are in "moderate":
"""


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """What is written, and where."""

    shapes: ShapesConfig
    root: str = "data/shapes"
    level: str = "moderate"
    seed: int = 0
    train: int = 1000
    val: int = 250

    def __post_init__(self) -> None:
        for name in ("train", "val"):
            if getattr(self, name) < 1:
                raise InputError(f"option --{name}: {getattr(self, name)} must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Write the pictures and return the exit code.

    Raises:
        InputError: an option is wrong, or the folder holds something else.
    """
    options = ShapesOptions(shapes=LEVELS["moderate"])
    if {"-h", "--help"} & set(arguments):
        print(f"{USAGE}\n{describe(options)}")
        return 0
    (options,) = override((options,), arguments)
    if options.level not in LEVELS:
        raise InputError(f"option --level: {options.level!r} does not exist; there is {', '.join(LEVELS)}")
    # Once more, so that single knobs turn the level that was chosen and not the usual one.
    (options,) = override((ShapesOptions(shapes=LEVELS[options.level]),), arguments)
    with tqdm(total=options.train + options.val, unit="picture", disable=None) as bar:

        def progress(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        written = write_shapes(
            options.root,
            options.shapes,
            options.seed,
            options.train,
            options.val,
            progress,
        )
    done = "written" if written else "there already, the very same"
    print(f"{options.root}: {options.train} pictures to train on and {options.val} to validate, {done}")
    return 0
