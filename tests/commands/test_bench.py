"""``cascade-lab bench``: baselines that are DCNv3, ratios that follow from the times, rows as promised."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cascade_lab import cli
from cascade_lab.commands import (
    bench,
    bench_backbone,
    bench_dcnv3,
    bench_mask_paste,
    bench_model,
    bench_models,
    bench_roi_align,
)
from cascade_lab.commands.bench_baselines import torchvision_dcnv3, usual_dcnv3
from cascade_lab.commands.bench_dcnv3 import Case, Shape
from cascade_lab.commands.bench_timing import Effort, HostClock, Sample, Times, compared, interleave
from cascade_lab.errors import InputError
from cascade_lab.kernels import cupy_backend, host_compiler, machines
from cascade_lab.ops import roi_align
from cascade_lab.ops.dcnv3 import choose, modulate
from cascade_lab.ops.dcnv3_reference import dcnv3_reference
from cascade_lab.viz.bench import ratio_bars
from tests.tiny_detector import BACKBONE

NEEDS_COMPILER = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH")
TINY = Shape(2, 5, 7, 32, 2)
ONCE = Effort(seconds=0.0)


def case(**changed) -> Case:
    return replace(
        Case(name="tiny", shape=TINY, dtype=torch.float32, threads=1, softmax=True),
        **changed,
    )


class FakeTime:
    """Two clocks that only move when told to: the processor's, and twice as fast the one on the wall."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> HostClock:
        return HostClock(cpu=lambda: self.seconds, wall=lambda: 2 * self.seconds)

    def taking(self, milliseconds: float, call=lambda *_: None):
        def timed(*arguments, **named):
            self.seconds += milliseconds / 1e3
            return call(*arguments, **named)

        return timed


# --- the baselines are DCNv3


@pytest.mark.parametrize("softmax", [True, False])
def test_baselines_equal_the_reference(softmax):
    inputs, _ = bench_dcnv3.tensors(case(dtype=torch.float64, softmax=softmax), "cpu")
    input, offset, logits = inputs
    modulation = modulate(logits, TINY.g, "softmax" if softmax else "none")
    expected = dcnv3_reference(input, offset, modulation, groups=TINY.g)
    assert_close(usual_dcnv3(input, offset, logits, TINY.g, softmax), expected)
    found = torchvision_dcnv3(inputs, TINY.g, softmax)()
    assert_close(found.permute(0, 2, 3, 1), expected)


def test_tensors_are_as_said():
    (input, offset, logits), grad = bench_dcnv3.tensors(
        case(shape=Shape(1, 40, 40, 16, 4), softmax=False), "cpu"
    )
    assert input.shape == grad.shape == (1, 40, 40, 16)
    assert offset.shape == (1, 40, 40, 72) and abs(float(offset.std()) - 1.5) < 0.02
    assert_close(logits.view(1, 40, 40, 4, 9).sum(-1), torch.ones(1, 40, 40, 4))


# --- times and ratios


def test_contestants_take_turns_and_the_first_round_warms_up():
    fake, order = FakeTime(), []
    slow, quick = fake.taking(40, lambda: order.append("slow")), fake.taking(1, lambda: order.append("quick"))
    times = interleave({"a": slow, "b": quick}, fake.clock(), Effort(seconds=0.0, fewest=3))
    # 1 ms of processor is 2 on the wall, of which 20 fill the 40 ms of a sample.
    assert order == ["slow", "quick"] + 2 * ["slow", *20 * ["quick"]]
    assert times.rounds == 2
    assert [round(times.cpu(name), 6) for name in "ab"] == [40, 1]
    assert [round(times.wall(name), 6) for name in "ab"] == [80, 2]


def test_a_warm_up_that_took_all_the_time_counts():
    fake = FakeTime()
    times = interleave({"a": fake.taking(7)}, fake.clock(), ONCE)
    assert times.rounds == 1 and times.cpu("a") == pytest.approx(7)


