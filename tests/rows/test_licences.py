import pytest

from posecap.rows.licences import hub_identifier, licence_url


@pytest.mark.parametrize(
    ("written", "identifier"),
    [
        ("CC-BY-4.0", "cc-by-4.0"),
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("cc_by_4.0", "cc-by-4.0"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT License", "mit"),
        ("BSD-3", "bsd-3-clause"),
        ("CC0", "cc0-1.0"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("CC-BY-9.0", None),
        ("research use only", None),
        ("", None),
    ],
)
def test_hub_identifiers(written: str, identifier: str | None):
    assert hub_identifier(written) == identifier


def test_addresses():
    assert licence_url("CC-BY-4.0") == "https://creativecommons.org/licenses/by/4.0/"
    assert licence_url("https://example.org/terms") == "https://example.org/terms"
    assert licence_url("see https://example.org") is None
    assert licence_url("our own") is None
