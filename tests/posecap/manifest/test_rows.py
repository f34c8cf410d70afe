"""Where a video's URI leads."""

import pytest

from posecap.manifest.rows import located


@pytest.mark.parametrize(
    ("uri", "media_root", "expected"),
    [
        ("a/b.mp4", "/videos", "/videos/a/b.mp4"),
        ("./a.mp4", "/videos/", "/videos/a.mp4"),
        ("a.mp4", "https://x.org/v", "https://x.org/v/a.mp4"),
        ("/whole/path.mp4", "/videos", "/whole/path.mp4"),
        ("https://x.org/a.mp4", "/videos", "https://x.org/a.mp4"),
        ("pypi://p/1.0/a.mp4?sha256=00", "/videos", "pypi://p/1.0/a.mp4?sha256=00"),
        ("s3://bucket/a.mp4", "https://x.org", "s3://bucket/a.mp4"),
        ("a.mp4", "", "a.mp4"),
        ("./c:1.mp4", "/videos", "/videos/c:1.mp4"),
    ],
)
def test_relative_ones_start_at_the_media_root_and_whole_ones_stay(uri: str, media_root: str, expected: str) -> None:
    assert located(uri, media_root) == expected
