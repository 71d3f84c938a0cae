"""The 80 classes of COCO in the order of their labels, with the ids that its annotation files give them.

The ids run from 1 to 90 and have gaps: 91 classes were planned, 11 were never annotated.

Source: the COCO data set, ``annotations/instances_val2017.json``.
"""

_RUNS = (  # the first id, and the classes whose ids follow one another
    (1, "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant"),
    (13, "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra"),
    (25, "giraffe"),
    (27, "backpack, umbrella"),
    (31, "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat"),
    (40, "baseball glove, skateboard, surfboard, tennis racket, bottle"),
    (46, "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot"),
    (58, "hot dog, pizza, donut, cake, chair, couch, potted plant, bed"),
    (67, "dining table"),
    (70, "toilet"),
    (72, "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator"),
    (84, "book, clock, vase, scissors, teddy bear, hair drier, toothbrush"),
)

COCO_CLASSES: dict[str, int] = {
    name: category_id for first, names in _RUNS for category_id, name in enumerate(names.split(", "), first)
}
