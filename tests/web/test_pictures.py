"""Which texts are pictures: told from their bytes, and never from what their sender says."""

from __future__ import annotations

import pytest

from broker.web.pictures import LARGEST, picture, pictures
from tests.web.drawing import base64_of, gif, jpeg, png, webp

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


@pytest.mark.parametrize(
    ("content", "kind", "size"),
    [
        (png(3, 2), "image/png", (3, 2)),
        (gif(), "image/gif", (1, 1)),
        (jpeg(640, 480), "image/jpeg", (640, 480)),
        (webp(640, 480), "image/webp", (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01", "image/webp", (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\0", "image/webp", (640, 480)),
    ],
)
def test_a_picture_is_what_its_bytes_say(content: bytes, kind: str, size: tuple[int, int]) -> None:
    for text in (base64_of(content), f"data:image/svg+xml;base64,{base64_of(content)}"):
        found = picture(text)
        assert found is not None
        assert (found.media_type, (found.width, found.height), found.content) == (kind, size, content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(SVG, id="an SVG"),
        pytest.param(b"GIF89a<script>", id="a script that begins as a GIF"),
        pytest.param(b"\x89PNG\r\n\x1a\n<html>", id="a page that begins as a PNG"),
        pytest.param(png(40_000, 40_000), id="a PNG that unpacks to gigabytes"),
        pytest.param(png(60_000, 1), id="a PNG that is too wide"),
        pytest.param(png(0, 1), id="a PNG of nothing"),
        pytest.param(webp(16_000, 16_000), id="a WebP that unpacks to a gigabyte"),
        pytest.param(png(2, 2, (b"acTL", bytes(8))), id="a PNG that moves"),
        pytest.param(gif(2), id="a GIF that moves"),
        pytest.param(webp(2, 2, flags=2), id="a WebP that moves"),
        pytest.param(gif()[:-8], id="half a GIF"),
        pytest.param(jpeg(2, 2)[:9], id="half a JPEG"),
        pytest.param(png(1, 1) + bytes(LARGEST), id="too many bytes"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_still_picture_of_bounded_size_is_text(content: bytes) -> None:
    assert picture(base64_of(content)) is None
    assert picture(f"data:image/png;base64,{base64_of(content)}") is None


@pytest.mark.parametrize("text", ["iVBORw0KGgo", f"iVBORw0KGgo!{base64_of(gif())}", "data:image/png,x", "data:", ""])
def test_what_is_no_base64_is_text(text: str) -> None:
    assert picture(text) is None


def test_every_picture_in_a_value_is_found() -> None:
    value = {"a": [base64_of(png(1, 1)), {"b": base64_of(gif())}], "c": base64_of(SVG), "d": None, "e": 5}
    assert [found.form for found in pictures(value)] == ["PNG", "GIF"]
