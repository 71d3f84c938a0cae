"""What a state dict does to a detector, and what the report says about it."""

from dataclasses import replace

import pytest
import torch

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.weights import LoadReport, compare, load_official, official_state_dict
from tests.tiny_detector import CASCADE, CLASSES, config, stages, tiny

OTHER = CLASSES + 4


def with_classes(count: int, cascade=CASCADE) -> Detector:
    torch.manual_seed(5)
    return Detector(replace(config(cascade), num_classes=count))


def test_round_trip():
    donor, receiver = tiny(seed=1), tiny(seed=2)
    report = load_official(receiver, official_state_dict(donor))
    assert report.is_empty and str(report) == "every parameter was loaded"
    for (name, a), b in zip(donor.state_dict().items(), receiver.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_round_trip_of_a_single_stage():
    donor, receiver = tiny(stages(1), seed=1), tiny(stages(1), seed=2)
    state = official_state_dict(donor, single_stage=True)
    assert "roi_head.bbox_head.fc_cls.weight" in state
    assert load_official(receiver, state).is_empty
    assert torch.equal(
        donor.cascade.box_heads[0].classifier.weight, receiver.cascade.box_heads[0].classifier.weight
    )


def test_report_of_what_did_not_fit():
    detector = tiny()
    before = detector.rpn.conv.bias.detach().clone()
    state = official_state_dict(tiny(seed=1))
    del state["rpn_head.rpn_conv.bias"]
    state["rpn_head.another.bias"] = torch.zeros(1)
    state["ema_backbone_patch_embed_conv1_weight"] = torch.zeros(1)
    report = load_official(detector, state)
    assert report.missing == ("rpn.conv.bias",)
    assert report.unexpected == ("rpn_head.another.bias",)
    assert list(report.dropped) == ["ema_backbone_patch_embed_conv1_weight"]
    assert len(report.matched) == len(detector.state_dict()) - 1
    text = str(report)
    assert "missing            1  stay as initialised: rpn.conv.bias" in text
    assert "unexpected         1  unknown to this model: rpn_head.another.bias" in text
    assert not report.is_empty
    # What was not in the file stays; the rest is loaded.
    assert torch.equal(detector.rpn.conv.bias, before)
    assert torch.equal(detector.rpn.conv.weight, state["rpn_head.rpn_conv.weight"])


def test_another_shape_is_refused_before_anything_is_loaded():
    detector = tiny()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    state = official_state_dict(tiny(seed=1)) | {"rpn_head.rpn_cls.bias": torch.zeros(7)}
    with pytest.raises(InputError, match=r"rpn.objectness.bias has shape \(7,\), this model wants \(3,\)"):
        load_official(detector, state)
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())


@pytest.mark.parametrize("state", [{}, {"conv1.weight": torch.zeros(3)}, {"head.bias": torch.zeros(3)}])
def test_nothing_in_common_is_refused(state):
    with pytest.raises(InputError, match="none of its . parameters belongs to this model"):
        load_official(tiny(), state)


def test_weights_that_are_not_finite_are_refused():
    state = {name: value.clone() for name, value in official_state_dict(tiny(seed=1)).items()}
    state["neck.fpn_convs.1.conv.bias"][0] = torch.nan
    with pytest.raises(InputError, match="neck.output.1.bias is not finite"):
        load_official(tiny(), state)


def test_a_backbone_alone_leaves_the_rest():
    donor, detector = tiny(seed=1), tiny(seed=2)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    full = official_state_dict(donor)
    state = {k.removeprefix("backbone."): v for k, v in full.items() if k.startswith("backbone.")}
    report = load_official(detector, state | {"head.weight": torch.zeros(1000, 4)})
    assert {name.split(".")[0] for name in report.matched} == {"backbone"}
    assert {name.split(".")[0] for name in report.missing} == {"neck", "rpn", "cascade"}
    for name, value in detector.state_dict().items():
        assert torch.equal(value, (donor.state_dict() if name.startswith("backbone.") else before)[name]), (
            name
        )


# --- other classes


