from tmor_train.evaluation.summary import summary
from tmor_train.results import Result


def result(seed=0, **changes):
    values = {
        "benchmark": "tsu",
        "protocol": "CS",
        "mode": "detect_probe",
        "recipe": "detect_probe",
        "checkpoint": "scratch",
        "metrics": {"nonzero": 0.2, "all_classes": 0.1},
        "primary_metric": "nonzero",
        "counts": {"test": 185},
    }
    return Result(seed=seed, **(values | changes))


def test_figures_of_frames_have_their_words():
    lines = list(summary([result()]))
    assert lines[0] == "tsu CS, 185 measured"
    assert [head.strip() for head in lines[1].split("  ")[-2:]] == [
        "frame mAP, classes above 0",
        "frame mAP, all classes",
    ]
    assert lines[2].split() == ["detect_probe", "scratch", "20.00", "%", "10.00", "%"]
    assert lines[3] == "  the paper's table has frame mAP, classes above 0"


def test_figures_of_events_say_their_mean_overlap_and_matching():
    found = result(
        metrics={"action_0.5": 0.9, "video_0.5_one_to_one": 0.8}, primary_metric="action_0.5", mode="events_finetune"
    )
    lines = list(summary([found]))
    assert [head.strip() for head in lines[1].split("  ")[-2:]] == ["mAP_a 0.5", "mAP_v 0.5 1:1"]
    assert lines[-1] == "  the paper's table has mAP_a 0.5"


def test_several_seeds_have_an_interval_and_other_modes_a_row_of_their_own():
    lines = list(summary([result(0), result(1, metrics={"nonzero": 0.4}), result(mode="detect_probe_sdtcn")]))
    assert len(lines) == 5
    assert "30.00 ±" in lines[2]
    assert "detect_probe_sdtcn" in lines[3]
