import pytest

from nonsmooth.report.prose import blocks, inline
from nonsmooth.report.summary import duration


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *word* and `code`", "a <em>word</em> and <code>code</code>"),
        ("``code`` and **strong**", "<code>code</code> and <strong>strong</strong>"),
        ("β* = Zᵀa and γ* = 0", "β* = Zᵀa and γ* = 0"),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("<b>1 & 2</b>", "&lt;b&gt;1 &amp; 2&lt;/b&gt;"),
        ("*<i>*", "<em>&lt;i&gt;</em>"),
    ],
)
def test_inline(text, html):
    assert str(inline(text)) == html


def test_blocks_join_lines_and_find_lists():
    text = "First\nsentence.\n\nThen:\n- one\n  goes on\n- *two*\n\nEnd <here>."
    assert str(blocks(text)) == (
        "<p>First sentence.</p><p>Then:</p><ul><li>one goes on</li><li><em>two</em></li></ul><p>End &lt;here&gt;.</p>"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (18720, "5 h 12 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
