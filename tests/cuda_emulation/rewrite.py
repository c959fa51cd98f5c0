"""Rewrites a CUDA source so that a C++ compiler reads it together with the headers of this folder.

    rewrite.py SOURCE NAME OUTPUT

NAME is what messages of the compiler and of the emulation call the source. Three things of a .cu or .cuh file are not
C++, and only these are changed; lines stay where they are:

- `kernel<<<grid, block>>>(x, y)` becomes
  `::cuda_emulation::Launch(__BASE_FILE__, "kernel", [&](auto&... a) { kernel(a...); }, grid, block)(x, y)`.
- `__shared__ float x[64], y;` becomes references to memory that the emulation makes anew for each block.
- `extern __shared__ float x[];` becomes a pointer to the memory whose size the launch says.

The end of the file tells the emulation the names of the source and of its kernels, so that the tests notice one that
nothing launches.
"""

import re
import sys
import zlib
from pathlib import Path


class Mistake(Exception):
    """A source that cannot be rewritten: the place in the text, and why."""


# Comments, raw strings, strings and characters (but not the ' of 1'000), whose text is nothing of the language's.
_NOT_CODE = re.compile(
    r"//[^\n]*|/\*.*?\*/|R\"(?P<raw>[^(\s]*)\(.*?\)(?P=raw)\"|\"(?:\\.|[^\"\\\n])*\"|"
    r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
    re.DOTALL,
)


def masked(text):
    """Returns the text with blanks in place of comments and strings, every other character at its place."""
    return _NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def _matching(code, start, end):
    """Returns where the first occurrence of `end` outside of all brackets stands, from `start` on; -1 if nowhere."""
    depth = 0
    for i in range(start, len(code)):
        if depth == 0 and code.startswith(end, i):
            return i
        if code[i] in "([{":
            depth += 1
        elif code[i] in ")]}":
            depth -= 1
            if depth < 0:
                return -1
    return -1


def _begin_of_name(code, end):
    """Returns where the name of a function, with its template arguments, begins that ends before `end`."""
    at = end
    if code[at - 1] == ">":
        depth = 0
        while at > 0:
            at -= 1
            depth += (code[at] == ">") - (code[at] == "<")
            if depth == 0:
                break
        while code[at - 1].isspace():
            at -= 1
    while at > 0 and (code[at - 1].isalnum() or code[at - 1] in "_:"):
        at -= 1
    return at


def _launches(text, code):
    """Yields (begin, end, replacement) for the launches."""
    for opening in re.finditer(r"<<<", code):
        end = len(code[: opening.start()].rstrip())
        begin = _begin_of_name(code, end)
        name = " ".join(text[begin:end].split())
        if not name:
            raise Mistake(opening.start(), "the name of a kernel must stand before '<<<'")
        closing = _matching(code, opening.end(), ">>>")
        if closing < 0 or not code[closing + 3 :].lstrip().startswith("("):
            raise Mistake(opening.start(), f"'>>>' and the arguments in parentheses are missing after '{name}<<<'")
        lines = "\n" * text.count("\n", begin, opening.end())
        plain = re.sub(r"<.*>$", "", name).split("::")[-1]
        call = f"[&](auto&... emulated_arguments) {{ {name}(emulated_arguments...); }}"
        yield begin, opening.end(), f'::cuda_emulation::Launch(__BASE_FILE__, "{plain}", {call}, {lines}'
        yield closing, closing + 3, ")"


_DECLARATOR = re.compile(r"^(?P<type>.*?)(?P<name>[A-Za-z_]\w*)\s*(?P<dims>(?:\[.*\])*)\s*$", re.DOTALL)


def _pieces(declaration):
    """Returns the declarators of a declaration, which commas outside of all brackets separate."""
    pieces, depth, begin = [], 0, 0
    for i, c in enumerate(declaration):
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            pieces.append(declaration[begin:i])
            begin = i + 1
    return [*pieces, declaration[begin:]]


def _shared(text, code):
    """Yields (begin, end, replacement) for the declarations of shared memory."""
    for found in re.finditer(r"\b(?:(?P<extern>extern)\s+|static\s+)?__shared__\b", code):
        end = _matching(code, found.end(), ";")
        if end < 0:
            raise Mistake(found.start(), "a declaration of '__shared__' memory must end with a semicolon")
        declaration = code[found.end() : end]
        aligned = re.search(r"\b(?:alignas|__align__)\s*\(([^()]*)\)", declaration)
        alignment = f", {aligned[1]}" if aligned else ""
        declaration = re.sub(r"\b(?:alignas|__align__)\s*\([^()]*\)", "", declaration)
        of_type, made = "", []
        for piece in _pieces(declaration):
            parts = _DECLARATOR.match(piece.strip() if of_type else piece.lstrip())
            of_type = of_type or (" ".join(parts["type"].split()) if parts else "")
            if not parts or not of_type or "=" in piece:
                raise Mistake(found.start(), "cannot read this declaration of '__shared__' memory: write "
                              "'__shared__ TYPE NAME[SIZE];', without an initial value")
            name, dims = parts["name"], parts["dims"]
            if found["extern"]:
                if dims.replace(" ", "") != "[]":
                    raise Mistake(found.start(), "'extern __shared__' memory must be declared as 'TYPE NAME[]'")
                made.append(f"{of_type}* const {name} = static_cast<{of_type}*>(::cuda_emulation::dynamic_shared())")
                continue
            # The lambda tells this declaration from all others, also from the same one with other template arguments.
            memory = f'::cuda_emulation::shared<{of_type} {dims}{alignment}>("{name}", [] {{}})'
            made.append(f"{of_type} (&{name}){dims} = {memory}")
        yield found.start(), end, "; ".join(made) + "\n" * text.count("\n", found.start(), end)


def _kernels(text, code):
    """Yields (name, place in the text) for the kernels."""
    for found in re.finditer(r"\b__global__\b", code):
        head = re.sub(r"\b__launch_bounds__\s*\([^()]*\)", "", code[found.end() : found.end() + 1000])
        name = re.match(r"[^;{(]*?\b(\w+)\s*\(", head)
        if not name:
            raise Mistake(found.start(), "cannot find the name of this '__global__' function")
        yield name[1], found.start()


def rewritten(text, name):
    """Returns the rewritten text of a source. Raises Mistake."""
    code = masked(text)
    edits = sorted([*_launches(text, code), *_shared(text, code)])
    parts, at = [f'#line 1 "{name}"\n'], 0
    for begin, end, replacement in edits:
        parts += [text[at:begin], replacement]
        at = end
    parts.append(text[at:])
    for kernel, place in dict(_kernels(text, code)).items():
        line = text.count("\n", 0, place) + 1
        variable = f"emulated_kernel_{zlib.crc32(name.encode()):x}_{line}"  # a source may include other rewritten files
        parts.append("[[maybe_unused]] static const ::cuda_emulation::Kernel "
                     f'{variable}{{"{kernel}", "{name}:{line}"}};\n')
    if name.endswith(".cu"):
        parts.append(f'static const ::cuda_emulation::Source emulated_source{{__BASE_FILE__, "{name}"}};\n')
    return "".join(parts)


def main():
    source, name, output = sys.argv[1:]
    text = Path(source).read_text(encoding="utf-8")
    try:
        made = rewritten(text, name)
    except Mistake as mistake:
        place, why = mistake.args
        sys.exit(f"{source}:{text.count(chr(10), 0, place) + 1}: {why}")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
