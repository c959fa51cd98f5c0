#include <ATen/TensorOperators.h>

#include "table_samples.h"

namespace espalier {
namespace {

using samples::numbers;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class NpzData : public testing::Test {
 protected:
  void SetUp() override {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnpz.so");
    if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "NumPy writes the files, and there is no Python";
  }
  // Runs Python with numpy as np, the file's path in `path`, and a function npy(header, data) that makes bytes.
  void python(const std::string& script) {
    testkit::run_python(ESPALIER_PYTHON,
                        "import sys, io, struct, zipfile\n"
                        "import numpy as np\n"
                        "path = sys.argv[1]\n"
                        "def npy(header, data, version=b'\\x01\\x00'):\n"
                        "  size = struct.pack('<H' if version[0] == 1 else '<I', len(header))\n"
                        "  return b'\\x93NUMPY' + version + size + header.encode() + data\n"
                        "def write(**arrays):\n"
                        "  with zipfile.ZipFile(path, 'w') as z:\n"
                        "    for name, bytes in arrays.items(): z.writestr(name + '.npy', bytes)\n"
                        "def saved(x):\n  f = io.BytesIO(); np.save(f, x, allow_pickle=True); return f.getvalue()\n" +
                            script,
                        {file().string()});
  }
  std::filesystem::path file() const { return folder_ / "t.npz"; }
  std::unique_ptr<Dataset> npz(Value options = Value::map({{"test", 0}})) {
    options["use"] = "npz";
    options["file"] = file().string();
    return samples::table(options);
  }
  std::string error_of(const std::string& script, const Value& options = Value::map({{"test", 0}})) {
    python(script);
    const std::string message = samples::input_error([&] { npz(options)->load("train", {}); });
    EXPECT_THAT(message, testing::StartsWith(file().string() + ": "));
    return message;
  }
  samples::Folder folder_;
};

TEST_F(NpzData, ReadsEveryTypeAndOrder) {
  for (const char* save : {"savez", "savez_compressed"}) {
    for (const char* type : {"u1", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"}) {
      for (const char* order : {"C", "F"}) {
        python("x = np.arange(12).reshape(4, 3).astype('" + std::string(type) + "', order='" + order + "')\n" + "np." +
               save + "(path, x=x, y=np.array([0, 1, 2, 1]))\n");
        const Split all = npz()->load("train", {});
        EXPECT_EQ(all.input().scalar_type(), at::kFloat);
        EXPECT_THAT(numbers(all.input()), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)) << type << order;
        EXPECT_THAT(numbers(all.target()), ElementsAre(0, 1, 2, 1));
      }
    }
  }
  python("np.savez(path, x=np.array([[True, False], [False, True]]), y=np.array([False, True]))\n");
  EXPECT_THAT(numbers(npz()->load("train", {}).input()), ElementsAre(1, 0, 0, 1));
  EXPECT_EQ(npz()->info().target, (TargetSpec{.outputs = 2, .task = task::classification}));
  for (const char* version : {"\\x02\\x00", "\\x03\\x00"}) {
    python(
        "h = \"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\\n\"\n"
        "write(x=npy(h, np.array([5, 6], '<f4').tobytes(), b'" +
        std::string(version) + "'), y=saved(np.array([1, 0])))\n");
    EXPECT_THAT(numbers(npz()->load("train", {}).input()), ElementsAre(5, 6));
  }
  // Numbers that no float32 is: rounded as NumPy rounds.
  python("np.savez(path, x=np.array([[0.1], [-1e-3]]), y=np.array([1.5, 0.1]))\n");
  EXPECT_THAT(numbers(npz()->load("train", {}).input()), ElementsAre(double(0.1F), double(-1e-3F)));
}

TEST_F(NpzData, KnowsImagesByTheirSizes) {
  const auto read = [&](const std::string& shape, const std::string& type = "u1", const std::string& layout = "auto") {
    python("shape = " + shape + "\nnp.savez(path, x=np.arange(np.prod(shape)).reshape(shape).astype('" + type +
           "'), y=np.arange(shape[0]))\n");
    return npz(Value::map({{"test", 0}, {"layout", layout}}));
  };
  auto data = read("(2, 3, 4, 5)");
  EXPECT_EQ(data->info().input, (InputSpec{.channels = 3, .height = 4, .width = 5}));
  EXPECT_EQ(data->load("train", {}).input().scalar_type(), at::kByte);
  EXPECT_EQ(data->load("train", {}).input()[1][2][3][4].item<int64_t>(), 119);
  data = read("(2, 4, 5, 3)", "u1", "channels_last");
  EXPECT_EQ(data->info().input, (InputSpec{.channels = 3, .height = 4, .width = 5}));
  EXPECT_EQ(data->load("train", {}).input()[1][2][3][4].item<int64_t>(), 119);
  EXPECT_EQ(data->load("train", {}).input()[0][1][0][0].item<int64_t>(), 1);
  EXPECT_TRUE(data->load("train", {}).input().is_contiguous());
  EXPECT_EQ(read("(2, 6, 5, 1)")->info().input, (InputSpec{.channels = 1, .height = 6, .width = 5}));
  EXPECT_EQ(read("(2, 6, 5)")->info().input, (InputSpec{.channels = 1, .height = 6, .width = 5}));
  EXPECT_EQ(read("(2, 3, 6, 5)", "<f4")->load("train", {}).input().scalar_type(), at::kFloat);
  EXPECT_EQ(read("(2, 3, 6, 5)", "<f4", "vector")->info().input, (InputSpec{.channels = 90}));
  EXPECT_EQ(read("(2, 6, 5)", "<f4", "nodes")->info().input, (InputSpec{.channels = 5, .nodes = 6}));
  const auto error = [&](const std::string& shape, const std::string& type = "u1", const std::string& layout = "auto") {
    const auto set = read(shape, type, layout);
    return samples::input_error([&] { set->info(); });
  };
  EXPECT_THAT(error("(2, 3, 5, 3)"), HasSubstr("'x' is [2, 3, 5, 3]: both the second and the last dimension"));
  EXPECT_THAT(error("(2, 5, 6, 7)"), HasSubstr("neither the second nor the last dimension has 1, 3 or 4 channels"));
  EXPECT_THAT(error("(2, 5, 6)", "<f4"), HasSubstr("say with `layout` whether a sample is a grey image"));
  EXPECT_THAT(error("(2, 5)", "u1", "grey"), HasSubstr("`layout: grey` needs 3 dimensions"));
}

TEST_F(NpzData, FindsTheTask) {
  const auto target_of = [&](const std::string& y, const std::string& task = "auto") {
    python("np.savez(path, x=np.ones((3, 2)), y=np.array(" + y + "))\n");
    return npz(Value::map({{"test", 0}, {"task", task}}));
  };
  EXPECT_EQ(target_of("[[2], [0], [1]]")->info().target, (TargetSpec{.outputs = 3, .task = task::classification}));
  EXPECT_EQ(target_of("[1., 2., 3.]")->info().target, (TargetSpec{.outputs = 1, .task = task::regression}));
  EXPECT_EQ(target_of("[[1., 2.], [3., 4.], [5., 6.]]")->info().target,
            (TargetSpec{.outputs = 2, .task = task::regression}));
  const auto labels = target_of("[[1, 0], [0, 0], [1, 1]]");
  EXPECT_EQ(labels->info().target, (TargetSpec{.outputs = 2, .task = task::multilabel}));
  EXPECT_THAT(numbers(labels->load("train", {}).target()), ElementsAre(1, 0, 0, 0, 1, 1));
  EXPECT_EQ(target_of("[1, 2, 3]", "regression")->load("train", {}).target().scalar_type(), at::kFloat);
  EXPECT_EQ(target_of("[1., 0., 1.]", "classification")->load("train", {}).target().scalar_type(), at::kLong);
  const auto error = [&](const std::string& y, const std::string& task = "auto") {
    const auto set = target_of(y, task);
    return samples::input_error([&] { set->info(); });
  };
  EXPECT_THAT(error("[[1, 2], [3, 4], [5, 6]]"), HasSubstr("integers that are not all 0 or 1; say `task: regression`"));
  EXPECT_THAT(error("[0, -3, 1]"), HasSubstr("the value -3.000000 at [1] is no class"));
  EXPECT_THAT(error("[0, 1.5, 1]", "classification"), HasSubstr("the value 1.500000 at [1] is no class"));
  EXPECT_THAT(error("[1, 1, 1]"), HasSubstr("'y' has a single class in the training part"));
  EXPECT_THAT(error("[[1, 0], [0, 2], [1, 1]]", "multilabel"), HasSubstr("what stands at [1, 1] is no label"));
}

TEST_F(NpzData, HasFurtherInputsAndAGraphsNodes) {
  python("np.savez(path, x=np.ones((2, 3, 4)), y=np.array([[0, 1, -100], [1, 1, 0]]), adjacency=np.ones((2, 3, 3)))\n");
  const auto data = npz(Value::map({{"test", 0}, {"layout", "nodes"}, {"inputs", "adjacency"}}));
  EXPECT_EQ(data->info().input, (InputSpec{.channels = 4, .nodes = 3, .others = {{"adjacency", {3, 3}}}}));
  EXPECT_EQ(data->info().target, (TargetSpec{.outputs = 2, .task = task::classification}));
  const Split all = data->load("train", {});
  EXPECT_EQ(all.inputs.at(1).first, "adjacency");
  EXPECT_EQ(all.inputs.at(1).second.scalar_type(), at::kFloat);
  EXPECT_THAT(numbers(all.target()), ElementsAre(0, 1, -100, 1, 1, 0));
}

TEST_F(NpzData, TakesTheTestPartFromAnywhere) {
  python(
      "np.savez(path, x_train=np.arange(8).reshape(4, 2), y_train=np.array([0, 1, 2, 0]),\n"
      "         x_test=np.arange(4).reshape(2, 2), y_test=np.array([3, 0]))\n");
  const auto two = npz(
      Value::map({{"input", "x_train"}, {"target", "y_train"}, {"test_input", "x_test"}, {"test_target", "y_test"}}));
  EXPECT_EQ(two->info().target.outputs, 4);
  EXPECT_EQ(two->info().samples, 4);
  EXPECT_EQ(two->load("test", {}).size(), 2);
  const auto drawn = [&](int64_t seed) { return npz(Value::map({{"seed", seed}}))->load("test", {}).input(); };
  python("np.savez(path, x=np.arange(100).reshape(100, 1), y=np.arange(100) % 10)\n");
  EXPECT_THAT(numbers(npz(Value::map())->load("test", {}).target().bincount()), testing::Each(2));
  EXPECT_EQ(npz(Value::map())->load("train", {}).size(), 80);
  EXPECT_TRUE(drawn(1).equal(drawn(1)));
  EXPECT_FALSE(drawn(1).equal(drawn(2)));
}

TEST_F(NpzData, RefusesWhatIsDamaged) {
  const std::string y = "y=saved(np.array([0, 1]))";
  const auto header = [&](const std::string& text, const std::string& data = "bytes(8)") {
    return error_of("write(x=npy(" + text + " + '\\n', " + data + "), " + y + ")\n");
  };
  const std::string good = "\"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\"";
  EXPECT_THAT(error_of("open(path, 'wb').write(b'no archive')\n"), HasSubstr("is no .npz file: it is no whole zip"));
  EXPECT_THAT(error_of("np.savez(path, a=np.ones(2))\n"), HasSubstr("there is no array 'x'; there are a"));
  EXPECT_THAT(header(good, "bytes(7)"), HasSubstr("holds 7 bytes, and 2 x 1 values of '<f4' are 8"));
  EXPECT_THAT(header(good, "bytes(9)"), HasSubstr("holds 9 bytes"));
  EXPECT_THAT(header("\"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 1), }\""),
              HasSubstr("big endian); save x.astype('<f4')"));
  EXPECT_THAT(header("\"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\""),
              HasSubstr("is of the type '<c8'"));
  EXPECT_THAT(header("\"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\""),
              HasSubstr("is made of records"));
  EXPECT_THAT(header("\"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }\""),
              HasSubstr("are more than any file holds"));
  for (const char* wrong : {"\"{'descr': '<f4', 'shape': (2, 1), }\"", "\"{'descr': '<f4'\"",
                            "\"{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 1), }\"",
                            "\"{'descr': '<f4', 'fortran_order': False, 'shape': (2, -1), }\"",
                            "\"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), } x\""}) {
    EXPECT_THAT(header(wrong), HasSubstr("has a header that NumPy does not write")) << wrong;
  }
  EXPECT_THAT(error_of("write(x=npy(" + good + ", bytes(8), b'\\x04\\x00'), " + y + ")\n"),
              HasSubstr("is of version 4.0 of the format"));
  EXPECT_THAT(error_of("write(x=b'\\x93NUMPY\\x01\\x00\\xff\\xff' + bytes(20), " + y + ")\n"),
              HasSubstr("is cut short within its header"));
  EXPECT_THAT(error_of("write(x=b'text that is no array', " + y + ")\n"), HasSubstr("is no array of NumPy"));
  EXPECT_THAT(error_of("write(x=saved(np.array([{}, {}])), " + y + ")\n"), HasSubstr("holds Python objects"));
  EXPECT_THAT(error_of("np.savez(path, x=np.array([[1, np.nan], [2, 3]]), y=np.array([0, 1]))\n"),
              HasSubstr("the array 'x' holds what is no finite number of float32 at [0, 1]"));
  EXPECT_THAT(error_of("np.savez(path, x=np.ones((3, 1)), y=np.array([0, 1]))\n"),
              HasSubstr("'x' has 3 samples and 'y' has 2"));
  // A byte is another one.
  EXPECT_THAT(error_of("np.savez(path, x=np.ones((2, 1)) * 3, y=np.array([0, 1]))\n"
                       "b = bytearray(open(path, 'rb').read()); at = b.index(struct.pack('<d', 3)); b[at] ^= 1\n"
                       "open(path, 'wb').write(b)\n"),
              HasSubstr("the array 'x' has another checksum than the archive says"));
}

TEST_F(NpzData, RefusesOptionsThatContradictEachOther) {
  const auto error = [](Value options) {
    options["use"] = "npz";
    options["file"] = "a";
    return samples::option_error(options);
  };
  EXPECT_THAT(error(Value::map({{"test_input", "a"}})), HasSubstr("are given together"));
  EXPECT_THAT(error(Value::map({{"test_file", "a"}, {"test", 0.1}})), HasSubstr("give one of them"));
  EXPECT_THAT(error(Value::map({{"standardize_target", true}, {"task", "multilabel"}})), HasSubstr("leave it out"));
}

}  // namespace
}  // namespace espalier
