import numpy as np
import pytest
import torch

from tests import acted
from tmor_train.configuration import changed
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.encoders import started
from tmor_train.evaluation.frames.config import DetectorConfig, WindowConfig
from tmor_train.evaluation.frames.detector import Detector, padded
from tmor_train.evaluation.frames.scores import frame_scores, in_context, window_features
from tmor_train.evaluation.frames.window_loader import RecordingWindows
from tmor_train.evaluation.frames.windows import to_frames
from tmor_train.recipes import recipe

torch.set_num_threads(1)
ENCODER, _ = started(StartConfig(weights="scratch"), seed=0, device="cpu")


def detector(**changes):
    torch.manual_seed(0)
    return Detector(ENCODER, DetectorConfig(device="cpu", precision="float32", **changes), classes=3)


def windows(lengths=(40, 28), **changes):
    return RecordingWindows(
        acted.recordings(lengths), sampling=ENCODER.sampling, config=WindowConfig(**{"length": 16, **changes})
    )


@pytest.mark.parametrize("head", ["linear", "sdtcn", "mstct"])
def test_a_shorter_window_scores_as_it_does_alone(head):
    made = detector(head=head).eval()
    features = [torch.randn(256, 4), torch.randn(256, 3)]
    both = made(padded(features, torch.device("cpu")), [16, 10])
    alone = made(features[1][None], [10])
    assert both.shape == (2, 3, 16)
    torch.testing.assert_close(both[1, :, :10], alone[0], atol=1e-5, rtol=1e-4)
    assert not both[1, :, 10:].any()


def test_logits_are_the_linear_map_of_each_feature_frame_between_frames():
    made = detector()
    features = torch.randn(1, 256, 4)
    weight, bias = made.head.map.weight[..., 0], made.head.map.bias
    expected = to_frames((weight @ features[0] + bias[:, None])[None], 15)
    torch.testing.assert_close(made(features, [15]), expected)


def test_scaled_features_have_no_mean_and_one_as_deviation():
    made = detector()
    features = [torch.randn(256, frames) * 3 + 2 for frames in (4, 9)]
    for one in features:
        one[7] = 5.0  # never changes
    made.scale_to(features)
    scaled = (torch.cat(features, 1) - made.mean) / made.deviation
    torch.testing.assert_close(scaled.mean(1), torch.zeros(256), atol=1e-5, rtol=0)
    deviation = scaled.std(1, correction=0)
    assert float(deviation[7]) == 0
    torch.testing.assert_close(torch.cat([deviation[:7], deviation[8:]]), torch.ones(255), atol=1e-4, rtol=0)


def test_features_of_a_window_do_not_depend_on_those_beside_it():
    made, cut = detector(batch=4), windows()
    found = window_features(made, cut, cache="float32")
    for number in range(len(found)):
        seen = cut.gather(np.array([number])).motion_NCTVM
        torch.testing.assert_close(found[number], ENCODER.network.pooled_frames(seen)[0], atol=1e-5, rtol=1e-4)
    assert [one.shape[1] for one in found] == [4, 4, 2, 4, 3]


def test_a_feature_that_does_not_fit_is_told():
    made = detector()
    with torch.no_grad():
        made.trunk.l10.t_unit.bn.weight.fill_(1e8)
    with pytest.raises(ArithmeticError, match=r"train\.cache=float32"):
        window_features(made, windows(), cache="float16")


def test_scores_are_the_mean_over_windows_that_hold_a_frame():
    made, cut = detector(batch=2), windows(length=16, stride=8)
    features = window_features(made, cut, cache="float32")
    found = list(frame_scores(made, cut, features, answer="sigmoid"))
    assert [one.shape for one in found] == [(40, 3), (28, 3)]
    for recording, scores in enumerate(found):
        for frame in (0, 9, 27):
            held = []
            for number in np.flatnonzero(cut.recording_W == recording):
                begin, length = int(cut.begin_W[number]), int(cut.length_W[number])
                if begin <= frame < begin + length:
                    logits = made(features[number][None], [length])
                    held.append(torch.sigmoid(logits)[0, :, frame - begin].detach())
            assert len(held) in (1, 2)
            np.testing.assert_allclose(scores[frame], torch.stack(held).mean(0), atol=1e-5)
    softmax = next(frame_scores(made, cut, features, answer="softmax"))
    np.testing.assert_allclose(softmax.sum(1), 1, atol=1e-5)


def test_the_model_of_the_released_detector_has_its_number_of_parameters():
    config = changed(recipe("detect_sdtcn"), ["start.scratch.sampling.people=2"])
    encoder, _ = started(changed(config.start, ["weights=scratch"]), seed=0, device="cpu")
    made = Detector(encoder, config.train, classes=51)
    assert sum(parameter.numel() for parameter in made.head.parameters()) == 5_405_747
    assert sum(parameter.numel() for parameter in made.trunk.parameters()) == 3_443_664


def test_a_head_that_sees_several_windows_gets_their_features_one_after_the_other():
    made, cut = detector(batch=4), windows((40, 28), length=8)
    features = window_features(made, cut, cache="float32")
    longer, joined = in_context(cut, features, context=3)
    assert longer.length_W.tolist() == [24, 16, 24, 4]
    assert longer.begin_W.tolist() == [0, 24, 0, 24]
    assert [one.shape[1] for one in joined] == [6, 4, 6, 1]
    assert torch.equal(joined[1], torch.cat(features[3:5], 1))
    assert torch.equal(joined[3], features[8])
    assert in_context(cut, features, context=1)[0] is cut
    for other in (windows(length=8, stride=4), windows(length=10), windows(length=8, last="shifted")):
        with pytest.raises(ValueError, match=r"train\.context"):
            in_context(other, features, context=2)
