"""One plugin with a component of every kind, made from the templates of `espalier new`: kept_KIND of each KIND.

Usage: kept_plugin.py TEMPLATES OUT.cpp OUT.yaml    the folder of the templates; the plugin, and a recipe that uses all
"""

import pathlib
import re
import sys

PLUGIN = re.compile(r'ESPALIER_PLUGIN\("@NAME@",\s*"[^"]*",(.*)\);', re.DOTALL)

RECIPE = """\
espalier: 1
name: kept
data: {use: kept_dataset, count: 256, augment: [crop, {use: kept_augmentation, probability: 0.2}]}
network: {use: kept_operation_network}
metrics: [kept_metric, accuracy]
stages:
  - name: train
    epochs: 4
    optimizer: {use: kept_optimizer, lr: 0.003}
    schedule: {use: kept_schedule, power: 2}
    loss: {use: kept_loss, margin: 0.05}
    regularizers: [{use: kept_regularizer, weight: 1e-4}]
    controller: {use: kept_controller, keep: 0.5}
  - name: prune
    network: {use: kept_backbone, width: 16}
    epochs: 6
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    controller: {use: prune, score: kept_score, target: {macs: 0.8}}
"""


def main(templates, source, recipe):
    includes, parts, components = set(), [], []
    for folder in sorted(p for p in pathlib.Path(templates).iterdir() if (p / "plugin.cpp").exists()):
        kind = folder.name
        text = (folder / "plugin.cpp").read_text(encoding="utf-8")
        includes.update(re.findall(r"^#include .*$", text, re.MULTILINE))
        text = re.sub(r"^#include .*\n", "", text, flags=re.MULTILINE).strip()
        offered = PLUGIN.search(text)
        function = f"std::vector<Component> components() {{ return {{{offered.group(1)}}}; }}"
        text = text.replace(offered.group(0), function)
        text = text.replace("namespace espalier {", f"namespace espalier::of_{kind} {{")
        text = text.replace("@CLASS@", f"Kept{kind.title()}").replace("@NAME@", f"kept_{kind}")
        parts.append(text)
        components.append(f"of_{kind}::components()")
    includes.add("#include <vector>")
    body = "\n\n".join(parts)
    lists = ", ".join(components)
    pathlib.Path(source).write_text(
        "\n".join(sorted(includes))
        + f"\n\n{body}\n\n"
        + "namespace espalier {\n\n"
        + "std::vector<Component> all() {\n  std::vector<Component> result;\n"
        + f"  for (const std::vector<Component>& part : {{{lists}}})\n"
        + "    result.insert(result.end(), part.begin(), part.end());\n  return result;\n}\n\n"
        + 'ESPALIER_PLUGIN("kept", "1.0.0", all());\n\n}  // namespace espalier\n',
        encoding="utf-8",
    )
    pathlib.Path(recipe).write_text(RECIPE, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
