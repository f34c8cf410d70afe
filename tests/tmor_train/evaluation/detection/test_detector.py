import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import acted
from tmor_train.configuration import as_json, changed
from tmor_train.data import Clip, Normalise, Sampling, from_clips
from tmor_train.data.augment import Project
from tmor_train.encoder import EncoderConfig
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.detection.config import DetectorConfig, TransferConfig, WindowConfig
from tmor_train.evaluation.detection.detect import frame_scores, in_context, window_features
from tmor_train.evaluation.detection.detector import (
    FLAT,
    Detector,
    RecordingWindows,
    adapted,
    averaged,
    event_classes,
    event_cross_entropy,
    frame_bce,
    padded,
    windows,
)
from tmor_train.evaluation.encoders import load_encoder
from tmor_train.pretrained.encoder import UnusableEncoderError
from tmor_train.recipes import recipe
from tmor_train.training.config import ViewConfig

torch.set_num_threads(1)
ENCODER, _ = load_encoder(StartConfig(weights="scratch"), seed=0, device="cpu")


def detector(**changes):
    torch.manual_seed(0)
    return Detector(ENCODER, DetectorConfig(device="cpu", precision="float32", **changes), classes=3)


def some_windows(lengths=(40, 28), **changes):
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
    coarse = (weight @ features[0] + bias[:, None]).detach().numpy()
    centre_T = (np.arange(15) + 0.5) * 4 / 15 - 0.5  # of each frame, counted in feature frames
    expected = [np.interp(centre_T, np.arange(4), row) for row in coarse]
    np.testing.assert_allclose(made(features, [15])[0].detach(), expected, atol=1e-5)


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
    made, cut = detector(batch=4), some_windows()
    found = window_features(made, cut, cache="float32")
    for number in range(len(found)):
        seen = cut.gather(np.array([number])).motion_NCTVM
        torch.testing.assert_close(found[number], ENCODER.network.pooled_frames(seen)[0], atol=1e-5, rtol=1e-4)
    assert [one.shape[1] for one in found] == [4, 4, 2, 4, 3]


def test_a_feature_that_does_not_fit_is_refused():
    made = detector()
    with torch.no_grad():
        made.trunk.l10.t_unit.bn.weight.fill_(1e8)
    with pytest.raises(ArithmeticError, match=r"train\.cache=float32"):
        window_features(made, some_windows(), cache="float16")


def test_scores_are_the_mean_over_windows_that_hold_a_frame():
    made, cut = detector(batch=2), some_windows(length=16, stride=8)
    features = window_features(made, cut, cache="float32")
    found = list(frame_scores(made, cut, features, activation="sigmoid"))
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
    softmax = next(frame_scores(made, cut, features, activation="softmax"))
    np.testing.assert_allclose(softmax.sum(1), 1, atol=1e-5)


def test_the_model_of_the_released_detector_has_its_number_of_parameters():
    config = changed(recipe("detect_sdtcn"), ["start.scratch.sampling.people=2"])
    encoder, _ = load_encoder(changed(config.start, ["weights=scratch"]), seed=0, device="cpu")
    made = Detector(encoder, config.train, classes=51)
    assert sum(parameter.numel() for parameter in made.head.parameters()) == 5_405_747
    assert sum(parameter.numel() for parameter in made.trunk.parameters()) == 3_443_664


def test_a_head_that_sees_several_windows_gets_their_features_one_after_the_other():
    made, cut = detector(batch=4), some_windows((40, 28), length=8)
    features = window_features(made, cut, cache="float32")
    longer, joined = in_context(cut, features, context=3)
    assert longer.length_W.tolist() == [24, 16, 24, 4]
    assert longer.begin_W.tolist() == [0, 24, 0, 24]
    assert [one.shape[1] for one in joined] == [6, 4, 6, 1]
    assert torch.equal(joined[1], torch.cat(features[3:5], 1))
    assert torch.equal(joined[3], features[8])
    assert in_context(cut, features, context=1)[0] is cut
    for other in (some_windows(length=8, stride=4), some_windows(length=10), some_windows(length=8, last="shifted")):
        with pytest.raises(ValueError, match=r"train\.context"):
            in_context(other, features, context=2)


def drawn(classes):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, classes, 5), torch.rand(2, 5, 3) > 0.6
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return logits, labels, valid


def test_binary_loss_is_summed_over_classes_and_divided_by_valid_frames():
    logits, labels, valid = drawn(3)
    total, frames = 0.0, 0
    for n in range(2):
        for t in range(5):
            if valid[n, t]:
                frames += 1
                for k in range(3):
                    share = 1 / (1 + math.exp(-float(logits[n, k, t])))
                    total -= math.log(share if labels[n, t, k] else 1 - share)
    assert float(frame_bce(logits, labels, valid)) == pytest.approx(total / frames, rel=1e-5)


