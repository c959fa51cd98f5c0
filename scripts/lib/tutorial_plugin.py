"""Writes the plugin of docs/first-controller.md into a folder: each block of code behind a line that ends with the name
of its file, and the CMakeLists.txt that `espalier new` writes.

Usage: tutorial_plugin.py PAGE.md FOLDER    the folder's name is that of the plugin
"""

import pathlib
import re
import sys

BLOCK = re.compile(r"`([\w-]+\.(?:cpp|yaml))`:\n\n```\w+\n(.*?)```\n", re.DOTALL)


def main(page, folder):
    folder = pathlib.Path(folder)
    root = pathlib.Path(page).resolve().parents[1]
    files = dict(BLOCK.findall(pathlib.Path(page).read_text(encoding="utf-8")))
    name = folder.name
    wanted = {f"{name}.cpp", f"{name}_test.cpp", f"{name.replace('_', '-')}.yaml"}
    if set(files) != wanted:
        sys.exit(f"{page} has blocks of {sorted(files)}, and those of {sorted(wanted)} were expected")
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file.replace("-", "_")).write_text(text, encoding="utf-8")
    cmake = (root / "sdk/templates/common/CMakeLists.txt").read_text(encoding="utf-8")
    (folder / "CMakeLists.txt").write_text(cmake.replace("@NAME@", name), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
