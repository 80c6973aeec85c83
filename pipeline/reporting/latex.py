"""The tables as LaTeX to paste into a paper of one's own: booktabs rules, the paper's rows and columns, ours beside them.

Each, the ledger too, is a `table` float, shrunk to the page; at any scale but `paper` its caption says that it is no result.
"""
import itertools

from pipeline import paper
from pipeline.paper.rows import TITLES
from pipeline.reporting import columns

HEAD = "% \\usepackage{booktabs,amssymb,graphicx}   (made by: python -m stages.compile)\n"
FIT = ["\\ifdim\\wd0>\\linewidth\\sbox0{\\resizebox{\\linewidth}{!}{\\usebox0}}\\fi",
       "\\ifdim\\dimexpr\\ht0+\\dp0>0.8\\textheight\\sbox0{\\resizebox*{!}{0.8\\textheight}{\\usebox0}}\\fi", "\\usebox0"]
SPECIAL = str.maketrans({"\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#",
                         "_": "\\_", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
                         ">": "\\textgreater{}", "×": "$\\times$", "–": "--", "−": "$-$", "✓": "\\checkmark{}",
                         "[": "{[}", "]": "{]}"})  # a bracket after \\ or at the head of a row would be read as an option


def escape(text: str) -> str:
    """Text as LaTeX shows it. What is no ASCII after that is left to \\usepackage[utf8]{inputenc}."""
    return text.translate(SPECIAL)


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number; with `sign` +1.23 or $-$1.23; -- for None."""
    return "--" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "$-$")


def cell(value) -> str:
    """A descriptor of a row: a tick for yes, nothing for no."""
    return "\\checkmark" if value is True else "" if value is None or value is False else escape(str(value))


def document(name: str, lines: list[dict], draft: str = "") -> str:
    """Table `name` from the lines of `reports/tables/NAME.parquet`. draft: in what scale paper is not the paper's experiment."""
    warning = f"Scale {lines[0]['scale']}: not a result of the paper's experiment."
    if lines[0]["scale"] == "paper":
        warning = f"A draft: {draft}." if draft else ""
    return {"claims": _claims, "figure5": _figure5}.get(name, _table)(name, lines, warning)


def _table(name: str, lines: list[dict], warning: str) -> str:
    kinds, measures, costs = columns.ROWS[name], columns.measures(name), columns.costs(name, lines)
    published = paper.tables().get(name)
    differs = published is not None and lines[0]["scale"] in columns.COMPARABLE
    seeds = any(line.get("miou_seeds_low") is not None for line in lines)  # a column of their own where there are any
    there = {"paper": published is not None, "ours": True, "95\\,\\%": True, "seeds": seeds, "diff.": differs}
    heads = [head for head, shown in there.items() if shown]
    top = [_span(len(kinds), "")] + [_span(len(heads), f"{words} (%)") for words, _ in measures]
    top += [_span(len(costs), "Multiply-Adds (B)")] if costs else []
    second = [escape(head) for head, _ in kinds] + heads * len(measures)
    second += [words for words, _ in costs]
    starts = [len(kinds) + 1 + len(heads) * place for place in range(len(measures) + 1)]
    rules = "".join(f"\\cmidrule(lr){{{start}-{following - 1}}}" for start, following in itertools.pairwise(starts))
    if costs:
        rules += f"\\cmidrule(l){{{starts[-1]}-{starts[-1] + len(costs) - 1}}}"
    rows = []
    for line in lines:
        cells = [cell(line.get(key)) for _, key in kinds]
        for _, key in measures:
            ours, theirs = line.get(key), line.get(f"{key}_paper")
            if published:
                cells.append(number(theirs, columns.digits(name)))
            cells += [number(ours), _interval(line.get(f"{key}_low"), line.get(f"{key}_high"))]
            if seeds:
                cells.append(_interval(line.get(f"{key}_seeds_low"), line.get(f"{key}_seeds_high"), 2))
            if differs:
                cells.append(number(columns.difference(ours, theirs), sign=True))
        cells += [number(line.get(key)) for _, key in costs]
        starred = len(kinds) + len(heads) * len(measures) if costs else 0
        cells[starred] += "\\rlap{*}" if line.get("note") else ""
        rows.append(cells)
    title = f"{published.title}. {published.setting}." if published else "Runs and strategies that the paper lacks."
    reasons = [f"{line['label']}: {line['status']}" for line in lines if line["status"] != "measured"]
    notes = list(dict.fromkeys(line["note"] for line in lines if line.get("note")))
    return _float(name, f"{title} {warning}", "l" * len(kinds) + "r" * len(heads) * len(measures) + "r" * len(costs),
                  [" & ".join(top), rules, " & ".join(second)], rows, reasons, notes)