@pytest.mark.parametrize("cascade", [CASCADE, stages(1)], ids=["cascade", "single stage"])
def test_other_classes_draw_the_last_layers_anew_and_load_the_rest(cascade):
    donor, detector = with_classes(OTHER, cascade), tiny(cascade, seed=2)
    report = load_official(detector, official_state_dict(donor))
    layers = {name.rpartition(".")[0].split(".")[-1] for name in report.reinitialised}
    assert layers == {"classifier", "regressor", "logits"}
    heads = [*detector.cascade.box_heads, *detector.cascade.mask_heads.values()]
    assert len(report.reinitialised) == 4 * len(detector.cascade.box_heads) + 2 * len(
        detector.cascade.mask_heads
    )
    assert set(report.matched) | set(report.reinitialised) == set(detector.state_dict())
    assert f"{OTHER} classes in the file, {CLASSES} here" in str(report) and report.classes == (
        OTHER,
        CLASSES,
    )
    for head in heads[: len(detector.cascade.box_heads)]:
        # tiny() is lively: 0.3. What a fresh head has is 0.01 and 0.001, biases 0.
        assert 0.005 < head.classifier.weight.std() < 0.02 and not head.classifier.bias.any()
        assert 0.0005 < head.regressor.weight.std() < 0.002 and not head.regressor.bias.any()
    name = "cascade.box_heads.0.fcs.0.weight"
    assert torch.equal(detector.state_dict()[name], donor.state_dict()[name])


def test_a_regressor_for_all_classes_is_kept():
    agnostic = replace(CASCADE, box_head=replace(CASCADE.box_head, class_aware=False))
    donor, detector = with_classes(OTHER, agnostic), tiny(agnostic, seed=2)
    report = load_official(detector, official_state_dict(donor))
    assert not any("regressor" in name for name in report.reinitialised) and report.reinitialised
    for theirs, ours in zip(donor.cascade.box_heads, detector.cascade.box_heads, strict=True):
        assert torch.equal(theirs.regressor.weight, ours.regressor.weight)


def test_class_aware_for_agnostic_is_no_matter_of_classes():
    agnostic = replace(CASCADE, box_head=replace(CASCADE.box_head, class_aware=False))
    for donor in (tiny(agnostic), with_classes(OTHER, agnostic)):
        with pytest.raises(InputError, match="regressor.weight has shape"):
            load_official(tiny(), official_state_dict(donor))


def test_only_the_number_of_rows_may_differ():
    state = official_state_dict(with_classes(OTHER))
    state["roi_head.bbox_head.0.fc_cls.weight"] = torch.zeros(OTHER + 1, 99)
    with pytest.raises(InputError, match="classifier.weight has shape"):
        load_official(tiny(), state)


def test_a_head_of_two_sizes_is_refused():
    """The classifier of stage 2 has other classes than that of stage 1: no model is like that."""
    state = official_state_dict(with_classes(OTHER))
    state["roi_head.bbox_head.1.fc_cls.bias"] = torch.zeros(OTHER + 2)
    with pytest.raises(InputError, match="box_heads.1.classifier.bias has shape"):
        load_official(tiny(), state)


# --- the report


def test_a_report_speaks_only_of_what_there_is():
    assert str(LoadReport(unexpected=("x.weight",))).split() == [
        *("unexpected", "1", "unknown", "to", "this", "model:", "x.weight")
    ]


def test_long_lists_are_cut_in_the_text_and_whole_in_json():
    names = tuple(f"cascade.heads.{i}.{layer}.bias" for i in range(3) for layer in ("fc", "conv"))
    report = LoadReport(matched=("b",), missing=names)
    assert str(report).endswith(
        "missing            6  stay as initialised: cascade.heads.*.fc, cascade.heads.*.conv"
    )
    assert report.to_plain()["missing"] == list(names)
    parts = tuple(f"{part}.{name}.bias" for part in ("rpn", "neck") for name in "abc")
    assert str(LoadReport(unexpected=parts)).endswith("unknown to this model: rpn 3, neck 3")
    flat = {f"ema_{i}": "average" for i in range(99)}
    assert str(LoadReport(dropped=flat)).endswith("average: ema_0, ema_1, ema_2, ema_3 and 95 more")


def test_complete_means_that_nothing_stays_as_it_was():
    LoadReport(matched=("a",), dropped={"b": "why"}).check("x.pth", complete=True)
    with pytest.raises(InputError, match=r"x.pth: 1 of its parameters are unknown to this model \(b\)"):
        LoadReport(matched=("a",), unexpected=("b",)).check("x.pth", complete=True)
    LoadReport(matched=("a",), missing=("b",)).check("x.pth")
    for report in (
        LoadReport(matched=("a",), missing=("b",)),
        LoadReport(matched=("a",), reinitialised=("b",)),
    ):
        with pytest.raises(InputError, match=r"x.pth: 1 parameters of this model are not in it \(b\)"):
            report.check("x.pth", complete=True)


def test_comparing_needs_no_memory_and_changes_nothing():
    with torch.device("meta"):
        model = tiny(lively=False).state_dict()
    report = compare(model, tiny(seed=1).state_dict())
    assert report.is_empty and len(report.matched) == len(model)


def test_loading_keeps_the_type_of_the_model():
    detector = tiny(CASCADE).double()
    load_official(detector, {n: v.half() for n, v in official_state_dict(tiny(seed=1)).items()})
    assert {p.dtype for p in detector.parameters()} == {torch.float64}
