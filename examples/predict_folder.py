"""Recognise what happens in each video of a folder, and write it to a CSV file.

python predict_folder.py runs/cotrain videos answers.csv
"""

from __future__ import annotations

import csv
import sys

import cover


def main(run: str, folder: str, out: str) -> None:
    """Write the most probable class of every head for each file, and its probability."""
    with open(out, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "head", "class", "probability"])
        unreadable: list[cover.CoverError] = []
        for prediction in cover.predict(run, folder, top=1, on_unreadable=unreadable.append):
            for head, [(class_name, probability)] in prediction.heads.items():
                rows.writerow([prediction.file, head, class_name, f"{probability:.3f}"])
    for error in unreadable:
        print(f"skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
