#include "output/python_export.h"

#include <cctype>
#include <cstdio>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "output/text.h"

namespace espalier {

namespace {

// A node's name as a Python attribute.
std::string identifier(const std::string& name) {
  std::string s;
  for (const char c : name) s += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return s.empty() || std::isdigit(static_cast<unsigned char>(s[0])) ? "_" + s : s;
}

std::string exact(float v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(v));
  return text;
}

constexpr const char* tail = R"py(

def load_safetensors(path):
    """The tensors of a safetensors file, by name."""
    types = {"F32": torch.float32, "F64": torch.float64, "BF16": torch.bfloat16, "I64": torch.int64, "U8": torch.uint8}
    data = bytearray(Path(path).read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for key, entry in json.loads(data[8:start]).items():
        if key != "__metadata__":
            begin, end = entry["data_offsets"]
            flat = torch.frombuffer(data[start + begin:start + end], dtype=types[entry["dtype"]])
            tensors[key] = flat.reshape(entry["shape"])
    return tensors


def load_model(path=Path(__file__).with_name("model.safetensors")):
    """The trained network, ready for inference."""
    tensors = load_safetensors(path)
    model = Model()
    state = {f"{MODULES[node]}.{rest}": t for node, rest, t in ((*k.rsplit(".", 1), t) for k, t in tensors.items())}
    own = {k for k in model.state_dict() if not k.endswith("num_batches_tracked")}
    if own != set(state):
        raise ValueError(f"{path}: holds other tensors than this network: {sorted(own ^ set(state))}")
    model.to(next(iter(state.values())).dtype).load_state_dict(state, strict=False)
    return model.eval().to(memory_format=torch.channels_last)


def normalize(images):
    """uint8 [N, C, H, W] -> what the network was trained on."""
    scale, shift = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (SCALE, SHIFT))
    return (images.float() * scale + shift).contiguous(memory_format=torch.channels_last)


def read_test_set(paths):
    """IDX images and labels (gz or plain), or CIFAR binary records."""
    contents = []
    for path in paths:
        data = Path(path).read_bytes()
        contents.append(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    idx = {c[3]: c for c in contents if c[:3] == b"\0\0\x08"}
    if set(idx) == {1, 3}:
        n, height, width = struct.unpack(">3I", idx[3][4:16])
        images = torch.frombuffer(bytearray(idx[3][16:]), dtype=torch.uint8).reshape(n, 1, height, width)
        return images, torch.frombuffer(bytearray(idx[1][8:]), dtype=torch.uint8).long()
    size = math.prod(INPUT)
    labels = 2 if CLASSES == 100 else 1
    records = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.uint8).reshape(-1, labels + size)
    return records[:, labels:].reshape(-1, *INPUT), records[:, labels - 1].long()


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} TEST_IMAGES TEST_LABELS  (IDX)  or  {sys.argv[0]} TEST_BATCH  (CIFAR binary)")
    images, labels = read_test_set(sys.argv[1:])
    model, correct = load_model(), 0
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        for i in range(0, len(images), BATCH):
            logits = model(normalize(images[i:i + BATCH]).to(dtype))
            correct += (logits.argmax(1) == labels[i:i + BATCH]).sum().item()
    print(f"accuracy {100 * correct / len(images):.10g} %")


if __name__ == "__main__":
    main()
)py";

}  // namespace

std::string python_model(const Graph& graph, const std::string& name, const DatasetInfo& info,
                         const Normalization& normalization, int64_t batch) {
  std::string modules;
  std::string names;
  std::string forward;
  std::vector<std::string> values(graph.edges().size());
  values[static_cast<size_t>(graph.inputs().front().edge.id)] = "x";
  const Edge logits = graph.output("logits");
  for (const Node& n : graph.nodes()) {
    bool reachable = !n.inputs.empty();
    for (const Edge e : n.inputs) reachable = reachable && !values[static_cast<size_t>(e.id)].empty();
    if (!reachable) continue;  // the loss: it reads the target
    const PythonForm form = n.op->python(graph, n);
    const std::string attribute = "self." + identifier(n.name);
    if (!form.module.empty()) {
      modules += "        " + attribute + " = " + form.module + "\n";
      names += (names.empty() ? "" : ", ") + ("\"" + n.name + "\": \"" + identifier(n.name) + "\"");
    }
    std::string expression = form.expression;
    replace_all(expression, "{self}", attribute);
    for (size_t i = 0; i < n.inputs.size(); ++i)
      replace_all(expression, "{" + std::to_string(i) + "}", values[static_cast<size_t>(n.inputs[i].id)]);
    const std::string value = n.outputs[0] == logits ? "logits" : "v_" + identifier(n.name);
    values[static_cast<size_t>(n.outputs[0].id)] = value;
    forward += "        " + value + " = " + expression + "\n";
    if (n.outputs[0] == logits) break;
  }
  std::string scale;
  std::string shift;
  for (int64_t c = 0; c < info.input.channels; ++c) {
    scale += (c ? ", " : "") + exact(normalization.scale[c]);
    shift += (c ? ", " : "") + exact(normalization.shift[c]);
  }
  std::string text = "\"\"\"" + name +
                     ": the trained network in plain PyTorch, generated by Espalier.\n\nfrom model import load_model\n"
                     "logits = load_model()(normalize(images))        # images: uint8 [N, " +
                     std::to_string(info.input.channels) + ", " + std::to_string(info.input.height) + ", " +
                     std::to_string(info.input.width) +
                     "]\n\"\"\"\n"
                     "import gzip\nimport json\nimport math\nimport struct\nimport sys\nfrom pathlib import Path\n\n"
                     "import torch\nimport torch.nn.functional as F  # noqa: F401\nfrom torch import nn\n\n";
  text += "INPUT = (" + std::to_string(info.input.channels) + ", " + std::to_string(info.input.height) + ", " +
          std::to_string(info.input.width) + ")\n";
  text += "CLASSES = " + std::to_string(info.target.classes) + "\nBATCH = " + std::to_string(batch) + "\n";
  text += "# A pixel's byte * SCALE + SHIFT, per channel.\nSCALE = [" + scale + "]\nSHIFT = [" + shift + "]\n";
  text += "# The network's layers and the attributes that hold them.\nMODULES = {" + names + "}\n\n\n";
  text += "class Model(nn.Module):\n    \"\"\"" + std::to_string(graph.parameter_count()) + " parameters, " +
          std::to_string(graph.macs()) + " multiply-accumulates.\"\"\"\n\n";
  text += "    def __init__(self):\n        super().__init__()\n" + modules + "\n    def forward(self, x):\n" +
          forward + "        return logits\n";
  return text + tail;
}

}  // namespace espalier
