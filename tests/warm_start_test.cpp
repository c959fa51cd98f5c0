// Networks that begin with the values of an earlier training.
#include <filesystem>
#include <fstream>
#include <string>

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/testkit.h"
#include "formats/safetensors.h"
#include "formats/state_dict.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

// An MLP 64-4-3 that takes its values from somewhere and trains for `epochs`.
std::string recipe(const std::string& from, int epochs = 0) {
  return R"(espalier: 1
name: warm
data: {use: synthetic, size: 8, classes: 3, count: 60, batch: 20}
network: {use: mlp, hidden: [4], )" +
         from + R"(}
stages: [{name: train, epochs: )" +
         std::to_string(epochs) + R"(, optimizer: {use: sgd, lr: 0.01}}]
)";
}

TensorFile values(double fc1 = 0.5) {
  return {{{"fc1.weight", at::full({4, 64}, fc1)},
           {"fc1.bias", at::full({4}, 1.5)},
           {"fc2.weight", at::full({3, 4}, 2.5)},
           {"fc2.bias", at::full({3}, 3.5)}},
          {}};
}

std::map<std::string, at::Tensor> by_name(const NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

std::map<std::string, at::Tensor> final_values(const fs::path& run) {
  return by_name(load_safetensors(run / "model.safetensors").tensors);
}

Output run(const fs::path& file, const fs::path& out) {
  return espalier_command("run -q " + file.string() + " --out " + out.string());
}

TEST(WarmStart, TakesAFileBesideTheRecipeARunAndRenamedNames) {
  const TempFolder folder;
  save_safetensors(folder / "old.safetensors", values());
  const Output first = run(folder.write("a.yaml", recipe("from: old.safetensors")), folder / "a");
  ASSERT_EQ(first.status, 0) << first.text;
  EXPECT_TRUE(final_values(folder / "a").at("fc2.weight").equal(at::full({3, 4}, 2.5)));
  // A run's own recipe says where the file lies.
  EXPECT_THAT(read_file(folder / "a" / "recipe.yaml"), HasSubstr((folder / "old.safetensors").string()));

  ASSERT_EQ(run(folder.write("in/b.yaml", recipe("from: ../a")), folder / "b").status, 0);
  EXPECT_TRUE(final_values(folder / "b").at("fc1.bias").equal(at::full({4}, 1.5)));

  TensorFile other;
  for (const auto& [name, tensor] : values().tensors) other.tensors.emplace_back("module.l" + name.substr(2), tensor);
  save_safetensors(folder / "other.safetensors", other);
  const Output renamed =
      run(folder.write("c.yaml", recipe(R"x(from: other.safetensors, rename: {"^module\\.": "", "^l(\\d)": "fc$1"})x")),
          folder / "c");
  ASSERT_EQ(renamed.status, 0) << renamed.text;
  EXPECT_TRUE(final_values(folder / "c").at("fc1.weight").equal(at::full({4, 64}, 0.5)));
}

TEST(WarmStart, ListsEverythingThatDoesNotMatch) {
  const TempFolder folder;
  TensorFile file = values();
  file.tensors[0].first = "conv.weight";
  file.tensors[2].second = at::full({3, 5}, 2.5);
  save_safetensors(folder / "old.safetensors", file);
  const auto strict = folder.write("r.yaml", recipe("from: old.safetensors"));
  const Output o = run(strict, folder / "a");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, AllOf(HasSubstr("r.yaml:4:"), HasSubstr("not in the file: fc1.weight [4, 64]"),
                            HasSubstr("not in the network: conv.weight [4, 64]"),
                            HasSubstr("fc2.weight is [3, 5] in the file, [3, 4] in the network"),
                            Not(HasSubstr("partial: true")), Not(HasSubstr("fc1.bias"))))
      << "no weight is left that `partial` could take";
  EXPECT_FALSE(fs::exists(folder / "a")) << "before anything is written";

  file.tensors[2] = values().tensors[2];
  save_safetensors(folder / "half.safetensors", file);
  EXPECT_THAT(run(folder.write("h.yaml", recipe("from: half.safetensors")), folder / "h").text,
              HasSubstr("`partial: true` leaves out what does not match"));
  const auto partial = folder.write("p.yaml", recipe("from: half.safetensors, partial: true"));
  const Output noted = run(partial, folder / "b");
  EXPECT_EQ(noted.status, 0) << noted.text;
  EXPECT_THAT(noted.text, HasSubstr("not in the file: fc1.weight"));
  EXPECT_TRUE(final_values(folder / "b").at("fc2.bias").equal(at::full({3}, 3.5)));

  // A pattern with a slip in it is noted, even where all names match.
  save_safetensors(folder / "all.safetensors", values());
  const Output unused =
      run(folder.write("u.yaml", recipe("from: all.safetensors, rename: {'^modul\\.': x, '^fc': fc}")), folder / "u");
  EXPECT_EQ(unused.status, 0) << unused.text;
  EXPECT_THAT(unused.text, AllOf(HasSubstr("rename: '^modul\\.' is in no name of the file"), Not(HasSubstr("'^fc'"))));

  const auto nothing = folder.write("n.yaml", recipe("from: old.safetensors, partial: true, rename: {'^': x}"));
  EXPECT_THAT(run(nothing, folder / "c").text, HasSubstr("nothing in it is of this network"));
}

