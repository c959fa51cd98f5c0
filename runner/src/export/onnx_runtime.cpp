#include "export/onnx_runtime.h"

#include <cstdlib>

#include "espalier/datasets/subprocess.h"
#include "espalier/error.h"
#include "system/files.h"
#include "system/scratch_folder.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

constexpr int no_runtime = 3;

constexpr const char* script = R"py(
import json, struct, sys
from pathlib import Path
try:
    import numpy
    import onnxruntime
except ImportError:
    sys.exit(3)

folder = Path(sys.argv[1])
types = {"F32": numpy.float32, "I64": numpy.int64}
data = (folder / "inputs.safetensors").read_bytes()
start = 8 + struct.unpack("<Q", data[:8])[0]
inputs = {}
for name, entry in json.loads(data[8:start]).items():
    if name != "__metadata__":
        begin, end = entry["data_offsets"]
        flat = numpy.frombuffer(data[start + begin:start + end], types[entry["dtype"]])
        inputs[name] = flat.reshape(entry["shape"])
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
try:
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    outputs = session.run(sys.argv[2:], inputs)
except Exception as e:
    (folder / "error").write_text(str(e))
    sys.exit(1)
header, body = {"__metadata__": {"version": onnxruntime.__version__}}, b""
for name, value in zip(sys.argv[2:], outputs):
    value = numpy.ascontiguousarray(value, numpy.float32)
    header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [len(body), len(body) + value.nbytes]}
    body += value.tobytes()
text = json.dumps(header).encode()
(folder / "outputs.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
)py";

fs::path python() {
  const char* chosen = std::getenv("ESPALIER_PYTHON");
  return chosen && *chosen ? fs::path(chosen) : find_program("python3");
}

}  // namespace

std::optional<OnnxResult> run_onnx(const std::string& file, const NamedTensors& inputs,
                                   const std::vector<std::string>& outputs) {
  const fs::path program = python();
  std::error_code none;
  if (program.empty() || !fs::is_regular_file(program, none)) return std::nullopt;
  const ScratchFolder folder;
  write_file(folder.path() / "model.onnx", file);
  write_file(folder.path() / "run.py", script);
  save_safetensors(folder.path() / "inputs.safetensors", {inputs, {}});
  // Not what lies in the current folder, in PYTHONPATH or in the user's own packages.
  std::vector<std::string> command{program.string(), "-I", (folder.path() / "run.py").string(), folder.path().string()};
  command.insert(command.end(), outputs.begin(), outputs.end());
  const fs::path log = folder.path() / "log";
  const int status = run_program(command, log);
  if (status == no_runtime) return std::nullopt;
  if (status != 0) {
    const fs::path error = folder.path() / "error";
    throw Error("ONNX Runtime does not take the file: " + read_file(fs::exists(error) ? error : log));
  }
  const TensorFile result = load_safetensors(folder.path() / "outputs.safetensors");
  OnnxResult r;
  for (const auto& [name, value] : result.tensors) r.outputs.push_back(value);
  r.version = result.metadata.at("version");
  return r;
}

}  // namespace espalier
