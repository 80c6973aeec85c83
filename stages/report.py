"""Write the report from the tables, the facts and the pictures."""
from pipeline import study as studies
from pipeline.reporting import page
from stages import console


def main():
    """Write reports/index.html, reports/runs, reports/README.md and reports/figures. Trains nothing, takes no GPU and no torch.

    Example:  python -m stages.report
    """
    study = studies.load()
    console.require_evaluated(study)
    written = page.write(study)
    index = next(path for path in written if path.name == "index.html")
    print(f"{index}: {index.stat().st_size / 1e6:.2f} MB, {len(written)} files")


if __name__ == "__main__":
    console.run(main)
