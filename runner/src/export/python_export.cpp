#include "export/python_export.h"

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/value.h"
#include "export/network_source.h"
#include "export/torchscript_export.h"
#include "system/text.h"

namespace espalier {

namespace {

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


def load_model(path=Path(__file__).with_suffix(".safetensors")):
    """The trained network, ready for inference."""
    tensors = load_safetensors(path)
    model = Model().to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    return model.eval().to(memory_format=torch.channels_last)
)py";

constexpr const char* image_tail = R"py(

def normalize(images):
    """uint8 [N, C, H, W] -> what the network was trained on."""
    scale, shift = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (SCALE, SHIFT))
    x = images.float() * scale + shift@RESIZE@
    return x.to(DTYPE).contiguous(memory_format=torch.channels_last)


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
    size = math.prod(RAW)
    labels = 2 if CLASSES == 100 else 1
    records = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.uint8).reshape(-1, labels + size)
    return records[:, labels:].reshape(-1, *RAW), records[:, labels - 1].long()


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

constexpr const char* vector_tail = R"py(

def normalize(inputs):
    """Inputs as they were measured -> what the network was trained on."""
    return inputs.to(DTYPE) * torch.tensor(SCALE, dtype=DTYPE) + torch.tensor(SHIFT, dtype=DTYPE)
)py";

constexpr const char* output_tail = R"py(

def denormalize(outputs):
    """What the network gives -> what was measured."""
    return outputs.to(DTYPE) * torch.tensor(OUTPUT_SCALE, dtype=DTYPE) + torch.tensor(OUTPUT_SHIFT, dtype=DTYPE)
)py";

constexpr const char* add_method = R"py(
    def add(self, name, value):
        """A module, parameter or buffer in a tree of modules, so that state_dict() has the names of the file."""
        *path, last = name.split(".")
        parent = self
        for part in path:
            parent = parent._modules.setdefault(part, nn.Module())
        if isinstance(value, nn.Module):
            if last in parent._modules:
                value._modules.update(parent._modules[last]._modules)
            parent._modules[last] = value
        elif isinstance(value, nn.Parameter):
            parent.register_parameter(last, value)
        else:
            parent.register_buffer(last, value)

    def __getitem__(self, name):
        *path, last = name.split(".")
        parent = self
        for part in path:
            parent = parent._modules[part]
        return parent._modules[last] if last in parent._modules else getattr(parent, last)

)py";

// The lines of __init__ that make modules, and the parameters and buffers that belong to none. Throws Error naming the
// node whose module is no Python.
std::string made_by_init(const Graph& graph) {
  std::string lines;
  std::vector<bool> used(graph.parameters().size(), false);
  const auto add = [&](const std::string& name, const std::string& value) {
    lines += "        self.add(" + to_json(name) + ", " + value + ")\n";
  };
  for (const Node* n : nodes_for(graph, {"logits"})) {
    const std::string module = n->op->python(graph, *n).module;
    if (module.empty()) continue;
    if (const std::string fault = python_fault(module); !fault.empty()) {
      throw Error("node '" + n->name + "': the module of the Python form of '" + n->op->type() +
                  "' is no Python: " + fault);
    }
    add(n->name, module);
    for (const ParamId p : n->parameters) used[static_cast<size_t>(p.id)] = true;
  }
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    if (used[i]) continue;
    const Parameter& p = graph.parameters()[i];
    const std::string tensor = "torch.empty(" + to_string(graph.sizes(p.shape)) + ")";
    add(p.name, p.role == Role::buffer ? tensor : "nn.Parameter(" + tensor + ")");
  }
  return lines;
}

// The names of classes, labels or values by number, where they are known.
std::string named_outputs(const DatasetInfo& info) {
  if (info.classes.empty()) return "";
  const bool classes = info.target.task == task::classification;
  return (classes ? "\nCLASS_NAMES = " : "\nOUTPUT_NAMES = ") + to_json(info.classes);
}

// Whether the run itself resized the images of its data set.
bool resizes(const DatasetInfo& info) {
  return info.preparation.find("from") != nullptr;
}

// How an image of any size, or a row of a table, becomes an input, where the data set said so.
std::string prepared(const DatasetInfo& info) {
  if (info.preparation.size() == 0 || resizes(info)) return {};
  if (const Value* columns = info.preparation.find("columns")) {
    return "\n# The columns of the table that make the features, in this order: of a column without `categories` the "
           "number "
           "itself,\n# else a 1 for the row's category and a 0 for each other. `missing` stands for a missing value.\n"
           "COLUMNS = " +
           to_json(*columns);
  }
  return "\n# An image before its bytes are taken: its shorter side is resized, and the centre cut out.\nPREPARATION "
         "= " +
         to_json(info.preparation);
}

