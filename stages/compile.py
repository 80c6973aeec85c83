"""Mirror what was measured into MLflow and build the paper's tables from it."""
from pipeline import study as studies
from pipeline.paper import protocol
from pipeline.reporting import banner, ledger, sheets, tables
from pipeline.tracking import mirror
from stages import checks, console


def main():
    """Mirror records and facts into MLflow, read them back, and write reports/tables. Takes no GPU and no torch.

    Example:  python -m stages.compile
    """
    study = studies.load()
    checks.check_settings(study)
    console.require_evaluated(study)
    runs = mirror.mirror(study).runs
    built = tables.build(study, mirror.read_back(study, runs))
    draft = banner.departures(protocol.departing(study), sheets.build(study))
    tables.save(built | {"claims": ledger.build(study)}, draft="; ".join(draft))
    print(tables.summary(built))


if __name__ == "__main__":
    console.run(main)
