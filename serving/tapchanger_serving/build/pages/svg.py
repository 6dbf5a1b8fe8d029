"""Drawings as inline SVG: a tree of elements that escapes what it holds. Colours are classes of the page's style."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from tapchanger_serving.build.pages.words import plain


class Drawing:
    """An SVG of fixed proportions that fills its column. Positions and sizes are pixels of the drawing."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._root = Element("svg", {"viewBox": f"0 0 {_px(width)} {_px(height)}", "role": "img", "class": "drawing"})
        SubElement(self._root, "title").text = plain(title)

    def text(self, x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text."""
        element = self._add("text", kind, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = plain(content)

    def bar(self, x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> None:
        """A rectangle, with a hint for the pointer."""
        _hinted(self._add("rect", kind, x=x, y=y, width=width, height=height, rx=2), hint)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self._add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def dot(self, x: float, y: float, radius: float, kind: str, hint: str = "") -> None:
        """A circle, with a hint for the pointer."""
        _hinted(self._add("circle", kind, cx=x, cy=y, r=radius), hint)

    def path(self, points: list[tuple[float, float]], kind: str) -> None:
        """Straight lines from point to point."""
        self._add("polyline", kind).set("points", " ".join(f"{_px(x)},{_px(y)}" for x, y in points))

    def markup(self) -> Markup:
        """The drawing, safe to put into a page."""
        return Markup(tostring(self._root, encoding="unicode"))  # noqa: S704 - the writer has escaped every text

    def _add(self, tag: str, kind: str, **places: float) -> Element:
        element = SubElement(self._root, tag, {name: _px(place) for name, place in places.items()})
        if kind:
            element.set("class", kind)
        return element


def _hinted(element: Element, hint: str) -> None:
    if hint:
        SubElement(element, "title").text = plain(hint)


def _px(place: float) -> str:
    return f"{round(place, 1):g}"
