// `espalier check`: what is right passes, every typical fault is found by the check that is for it.
#include "check/check.h"

#include <cstdlib>
#include <string>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "all_plugins.h"
#include "espalier/value.h"
#include "subprocess.h"
#include "system/threads.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string plugins = ESPALIER_BINARY_DIR "/lib/espalier/plugins";
const std::string nonconforming = ESPALIER_FIXTURE_DIR "/libnonconforming.so";

// A slice of all components: slices can be tested side by side.
class EveryComponent : public ::testing::TestWithParam<size_t> {
 protected:
  static constexpr size_t slices = 7;
};

// In this process, since starting one takes longer than most checks; on one thread, for their tensors are small. Times
// say nothing beside other tests.
TEST_P(EveryComponent, OfTheBuildPassesItsChecks) {
  load_all_plugins();
  // Forty starts of Python would take a minute. What ONNX forms compute is compared by the tests of operations and
  // exports.
  struct WithoutRuntime {
    std::string before = std::getenv("ESPALIER_PYTHON") ? std::getenv("ESPALIER_PYTHON") : "";
    WithoutRuntime() { setenv("ESPALIER_PYTHON", "/no/such/python", 1); }
    ~WithoutRuntime() { setenv("ESPALIER_PYTHON", before.c_str(), 1); }
  } const without_runtime;
  const int threads = at::get_num_threads();
  use_threads(1);
  size_t passed = 0;
  const std::vector<const Registered*> all = Registry::instance().all();
  for (size_t i = GetParam(); i < all.size(); i += slices) {
    const Registered& r = *all[i];
    if (r.component.name.starts_with("test_")) continue;  // which another test has added
    // It has no meaning without one of its options: what it refuses has tests of its own.
    if (r.component.kind == "schedule" && r.component.name == "step") continue;
    for (const Check* c : checks_of(r.component.kind)) {
      if (c->name == "speed") continue;
      try {
        c->run(r);
        ++passed;
      } catch (const CheckSkipped&) {
      } catch (const std::exception& e) {
        ADD_FAILURE() << r.component.kind << "/" << r.component.name << ", " << c->name << ": " << e.what();
      }
    }
  }
  use_threads(threads);
  use_any_core();  // programs that later tests start would inherit the one that this thread was bound to
  EXPECT_GT(passed, 50U);
}

INSTANTIATE_TEST_SUITE_P(Slice, EveryComponent, ::testing::Range<size_t>(0, 7));

TEST(Check, PrintsATableAndExitsWithZeroWhereAllPasses) {
  Output o = espalier_command("check '" + plugins + "/libsgd.so' --jobs 2");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, ::testing::ContainsRegex("optimizer/sgd +checkpoint +passed"));
  EXPECT_THAT(o.text,
              ::testing::ContainsRegex("optimizer/sgd +speed +passed +[0-9.]+ +[0-9.]+ [um]s, [0-9.]+ times a copy"));
  EXPECT_THAT(o.text, HasSubstr("10 passed, 0 failed, 0 skipped"));
  o = espalier_command("check --only relu --check zero --json");
  EXPECT_EQ(o.status, 0) << o.text;
  const Value v = from_json(o.text);
  ASSERT_EQ(v.at("results").size(), 1U);
  EXPECT_EQ(v.at("results").as_list()[0].at("component").as_string(), "operation/relu");
  EXPECT_EQ(v.at("passed").as_int(), 1);
}

struct Fault {
  const char* component;
  const char* check;
  const char* got;  // in what the report says
};

// All are found in one go, which loads the libraries once for each component.
TEST(Check, FindsFaultsWithTheCommandsThatRepeatThem) {
  const Fault faults[] = {
      Fault{"regularizer/wrong_gradient", "gradients", "a difference of 0.99"},
      Fault{"regularizer/overwrites", "adds", "elements differ"},
      Fault{"optimizer/hidden_state", "checkpoint", "elements differ"},
      Fault{"optimizer/hidden_state", "edits", "elements differ"},
      Fault{"optimizer/late_counter", "checkpoint", "elements differ"},
      Fault{"optimizer/late_signs", "checkpoint", "elements differ"},
      Fault{"operation/four_inputs", "gradients", "."},
      Fault{"operation/adds_one", "zero", "1 ("},
      Fault{"operation/first_sample", "samples", "elements differ"},
      Fault{"backbone/first_sample_network", "samples", "elements differ"},
      Fault{"operation/crashes", "shapes", "a crash: signal 6 (Aborted)"},
      Fault{"operation/wrong_python", "exports", "node 'node' (operation 'wrong_python'): it differs by 5.0e-01"},
      Fault{"operation/no_python", "exports", "is no TorchScript"},
      Fault{"operation/no_module", "exports", "nn.Doubles(2: "},
      Fault{"operation/no_onnx_operator", "exports", "the operator 'Multiply', which ONNX does not have"},
      Fault{"operation/no_onnx_attribute", "exports", "gives the attribute 'axis', which ONNX's Mul does not have"},
      Fault{"controller/loops_forever", "run", "none within 6 s"},
      Fault{"controller/forgets", "resume", "1.0"},
      Fault{"controller/bad_default", "parameters", "'rate' must be a number > 0 and < 1, got 2.0"},
      Fault{"controller/undocumented", "parameters", "''"},
      Fault{"controller/unchecked", "parameters", "no error"},
      Fault{"dataset/scribbles", "load", "more bytes"},
      Fault{"dataset/wanders", "deterministic", "another one"}};
  // Of a check, which takes milliseconds or never ends; long enough for a machine that is busy.
  const std::string timeout = "6";
  const Output o = shell("ESPALIER_PYTHON=/no/such/python '" ESPALIER_PROGRAM "' check '" + nonconforming +
                         "' --jobs 2 --json --timeout " + timeout);
  EXPECT_EQ(o.status, 1) << o.text;
  const Value results = from_json(o.text).at("results");
  for (const Fault& f : faults) {
    SCOPED_TRACE(std::string(f.component) + ", " + f.check);
    const Value* found = nullptr;
    for (const Value& r : results.as_list()) {
      if (r.at("component").as_string() == f.component && r.at("check").as_string() == f.check) found = &r;
    }
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->at("status").as_string(), "failed");
    EXPECT_THAT(found->at("got").as_string(), HasSubstr(f.got));
    EXPECT_EQ(found->at("repeat").as_string(), "espalier check " + nonconforming + " --only " + f.component +
                                                   " --check " + f.check + " --timeout " + timeout);
  }
}

