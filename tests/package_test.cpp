// scripts/package: the tarball, unpacked elsewhere, used as on a machine that has LibTorch and nothing of ours.
#include <filesystem>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/build_config.h"
#include "espalier/value.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class Package : public testing::Test {
 protected:
  static void SetUpTestSuite() {
#ifdef __SANITIZE_ADDRESS__
    return;  // needs the compiler's own libraries
#endif
    folder_ = std::make_unique<TempFolder>();
    packed_ = shell("'" ESPALIER_SOURCE_DIR "/scripts/package' --build '" ESPALIER_BINARY_DIR "' --out " +
                    (*folder_ / "out").string());
    if (packed_.status != 0) return;
    for (const fs::directory_entry& entry : fs::directory_iterator(*folder_ / "out")) tarball_ = entry.path();
    fs::create_directories(*folder_ / "else where");
    packed_ = shell("tar -C '" + (*folder_ / "else where").string() + "' -xf " + tarball_.string());
    for (const fs::directory_entry& entry : fs::directory_iterator(*folder_ / "else where")) prefix_ = entry.path();
  }
  static void TearDownTestSuite() {
    folder_.reset();
  }
  void SetUp() override {
    if (!folder_) GTEST_SKIP() << "a build with sanitizers is not packed";
    ASSERT_EQ(packed_.status, 0) << packed_.text;
  }

  // A shell command with LibTorch in `torch`; P stands for the unpacked package.
  static Output with_torch(const fs::path& torch, const std::string& command) {
    return shell("cd / && unset LD_LIBRARY_PATH; export ESPALIER_TORCH='" + torch.string() + "'; P='" +
                 prefix_.string() + "'; " + command);
  }
  static Output with_torch(const std::string& command) {
    return with_torch(ESPALIER_TORCH_DIR, command);
  }
  // A folder that passes for a LibTorch by its version.
  static fs::path torch_of(const std::string& version) {
    folder_->write(version + "/torch/version.py", "__version__ = '" + version + "'\n");
    folder_->write(version + "/torch/lib/libtorch.so", "");
    folder_->write(version + "/torch/lib/libtorch_cuda.so", "");
    return *folder_ / version / "torch";
  }

  static inline std::unique_ptr<TempFolder> folder_;
  static inline Output packed_;
  static inline fs::path tarball_;
  static inline fs::path prefix_;
};

TEST_F(Package, HasEveryPluginPlansAndTrains) {
  EXPECT_LT(fs::file_size(tarball_), 40U << 20);
  const Output plugins = with_torch("\"$P/bin/espalier\" plugins");
  EXPECT_EQ(plugins.status, 0) << plugins.text;
  int count = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(ESPALIER_PLUGIN_DIR)) {
    EXPECT_THAT(plugins.text, HasSubstr((prefix_ / "lib/espalier/plugins" / entry.path().filename()).string()));
    ++count;
  }
  EXPECT_GE(count, 15);
  // By a symbolic link, from another folder.
  const Output plan =
      with_torch("ln -s \"$P/bin/espalier\" '" + (*folder_ / "linked").string() + "' && '" +
                 (*folder_ / "linked").string() + "' plan \"$P/share/espalier/recipes/quickstart.yaml\"");
  EXPECT_EQ(plan.status, 0) << plan.text;
  EXPECT_THAT(plan.text, HasSubstr("431,080"));
  const fs::path out = *folder_ / "run";
  const Output run =
      with_torch("\"$P/bin/espalier\" run \"$P/share/espalier/gpu-check.yaml\" --device cpu --out " + out.string());
  ASSERT_EQ(run.status, 0) << run.text;
  EXPECT_EQ(from_json(read_file(out / "summary.json")).at("status").as_string(), "finished");
}

TEST_F(Package, NamesNothingOfTheMachineThatBuiltIt) {
  const Output paths =
      shell("grep -rlF -e '" ESPALIER_SOURCE_DIR "' -e '" ESPALIER_BINARY_DIR "' -e '" ESPALIER_TORCH_DIR "' '" +
            prefix_.string() + "'");
  EXPECT_EQ(paths.text, "");
  const Output run_paths = shell("find '" + prefix_.string() +
                                 "' -type f -exec readelf -d {} + 2>/dev/null | grep -E 'R(UN)?PATH' | sed 's/.*\\[//' "
                                 "| tr : '\\n' | grep -v '^\\$ORIGIN'");
  EXPECT_EQ(run_paths.text, "");
  const Output needed = shell("find '" + prefix_.string() +
                              "' -type f -exec readelf -d {} + 2>/dev/null | grep NEEDED | sed 's/.*\\[//' | sort -u");
  for (const char* library :
       {"yaml", "archive", "crypto", "libz", "jpeg", "png", "spdlog", "fmt", "boost", "libtorch.so"})
    EXPECT_THAT(needed.text, Not(HasSubstr(library)));
}

