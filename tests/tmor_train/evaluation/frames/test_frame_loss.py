import math

import pytest
import torch

from tmor_train.evaluation.frames.loss import event_classes, event_cross_entropy, frame_bce


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