// Alone a check is carried out by the process itself, not by a copy of it.
TEST(Check, RepeatsAFailureACrashAndAnEndlessLoop) {
  for (const auto& [what, got] : {std::pair("--only regularizer/overwrites --check adds", "elements differ"),
                                  std::pair("--only operation/crashes --check shapes", "a crash: signal 6 (Aborted)"),
                                  std::pair("--only controller/loops_forever --check run", "none within 3 s")}) {
    const Output o = espalier_command("check '" + nonconforming + "' --timeout 3 " + what);
    EXPECT_EQ(o.status, 1);
    EXPECT_THAT(o.text, AllOf(HasSubstr("FAILED"), HasSubstr(got), HasSubstr("0 passed, 1 failed, 0 skipped")));
  }
}

// For a debugger: what is wrong is told as by another process, and a crash is the program's own.
TEST(Check, ChecksInItsOwnProcessWhereAsked) {
  Output o = espalier_command("check '" + nonconforming + "' --only overwrites --check adds --in-process");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, AllOf(HasSubstr("FAILED"), HasSubstr("elements differ"), HasSubstr("0 passed, 1 failed")));
  o = espalier_command("check '" + nonconforming + "' --only crashes --check shapes --in-process");
  EXPECT_EQ(o.status, 128 + 6) << o.text;
  o = espalier_command("check '" + nonconforming + "' --in-process");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, AllOf(HasSubstr("name one by --only"), HasSubstr("regularizer/overwrites")));
  o = espalier_command("check '" + nonconforming + "' --in-process --only overwritez");
  EXPECT_THAT(o.text, HasSubstr("did you mean 'overwrites'?"));
}

// A library that was built with the address sanitizer is loaded into an ordinary program, and its report is shown to
// the line that writes beyond its memory.
TEST(Check, ShowsTheWholeReportOfASanitizer) {
  const Output o =
      espalier_command("check '" ESPALIER_FIXTURE_DIR "/libsanitized.so' --only writes_beyond --check shapes");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, AllOf(HasSubstr("ERROR: AddressSanitizer: heap-buffer-overflow"), HasSubstr("sanitized.cpp:"),
                            HasSubstr("SUMMARY: AddressSanitizer")));
}

// The sanitizer would end the program.
TEST(Check, OtherCommandsRefuseALibraryOfASanitizerAndSayWhatToDo) {
  const std::string folder = " --plugins '" ESPALIER_FIXTURE_DIR "/libsanitized.so'";
  Output o = espalier_command("plugins" + folder);
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("libsanitized.so: was built with the address sanitizer"));
  const std::string line = "LD_PRELOAD=libasan.so.";
  ASSERT_THAT(o.text, HasSubstr(line));
  const size_t at = o.text.find(line);
  const std::string advised = o.text.substr(at, o.text.find(" (`espalier check`", at) - at);
  o = shell(advised + " '" ESPALIER_PROGRAM "' plugins" + folder);
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("writes_beyond"));
}

// By its form there is nothing wrong with it.
TEST(Check, FindsAWrongOnnxFormByRunningIt) {
  const std::string check = "check '" + nonconforming + "' --only wrong_onnx --check exports";
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with onnxruntime";
  const Output o = shell("ESPALIER_PYTHON='" ESPALIER_PYTHON "' '" ESPALIER_PROGRAM "' " + check);
  if (o.text.find("no ONNX Runtime is at hand") != std::string::npos) GTEST_SKIP() << "no onnxruntime";
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("node 'node' (operation 'wrong_onnx'): it differs by"));
}

TEST(Check, ACrashKeepsNoOtherCheckFromBeingDone) {
  const Output o = espalier_command("check '" + nonconforming + "' --only crashes --jobs 2");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, AllOf(::testing::ContainsRegex("operation/crashes +parameters +passed"),
                            ::testing::ContainsRegex("operation/crashes +exports +skipped"),
                            HasSubstr("1 passed, 9 failed, 1 skipped")));
}

TEST(Check, APluginThatCannotBeLoadedIsAFailure) {
  const Output o = espalier_command("check '" ESPALIER_FIXTURE_DIR "/libthrowing_entry.so'");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, AllOf(HasSubstr("a plugin that can be loaded"), HasSubstr("no component today")));
}

TEST(Check, SuggestsNamesAndListsTheChecks) {
  Output o = espalier_command("check '" + nonconforming + "' --only forgetz");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("no component is called 'forgetz' (did you mean 'forgets'?)"));
  o = espalier_command("check '" + nonconforming + "' --only forgets --check resum");
  EXPECT_THAT(o.text, HasSubstr("did you mean 'resume'?"));
  o = espalier_command("check no/such/lib.so");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("no/such/lib.so: there is no such plugin"));
  o = espalier_command("check --list");
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.text, ::testing::ContainsRegex("regularizer +gradients +the gradient is that of the value"));
}

}  // namespace
}  // namespace espalier
