"""The papers that the library follows, and which of their equations, figures and tables are of use here.

Of the two papers that the library is about every equation, figure and table is listed, also those that
nothing here shows: the index then says so. Of the others only what is cited.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One paper.

    Attributes:
        name: as it is cited, "Cascade R-CNN"; also: other names that are understood.
        title, authors, year, arxiv: arxiv is the number, "" where there is none.
        items: what an item is about, in a few words of ours, by "eq. 7", "figure 4", "section 3.1".
    """

    name: str
    title: str
    authors: str
    year: int
    items: dict[str, str]
    also: tuple[str, ...] = ()
    arxiv: str = ""


CASCADE_RCNN = Paper(
    name="Cascade R-CNN",
    title="Cascade R-CNN: Delving into High Quality Object Detection",
    authors="Cai and Vasconcelos",
    year=2018,
    arxiv="1712.00726",
    items={
        "eq. 1": "the risk of a box regressor, summed over boxes",
        "eq. 2": "the deltas between a box and its object",
        "eq. 3": "one regressor applied again and again at inference",
        "eq. 4": "the risk of a classifier",
        "eq. 5": "the label of a box by an IoU threshold",
        "eq. 6": "the integral loss: several thresholds, one set of boxes",
        "eq. 7": "the cascade as regressors one after the other",
        "eq. 8": "the loss of one stage",
        "figure 1": "detections of two thresholds; output IoU against input IoU; AP against IoU",
        "figure 2": "the spread of the deltas at each stage",
        "figure 3": "four architectures, from Faster R-CNN to the cascade",
        "figure 4": "the IoU of the boxes that each stage is trained on",
        "figure 5": "detectors on better proposals, and with ground truths among them",
        "figure 6": "every head on the proposals of every stage",
        "figure 7": "iterated regression and integral loss, looked at closely",
        "table 1": "cascade, iterated regression and integral loss compared",
        "table 2": "the stages alone and together",
        "table 3": "thresholds that rise, and statistics of the deltas that follow",
        "table 4": "one to four stages",
        "table 5": "against other detectors on COCO",
        "table 6": "gains, time and size for several backbones",
        "section 3.1": "what a regressor trained at one threshold does to better boxes",
        "section 4": "the cascade",
        "section 4.1": "cascaded regression",
        "section 4.2": "cascaded detection",
        "section 5.1": "how it was trained",
    },
)
INTERNIMAGE = Paper(
    name="InternImage",
    title="InternImage: Exploring Large-Scale Vision Foundation Models with Deformable Convolutions",
    authors="Wang et al.",
    year=2023,
    arxiv="2211.05778",
    items={
        "eq. 1": "DCNv2, the starting point",
        "eq. 2": "DCNv3",
        "figure 3": "the model: stem, blocks, downsampling, and what decides its size",
        "figure 4": "what sharing weights saves",
        "figure 5": "where the points of each group lie",
        "figure 6": "the search for the shape of the model",
        "figure 7": "effective receptive fields before and after training",
        "figure 8": "robustness to moved, turned and scaled pictures",
        "table 1": "channels, groups and blocks of T to H",
        "table 3": "detection with Mask R-CNN and Cascade Mask R-CNN",
        "table 5": "parameters, FLOPs and AP on COCO",
        "table 6": "DCNv3 without shared weights, without groups, without softmax",
        "table 8": "the scaling exponents that were tried",
        "table 11": "throughput",
        "table 12": "training on a part of ImageNet",
        "section 3.1": "from DCNv2 to DCNv3",
        "section 3.2": "the block, stacking rules and scaling rules",
    },
)
FAST_RCNN = Paper(
    name="Fast R-CNN",
    title="Fast R-CNN",
    authors="Girshick",
    year=2015,
    arxiv="1504.08083",
    items={
        "eq. 1": "classification and regression in one loss",
        "eq. 3": "smooth L1",
        "section 1.1": "what R-CNN costs",
        "section 2": "one pass over the picture, and a head for every box",
        "section 2.3": "sampling boxes for a batch",
    },
)
FASTER_RCNN = Paper(
    name="Faster R-CNN",
    title="Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
    authors="Ren et al.",
    year=2015,
    arxiv="1506.01497",
    items={
        "eq. 1": "the loss of the RPN",
        "eq. 2": "deltas against an anchor",
        "figure 3": "the RPN at one position",
        "section 3.1": "the region proposal network",
        "section 3.1.1": "anchors",
        "section 3.1.2": "which anchor is positive",
    },
)
MASK_RCNN = Paper(
    name="Mask R-CNN",
    title="Mask R-CNN",
    authors="He et al.",
    year=2017,
    arxiv="1703.06870",
    items={
        "figure 3": "RoIAlign",
        "figure 4": "the mask head",
        "table 2": "what RoIAlign and a mask for each class are worth",
        "section 3": "RoIAlign, the mask and its loss",
    },
)
FPN = Paper(
    name="FPN",
    also=("Feature Pyramid Networks",),
    title="Feature Pyramid Networks for Object Detection",
    authors="Lin et al.",
    year=2017,
    arxiv="1612.03144",
    items={
        "eq. 1": "the level that a box is read from",
        "figure 3": "one step of the top-down path",
        "section 3": "the pyramid",
        "section 4.1": "the RPN on a pyramid",
        "section 4.2": "heads on a pyramid",
    },
)
RCNN = Paper(
    name="R-CNN",
    title="Rich feature hierarchies for accurate object detection and semantic segmentation",
    authors="Girshick et al.",
    year=2014,
    arxiv="1311.2524",
    items={"appendix C": "box regression by deltas"},
)
SOFT_NMS = Paper(
    name="Soft-NMS",
    also=("Soft-NMS - Improving Object Detection With One Line of Code",),
    title="Soft-NMS: Improving Object Detection With One Line of Code",
    authors="Bodla et al.",
    year=2017,
    arxiv="1704.04503",
    items={
        "figure 2": "the algorithm",
        "eq. 2": "scores lowered in proportion to the overlap",
        "eq. 3": "scores lowered by a Gaussian of the overlap",
    },
)
DETR = Paper(
    name="DETR",
    title="End-to-End Object Detection with Transformers",
    authors="Carion et al.",
    year=2020,
    arxiv="2005.12872",
    items={"section 4": "multi-scale training with random crops"},
)
WINOGRAD = Paper(
    name="Fast Algorithms for Convolutional Neural Networks",
    title="Fast Algorithms for Convolutional Neural Networks",
    authors="Lavin and Gray",
    year=2016,
    arxiv="1509.09308",
    items={"section 4": "Winograd's filtering for convolutions"},
)
WINOGRAD_ERROR = Paper(
    name="Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
    title="Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
    authors="Barabasz et al.",
    year=2020,
    arxiv="1803.10986",
    items={"section 3": "how the matrices follow from points"},
)
LARGE_BATCH = Paper(
    name="Accurate, Large Minibatch SGD",
    title="Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour",
    authors="Goyal et al.",
    year=2017,
    arxiv="1706.02677",
    items={"section 2.1": "the learning rate follows the batch"},
)
MIXED_PRECISION = Paper(
    name="Mixed Precision Training",
    title="Mixed Precision Training",
    authors="Micikevicius et al.",
    year=2018,
    arxiv="1710.03740",
    items={"section 3.2": "scaling the loss"},
)

PAPERS = (
    CASCADE_RCNN,
    INTERNIMAGE,
    RCNN,
    FAST_RCNN,
    FASTER_RCNN,
    FPN,
    MASK_RCNN,
    SOFT_NMS,
    DETR,
    WINOGRAD,
    WINOGRAD_ERROR,
    LARGE_BATCH,
    MIXED_PRECISION,
)
