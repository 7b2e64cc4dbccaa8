"""Keep the code small (`make lint`): lines of src (what is there; the aim is 13,000), scripts, docs by hand, and of each file."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = {"src": 23_146, "scripts": 900, "docs": 1_500}  # *.py; and *.md outside of what `make docs` and `make api` write
A_FILE = 300
LONGER = {"src/scsave/models/networks.py": 400}  # reads from top to bottom: attention, encoder, decoder, velocity


def main() -> int:
    files = [path for folder in ("src", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "api.md"]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    lines = {n: len(re.sub(r"<!-- table.*?<!-- end -->\n", "", t, flags=re.S).splitlines()) for n, t in texts.items()}
    sums = {folder: sum(n for name, n in lines.items() if name.startswith(f"{folder}/")) for folder in MOST}
    wrong = [f"{folder}: {sums[folder]} lines, at most {most}" for folder, most in MOST.items() if sums[folder] > most]
    allowed = {name: LONGER.get(name, A_FILE) for name in lines if name.endswith(".py")}
    wrong += [f"{name}: {lines[name]} lines, at most {most}" for name, most in allowed.items() if lines[name] > most]
    print("\n".join(wrong) or ", ".join(f"{folder}: {n} lines" for folder, n in sums.items()))
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