def test_event_loss_is_the_mean_of_valid_frames_weighted_by_their_class():
    logits, labels, valid = drawn(4)
    labels[0, 0] = False
    total, weights = 0.0, 0.0
    for n in range(2):
        for t in range(5):
            if valid[n, t]:
                named = [k + 1 for k in range(3) if labels[n, t, k]]
                number, weight = (named[0], 1.0) if named else (0, 0.25)
                shares = [math.exp(float(logits[n, k, t])) for k in range(4)]
                total -= weight * math.log(shares[number] / sum(shares))
                weights += weight
    found = event_cross_entropy(logits, labels, valid, background=0.25)
    assert float(found) == pytest.approx(total / weights, rel=1e-5)


@pytest.mark.parametrize("loss", [frame_bce, lambda z, y, v: event_cross_entropy(z, y, v, background=0.5)])
def test_what_padded_frames_hold_changes_neither_loss_nor_gradient(loss):
    logits, labels, valid = drawn(4)
    labels = torch.cat([labels, labels[..., :1]], -1) if loss is frame_bce else labels
    gradients = []
    for other in (0.0, 50.0):
        changed = logits.clone()
        changed[1, :, 3:] = other
        changed.requires_grad_()
        value = loss(changed, labels, valid)
        value.backward()
        gradients.append((value.item(), changed.grad))
    assert gradients[0][0] == gradients[1][0]
    assert torch.equal(gradients[0][1], gradients[1][1])
    assert not gradients[1][1][1, :, 3:].any()


def test_a_frame_without_a_class_is_background_and_the_lowest_of_several_counts():
    labels = torch.tensor([[[False, False], [False, True], [True, True]]])
    assert event_classes(labels).tolist() == [[0, 2, 1]]


torch.set_num_threads(1)
DEEP, PLANE = acted.recordings((20,), dimensions=3).motions, acted.recordings((20,)).motions
START = StartConfig(weights="scratch")
ENCODER, _ = load_encoder(START, seed=0, device="cpu")


def test_an_encoder_of_pictures_sees_x_and_y_of_joints_in_space():
    found, notes = adapted(ENCODER, TransferConfig(), start=START, motions=DEEP)
    assert found.views.still == (FLAT,)
    assert "projected" in notes[0]


def test_nothing_is_changed_where_nothing_has_to_be():
    assert adapted(ENCODER, TransferConfig(), start=START, motions=PLANE) == (ENCODER, ())
    views = ViewConfig(still=(Project(yaw=0.0, pitch=0.0),))
    projecting = replace(ENCODER, views=views)
    assert adapted(projecting, TransferConfig(), start=START, motions=DEEP) == (projecting, ())


@pytest.mark.parametrize(
    "known", [{}, {"sha256": "abc"}, {"sha256": "abc", "config": {"encoder": as_json(EncoderConfig())}}]
)
def test_a_transplanted_trunk_has_all_weights_but_those_of_joints_and_coordinates(known):
    encoder = replace(ENCODER, **known)
    torch.manual_seed(3)
    found, notes = adapted(encoder, TransferConfig(how="trunk"), start=START, motions=DEEP)
    old, new = encoder.network.state_dict(), found.network.state_dict()
    fresh = {name for name in new if name not in old or not torch.equal(new[name], old[name])}
    assert (found.network.joints, found.network.channels, found.sampling.layout) == (25, 3, "ntu25")
    assert found.sampling.people == 2
    assert found.views.still == ()
    assert "l5.s_unit.conv_a.0.weight" not in fresh
    assert "l1.t_unit.conv.weight" not in fresh
    assert {"l1.s_unit.conv_a.0.weight", "l5.s_unit.DepM", "data_bn.weight"} <= fresh | {"data_bn.weight"}
    assert {name.split(".")[-1] for name in fresh if name[1] in "23456789"} <= {"DepM", "bias"}
    assert "of 3,454,340 weights" in notes[0]
    moved = int(notes[0].split()[0].replace(",", ""))
    assert 3_300_000 < moved < 3_454_340
    assert found.network.pooled_frames(torch.randn(1, 3, 16, 25, 2)).shape == (1, 256, 4)


def test_released_weights_of_another_network_are_refused():
    other = replace(ENCODER, network=torch.nn.Identity(), sha256="abc", path=Path("other.pt"))
    with pytest.raises(UnusableEncoderError, match=r"transfer\.how=project"):
        adapted(other, TransferConfig(how="trunk"), start=START, motions=DEEP)


def test_windows_cover_a_recording_and_the_last_is_shorter():
    assert windows(700, WindowConfig()) == ((0, 300), (300, 600), (600, 700))
    assert windows(600, WindowConfig()) == ((0, 300), (300, 600))
    assert windows(12, WindowConfig()) == ((0, 12),)
    assert windows(10, WindowConfig(length=4, stride=2)) == ((0, 4), (2, 6), (4, 8), (6, 10))
    assert windows(9, WindowConfig(length=4, stride=2))[-1] == (6, 9)


