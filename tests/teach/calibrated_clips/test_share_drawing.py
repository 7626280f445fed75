"""The picture of cosines over the blocked share."""

from hmpo_lib.teach.calibrated_clips import cosines_over_share


def test_picture_says_where_each_line_begins_and_ends_in_order_of_the_shares():
    found = {
        ("late", 0.2): ([0.98, 0.96], [0.68, 0.69, 0.71]),
        ("late", 0.01): ([0.99, 0.97], [0.95, 0.94, 0.93]),
        ("early", 0.01): ([0.74, 0.72], [0.96, 0.97, 0.98]),
        ("early", 0.2): ([0.72, 0.66], [0.70, 0.75, 0.88]),
    }
    words = cosines_over_share(found).picture.alt_text
    assert "late, p = −1 against 1, on mean: 0.97 to 0.96" in words
    assert "early, tokens against mean, p = 1: 0.98 to 0.88" in words
    assert words.count("; ") == 2 * 5 - 1
