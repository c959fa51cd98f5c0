#include "record/environment.h"

#include <chrono>
#include <random>
#include <string_view>
#include <thread>

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include "espalier/build_config.h"
#include "espalier/isa.h"
#include "espalier/latency.h"

namespace espalier {

Value environment_of(const std::string& device) {
  return Value::map({{"espalier", ESPALIER_VERSION},
                     {"torch", ESPALIER_TORCH_VERSION},
                     {"device", device},
                     {"cpu", device_model("cpu")},
                     {"cores", static_cast<int64_t>(std::thread::hardware_concurrency())},
                     {"threads", static_cast<int64_t>(at::get_num_threads())},
                     {"isa", isa_name()},
                     {"torch_isa", at::get_cpu_capability()}});
}

std::vector<std::string> differences(const Value& before, const Value& now) {
  std::vector<std::string> found;
  const Value one = 1;  // nothing is said of one process
  for (const char* key : {"espalier", "torch", "device", "cpu", "threads", "isa", "torch_isa", "processes"}) {
    const Value* a = before.find(key);
    const Value* b = now.find(key);
    if (std::string_view(key) == "processes") a = a ? a : &one, b = b ? b : &one;
    if (a && b && !(*a == *b))
      found.push_back(std::string(key) + ": " + to_json(*a) + " before, " + to_json(*b) + " now");
  }
  return found;
}

std::string random_id() {
  std::random_device random;
  std::string id;
  while (id.size() < 12) id += "0123456789abcdef"[random() % 16];
  return id;
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace espalier
