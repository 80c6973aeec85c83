"""A page as its reader gets it: links, anchors, sources, and tables as lists of rows of text."""
import html.parser


class Reader(html.parser.HTMLParser):
    """Collects what a page refers to, its anchors, and its tables as lists of rows of text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.sources, self.tables, self.open = [], [], [], {}, []
        self.section = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.sources += [attributes[name] for name in ("src", "srcset", "poster", "data") if name in attributes]
        self.sources += [attributes["href"]] if tag == "link" else []
        if tag == "section":
            self.section = attributes["id"]
        if tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.tables[self.section][-1].append("")
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.tables[self.section][-1][-1] += data
