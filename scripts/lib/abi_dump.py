"""The ABI of the SDK as lines of text, made from what abidw (libabigail) reads in the debug information of all public
headers, and from the symbols that libespalier exports. One line is one fact that a compiled plugin relies on: the size
of a class, the place of a member, the slot of a virtual function, a number of an enumeration, an exported function.

Usage: abi_dump.py DUMP.xml SYMBOLS.txt           prints the lines
       abi_dump.py --compare KEPT.txt NOW.txt     prints what is different; status 1 where a kept line is gone
"""

import sys
import xml.etree.ElementTree as xml

NAMESPACE = "espalier"


class Types:
    """Names of types by their ids."""

    def __init__(self, root):
        self.by_id, self.scope = {}, {}
        self.collect(root, "")

    def collect(self, node, scope):
        for child in node:
            key = child.get("id")
            if key and key not in self.by_id:
                self.by_id[key], self.scope[key] = child, scope
            inner = scope
            if child.tag in ("namespace-decl", "class-decl", "union-decl"):
                inner = f"{scope}{child.get('name')}::"
            self.collect(child, inner)

    def name(self, key):
        node = self.by_id.get(key)
        if node is None:
            return "void"
        inner = lambda: self.name(node.get("type-id"))  # noqa: E731
        if node.tag == "pointer-type-def":
            return inner() + "*"
        if node.tag == "reference-type-def":
            return inner() + ("&&" if node.get("kind") == "rvalue" else "&")
        if node.tag == "qualified-type-def":
            return inner() + " const" if node.get("const") == "yes" else inner()
        if node.tag == "array-type-def":
            return inner() + "".join(f"[{d.get('length')}]" for d in node.iter("subrange"))
        if node.tag == "function-type":
            return "a function"
        if node.tag == "typedef-decl" and not self.scope[key].startswith("std"):
            return inner()
        return self.scope[key] + (node.get("name") or "?")


def is_made_up(name):
    """Whether the compiler named it: closures and unnamed types."""
    return not name or "lambda" in name or name.startswith("__anonymous")


def facts_of_class(node, name, types):
    if node.get("is-declaration-only") == "yes" or not node.get("size-in-bits"):
        return
    yield f"{name}: {int(node.get('size-in-bits')) // 8} bytes"
    for base in node.findall("base-class"):
        at = int(base.get("layout-offset-in-bits", 0)) // 8
        yield f"{name}: base {types.name(base.get('type-id'))} at byte {at}"
    for member in node.findall("data-member"):
        if member.get("static") == "yes":
            continue
        decl, bits = member.find("var-decl"), int(member.get("layout-offset-in-bits", 0))
        yield f"{name}: member {decl.get('name')} at byte {bits // 8}, {types.name(decl.get('type-id'))}"
    for member in node.findall("member-function"):
        if member.get("vtable-offset"):
            decl = member.find("function-decl")
            where = "destructor" if member.get("destructor") == "yes" else f"slot {member.get('vtable-offset')}"
            yield f"{name}: {where} of the virtual functions is {decl.get('mangled-name')}"


def facts(node, scope, types):
    for child in node:
        name = child.get("name") or ""
        if is_made_up(name) and child.tag != "member-type":
            continue
        if child.tag == "namespace-decl":
            yield from facts(child, f"{scope}{name}::", types)
        elif child.tag == "class-decl":
            yield from facts_of_class(child, scope + name, types)
            yield from facts(child, f"{scope}{name}::", types)
        elif child.tag == "member-type":
            yield from facts(child, scope, types)
        elif child.tag == "enum-decl":
            yield f"{scope}{name}: an enumeration of {types.name(child.find('underlying-type').get('type-id'))}"
            for e in child.findall("enumerator"):
                yield f"{scope}{name}: {e.get('name')} = {e.get('value')}"


def dump(file, symbols):
    root = xml.parse(file).getroot()
    types, lines = Types(root), set()
    for part in root.iter("abi-instr"):
        for space in part.findall("namespace-decl"):
            if space.get("name") == NAMESPACE:
                lines.update(facts(space, f"{NAMESPACE}::", types))
    with open(symbols, encoding="utf-8") as f:
        for line in f:
            _, kind, symbol = line.split()[-3:]
            symbol = symbol.split("@")[0]
            # Strong ones of our namespace: what the compiler makes of templates and inline functions it makes in
            # plugins, too.
            if kind in "TDBR" and f"8{NAMESPACE}" in symbol:
                lines.add(f"exported: {symbol}")
    print("\n".join(sorted(lines)))


def compare(kept, now):
    with open(kept, encoding="utf-8") as f:
        before = set(f.read().splitlines())
    with open(now, encoding="utf-8") as f:
        after = set(f.read().splitlines())
    for sign, lines in (("-", before - after), ("+", after - before)):
        for line in sorted(lines):
            print(f"{sign} {line}")
    # A new class, enumerator or function disturbs nobody. A new member may lie where there was padding before, and
    # objects that a plugin made do not have it; a new slot lies where a plugin's own virtual functions are.
    known = {line.split(": ")[0] for line in before}
    inside = [x for x in after - before if " member " in x or " slot " in x or ": base " in x]
    return 1 if before - after or any(x.split(": ")[0] in known for x in inside) else 0


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--compare":
        sys.exit(compare(sys.argv[2], sys.argv[3]))
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    dump(sys.argv[1], sys.argv[2])