// A network that lost half of its filters and units.
TEST(WarmStart, TakesThePrunedStructureOfARunWithItsValues) {
  const TempFolder folder;
  const std::string head = "espalier: 1\nname: r\nthreads: 2\ndata: {use: synthetic, count: 60, batch: 20}\n";
  const Output first = run(folder.write("a.yaml", head + R"(
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - {name: train, epochs: 1, optimizer: {use: sgd, lr: 0.05}}
  - {name: prune, epochs: 0, controller: {use: l1_prune, ratio: 0.5, on: all}}
)"),
                           folder / "a");
  ASSERT_EQ(first.status, 0) << first.text;

  // With the backbone's own structure nothing but the last layer's bias fits, whatever is asked for.
  const std::string stages = "stages: [{name: look, epochs: 0}]\n";
  const std::string own = "network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20, from: a";
  const Output strict = run(folder.write("s.yaml", head + own + "}\n" + stages), folder / "s");
  EXPECT_EQ(strict.status, 1);
  EXPECT_THAT(strict.text, AllOf(HasSubstr("network: {from: " + (folder / "a").string() + "}"),
                                 HasSubstr("1 of 8 tensors (4 of "), Not(HasSubstr("partial: true"))));
  const Output partial = run(folder.write("p.yaml", head + own + ", partial: true}\n" + stages), folder / "p");
  EXPECT_EQ(partial.status, 1) << "it would train anew";
  EXPECT_THAT(partial.text, HasSubstr("no weight of a layer in it is of this network"));

  // What the message says.
  // The train cost is that of the training before, since this run trains nothing.
  const std::string base = "base: {use: lenet5, conv1: 6, conv2: 8, hidden: 20, epochs: 2, with_start: true}\n";
  const Output whole =
      espalier_command("run " + folder.write("w.yaml", head + base + "network: {from: a}\n" + stages).string() +
                       " --out " + (folder / "w").string());
  ASSERT_EQ(whole.status, 0) << whole.text;
  EXPECT_THAT(whole.text, HasSubstr("The network begins with all 8 tensors ("));
  const auto was = final_values(folder / "a"), is = final_values(folder / "w");
  ASSERT_EQ(was.size(), is.size());
  for (const auto& [name, tensor] : was) EXPECT_TRUE(is.at(name).equal(tensor)) << name;
  EXPECT_EQ(was.at("conv1.weight").size(0), 3) << "half of 6 filters";
  const Value a = from_json(read_file(folder / "a" / "summary.json")),
              w = from_json(read_file(folder / "w" / "summary.json"));
  EXPECT_EQ(w.at("metrics").at("accuracy").as_double(), a.at("metrics").at("accuracy").as_double());
  EXPECT_EQ(w.at("train_cost").as_double(), 0.5) << "one epoch of the whole network, of two";
  // The run's own recipe is one, from anywhere.
  EXPECT_EQ(espalier_command("validate " + (folder / "w" / "recipe.yaml").string()).status, 0);

  const std::string values = "network: {use: lenet5, conv1: 3, conv2: 4, hidden: 10, from: a/model.safetensors}\n";
  const Output unknown = run(folder.write("u.yaml", head + base + values + stages), folder / "u");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.text, HasSubstr("model.safetensors: does not say what its training took"));

  const Output file =
      run(folder.write("f.yaml", head + "network: {from: a/model.safetensors}\n" + stages), folder / "f");
  EXPECT_EQ(file.status, 1);
  EXPECT_THAT(file.text, AllOf(HasSubstr("f.yaml:5:"), HasSubstr("is a file: name the backbone with `use`")));
}

