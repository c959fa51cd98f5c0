#!/usr/bin/env python3
"""Writes runner/src/export/onnx_operators.cpp: what ONNX's operators take, of the opsets that Espalier exports.

Needs the package onnx (pip install onnx): python3 scripts/lib/onnx_operators.py > runner/src/export/onnx_operators.cpp
"""
from onnx import __version__, defs

FIRST, LAST = 13, 20
KINDS = {"FLOAT": "f", "INT": "i", "STRING": "s", "FLOATS": "F", "INTS": "I"}
MANY = 65535


def attributes(schema):
    """"axis:i! keepdims:i": each name with its kind, and ! if it must be given. We write no other kinds."""
    words = []
    for name, a in sorted(schema.attributes.items()):
        kind = KINDS.get(a.type.name)
        if kind or a.required:
            words.append(f"{name}:{kind or '?'}{'!' if a.required else ''}")
    return " ".join(words)


def main():
    print(f"// Written by scripts/lib/onnx_operators.py, of onnx {__version__}; not to be edited.")
    print('#include "export/onnx_operators.h"\n\nnamespace espalier {\n\nnamespace {\n')
    print("// clang-format off\nconstexpr OnnxOperator operators[] = {")
    versions = {}
    for s in defs.get_all_schemas_with_history():
        if s.domain == "" and s.since_version <= LAST:
            versions.setdefault(s.name, []).append(s)
    for name, schemas in sorted(versions.items()):
        schemas.sort(key=lambda s: s.since_version)
        # The one that the first opset has, and what changed since.
        begin = max([i for i, s in enumerate(schemas) if s.since_version <= FIRST], default=0)
        for s in schemas[begin:]:
            if s.deprecated:
                print(f'    {{"{name}", {s.since_version}, 0, 0, 0, ""}},')
                continue
            print(f'    {{"{name}", {s.since_version}, {s.min_input}, {min(s.max_input, MANY)}, '
                  f'{min(s.max_output, MANY)}, "{attributes(s)}"}},')
    print("};\n// clang-format on\n\n}  // namespace\n")
    print("std::span<const OnnxOperator> onnx_operators() {\n  return operators;\n}\n\n}  // namespace espalier")


main()
