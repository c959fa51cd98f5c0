"""What the site of the documentation has beside the pages of docs/: MkDocs calls these functions (mkdocs.yml).

- README.md and other pages of the root are pages of the site.
- A link to a file that is no page becomes text, since a site does not hold the sources.
- A line that is only a link to a template of `espalier new` shows the template, filled in for a plugin my-KIND; one
  that is only a link to a file of examples/plugins shows that file.
- The pages on components are made from what the program says of them, if it is built.
- The output of scripts/reference is part of the site, if it is there.
- A page that would load something from the network is an error.
"""

import json
import os
import posixpath
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]

# Pages that lie outside of docs/: their place in the tree, and in the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "COMPATIBILITY.md": "compatibility.md",
    "SECURITY.md": "security.md",
    "examples/plugins/README.md": "examples.md",
}


# ---- links ----


def place_in_tree(page_uri):
    """Returns where a page of the site lies in the tree."""
    for in_tree, in_site in OUTSIDE.items():
        if in_site == page_uri:
            return in_tree
    return "docs/" + page_uri


def target_in_tree(page_uri, url):
    """Returns what a link of a page leads to, as a path in the tree; None if it leads elsewhere."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(place_in_tree(page_uri)), parts.path))


class LinksOfTree(Treeprocessor):
    """Leads links to where the pages lie in the site. MkDocs then checks them."""

    page_uri = ""

    def run(self, root):
        for link in root.iter("a"):
            target = target_in_tree(self.page_uri, link.get("href", ""))
            if target is None:
                continue
            if target in OUTSIDE:
                self.lead(link, OUTSIDE[target])
            elif target.startswith("docs/"):
                self.lead(link, target[len("docs/") :])
            elif (ROOT / target).exists():
                self.make_text(link, target)
            # Else MkDocs says that the link leads nowhere.

    def lead(self, link, page):
        fragment = urlsplit(link.get("href")).fragment
        relative = posixpath.relpath(page, posixpath.dirname(self.page_uri) or ".")
        link.set("href", relative + ("#" + fragment if fragment else ""))

    @staticmethod
    def make_text(link, target):
        words = "".join(link.itertext())
        link.attrib.clear()
        if len(link):
            link.tag = "span"  # its words are code already
        elif target.endswith(words.rstrip("/")):
            link.tag = "code"
        else:
            link.tag = "span"
            link.text = f"{words} ({target})"


class TreeExtension(Extension):
    """Registers LinksOfTree behind what reads links (20), and before MkDocs's own (0)."""

    def extendMarkdown(self, md):
        md.treeprocessors.register(links, "links_of_tree", 10)


links = LinksOfTree()


# ---- templates of `espalier new`, and examples ----

LONE_LINK = re.compile(
    r"^\[[^\]\n]*\]\(([^)\n]*(?:sdk/templates|examples/plugins/[a-z_]+)/[^)\n]+)\)$", re.MULTILINE
)
LANGUAGES = {".cpp": "cpp", ".cu": "cpp", ".h": "cpp", ".yaml": "yaml", ".txt": "cmake"}


def filled_template(target):
    """Returns the name and the text of the file that `espalier new KIND my-KIND` makes of a template."""
    path = ROOT / target
    if not path.is_file():
        raise PluginError(f"a guide shows {target}, and there is no such file")
    if "templates" not in path.parts:
        return path.name, path.read_text(encoding="utf-8")
    kind = path.parent.name if path.parent.name != "common" else "regularizer"
    name = f"my_{kind}"
    text = path.read_text(encoding="utf-8")
    for placeholder, value in {"@NAME@": name, "@CLASS@": f"My{kind.capitalize()}"}.items():
        text = text.replace(placeholder, value)
    file = {"plugin.cpp": f"{name}.cpp", "plugin_test.cpp": f"{name}_test.cpp", "recipe.yaml": f"my-{kind}.yaml"}
    return file.get(path.name, path.name), text


def show_templates(markdown, page_uri):
    """Puts the files in place of lines that are only a link to a template."""

    def shown(match):
        target = target_in_tree(page_uri, match[1])
        file, text = filled_template(target)
        return f'```{LANGUAGES[Path(target).suffix]} title="{file}"\n{text}```'

    return LONE_LINK.sub(shown, markdown)


# ---- pages made from the program ----

TITLES = {"dataset": "Data sets", "loss": "Losses", "section": "Keys of a recipe"}
NO_PROGRAM = """# Components

The lists of all components with their options are made from the program, which was not built when this site was made:

    scripts/build
    scripts/docs

Until then, `espalier describe` lists the components, and `espalier describe NAME` shows the options of one.
"""


def title_of(kind):
    """Returns the heading of a kind's page."""
    return TITLES.get(kind, kind.capitalize() + "s")