TEST(WarmStart, SaysHowMuchIsLoadedInPart) {
  const TempFolder folder;
  TensorFile file = values();
  file.tensors[0].first = "conv.weight";  // of [4, 64]
  save_safetensors(folder / "old.safetensors", file);
  const auto recipe_file = folder.write("p.yaml", recipe("from: old.safetensors, partial: true"));
  const Output o = espalier_command("run " + recipe_file.string() + " --out " + (folder / "p").string());
  EXPECT_EQ(o.status, 0) << o.text;
  // 4 + 12 + 3 of 256 + 4 + 12 + 3 numbers.
  EXPECT_THAT(o.text, AllOf(HasSubstr("network.from: 3 of 4 tensors (19 of 275 numbers)"),
                            HasSubstr("The network begins with 3 of 4 tensors (19 of 275 numbers)")));
}

// A header of 640 bytes begins as an old pickle does; LeNet-5's is as long.
TEST(WarmStart, TakesAHeaderOfAnyLength) {
  const TempFolder folder;
  TensorFile file = values();
  std::string bytes;
  for (size_t n = 0; n < 640 && !bytes.starts_with("\x80\x02"); ++n) {
    file.metadata = {{"padding", std::string(n, 'x')}};
    save_safetensors(folder / "old.safetensors", file);
    bytes = read_file(folder / "old.safetensors");
  }
  ASSERT_TRUE(bytes.starts_with("\x80\x02"));
  EXPECT_FALSE(is_state_dict(folder / "old.safetensors"));
  const Output o = run(folder.write("r.yaml", recipe("from: old.safetensors")), folder / "run");
  EXPECT_EQ(o.status, 0) << o.text;
}

TEST(WarmStart, RefusesWhatIsNoSourceOfValues) {
  const TempFolder folder;
  const auto said = [&](const std::string& from) {
    const Output o = espalier_command("validate " + folder.write("r.yaml", recipe(from)).string());
    EXPECT_EQ(o.status, 1) << from;
    EXPECT_THAT(o.text, HasSubstr("r.yaml:4:"));
    return o.text;
  };
  save_safetensors(folder / "good.safetensors", values());
  EXPECT_THAT(said("from: goood.safetensors"),
              AllOf(HasSubstr("there is no such file"), HasSubstr("good.safetensors")));
  EXPECT_THAT(said("from: ."), HasSubstr("a folder without a model.safetensors"));
  std::string bytes = read_file(folder / "good.safetensors");
  folder.write("cut.safetensors", bytes.substr(0, bytes.size() - 7));
  EXPECT_THAT(said("from: cut.safetensors"), HasSubstr("not a valid safetensors file"));
  folder.write("text.safetensors", "values, honestly");
  EXPECT_THAT(said("from: text.safetensors"), HasSubstr("not a valid safetensors file"));
  // A run that was stopped.
  fs::create_directories(folder / "stopped" / "checkpoints");
  EXPECT_THAT(said("from: stopped"), HasSubstr("espalier export RUN --to safetensors"));
  folder.write("cut.pt", "PK\x03\x04 and no more");
  EXPECT_THAT(said("from: cut.pt"),
              AllOf(HasSubstr("cannot be read as a PyTorch state dict: it is damaged or cut short"),
                    Not(HasSubstr("internal"))));
  EXPECT_THAT(said("from: good.safetensors, rename: {'(': x}"), HasSubstr("'(' is no regular expression"));
  EXPECT_THAT(said("from: good.safetensors, rename: [x]"), HasSubstr("'rename' must be a map"));
  EXPECT_THAT(said("from: good.safetensors, rename: {'fc.': x}"), HasSubstr("'rename' makes 'x.weight' of both"));
  EXPECT_THAT(said("partial: true"), HasSubstr("has no 'from'"));
  EXPECT_THAT(said("form: good.safetensors"), HasSubstr("did you mean"));
}

