"""What ``bench model`` measures: our detectors and torchvision's Mask R-CNN, random weights, the same work.

Random weights leave the amount of work to chance, so it is set on both sides alike:

- Proposals: the RPN keeps its best 1000 after NMS, and the pictures are large enough that it finds as many.
- Detections: classifiers answer the same for every box, 0.65 for the first class and less than the score
  threshold for all others. So 1000 candidates go into NMS, more than 100 come out, and 100 get a mask.
- Training: 512 boxes are sampled per picture, by each of our stages and by torchvision's one.
- Offsets of DCNv3, which start as zeros, have weights of 0.1: about a pixel, so that it reads between pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.mask_rcnn import MaskRCNN

from cascade_lab.commands.bench_backbone import OFFSET_STD
from cascade_lab.detector import Detector, Prediction
from cascade_lab.engine.optim import build_optimizer
from cascade_lab.engine.precision import Precision, autocast
from cascade_lab.recipes import recipe
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import random_choice

PROPOSALS, DETECTIONS, SAMPLED, OBJECTS = 1000, 100, 512, 8
SCORE = 0.65  # of the first class, for every box


@dataclass(frozen=True)
class Work:
    """How much a forward pass really does, summed over the pictures."""

    proposals: int
    detections: int


@dataclass(frozen=True)
class Pictures:
    """The same pictures and objects for both sides: uint8 (3, S, S), boxes (8, 4), masks that fill them."""

    images: list[Tensor]
    boxes: Tensor
    labels: Tensor

    @property
    def side(self) -> int:
        return self.images[0].shape[-1]

    def masks(self) -> Tensor:
        masks = torch.zeros(len(self.boxes), self.side, self.side, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, self.boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        return masks


def pictures(count: int, side: int) -> Pictures:
    """Return ``count`` pictures of noise, and eight objects of 1/16 to 1/2 of the side."""
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(count)
    ]
    sides = side * torch.logspace(-4, -1, OBJECTS, base=2)
    corners = torch.rand(OBJECTS, 2, generator=generator) * (side - sides[:, None])
    boxes = torch.cat([corners, corners + sides[:, None]], dim=1)
    return Pictures(images, boxes, torch.arange(OBJECTS) % 2)


class Ours:
    """One of our recipes' detectors, freshly made."""

    def __init__(self, name: str, of: Pictures, device: str) -> None:
        torch.manual_seed(0)
        made = recipe(name)
        cascade, rpn = made.detector.cascade, made.detector.rpn
        sampler = replace(cascade.sampler, num=SAMPLED)
        keep = replace(cascade.postprocess, max_detections=DETECTIONS, score_threshold=0.05)
        limits = replace(rpn.inference, before_nms=PROPOSALS, after_nms=PROPOSALS)
        config = replace(
            made.detector,
            cascade=replace(cascade, sampler=sampler, postprocess=keep),
            rpn=replace(rpn, inference=limits, training=replace(limits, before_nms=2000, after_nms=2000)),
        )
        self.detector = Detector(config).to(device)
        for parameter, weight in self.detector.named_parameters():
            if parameter.endswith(("dcn.offset.weight", "dcn.modulation.weight")):
                nn.init.normal_(weight, std=OFFSET_STD)
        for head in self.detector.cascade.box_heads:
            always_first(head.get_submodule("classifier"), first=0)
        objects = Instances((of.side, of.side), of.boxes, of.labels, masks=of.masks()).to(device)
        self.images = ImageBatch.collate(of.images).to(device)
        self.targets = [objects] * len(of.images)
        self.device, self.optim = device, made.optim

    def predict(self, precision: Precision = "float32") -> Callable[[], Prediction]:
        def call() -> Prediction:
            with autocast(precision, self.device):
                return self.detector.eval().predict(self.images)

        return call

    def work(self) -> Work:
        """Return what a forward pass has to do: boxes that reach the last stage, and detections."""
        found = self.predict()()
        return Work(sum(map(len, found.trace.stages[-1].boxes)), sum(map(len, found.instances)))

    def step(self) -> Callable[[], object]:
        optimizer = build_optimizer(self.detector, self.optim)

        def call() -> None:
            optimizer.zero_grad()
            choose = random_choice(list(range(len(self.targets))))
            found = self.detector.train()(self.images, self.targets, choose)
            found.total.backward()
            optimizer.step()

        return call


class Torchvision:
    """torchvision's ``maskrcnn_resnet50_fpn``, freshly made; all its layers are trained."""

    def __init__(self, of: Pictures, device: str) -> None:
        torch.manual_seed(0)
        self.model: MaskRCNN = detection.maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            min_size=of.side,
            max_size=of.side,
            rpn_post_nms_top_n_test=PROPOSALS,
            box_detections_per_img=DETECTIONS,
            box_batch_size_per_image=SAMPLED,
        ).to(device)
        classifier = self.model.get_submodule("roi_heads.box_predictor.cls_score")
        always_first(classifier, first=1)  # 0 is background
        self.images = [image.to(device) / 255 for image in of.images]
        objects = {"boxes": of.boxes, "labels": of.labels + 1, "masks": of.masks().to(torch.uint8)}
        self.targets = [{name: value.to(device) for name, value in objects.items()}] * len(of.images)
        self.device = device

    def predict(self, precision: Precision = "float32") -> Callable[[], object]:
        @torch.no_grad()
        def call() -> object:
            with autocast(precision, self.device):
                return self.model.eval()(self.images)

        return call

    @torch.no_grad()
    def work(self) -> Work:
        """Return what a forward pass has to do."""
        images, _ = self.model.eval().transform(self.images)
        proposals, _ = self.model.rpn(images, self.model.backbone(images.tensors))
        found = self.model(self.images)
        return Work(sum(map(len, proposals)), sum(len(picture["boxes"]) for picture in found))

    def step(self) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

        def call() -> None:
            optimizer.zero_grad()
            losses = self.model.train()(self.images, self.targets)
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()

        return call


def always_first(classifier: nn.Module, first: int) -> None:
    """Let a classifier give one class ``SCORE``, whatever it sees, and share the rest among the others."""
    assert isinstance(classifier, nn.Linear)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    rest = (1 - SCORE) / (classifier.out_features - 1)
    with torch.no_grad():
        classifier.bias[first] = math.log(SCORE / rest)