def describe_all(program):
    """Returns what the program says of all its components, with its own plugins only."""
    environment = {k: v for k, v in os.environ.items() if k != "ESPALIER_PLUGINS"}
    command = [str(program), "describe", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PluginError(f"`{' '.join(command)}` failed; build the program again by scripts/build. It said:\n"
                          f"{done.stderr}")
    return json.loads(done.stdout)


def in_words(text):
    """Returns a text for a cell of a table, in which only `code` has a meaning."""

    def escaped(words):
        return re.sub(r"([\\*_|\[\]])", r"\\\1", words).replace("<", "&lt;")

    pieces = text.replace("\n", " ").split("`")
    return "`".join(p.replace("|", "\\|") if i % 2 else escaped(p) for i, p in enumerate(pieces))


def type_of(option):
    """Returns what an option takes: "integer >= 1 (epochs)"."""
    return "selector" if option["type"] == "selector" else re.sub(r"^an? ", "", option["expected"])


def default_of(option):
    """Returns the default of an option, as recipes write it."""
    fallback = option.get("default")
    if option["required"]:
        return "required"
    if option["type"] == "options" and isinstance(fallback, dict):
        return "those below"
    if fallback is None or fallback == []:
        words = option.get("choices")
        return f"`{words[0]}`" if option["type"] == "options" and words else "none"
    if isinstance(fallback, float) and fallback.is_integer():
        fallback = int(fallback)
    return f"`{fallback if isinstance(fallback, str) and fallback else json.dumps(fallback)}`"


def rows_of(options, prefix=""):
    """Returns a row of the table for each option, those of groups below their group."""
    rows = []
    for option in options:
        name = prefix + option["name"]
        rows.append(f"| `{name}` | {in_words(type_of(option))} | {default_of(option)} | {in_words(option['doc'])} |")
        rows += rows_of(option.get("options", []), name + ".")
    return rows


def component_text(component):
    """Returns the part of a page that is about one component."""
    lines = [f"## {component['name']}", "", in_words(component["doc"]), ""]
    if "plugin" in component:
        plugin = f"Plugin `{component['plugin']}` {component['version']}." if component["path"] else "Part of Espalier."
        lines.append(plugin)
        lines += [f"Needs `{n['what']}`: {in_words(n['why'])}." for n in component["needs"]]
        lines += [f"Provides `{word}`." for word in component["provides"]]
        lines += [f"Publishes `{p['name']}`: {in_words(p['doc'])}." for p in component["publishes"]]
        lines.append("")
    if component["parameters"]:
        lines += ["| option | type | default | what it is |", "|---|---|---|---|", *rows_of(component["parameters"])]
    else:
        lines.append("It has no options.")
    return "\n".join(lines) + "\n\n"


def component_pages(program):
    """Returns the pages on components by their place in the site: one for each kind, after the list of the kinds."""
    if not program.is_file():
        return {"components/index.md": NO_PROGRAM}
    components = describe_all(program)
    kinds = sorted({c["kind"] for c in components}, key=lambda kind: (kind != "section", kind))
    pages = {"components/index.md": ""}
    index = "# Components\n\nAll components of Espalier and its own plugins, with the options that recipes give.\n\n"
    for kind in kinds:
        of_kind = sorted((c for c in components if c["kind"] == kind), key=lambda c: c["name"])
        guide = f"guides/{kind}.md"
        text = f"# {title_of(kind)}\n\n"
        if (ROOT / "docs" / guide).is_file():
            text += f"[The guide](../{guide}) says how to write one.\n\n"
        text += "".join(component_text(c) for c in of_kind)
        pages[f"components/{kind}.md"] = text
        index += f"- [{title_of(kind)}]({kind}.md): " + ", ".join(f"`{c['name']}`" for c in of_kind) + "\n"
    pages["components/index.md"] = index
    return pages


# ---- what MkDocs calls ----

REFERENCE = """# API reference

The reference of the SDK is made from the comments of its public headers:

- [all classes](reference/annotated.html)
- [everything outside of classes](reference/namespaceespalier.html)
"""
NO_REFERENCE = """# API reference

The reference of the SDK is made from the comments of its public headers, and it was not there when this site was made:

    scripts/reference
    scripts/docs
"""
# Files beside the pages: their place in the site, and in the tree.
ASSETS = {
    "assets/docs.css": "scripts/lib/docs.css",
    "assets/javascripts/iframe-worker.js": "scripts/lib/iframe-worker.js",
}
made_pages = {}


def on_config(config):
    config.markdown_extensions.append(TreeExtension())
    made_pages.clear()
    made_pages.update(component_pages(ROOT / os.environ.get("ESPALIER_DOCS_PROGRAM", "build/release/bin/espalier")))
    pages = [{title_of(Path(uri).stem): uri} for uri in made_pages if not uri.endswith("/index.md")]
    for section in config.nav:
        for entry in section.get("Reference", []):
            if "Components" in entry:
                entry["Components"] = ["components/index.md", *pages]
    made_pages["api.md"] = REFERENCE if (ROOT / "build/reference/index.html").is_file() else NO_REFERENCE
    return config


def on_files(files, config):
    for in_tree, in_site in OUTSIDE.items():
        files.append(File.generated(config, in_site, abs_src_path=str(ROOT / in_tree)))
    for uri, text in made_pages.items():
        files.append(File.generated(config, uri, content=text))
    for in_site, in_tree in ASSETS.items():
        files.append(File.generated(config, in_site, abs_src_path=str(ROOT / in_tree)))
    for path in sorted((ROOT / "build/reference").rglob("*")):
        if path.is_file():
            uri = path.relative_to(ROOT / "build").as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    links.page_uri = page.file.src_uri
    return show_templates(markdown, page.file.src_uri)


# What a browser loads of itself: neither links that the reader follows, nor where a page or its neighbours are.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|link(?![^>]*\brel=[\"']?(?:canonical|prev|next)))\b"
    r"[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)"
)


def on_post_page(output, page, config):
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} would load {found[1]}, and pages must be complete without a network")
    return output
