"""A view says of every detection what the trace says of its row, and survives being stored."""

import importlib.util
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab.errors import InputError
from cascade_lab.structures import Instances
from cascade_lab.widgets.stored_trace import (
    FIRST_TRACE,
    View,
    first_trace,
    load_views,
    save_views,
    store_trace,
    view_from_trace,
)

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)


@pytest.fixture(scope="module")
def made():
    return made_up.made_up_prediction(3, objects=5, copies=2)


@pytest.fixture(scope="module")
def view(made) -> View:
    picture, trace, instances, targets = made
    return view_from_trace(picture, trace, instances, targets, made_up.CLASSES, name="five", source="made up")


def test_follows_each_detection_through_its_row(made, view: View):
    _, trace, instances, _ = made
    order = sorted(range(len(instances)), key=lambda d: -float(instances.scores[d]))
    for d, from_trace in enumerate(order):
        row, label = int(trace.detections.rows[0][from_trace]), int(instances.labels[from_trace])
        assert view.labels[d] == label
        for k, stage in enumerate(trace.stages):
            # the trace lies in a frame 1.5 times as large
            np.testing.assert_allclose(view.boxes[k, d], stage.proposals[0][row] / 1.5, atol=1e-4)
            logits = stage.logits[0][row].double().numpy()
            by_hand = np.exp(logits[label]) / np.exp(logits).sum()
            assert view.scores[k + 1, d] == pytest.approx(by_hand, abs=1e-6)
        np.testing.assert_array_equal(view.boxes[-1, d], instances.boxes[from_trace])
        assert view.scores[0, d] == trace.proposals.scores[0][row]


def test_matches_the_object_that_the_final_box_overlaps_best():
    boxes = torch.tensor([[0.0, 0, 10, 10], [22, 20, 32, 30], [100, 100, 110, 110]])
    instances = Instances((120, 120), boxes, torch.zeros(3, dtype=torch.int64), torch.tensor([0.9, 0.8, 0.7]))
    wanted = torch.tensor([[20.0, 20, 30, 30], [0, 0, 10, 5], [100, 100, 110, 110]])
    ignored = torch.tensor([False, False, True])  # so that the third box overlaps no object
    targets = Instances((120, 120), wanted, torch.tensor([1, 2, 0]), ignore=ignored)
    _, trace, _, _ = made_up.made_up_prediction(0, objects=3, copies=1, size=(120, 120))
    view = view_from_trace(torch.zeros(3, 120, 120).byte(), trace, instances, targets, made_up.CLASSES)
    assert view.target_index.tolist() == [1, 0, -1]
    assert view.target_labels.tolist() == [1, 2]


def test_stages_without_a_mask_show_the_mean_of_the_others():
    picture, trace, instances, targets = made_up.made_up_prediction(1, mask_stages=(1, 2))
    view = view_from_trace(picture, trace, instances, targets, made_up.CLASSES)
    best = instances.scores.argsort(descending=True, stable=True)
    second, third = (trace.detections.mask_logits[k][0][best].sigmoid() for k in (1, 2))
    assert view.mask_stages == (2, 3)
    np.testing.assert_array_equal(view.masks[0], ((second + third) / 2 * 255).round().byte())
    np.testing.assert_array_equal(view.masks[2], (third * 255).round().byte())


def test_a_detector_without_masks_or_truth(made):
    picture, trace, instances, _ = made_up.made_up_prediction(1, mask_stages=(), stages=1)
    view = view_from_trace(picture, trace, instances, None, made_up.CLASSES, most=4)
    assert view.masks.shape[0] == 0 and view.boxes.shape == (2, 4, 4) and view.stages == 1
    assert (view.target_index == -1).all() and view.targets.shape == (0, 4)


def test_no_detections():
    picture, trace, instances, targets = made_up.made_up_prediction(1)
    found = trace.detections
    empty = replace(
        found, rows=[found.rows[0][:0]], mask_logits={k: [m[0][:0]] for k, m in found.mask_logits.items()}
    )
    none = replace(trace, detections=empty)
    view = view_from_trace(picture, none, instances[:0], targets, made_up.CLASSES)
    assert len(view) == 0 and view.boxes.shape == (4, 0, 4)


def test_round_trip(view: View, tmp_path: Path):
    path = tmp_path / "trace.npz"
    save_views(path, [view, replace(view, name="again", mask_stages=(2,))])
    first, second = load_views(path)
    assert (second.name, second.mask_stages) == ("again", (2,))
    for name in View.__dataclass_fields__:
        kept, loaded = getattr(view, name), getattr(first, name)
        if isinstance(kept, np.ndarray):
            assert loaded.dtype == kept.dtype
            np.testing.assert_array_equal(loaded, kept)
        else:
            assert loaded == kept and type(loaded) is type(kept)


def test_file_needs_no_pickle(made, tmp_path: Path):
    picture, trace, instances, targets = made
    store_trace(tmp_path / "one.npz", picture, trace, instances, targets, made_up.CLASSES)
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_picture_stays_itself(made):
    _, trace, instances, _ = made
    ramp = torch.stack([torch.arange(320).expand(240, 320) * 0.7 + shift for shift in (0, 10, 20)]).byte()
    view = view_from_trace(ramp, trace, instances, None, made_up.CLASSES)
    stored = np.asarray(Image.open(io.BytesIO(view.picture))).astype(int)
    assert stored.shape == (240, 320, 3)
    assert abs(stored - ramp.permute(1, 2, 0).numpy()).max() <= 4


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 broken"], ids=["empty", "text", "broken"]
)
def test_broken_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "trace.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"trace\.npz: not a stored trace"):
        load_views(path)


def test_other_archive_is_named(tmp_path: Path):
    np.savez(tmp_path / "other.npz", boxes=np.zeros(3))
    with pytest.raises(InputError, match="not a stored trace"):
        load_views(tmp_path / "other.npz")


def test_absent_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no such stored trace"):
        load_views(tmp_path / "nothing.npz")


def test_shapes_are_checked(view: View):
    with pytest.raises(InputError, match="scores has shape"):
        replace(view, scores=view.scores[:2])


def test_picture_of_another_size_is_refused(made):
    picture, trace, instances, targets = made
    with pytest.raises(InputError, match="pass the original picture"):
        view_from_trace(picture[:, :-1], trace, instances, targets, made_up.CLASSES)


def test_instances_of_another_prediction_are_refused(made):
    picture, trace, instances, targets = made
    with pytest.raises(InputError, match="same prediction"):
        view_from_trace(picture, trace, instances[1:], targets, made_up.CLASSES)


def test_trace_of_training_is_refused(made):
    picture, trace, instances, targets = made
    with pytest.raises(InputError, match="predict"):
        view_from_trace(picture, replace(trace, detections=None), instances, targets, made_up.CLASSES)


def test_first_trace_is_small_and_shows_a_trained_cascade():
    assert FIRST_TRACE.stat().st_size < 300_000
    views = first_trace()
    assert len(views) >= 2
    for view in views:
        assert view.stages == 3 and len(view.targets) and len(view)
        assert view.source and "made-up" not in view.source, (
            "the placeholder is still there: store a trained model's trace"
        )