TEST(WarmStart, IsNotRepeatedByAResumedRun) {
  const TempFolder folder;
  save_safetensors(folder / "old.safetensors", values());
  const auto file = folder.write("r.yaml", recipe("from: old.safetensors", 2));
  ASSERT_EQ(run(file, folder / "whole").status, 0);
  ASSERT_EQ(run(file, folder / "run").status, 0);
  // As if it had been stopped before its end, and the values are gone since.
  for (const char* f : {"model.safetensors", "graph.json", "summary.json"}) fs::remove(folder / "run" / f);
  fs::remove(folder / "old.safetensors");
  const Output o = espalier_command("resume -q " + (folder / "run").string() + " --from best");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(read_file(folder / "run" / "model.safetensors"), read_file(folder / "whole" / "model.safetensors"));
}

TEST(WarmStart, ReadsPyTorchsStateDictsAsData) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const TempFolder folder;
  testkit::run_python(ESPALIER_PYTHON, R"py(
import os, sys, torch, argparse
from torch import nn
out = sys.argv[1] + "/"
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
net = Net()
for i, t in enumerate([*net.parameters(), *net.buffers()]):
    t.data.fill_(i + 0.5) if t.is_floating_point() else None
state = net.state_dict()
torch.save(state, out + "state.pt")
torch.save({k: v.bfloat16() for k, v in state.items()}, out + "bf16.pt")
torch.save({"epoch": 3, "args": argparse.Namespace(lr=0.1), "state_dict": state,
            "optimizer": torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).state_dict()}, out + "checkpoint.pt")
# Views: transposed, and with an offset into a common storage.
flat = torch.arange(100.)
torch.save({"a": flat[10:30].reshape(4, 5).t(), "b": flat[3], "c": nn.Parameter(flat[:0])}, out + "views.pt")
torch.save([1, 2], out + "list.pt")
torch.save({"epoch": 1}, out + "empty.pt")
torch.save(state, out + "old.pt", _use_new_zipfile_serialization=False)
class Evil:
    def __reduce__(self):
        return os.system, (f"touch {out}evil",)
torch.save({"fc1.weight": Evil(), "x": torch.ones(2)}, out + "evil.pt")
whole = open(out + "state.pt", "rb").read()
open(out + "cut.pt", "wb").write(whole[:len(whole) // 2])
)py",
                      {folder.path().string()});
  for (const char* file : {"state.pt", "checkpoint.pt", "bf16.pt"}) {
    const auto tensors = by_name(load_state_dict(folder / file).tensors);
    EXPECT_EQ(tensors.size(), 9U) << file;
    EXPECT_TRUE(tensors.at("fc1.weight").to(at::kFloat).equal(at::full({4, 64}, 0.5))) << file;
    EXPECT_TRUE(tensors.at("bn.running_var").to(at::kFloat).equal(at::full({4}, 7.5))) << file;
  }
  const auto views = by_name(load_state_dict(folder / "views.pt").tensors);
  EXPECT_EQ(views.at("a").sizes().vec(), (std::vector<int64_t>{5, 4}));
  EXPECT_EQ(views.at("a")[2][1].item<float>(), 17);
  EXPECT_EQ(views.at("b").item<float>(), 3);
  EXPECT_EQ(views.at("c").numel(), 0);
  EXPECT_EQ(load_state_dict(folder / "evil.pt").tensors.size(), 1U);
  EXPECT_FALSE(fs::exists(folder / "evil")) << "nothing in a pickle is called";

  const auto said = [&](const char* file) -> std::string {
    try {
      load_state_dict(folder / file);
      return "no error";
    } catch (const InputError& e) {
      return e.what();
    }
  };
  EXPECT_THAT(said("list.pt"), HasSubstr("it holds no dictionary; save model.state_dict()"));
  EXPECT_THAT(said("empty.pt"), HasSubstr("its dictionary holds no tensors"));
  EXPECT_THAT(said("old.pt"), HasSubstr("before 1.6"));
  EXPECT_TRUE(is_state_dict(folder / "old.pt"));
  EXPECT_THAT(said("cut.pt"), HasSubstr("cannot be read as a PyTorch state dict"));
  // Any byte may be damaged: an error, or the same values (of a time, a padding, an unused name), and nothing else.
  const std::string whole = read_file(folder / "state.pt");
  const auto original = by_name(load_state_dict(folder / "state.pt").tensors);
  for (size_t i = 0; i < whole.size(); i += 7) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    folder.write("damaged.pt", damaged);
    if (said("damaged.pt") != "no error") continue;
    const auto read = by_name(load_state_dict(folder / "damaged.pt").tensors);
    ASSERT_EQ(read.size(), original.size()) << "byte " << i;
    for (const auto& [name, value] : original) EXPECT_TRUE(read.at(name).equal(value)) << name << ", byte " << i;
  }

  // A network of PyTorch's with batch norm, whose counter this one has no use for.
  const std::string text = recipe("from: checkpoint.pt, partial: true");
  const Output o = run(folder.write("r.yaml", text), folder / "run");
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, AllOf(HasSubstr("not in the network: bn.running_mean [4]"), Not(HasSubstr("num_batches"))));
  EXPECT_TRUE(final_values(folder / "run").at("fc2.bias").equal(at::full({3}, 5.5)));
}