TEST_F(Package, SaysWhatIsWrongWithLibTorch) {
  const Output wrong = with_torch("/no/such/folder", "\"$P/bin/espalier\" plugins");
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.text, HasSubstr("ESPALIER_TORCH is '/no/such/folder'"));
  EXPECT_THAT(wrong.text, HasSubstr("/no/such/folder/lib/libtorch.so"));

  const Output old = with_torch(torch_of("2.10.0"), "\"$P/bin/espalier\" plugins");
  EXPECT_EQ(old.status, 1);
  EXPECT_THAT(old.text, HasSubstr("needs LibTorch 2.11; ESPALIER_TORCH is LibTorch 2.10.0"));

  const fs::path python = folder_->write("no-torch/python3", "#!/bin/sh\necho\n");
  fs::permissions(python, fs::perms::owner_all);
  const Output none = with_torch("", "PATH='" + python.parent_path().string() + "':$PATH; \"$P/bin/espalier\" plugins");
  EXPECT_EQ(none.status, 1);
  EXPECT_THAT(none.text, HasSubstr("ESPALIER_TORCH is not set, and " + python.string() + " has no module torch"));

  const Output help = with_torch("/no/such/folder", "\"$P/bin/espalier\" --help");
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.text, HasSubstr("espalier run recipes/quickstart.yaml"));

  if (ESPALIER_WITH_CUDA) {
    const Output cuda = with_torch(torch_of("2.11.0+cu126"), "\"$P/bin/espalier\" plugins");
    EXPECT_EQ(cuda.status, 1);
    EXPECT_THAT(cuda.text, HasSubstr("built with CUDA " ESPALIER_CUDA_VERSION));
  }
}

TEST_F(Package, FindsTheLibTorchOfPython) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const Output o = with_torch(
      "", "PATH='" + fs::path(ESPALIER_PYTHON).parent_path().string() + "':$PATH; \"$P/bin/espalier\" --version");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("LibTorch " ESPALIER_TORCH_VERSION));
}

TEST_F(Package, RefusesAnOlderCLibrary) {
  const fs::path getconf = folder_->write("old/getconf", "#!/bin/sh\necho glibc 2.31\n");
  fs::permissions(getconf, fs::perms::owner_all);
  const Output o = with_torch("PATH='" + getconf.parent_path().string() + "':$PATH; \"$P/bin/espalier\" plugins");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("this system has glibc 2.31"));
}

// LibTorch's CUDA half is taken away; what stands for it in the package lets the rest load and train.
TEST_F(Package, RunsOnTheCpuWithALibTorchWithoutCuda) {
  if (!ESPALIER_WITH_CUDA) GTEST_SKIP() << "built without CUDA";
  const fs::path torch = *folder_ / "cpu/torch";
  fs::create_directories(torch / "lib");
  for (const fs::directory_entry& entry : fs::directory_iterator(ESPALIER_TORCH_DIR "/lib")) {
    const std::string name = entry.path().filename();
    if (name.find("cuda") == std::string::npos) fs::create_symlink(entry.path(), torch / "lib" / name);
  }
  if (fs::exists(ESPALIER_TORCH_DIR "/../nvidia"))
    fs::create_directory_symlink(ESPALIER_TORCH_DIR "/../nvidia", torch.parent_path() / "nvidia");
  folder_->write("cpu/torch/version.py", "__version__ = '2.11.0+cpu'\n");
  const std::string run =
      "\"$P/bin/espalier\" run \"$P/share/espalier/gpu-check.yaml\" --out " + (*folder_ / "cpu/run").string();
  const Output o = with_torch(torch, run + "1");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, Not(HasSubstr("version information")));
  const Output gpu = with_torch(torch, run + "2 --device cuda");
  EXPECT_EQ(gpu.status, 1);
  EXPECT_THAT(gpu.text, HasSubstr("no usable GPU"));
}

TEST_F(Package, IsFoundByCMake) {
  const std::string folder = (*folder_ / "plugin").string();
  const Output o =
      with_torch("\"$P/bin/espalier\" new regularizer mine --into " + folder + " && '" ESPALIER_CMAKE "' -G Ninja -S " +
                 folder + "/mine -B " + folder + "/build -DCMAKE_PREFIX_PATH=\"$P\"");
  EXPECT_EQ(o.status, 0) << o.text;
}

TEST_F(Package, GpuCheckRefusesWhereThereIsNoGpu) {
  const Output o = with_torch("CUDA_VISIBLE_DEVICES=-1 \"$P/bin/gpu-check\"");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("there is no GPU to check"));
}

}  // namespace
}  // namespace espalier