def test_rounds_go_on_until_the_time_is_over():
    fake = FakeTime()
    seconds = Effort(seconds=0.95, most=99)
    times = interleave({"a": fake.taking(100)}, fake.clock(), seconds, now=lambda: fake.seconds)
    assert times.rounds == 9  # and one to warm up
    assert interleave({"a": fake.taking(1)}, fake.clock(), replace(seconds, most=4)).rounds == 4


def test_ratios_are_theirs_over_ours_by_the_median():
    samples = {
        "grid_sample forward": [Sample(10, 11), Sample(12, 14), Sample(99, 99)],
        "our forward": [Sample(2, 7), Sample(3, 8), Sample(1, 7)],
        "grid_sample both": [Sample(30, 60)] * 3,
        "our both": [Sample(5, 6)] * 3,
    }
    told = compared(Times(samples))
    assert (told["forward_ratio"], told["forward_wall_ratio"]) == (12 / 2, 14 / 7)
    assert (told["forward_backward_ratio"], told["forward_backward_wall_ratio"]) == (6, 10)
    assert (told["forward_ms"], told["grid_sample_forward_backward_ms"], told["rounds"]) == (2, 30, 3)


@NEEDS_COMPILER
def test_rows_follow_from_the_measured_times(monkeypatch):
    """Real tensors, real kernels, and a clock that only the contestants move."""
    fake = FakeTime()
    monkeypatch.setattr(bench_dcnv3, "usual_dcnv3", fake.taking(60, bench_dcnv3.usual_dcnv3))
    monkeypatch.setattr(bench_dcnv3, "dcnv3", fake.taking(5, bench_dcnv3.dcnv3))
    build = bench_dcnv3.torchvision_dcnv3
    monkeypatch.setattr(bench_dcnv3, "torchvision_dcnv3", lambda *shape: fake.taking(20, build(*shape)))
    before = torch.get_num_threads()
    found = bench_dcnv3.bench_dcnv3([case(threads=3)], "cpu", ONCE, ONCE, clock=fake.clock())
    (row,) = found["rows"]
    assert row["forward_ratio"] == row["forward_backward_ratio"] == 12
    assert (row["forward_ms"], row["grid_sample_forward_ms"], row["torchvision_forward_ms"]) == (5, 60, 20)
    assert row["forward_ratio_to_torchvision"] == 4
    assert torch.get_num_threads() == before


def test_bytes_that_must_be_moved():
    """One pixel, one group, 16 channels, float32: 16 in, 16 out, 18 + 9 numbers about the points."""
    one = case(shape=Shape(1, 1, 1, 16, 1))
    forward, both = bench_dcnv3.moved_bytes(one)
    assert forward == 4 * (16 + 16 + 27)
    # Backward: grad_output and input, points and their gradients, three times the sum in float32.
    assert both - forward == 4 * (16 + 16 + 2 * 27 + 3 * 16)
    half = bench_dcnv3.moved_bytes(replace(one, dtype=torch.float16))
    assert half[0] == forward // 2
    assert half[1] - half[0] == 2 * (16 + 16 + 2 * 27) + 4 * 3 * 16 + (4 + 2) * 16


# --- the command


@pytest.fixture
def tiny(monkeypatch):
    """The command on small shapes, with as little effort as possible."""
    shapes = {"T1": Shape(1, 6, 6, 32, 2), "micro": TINY}
    monkeypatch.setattr(bench_dcnv3, "SHAPES", shapes)
    for name in ("HEADLINE", "OTHERS", "QUICK_HEADLINE", "QUICK_OTHERS"):
        monkeypatch.setattr(bench_dcnv3, name, ONCE)
    monkeypatch.setattr(bench_backbone, "QUICK", ONCE)
    monkeypatch.setattr(bench_dcnv3, "all_threads", lambda: [1, 2])
    return shapes