def _figure5(name: str, lines: list[dict], warning: str) -> str:
    curves, widths = (list(dict.fromkeys(line[key] for line in lines)) for key in ("curve", "width"))
    at = {(line["curve"], line["width"]): line for line in lines}
    top = ["", *(_span(2, curve) for curve in curves)]
    rules = "".join(f"\\cmidrule(lr){{{2 * place + 2}-{2 * place + 3}}}" for place in range(len(curves)))
    rows = [[str(width), *(number(at[curve, width][key]) for curve in curves for key in ("miou_paper", "miou"))]
            for width in widths]
    published = paper.tables()[name]
    reasons = list(dict.fromkeys(line["status"] for line in lines if line["status"] != "measured"))
    return _float(name, f"{published.title}: mIOU (%) by trimap width (pixels). {warning}", "r" + "rr" * len(curves),
                  [" & ".join(top), rules, " & ".join(["Width", *["paper", "ours"] * len(curves)])], rows, reasons)


def _claims(name: str, lines: list[dict], warning: str) -> str:
    rows, seeds = [], any(line["pairings"] for line in lines)  # a column of their own where there are any
    for line in lines:
        known = line["effect"] is not None
        where = "; ".join(filter(None, (line["where"], (line["a"] or known) and f"true {columns.truth(line)}",
                                        columns.against(line), known and line["reason"])))
        counted = line["measure"].startswith("madds") and known
        cells = [escape(line["sentence"]), escape(where), escape(line["unit"]), number(line["predicts"], sign=True),
                 number(line["effect"], sign=True), "exact" if counted else _interval(line["low"], line["high"], 2, sign=True)]
        if seeds:
            cells.append(_interval(line["seeds_low"], line["seeds_high"], 2, sign=True))
        rows.append([*cells, escape(line["verdict"])])
    reasons = [f"{line['sentence']} {line['reason']}" for line in lines if line["effect"] is None]
    heads = ["Claim", "Where", "Unit", "Paper", "Ours", "95\\,\\%", *(["Seeds"] if seeds else []), "Verdict"]
    title = "The paper's claims" + (", and claims of your own" if any(line["predicts"] is None for line in lines) else "")
    both = "interval over images and its range over seeds lie" if seeds else "interval over images lies"
    rule = f"A claim holds where its 95 % {both} wholly where it is true, and fails where wholly outside."
    align = "p{6.2cm}p{4.2cm}" + ("lrrlll" if seeds else "lrrll")
    return _float(name, f"{title}. {rule} {warning}", align, [" & ".join(heads)], rows, reasons)


def _span(columns: int, words: str) -> str:
    return f"\\multicolumn{{{columns}}}{{c}}{{{escape(words)}}}"


def _interval(low: float | None, high: float | None, digits: int = 1, sign: bool = False) -> str:
    return "" if low is None or high is None else f"{{[}}{number(low, digits, sign)}, {number(high, digits, sign)}{{]}}"


def _float(name: str, caption: str, align: str, heads: list[str], rows: list[list[str]], reasons: list[str],
           notes: tuple[str, ...] | list[str] = ()) -> str:
    """reasons: why rows are empty, as comments; notes: what stands below the table."""
    heads = [head if head.startswith("\\cmidrule") else f"{head} \\\\" for head in heads]
    body = [f"{' & '.join(row)} \\\\" for row in rows]
    comments = [f"% {' '.join(reason.split())}" for reason in reasons]  # a comment ends with its line
    below = [f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\footnotesize * {escape(note)}.}}" for note in notes]
    ours = name in ("claims", "own")
    title = escape(f"{'' if ours else 'The paper: '}{'The ledger' if name == 'claims' else TITLES[name]}: {caption.strip()}")
    return HEAD + "\n".join([
        "\\begin{table}", "\\centering", "\\small", f"\\caption{{{title}}}",
        f"\\label{{tab:{name}}}", f"\\sbox0{{\\begin{{tabular}}{{{align}}}", "\\toprule", *heads, "\\midrule", *body,
        "\\bottomrule", "\\end{tabular}}", *FIT, *below, *comments, "\\end{table}"]) + "\n"