def test_the_last_window_may_begin_earlier_instead():
    assert windows(700, WindowConfig(last="shifted")) == ((0, 300), (300, 600), (400, 700))
    assert windows(600, WindowConfig(last="shifted")) == ((0, 300), (300, 600))
    assert windows(12, WindowConfig(last="shifted")) == ((0, 12),)


def test_a_recording_without_frames_is_refused():
    with pytest.raises(ValueError, match="without frames"):
        windows(0, WindowConfig())


def test_overlapping_windows_are_averaged():
    found = averaged([(0, np.array([[1.0], [1.0]])), (1, np.array([[3.0], [5.0]]))], frames=3)
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [1, 2, 5]


def test_a_frame_in_no_window_is_an_error():
    with pytest.raises(ValueError, match="1 of 3 frames"):
        averaged([(0, np.zeros((2, 1)))], frames=3)
    with pytest.raises(ValueError, match="outside"):
        averaged([(2, np.zeros((2, 1)))], frames=3)


RECORDINGS = acted.recordings((40, 28))


def recording_windows(recordings=RECORDINGS, **changes):
    sampling = Sampling(normalise=Normalise("fixed640"), padding="loop", choice="uniform", frames=9)
    return RecordingWindows(recordings, sampling=sampling, config=WindowConfig(**changes))


def test_windows_are_those_of_each_recording():
    found = recording_windows(length=16)
    assert found.recording_W.tolist() == [0, 0, 0, 1, 1]
    assert found.begin_W.tolist() == [0, 16, 32, 0, 16]
    assert found.length_W.tolist() == [16, 16, 8, 16, 12]


def test_a_batch_holds_the_frames_in_a_row_and_nobody_after_a_shorter_one():
    found = recording_windows(length=16)
    batch = found.gather(np.array([1, 2]))
    stored = RECORDINGS.motions.clip(0).joints_MTJC[0, ..., :2]
    expected = 2 * stored / 640 - np.array([1.0, 480 / 640], np.float32)
    assert batch.motion_NCTVM.shape == (2, 2, 16, 17, 1)
    np.testing.assert_allclose(batch.motion_NCTVM[0, ..., 0].permute(1, 2, 0), expected[16:32], atol=1e-6)
    np.testing.assert_allclose(batch.motion_NCTVM[1, :, :8, :, 0].permute(1, 2, 0), expected[32:40], atol=1e-6)
    assert batch.seen_NTVM[1, :8].all()
    assert not batch.seen_NTVM[1, 8:].any()
    assert not batch.motion_NCTVM[1, :, 8:].any()


def test_labels_are_those_of_the_windows_frames():
    found = recording_windows(length=16, stride=10)
    index = np.flatnonzero(found.recording_W == 1)
    labels = found.labels(index)
    whole = RECORDINGS.labels(1)
    assert labels.dtype == torch.bool
    assert whole.any()
    for row, number in enumerate(index):
        begin, length = int(found.begin_W[number]), int(found.length_W[number])
        assert np.array_equal(labels[row, :length].numpy(), whole[begin : begin + length])
        assert not labels[row, length:].any()


def test_batches_of_one_length_hold_every_window_once():
    found = recording_windows(length=16)
    batches = found.alike(batch=2)
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3, 4]
    assert all(len(set(found.length_W[batch].tolist())) == 1 and len(batch) <= 2 for batch in batches)


def test_the_person_shown_is_that_of_the_whole_recording():
    quiet, lively = np.ones((2, 1, 20, 17, 3), np.float32)
    quiet[..., :2] = np.random.default_rng(0).uniform(300, 310, (1, 20, 17, 2))
    lively[0, :10, :, :2] = 5  # of the first ten frames alone, the quiet one spreads further
    lively[0, 10:, :, :2] = np.random.default_rng(1).uniform(0, 600, (10, 17, 2))
    clip = Clip(key="two", joints_MTJC=np.concatenate([quiet, lively]), layout="unik17", width=640, height=480)
    two = acted.Recordings(from_clips([clip]), acted.CLASSES, acted.recordings((20,)).events)
    batch = recording_windows(two, length=10).gather(np.array([0]))
    np.testing.assert_allclose(batch.motion_NCTVM[0, 0], 2 * 5 / 640 - 1, atol=1e-6)


@pytest.mark.parametrize("changes", [{"length": 0}, {"stride": 301}, {"stride": 0}])
def test_windows_that_leave_frames_out_are_refused(changes):
    with pytest.raises(ValueError, match="stride"):
        WindowConfig(**changes)