// What the program does with images: reading a test set, normalising, and resizing as the run did.
std::string of_images(const DatasetInfo& info) {
  std::string text = image_tail;
  std::string resize;
  if (resizes(info)) {
    resize = "\n    x = F.interpolate(x, size=INPUT[1:], mode=" + to_json(info.preparation.at("interpolation")) +
             ", align_corners=False, antialias=True)";
  }
  replace_all(text, "@RESIZE@", resize);
  return text;
}

}  // namespace

std::string python_model(const TrainedNetwork& n) {
  const auto by_name = [](const std::string& name) { return "self[" + to_json(name) + "]"; };
  NetworkSource source = network_source(
      n.graph, {"logits"}, {.parameter = by_name, .module = [&](const Node& node) { return by_name(node.name); }});
  replace_all(source.forward, "\n", "\n    ");
  source.forward.erase(source.forward.find_last_not_of(' ') + 1);
  const InputSpec& input = n.info.input;
  std::vector<int64_t> sizes{input.channels};
  if (input.nodes > 0) sizes.insert(sizes.begin(), input.nodes);
  if (n.takes_images()) sizes = {input.channels, input.height, input.width};
  std::string size;
  for (const int64_t s : sizes) size += (size.empty() ? "" : ", ") + std::to_string(s);
  const bool classes = n.info.target.task == task::classification;
  const TrainedNetwork::Affine of_input = n.of_input(), of_output = n.of_output();
  const std::string dtype = n.weights.dtype() == at::kDouble ? "torch.float64" : "torch.float32";
  std::string constants = "DTYPE = " + dtype + "\nINPUT = (" + size + (sizes.size() == 1 ? ",)" : ")") +
                          (classes ? "\nCLASSES = " : "\nOUTPUTS = ") + std::to_string(n.info.target.outputs) +
                          named_outputs(n.info) + prepared(n.info) + "\nBATCH = " + std::to_string(n.batch) +
                          (n.takes_images() ? "\n# A pixel's byte * SCALE + SHIFT, per channel.\nSCALE = "
                                            : "\n# A feature * SCALE + SHIFT.\nSCALE = ") +
                          number_list(of_input.scale) + "\nSHIFT = " + number_list(of_input.shift);
  if (!of_output.scale.empty()) {
    constants += "\n# An output * OUTPUT_SCALE + OUTPUT_SHIFT is what was measured.\nOUTPUT_SCALE = " +
                 number_list(of_output.scale) + "\nOUTPUT_SHIFT = " + number_list(of_output.shift);
  }
  std::string others;  // inputs beside the first
  for (const Port& port : n.graph.inputs()) {
    if (port.name != "input" && port.name != "target") others += ", " + port.name;
  }
  if (n.takes_images()) {
    std::string raw = "INPUT";
    if (resizes(n.info)) {
      const Value::List& from = n.info.preparation.at("from").as_list();
      raw = "(" + std::to_string(input.channels) + ", " + to_json(from[0]) + ", " + to_json(from[1]) + ")";
      size = raw.substr(1, raw.size() - 2);
    }
    constants += "\n# An image of the data set, as bytes.\nRAW = " + raw;
  }
  const std::string call = n.takes_images()
                               ? "logits = load_model()(normalize(images))        # images: uint8 [N, " + size + "]"
                               : std::string(classes ? "logits" : "outputs") + " = load_model()(normalize(inputs)" +
                                     others + ")        # inputs: float32 [N, " + size + "]";
  return "\"\"\"" + n.name + ": the trained network in plain PyTorch, generated by Espalier.\n\n" + call +
         "\n\"\"\"\n"
         "import gzip\nimport json\nimport math\nimport struct\nimport sys\nfrom pathlib import Path\n" +
         std::string(source.functions.find("List[") == std::string::npos ? "" : "from typing import List, Optional\n") +
         "\n"
         "import torch\nimport torch.nn.functional as F  # noqa: F401\nfrom torch import nn\n\n" +
         constants + "\n\n\n" + source.functions + "class Model(nn.Module):\n    \"\"\"" +
         std::to_string(n.graph.parameter_count()) + " parameters, " + std::to_string(n.graph.macs()) +
         " multiply-accumulates.\"\"\"\n\n    def __init__(self):\n        super().__init__()\n" +
         made_by_init(n.graph) + add_method + "    " + source.forward + tail +
         (n.takes_images() && classes ? of_images(n.info) : std::string(vector_tail)) +
         (of_output.scale.empty() ? "" : output_tail);
}

}  // namespace espalier
