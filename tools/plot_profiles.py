"""Draws the errors of the shipped profiles, and writes their table (needs the `plots` extra).

python tools/plot_profiles.py > TABLE
"""

from pathlib import Path

from matplotlib.figure import Figure

from pointsman.api.profile import load_profile_file, shipped_profiles

OUT = Path("docs/images/profile-errors.png")
PHASES = {"prefill": "#4e79a7", "decode": "#f28e2b", "mixed": "#59a14f"}
WANTED_MEDIAN, WANTED_P90 = 5.0, 15.0


def main() -> None:
    files = [load_profile_file(name) for name in shipped_profiles()]
    files.sort(key=lambda file: (file.provenance.source.startswith("estimate"), file.name))
    print("| profile | source | points | prefill | decode | mixed |\n|---|---|---|---|---|---|")
    for file in files:
        errors = file.provenance.left_out
        cells = [
            f"{errors[phase].median:.1%} / {errors[phase].p90:.1%}" if phase in errors else ""
            for phase in PHASES
        ]
        kind = (
            "estimate"
            if file.provenance.source.startswith("estimate")
            else {"distserve": "DistServe", "splitwise": "Splitwise"}[file.engine]
        )
        print(f"| `{file.name}` | {kind} | {file.provenance.points_used} | {' | '.join(cells)} |")
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for place, file in enumerate(files):
        for shift, (phase, colour) in enumerate(PHASES.items()):
            if error := file.provenance.left_out.get(phase):
                y = place + (shift - 1) * 0.24
                axes.plot([100 * error.median, 100 * error.p90], [y, y], color=colour, linewidth=2)
                axes.plot([100 * error.median], [y], "o", color=colour, markersize=5)
                axes.plot([100 * error.p90], [y], "|", color=colour, markersize=9)
    for phase, colour in PHASES.items():
        axes.plot([], [], "o-", color=colour, label=phase)
    axes.axvline(WANTED_MEDIAN, color="grey", linestyle=":", label="wanted: median")
    axes.axvline(WANTED_P90, color="grey", linestyle="--", label="wanted: 90th percentile")
    axes.set_yticks(range(len(files)), [file.name for file in files])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("error on points the fit did not see, per cent: median (dot) to 90th percentile (bar)")
    axes.legend(loc="lower right")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
