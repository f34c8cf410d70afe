from posecap.inference.frame_sampling import middle_frames


def test_the_middle_of_each_stretch():
    assert middle_frames(16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert middle_frames(24, 8) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert middle_frames(100, 8) == [5, 18, 30, 43, 55, 68, 80, 93]


def test_short_clips_are_seen_whole():
    assert middle_frames(3, 8) == [0, 1, 2]
    assert middle_frames(8, 8) == list(range(8))