// Names and shapes fit, and yet other logits may come of it: what a file cannot say is said, by `run` and by `plan`.
TEST(WarmStart, SaysWhatAFileDoesNotShow) {
  const TempFolder folder;
  const std::string with_from = R"(espalier: 1
name: warm
threads: 1
data: {use: synthetic, channels: 3, size: 32, count: 20, batch: 10}
network: {use: resnet18, width: 0.125, stem: cifar, dilated: 1, norm_eps: 0.001, activation: silu, FROM}
stages: [{name: look, epochs: 0}]
)";
  const auto write = [&](const std::string& name, const std::string& from) {
    std::string text = with_from;
    text.replace(text.find(", FROM"), 6, from);
    return folder.write(name, text);
  };
  ASSERT_EQ(run(write("a.yaml", ""), folder / "a").status, 0);
  fs::create_directory(folder / "elsewhere");
  fs::copy_file(folder / "a" / "model.safetensors", folder / "elsewhere" / "old.safetensors");
  const auto foreign = write("b.yaml", ", from: elsewhere/old.safetensors");
  const auto own = write("c.yaml", ", from: a/model.safetensors");
  const auto here =
      AllOf(HasSubstr("norms with an epsilon of 0.001"), HasSubstr("padding 1 for 3x3"),
            HasSubstr("strides in layer2.0."), HasSubstr("dilated layer4."), HasSubstr("activation silu"));
  const Output planned = espalier_command("plan " + foreign.string());
  EXPECT_THAT(planned.text, here);
  const Output trained = espalier_command("run " + foreign.string() + " --out " + (folder / "b").string());
  EXPECT_THAT(trained.text, here);
  EXPECT_EQ(espalier_command("describe resnet18").status, 0);
  EXPECT_THAT(trained.text, HasSubstr("`espalier describe resnet18`"));
  for (const std::string& command :
       {"plan " + own.string(), "run " + own.string() + " --out " + (folder / "c").string()})
    EXPECT_THAT(espalier_command(command).text,
                AllOf(HasSubstr("begins with all"), Not(HasSubstr("does not say how"))));
}

