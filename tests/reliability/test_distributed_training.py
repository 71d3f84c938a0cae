"""Two processes end with the weights of one: the same pictures, samples and drop paths, and the same bits on both.

The real detector on six pictures of 64 pixels, three of them without any object, four to a step.
"""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

import cascade_lab.train
from cascade_lab.engine import checkpoint
from cascade_lab.engine.logger import read_metrics
from cascade_lab.overrides import override
from cascade_lab.recipes import Recipe, recipe, to_dict
from tests.processes import run_together

stand_in = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "stand_in.py")))

STEPS = 3
# Both processes train all recipes, and save the weights that they end with.
SCRIPT = """
    import json
    from pathlib import Path
    import cascade_lab.train as training
    from cascade_lab.recipes import from_dict
    torch.set_num_threads(1)
    ended = []

    class Detector(training.Detector):
        def __init__(self, config):
            super().__init__(config)
            ended.append(self)

    training.Detector = Detector
    folder = Path(sys.argv[1])
    for name, plain in json.loads((folder / "recipes.json").read_text()).items():
        training.train(from_dict(plain), folder / name)
        torch.save(ended[-1].state_dict(), folder / f"{name}.{d.rank()}")
"""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(root: Path) -> Recipe:
    """Return the recipe of the resuming tests, on pictures of which every second one is empty."""
    name, *options = stand_in.small_recipe(root, steps=STEPS)
    (found,) = override((recipe(name),), options)
    (path,) = root.rglob("*train*.json")
    annotations = json.loads(path.read_text())
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] % 2]
    path.write_text(json.dumps(annotations))
    return replace(
        found,
        data=replace(found.data, images_per_batch=4, keep_empty=True),
        optim=replace(found.optim, lr=5e-4),
        schedule=replace(found.schedule, warmup_steps=0, decay="none", checkpoint_every=STEPS),
    )


def varied(plain: Recipe, *, norm="group", drop_path=0.3, checkpointing=False, **optim) -> Recipe:
    detector = plain.detector
    head = replace(detector.cascade.box_head, norm=norm)
    backbone = replace(detector.backbone, drop_path=drop_path, activation_checkpointing=checkpointing)
    cascade = replace(detector.cascade, box_head=head)
    return replace(
        plain,
        detector=replace(detector, backbone=backbone, cascade=cascade),
        optim=replace(plain.optim, **optim),
    )


def test_two_processes_are_one(tmp_path: Path):
    plain = small(tmp_path / "shapes")
    # What two processes train, and what one process trains to the same end.
    pairs = {
        "checkpointed": (varied(plain, checkpointing=True), varied(plain, images_at_once=2)),
        "synchronised": (varied(plain, norm="sync_batch", drop_path=0.0),) * 2,
        "parts": (varied(plain, images_at_once=1),) * 2,
    }
    halves = {
        kind: varied(plain, norm="sync_batch", checkpointing=True, precision=kind, images_at_once=1)
        for kind in ("bfloat16", "float16")
    }
    asked = {name: to_dict(two) for name, (two, _) in pairs.items()} | {
        n: to_dict(r) for n, r in halves.items()
    }
    (tmp_path / "recipes.json").write_text(json.dumps(asked))
    run_together(SCRIPT, str(tmp_path))

    for name in asked:
        first, second = (torch.load(tmp_path / f"{name}.{rank}") for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name
        assert all(value.isfinite().all() for value in first.values()), name
        assert [line["step"] for line in read_metrics(tmp_path / name)] == [1, 2, 3]
    for name, (_, one) in pairs.items():
        cascade_lab.train.train(one, tmp_path / f"{name} alone")
        in_two, alone = newest(tmp_path / name), newest(tmp_path / f"{name} alone")
        for key, value in alone["detector"].items():
            assert_close(
                in_two["detector"][key], value, atol=1e-5, rtol=0, msg=lambda m, n=key: f"{name} {n}: {m}"
            )
        for both in zip(read_metrics(tmp_path / name), read_metrics(tmp_path / f"{name} alone"), strict=True):
            assert both[0]["loss"] == pytest.approx(both[1]["loss"], rel=1e-5), name
            assert both[0]["gradient_norm"] == pytest.approx(both[1]["gradient_norm"], rel=1e-4), name


def newest(run: Path) -> dict:
    state = checkpoint.load_newest(run / "checkpoints")
    assert state is not None
    return state