KEYS = {
    "name", "shape", "dtype", "threads", "backend", "softmax", "rounds", "forward_ratio",
    "against", "forward_wall_ratio", "forward_ms", "grid_sample_forward_ms", "forward_backward_ratio",
    "forward_backward_wall_ratio", "forward_backward_ms", "grid_sample_forward_backward_ms",
    "forward_ratio_to_torchvision", "torchvision_forward_ms",
}  # fmt: skip


@NEEDS_COMPILER
def test_json_of_every_case(tiny, capsys):
    assert cli.main(["bench", "dcnv3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"rows", "machine"}
    assert set(told["machine"]) == {"processor", "compiler", "torch"}
    assert set(told["machine"]["processor"]) == {"name", "cores", "avx512"}
    seen = [(r["name"], r["dtype"], r["threads"], r["softmax"]) for r in told["rows"]]
    assert seen[:2] == [("T1", "float32", 1, True), ("micro", "float32", 1, True)]
    assert len(seen) == len(set(seen)) == 2 * 3 * 2 * 2
    for row in told["rows"]:
        assert set(row) == KEYS
        assert row["backend"] == "cpu" and row["shape"] == list(tiny[row["name"]])
        numbers = {key: row[key] for key in KEYS if key.endswith(("_ms", "_ratio", "_torchvision"))}
        missing = [key for key, value in numbers.items() if value is None]
        assert sorted(missing) == (
            [] if row["dtype"] == "float32" else ["forward_ratio_to_torchvision", "torchvision_forward_ms"]
        )
        assert all(value > 0 for value in numbers.values() if value is not None)


@NEEDS_COMPILER
def test_quick_text_and_drawing(tiny, tmp_path, capsys):
    assert cli.main(["bench", "dcnv3", "--quick", "--output", str(tmp_path / "ratios.png")]) == 0
    out = capsys.readouterr().out
    assert "float32, 1 thread, softmax included" in out and "float32, 2 threads, softmax included" in out
    assert "float32, 1 thread, without softmax" in out and "float16" not in out
    assert ("AVX-512" in out) and max(map(len, out.splitlines())) <= 140
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


@NEEDS_COMPILER
def test_backbone(tiny, monkeypatch, capsys):
    run = bench_backbone.bench_backbone
    monkeypatch.setattr(
        bench_backbone,
        "bench_backbone",
        lambda device, effort: run(device, effort=effort, config=BACKBONE, side=32),
    )
    assert cli.main(["bench", "backbone", "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (row,) = told["rows"]
    assert row["shape"] == [1, 3, 32, 32] and row["threads"] == 1 and row["backend"] == "cpu"
    assert row["forward_ratio"] == pytest.approx(row["grid_sample_forward_ms"] / row["forward_ms"], rel=2e-3)
    assert "forward_backward_ratio" in row
    assert "InternImage-T" not in bench.as_text(told) and "custom" in bench.as_text(told)


def test_the_backbone_is_internimage_t_and_both_compute_the_same():
    config = bench_backbone.INTERNIMAGE_T
    assert config.out_channels == (64, 128, 256, 512) and config.depths == (4, 4, 18, 4)
    pixels = bench_backbone.picture(64, "cpu")
    small = replace(BACKBONE, channels=16, groups=(2, 2, 2, 2))
    found = [bench_backbone.build(small, backend, "cpu")(pixels) for backend in ("grid_sample", "reference")]
    for a, b in zip(*found, strict=True):
        assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_shapes_are_those_of_the_default_run():
    asked = bench_dcnv3.cases(bench_dcnv3.SHAPES, bench_dcnv3.DTYPES, bench_dcnv3.all_threads())
    first = [(one.name, tuple(one.shape)) for one in asked if one.is_headline]
    assert first == [
        ("T1", (1, 128, 128, 64, 4)), ("T2", (1, 64, 64, 128, 8)), ("T3", (1, 32, 32, 256, 16)),
        ("T4", (1, 16, 16, 512, 32)), ("micro", (8, 40, 40, 32, 2)), ("L2", (1, 100, 160, 320, 20)),
    ]  # fmt: skip
    assert asked[: len(first)] == [one for one in asked if one.is_headline]


def test_text_of_a_gpu():
    row = {
        **dict.fromkeys(KEYS, 1.0), "name": "L1", "dtype": "float16", "threads": 1, "softmax": True,
        "forward_ratio_to_torchvision": None, "forward_share_of_copy": 0.614,
        "forward_backward_share_of_copy": 0.3,
    }  # fmt: skip
    here = {
        "processor": {"name": "CPU", "cores": 4, "avx512": False}, "gpus": [{"name": "H100"}],
        "copy_gb_per_s": 2900.0, "torch": "2.10",
    }  # fmt: skip
    text = bench.as_text({"rows": [row], "machine": here})
    assert "H100; copies 2900 GB/s on the device" in text
    assert "of a copy" in text and "0.614" in text and "torchvision" not in text


def test_bars_are_as_high_as_the_ratios():
    common = {"name": "T1", "threads": 1, "softmax": True}
    rows = [
        {**common, "dtype": "float32", "forward_ratio": 12.0, "forward_backward_ratio": 8.0},
        {**common, "dtype": "bfloat16", "forward_ratio": 20.0, "forward_backward_ratio": 16.0},
        {**common, "dtype": "float32", "threads": 2, "forward_ratio": 99.0, "forward_backward_ratio": 99.0},
    ]
    figure = ratio_bars(rows, "a machine")
    heights = [[bar.get_height() for group in axes.containers for bar in group] for axes in figure.axes]
    assert heights == [[12.0, 20.0], [8.0, 16.0]]


@pytest.mark.parametrize(
    "line, named",
    [
        ("dcnv4", "name one thing to measure, such as dcnv3"),
        ("--quick", "name one thing to measure"),
        ("dcnv3 backbone", "name one thing to measure"),
        ("dcnv3 --device tpu", "'tpu' must be cpu or cuda"),
        ("dcnv3 --output x.jpg", "must end in .png or .svg"),
        ("dcnv3 --output no/such/x.png", "no such folder"),
        ("dcnv3 --quik", "nearest: --quick"),
        ("backbone --output x.png", "backbone draws nothing"),
    ],
)
def test_refuses_in_one_line(line, named):
    with pytest.raises(InputError, match=named):
        bench.main(line.split())


def test_refuses_a_device_without_kernels(monkeypatch):
    monkeypatch.setattr(cupy_backend, "why_not", lambda: "torch finds no CUDA device")
    with pytest.raises(InputError, match="torch finds no CUDA device; see cascade-lab doctor"):
        bench.main(["dcnv3", "--device", "cuda"])
    monkeypatch.setenv("CXX", "/nonexistent")
    with pytest.raises(InputError, match="no C\\+\\+ compiler"):
        bench.main(["dcnv3"])


# --- RoIAlign and a training step


@NEEDS_COMPILER
def test_roi_align_rows():
    shapes = {"tiny": bench_roi_align.Shape(2, 64, 4, 9, 3)}
    found = bench_roi_align.bench_roi_align("cpu", [1], ONCE, shapes=shapes)
    (row,) = found["rows"]
    assert (row["name"], row["threads"], row["against"]) == ("tiny", 1, "torchvision")
    assert row["forward_backward_ratio"] == pytest.approx(
        row["torchvision_forward_backward_ms"] / row["forward_backward_ms"], rel=2e-3
    )
    assert "torchvision" in bench.as_text(found)


@NEEDS_COMPILER
def test_roi_align_contestants_agree():
    maps, rois, grad = bench_roi_align.tensors(bench_roi_align.Shape(2, 64, 4, 9, 3), "cpu")
    ours, theirs = (bench_roi_align.calls(maps, rois, grad, backend) for backend in ("cpu", "torchvision"))
    assert_close(ours["forward"](), theirs["forward"](), atol=1e-5, rtol=1e-4)


@NEEDS_COMPILER
def test_mask_paste_rows():
    found = bench_mask_paste.bench_mask_paste("cpu", ONCE, shapes={"tiny": bench_mask_paste.Shape(3, 20, 30)})
    (row,) = found["rows"]
    assert row["forward_ratio"] == pytest.approx(row["mask by mask_forward_ms"] / row["forward_ms"], rel=2e-3)
    assert "forward_backward_ms" not in row and "mask by mask" in bench.as_text(found)


@NEEDS_COMPILER
def test_mask_paste_contestants_agree():
    loop, ours = bench_mask_paste.calls(bench_mask_paste.Shape(5, 40, 60), "cpu").values()
    assert torch.equal(loop(), ours()) and loop().any() and not loop().all()


def test_training_needs_pictures(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        bench.main(["training", "--root", str(tmp_path / "nothing")])


@NEEDS_COMPILER
def test_switched_off_means_plain_pytorch():
    assert choose("cpu", torch.float32) == "cpu"
    with machines.switched_off():
        assert (choose("cpu", torch.float32), choose("cpu", torch.float64)) == ("grid_sample", "reference")
        assert roi_align.choose("cpu", torch.float32) == "torchvision"
        assert machines.machine_for("cpu") is None
    assert machines.machine_for("cpu") == "cpu"


# --- whole detectors


class CountingClock:
    """Calls nothing; the n-th measurement takes n milliseconds, and twice that on the wall."""

    def __init__(self) -> None:
        self.calls = 0

    def time(self, call, calls: int) -> Sample:
        self.calls += 1
        return Sample(self.calls, 2 * self.calls)


@pytest.fixture
def no_models(monkeypatch):
    """Contestants by name that are never called."""

    def contestants(models, device, side):
        names = [f"{who}: {what}" for who in ("torchvision", *models) for what in bench_model.WHAT]
        work = {"proposals": 1000, "detections": 100, "torchvision_proposals": 999}
        return dict.fromkeys(names, print), dict.fromkeys(models, {**work, "torchvision_detections": 98})

    monkeypatch.setattr(bench_model, "contestants", contestants)


def test_model_ratios_are_ours_over_theirs(no_models):
    found = bench_model.bench_model(effort=ONCE, clock=CountingClock(), models={"ours": "nano"})
    # torchvision was called first to fourth, ours fifth to eighth.
    ratios = [(row["what"], row["against"], row["ratio"]) for row in found["rows"]]
    assert ratios == [
        ("forward", "forward", 5),
        ("forward, 2 pictures", "forward, 2 pictures", 3),
        ("forward, bfloat16", "forward", 7),
        ("forward, bfloat16", "forward, bfloat16", pytest.approx(7 / 3, rel=1e-3)),
        ("training step", "training step", 2),
    ]
    text = bench_model.as_text(found)
    assert "1000 boxes reach the last stage (999 in torchvision), 100 get masks (98)" in text
    assert max(map(len, text.splitlines())) <= 110


def test_model_options(no_models, monkeypatch, capsys):
    monkeypatch.setattr(bench_model, "QUICK", ONCE)
    assert cli.main(["bench", "model", "--quick", "--json", "--threads", "2"]) == 0
    assert {row["threads"] for row in json.loads(capsys.readouterr().out)["rows"]} == {2}
    for line, said in (("model --threads 0", "must be 1 or more"), ("roi_align --threads 2", "chooses its")):
        with pytest.raises(InputError, match=said):
            bench.main(line.split())


@pytest.mark.slow
def test_both_models_do_the_work_that_is_said():
    of = bench_models.pictures(1, 256)
    ours, theirs = bench_models.Ours("nano", of, "cpu"), bench_models.Torchvision(of, "cpu")
    assert ours.work() == theirs.work() == bench_models.Work(1000, 100)
    before = [parameter.detach().clone() for parameter in ours.detector.parameters()]
    ours.step()()
    theirs.step()()
    assert any((a != b).any() for a, b in zip(before, ours.detector.parameters(), strict=True))
    assert (
        ours.detector.config.cascade.sampler.num
        == theirs.model.roi_heads.fg_bg_sampler.batch_size_per_image
        == 512
    )
