"""What a browser shows, out of the DOM that it prints."""

from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "input"}


class Dom(HTMLParser):
    """The texts of a page: of each element with an id, and the cells of each table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.items: dict[str, list[str]] = {}
        self.tags: list[str] = []
        # Ids of what is not shown.
        self.hidden: set[str] = set()
        # Texts of all that is drawn as broken.
        self.red: list[str] = []
        # The open elements: tag, id, and whether it is drawn as broken.
        self._open: list[tuple[str, str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in _VOID:
            return
        given = dict(attrs)
        name, broken = given.get("id") or "", "broken" in (given.get("class") or "").split()
        if "hidden" in given:
            self.hidden.add(name)
        self._open.append((tag, name, broken))
        if broken:
            self.red.append("")
        if tag == "tr":
            self.tables.setdefault(self._nearest(), []).append([])
        elif tag in ("th", "td"):
            self.tables[self._nearest()][-1].append("")
        elif tag in ("li", "dd"):
            self.items.setdefault(self._nearest(), []).append("")

    def _nearest(self) -> str:
        return next(name for _, name, _ in reversed(self._open) if name)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag, name, _ in self._open:
            if name:
                self.texts[name] = self.texts.get(name, "") + data
            if tag in ("th", "td"):
                self.tables[self._nearest()][-1][-1] += data
            elif tag in ("li", "dd"):
                self.items[self._nearest()][-1] += data
        if any(broken for _, _, broken in self._open):
            self.red[-1] += data
