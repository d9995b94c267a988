"""Write the golden renderings again: `python -m e2e.cluster.tests.chart.golden`. Read the difference before committing it."""

from pathlib import Path

from e2e.cluster import helm
from e2e.cluster.tests.chart.cases import CASES

FOLDER = Path(__file__).with_name("golden")
NAMES = ("default", "cluster-wide", "everything")


def rendered(case: str) -> str:
    """A case's rendering without definitions and dashboards, which are generated from elsewhere."""
    values, api_versions = CASES[case]
    monitoring = {**values.get("monitoring", {}), "dashboards": {"enabled": False}}
    without = {**values, "crds": {"install": False}, "monitoring": monitoring}
    return helm.render(without, api_versions=api_versions)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for case in NAMES:
        (FOLDER / f"{case}.yaml").write_text(rendered(case))


if __name__ == "__main__":
    main()