// What people's training scripts put beside and around the values.
TEST(WarmStart, ReadsCheckpointsAsPeopleHaveThem) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const TempFolder folder;
  testkit::run_python(ESPALIER_PYTHON, R"py(
import sys, torch
from torch import nn
out = sys.argv[1] + "/"
sd = {"fc1.weight": torch.full((4, 64), 0.5), "fc1.bias": torch.full((4,), 1.5),
      "fc2.weight": torch.full((3, 4), 2.5), "fc2.bias": torch.full((3,), 3.5)}
other = {k: -v for k, v in sd.items()}
torch.save({"state_dict": sd, "seed": 2 ** 63 + 1, "big": 2 ** 3000}, out + "seed.pt")
tagged = {k: nn.Parameter(v) for k, v in sd.items()}
for v in tagged.values():
    v.is_pruned = True
torch.save(tagged, out + "attributes.pt")
class Tagged(torch.Tensor):
    pass
import sys as _s
_s.modules["tagged"] = _s.modules[__name__]
Tagged.__module__ = "tagged"
torch.save({k: v.as_subclass(Tagged) for k, v in sd.items()}, out + "subclass.pt")
torch.save({**sd, "fc1.weight": sd["fc1.weight"].to(torch.float8_e4m3fn),
            "fc2.weight": sd["fc2.weight"].to(torch.float8_e5m2)}, out + "float8.pt")
torch.save({**sd, "fc1.weight": sd["fc1.weight"].to_sparse(), "fc2.weight": sd["fc2.weight"].to_sparse_csr()},
           out + "sparse.pt")
torch.save({**sd, "fc1.bias": torch._neg_view(-sd["fc1.bias"])}, out + "negated.pt")
for key in ("net", "params", "ema", "module", "model_ema"):
    torch.save({"epoch": 1, key: sd}, out + key + ".pt")
torch.save({"model": {"state_dict": sd, "name": "mlp"}}, out + "nested.pt")
torch.save({"model": sd, "ema": other, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, out + "two.pt")
torch.save({"mine": sd, "step": torch.ones(1)}, out + "unknown.pt")
torch.save({"epoch": 1, "args": slice(1), "loss": 0.5}, out + "nothing.pt")
torch.jit.script(nn.Linear(2, 3)).save(out + "script.pt")
torch.save(nn.Linear(2, 3), out + "object.pt")
q = torch.quantize_per_tensor(torch.ones(4, 64), 0.1, 0, torch.qint8)
torch.save({**sd, "fc1.weight": q}, out + "quantized.pt")
outside = {"coo": torch.sparse_coo_tensor([[5]], [1.0], (2,), check_invariants=False),
           "csr": torch.sparse_csr_tensor([0, 1, 1], [7], [1.0], (2, 2), check_invariants=False)}
for name, tensor in outside.items():
    torch.save({"fc1.bias": tensor}, out + name + ".pt")
)py",
                      {folder.path().string()});
  for (const char* file : {"seed", "attributes", "subclass", "float8", "sparse", "negated", "net", "params", "ema",
                           "module", "model_ema", "nested", "two", "unknown"}) {
    SCOPED_TRACE(file);
    const StateDict read = load_state_dict(folder / (file + std::string(".pt")));
    const auto tensors = by_name(read.tensors);
    ASSERT_EQ(tensors.size(), 4U);
    EXPECT_TRUE(tensors.at("fc1.weight").to(at::kFloat).equal(at::full({4, 64}, 0.5)));
    EXPECT_TRUE(tensors.at("fc1.bias").to(at::kFloat).equal(at::full({4}, 1.5)));
    EXPECT_TRUE(tensors.at("fc2.weight").to(at::kFloat).equal(at::full({3, 4}, 2.5)));
    EXPECT_EQ(read.others.empty(), std::string(file) != "two");
  }
  EXPECT_EQ(load_state_dict(folder / "nested.pt").key, "model.state_dict");
  const auto chosen = by_name(load_state_dict(folder / "two.pt", "ema").tensors);
  EXPECT_TRUE(chosen.at("fc1.bias").equal(at::full({4}, -1.5)));

  const auto said = [&](const char* file, const std::string& key = "") -> std::string {
    try {
      load_state_dict(folder / file, key);
      return "no error";
    } catch (const InputError& e) {
      return e.what();
    }
  };
  EXPECT_THAT(said("nothing.pt"), AllOf(HasSubstr("epoch (a number)"), HasSubstr("args (")));
  EXPECT_THAT(said("two.pt", "emma"), HasSubstr("'emma' is no dictionary of tensors in it; such are: model, ema"));
  EXPECT_THAT(said("script.pt"), HasSubstr("it is a TorchScript module"));
  EXPECT_THAT(said("object.pt"), HasSubstr("torch.nn.modules.linear.Linear"));
  EXPECT_THAT(said("quantized.pt"), HasSubstr("'fc1.weight' is made by torch._utils._rebuild_qtensor"));

  // Positions outside of the tensor.
  for (const char* file : {"coo.pt", "csr.pt"}) EXPECT_THAT(said(file), HasSubstr("it is damaged"));

  // A recipe chooses, and is told that there was a choice.
  const Output two = run(folder.write("two.yaml", recipe("from: two.pt")), folder / "two");
  EXPECT_EQ(two.status, 0) << two.text;
  EXPECT_THAT(two.text, HasSubstr("'model' is taken; 'ema' would do as well, and `key` chooses"));
  EXPECT_TRUE(final_values(folder / "two").at("fc1.bias").equal(at::full({4}, 1.5)));
  const Output ema = run(folder.write("ema.yaml", recipe("from: two.pt, key: ema")), folder / "ema");
  EXPECT_EQ(ema.status, 0) << ema.text;
  EXPECT_THAT(ema.text, Not(HasSubstr("is taken")));
  EXPECT_TRUE(final_values(folder / "ema").at("fc1.bias").equal(at::full({4}, -1.5)));
  EXPECT_THAT(read_file(folder / "ema" / "recipe.yaml"), HasSubstr("key: ema"));
}

}  // namespace
}  // namespace espalier
