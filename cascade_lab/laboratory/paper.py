"""Numbers that the Cascade R-CNN paper prints, to stand beside measured ones.

Source: Cai and Vasconcelos 2018, "Cascade R-CNN: Delving into High Quality Object Detection". All are for
ResNet-50 with FPN on COCO; AP is on its 5000 validation pictures; deltas
and IoUs of boxes are of training samples.
"""

from __future__ import annotations

# Cascade R-CNN, figure 2: deviation of dx, dy, dw, dh before they are normalised, for stages 1, 2, 3.
DELTA_DEVIATION = (
    (0.1234, 0.1297, 0.2272, 0.2255),
    (0.0606, 0.0613, 0.1221, 0.1230),
    (0.0391, 0.0376, 0.0798, 0.0773),
)
# Cascade R-CNN, figure 4: percent of the training samples of stages 1, 2, 3 with an IoU above these.
SHARE_ABOVE = (0.5, 0.6, 0.7)
INPUT_SHARES = ((16.7, 8.0, 2.9), (25.6, 21.7, 17.3), (28.0, 25.1, 21.7))
# Cascade R-CNN, figure 5 b: AP of detectors trained apart at u = .5, .6, .7; then with ground truth
# among the proposals.
APART = (34.9, 35.4, 31.9)
APART_WITH_TRUTH = (39.4, 45.7, 49.5)
# Cascade R-CNN, figure 6: AP of the head of stage 1, 2, 3 (rows) on the boxes of stage 1, 2, 3 (columns).
CROSSED = ((35.5, 36.5, 36.8), (35.2, 38.3, 38.4), (25.6, 35.5, 38.3))
# Cascade R-CNN, tables 1 and 2.
COLUMNS = ("AP", "AP50", "AP60", "AP70", "AP80", "AP90")
BASELINE = (34.9, 57.0, 51.9, 43.6, 29.7, 7.1)
ITERATIVE = (35.4, 57.2, 52.1, 44.2, 30.4, 8.1)  # the same head three times, at test
STAGES = {
    "1": (35.5, 57.2, 52.4, 44.1, 30.5, 8.1),
    "2": (38.3, 57.9, 53.4, 46.4, 35.2, 14.2),
    "3": (38.3, 56.6, 52.2, 46.3, 35.7, 15.9),
    "1~2": (38.5, 58.2, 53.8, 46.7, 35.0, 14.0),
    "1~3": (38.9, 57.8, 53.4, 46.9, 35.8, 15.8),
}
