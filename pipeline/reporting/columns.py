"""What the tables show, on the page and in LaTeX alike: what tells the rows apart, what is measured, what it costs."""

ROWS = {  # what identifies a row: (heading, column of reports/tables)
    "table1": [("Channels", "channels")],
    "table2": [("Conv2", "conv2"), ("Conv3", "conv3"), ("3×3 conv structure", "conv")],
    "table3": [("Train OS", "train_os"), ("Eval OS", "eval_os"), ("Decoder", "dec"), ("MS", "ms"), ("Flip", "flip")],
    "table4": [("Model", "model")],
    "table5": [("Train OS", "train_os"), ("Eval OS", "eval_os"), ("Decoder", "dec"), ("MS", "ms"), ("Flip", "flip"),
               ("SC", "sc"), ("COCO", "coco"), ("JFT", "jft")],
    "table6": [("Method", "method")],
    "table7a": [("Backbone", "backbone"), ("Decoder", "dec"), ("ASPP", "aspp"), ("Image-level", "image_level")],
    "table7b": [("Method", "method"), ("Coarse", "coarse")],
    "zoo": [("Published network", "model"), ("Data", "data"), ("Eval OS", "eval_os"), ("Scales", "scales"), ("Flip", "flip")],
    "own": [("Run", "run"), ("Strategy", "strategy")],
}
COMPARABLE = ("paper", "zoo")  # scales with the paper's data and networks: a difference in points means something
MULTIPLY_ADDS = [("paper", "madds_paper"), ("recounted", "madds_counted_as_paper"), ("executed", "madds_executed")]  # in 1e9


def measures(table: str) -> list[tuple[str, str]]:
    """What a table measures: (words, column), in percent. The paper's value is in COLUMN_paper."""
    return [("top-1 error", "top1_error"), ("top-5 error", "top5_error")] if table == "table4" else [("mIOU", "miou")]


def digits(table: str) -> int:
    """Decimals that the paper prints of what it measured."""
    return 1 if table in ("table6", "table7b") else 2


def difference(ours: float | None, theirs: float | None) -> float | None:
    """Ours less the paper's, to the two decimals that are shown: what rounds to nothing is 0.0, never -0.0, and gets no arrow."""
    return None if ours is None or theirs is None else round(ours - theirs, 2) + 0.0


def costs(table: str, lines: list[dict]) -> list[tuple[str, str]]:
    """(words, column) of the multiply-adds that some row has; of runs that the paper lacks the trained network's, too."""
    kinds = [*MULTIPLY_ADDS, ("here", "madds_here")] if table == "own" else MULTIPLY_ADDS
    return [(words, key) for words, key in kinds if any(line.get(key) is not None for line in lines)]


def terms(own: bool) -> str:
    """What the columns mean, in words. own: whether there are runs that the paper lacks."""
    here = "; 'here', among runs of your own, are those of the network that was trained" if own else ""
    return ("mIOU: the mean over classes of TP / (TP + FP + FN), in pixels of all images; a class that is neither there nor "
            "predicted is left out. OS: output stride. MS: multi-scale inputs. SC: separable convolution in ASPP and decoder. "
            "Without decoder, logits are upsampled bilinearly (BU). Multiply-adds, in billions (B), are those of the paper's own "
            "network on its own canvas, 513×513 pixels or Cityscapes' 1025×2049, whatever was trained here: 'recounted' follows "
            "the paper's rules (atrous convolutions counted on padded maps), 'executed' is what runs here: maps without padding, "
            f"and no part of a kernel that meets padding alone{here}.")


def truth(claim: dict) -> str:
    """The differences under which a claim of the ledger is true, in words."""
    low, high = claim["at_least"], claim["at_most"]
    if low is not None and high is not None:
        said = f"between {low:g} and {high:g}"
    else:
        said = f"above {low:g}" if low is not None else f"below {high:g}"
    return said.replace("-", "−")


def against(claim: dict) -> str:
    """Which of several rivals a line of the ledger's effects are against, in words; empty where there is one, or no effect."""
    ours, theirs = claim["decided_by"], claim["predicts_against"]
    if ours in (None, claim["b"]):
        return ""
    return f"shown against {ours}" + (f", the paper's against {theirs}" if theirs not in (None, ours) else "")
