"""The printed tables where a score is not defined."""

from cascade_lab.evaluation.table import results_table


def test_table_of_one_stage_and_of_missing_scores():
    nothing = dict.fromkeys(("AP", *(f"AP{i}" for i in range(50, 100, 5)), "APs", "APm", "APl", "AR100"))
    results = {
        "bbox": nothing,
        "segm": None,
        "stages": {"1": {"bbox": nothing, "segm": None}},
        "per_class": {},
    }
    table = results_table(results)
    assert "over stage 1" not in table and "nan" not in table.lower() and "  -" in table
