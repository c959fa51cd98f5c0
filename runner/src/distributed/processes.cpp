#include "distributed/processes.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#if ESPALIER_WITH_GLOO
#define USE_C10D_GLOO 1
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#if ESPALIER_WITH_NCCL
#define USE_C10D_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

#include "distributed/shared_memory.h"
#include "espalier/log.h"
#include "espalier/random.h"

namespace espalier {

namespace {

// How long the processes wait for each other at the beginning, and for the slowest in the middle: one may read more
// data than another, or save. A process that has ended is noticed at once in any case.
constexpr std::chrono::minutes meeting{5}, patience{30};

std::string numbered(const std::vector<int64_t>& ranks) {
  std::string text = ranks.size() == 1 ? "process " : "processes ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

// 62 bits, so that it can be negated.
int64_t hash_of(std::string_view text) {
  return static_cast<int64_t>(RandomKey().with(text).value() >> 2);
}

std::string what_of(std::exception_ptr error) {
  try {
    std::rethrow_exception(std::move(error));
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "unknown error";
  }
}

// The first line, and of Gloo's only what comes behind its place in a source file.
std::string first_line(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  if (const size_t place = line.rfind(".cc:"); place != std::string::npos) {
    const size_t end = line.find("] ", place);
    if (end != std::string::npos) line = line.substr(end + 2);
  }
  return line;
}

}  // namespace

#if ESPALIER_WITH_GLOO

struct Processes::Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> on_cpu, on_gpu;  // on_gpu: null without GPUs
  std::unique_ptr<SharedMemory> memory;              // in place of on_cpu's sums; null: not all share one

  // Of the last words of a process in the store.
  static std::string key_of(const char* what, int64_t rank) { return std::string(what) + "/" + std::to_string(rank); }
  void write(const std::string& key, const std::string& text) const {
    store->set(key, std::vector<uint8_t>(text.begin(), text.end()));
  }
  bool has(const std::string& key) const { return store->check({key}); }
  std::string read(const std::string& key) const {
    const std::vector<uint8_t> bytes = store->get(key);
    return {bytes.begin(), bytes.end()};
  }
  // In place.
  void reduce(at::Tensor t, SharedMemory::How how) const {
    if (memory && t.is_cpu()) return memory->reduce(t, how);
    std::vector<at::Tensor> all{std::move(t)};
    c10d::AllreduceOptions options;
    options.reduceOp = how == SharedMemory::How::sum ? c10d::ReduceOp::SUM : c10d::ReduceOp::MAX;
    (all[0].is_cuda() ? on_gpu : on_cpu)->allreduce(all, options)->wait();
  }
};

namespace {

// Processes of one machine that meet at its loopback address stay on it. Else the interface is that of
// GLOO_SOCKET_IFNAME, as for PyTorch, or that of the machine's name.
std::shared_ptr<gloo::transport::Device> network_device(const std::string& address) {
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface && *interface) return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  if (address == "localhost" || address == "::1" || address.starts_with("127."))
    return c10d::ProcessGroupGloo::createDeviceForHostname(address);
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

}  // namespace

Processes::Processes(const ProcessPlace& place, at::Device device) : Processes() {
  place_ = place;
  if (!several()) return;
  const auto rank = static_cast<int>(place.rank), count = static_cast<int>(place.count);
  auto group = std::make_unique<Group>();
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(place.port);
    options.isServer = place.rank == 0 && !place.agent;
    options.numWorkers = static_cast<size_t>(place.count);
    options.waitWorkers = false;  // the groups below wait for all
    options.timeout = meeting;
    // A restart of torchrun's has nothing to do with what the attempt before left.
    const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
    group->store = c10::make_intrusive<c10d::PrefixStore>(std::string("espalier/") + (attempt ? attempt : "0"),
                                                          c10::make_intrusive<c10d::TCPStore>(place.address, options));
    auto gloo = c10d::ProcessGroupGloo::Options::create(patience);
    gloo->threads = 1;  // one call at a time
    gloo->devices.push_back(network_device(place.address));
    group->on_cpu = c10::make_intrusive<c10d::ProcessGroupGloo>(group->store, rank, count, gloo);
    if (device.is_cuda()) {
#if ESPALIER_WITH_NCCL
      auto nccl = c10d::ProcessGroupNCCL::Options::create();
      nccl->timeout = patience;
      group->on_gpu = c10::make_intrusive<c10d::ProcessGroupNCCL>(group->store, rank, count, nccl);
#else
      throw Error("this Espalier was built without NCCL, which several processes on GPUs need; use --device cpu");
#endif
    }
  } catch (const Error&) {
    throw;
  } catch (...) {
    throw ProcessLost("process " + std::to_string(place.rank) + " of " + std::to_string(place.count) +
                      " could not meet the others at " + place.address + ", port " + std::to_string(place.port) + ": " +
                      first_line(what_of(std::current_exception())) +
                      "\nAll of them must be started, with the same MASTER_ADDR and MASTER_PORT, at an address of the "
                      "machine of process 0 which the others can reach");
  }
  group_ = std::move(group);
  const char* wanted = std::getenv("ESPALIER_SHARED_MEMORY");
  const auto tell = [&](const std::string& text) { group_->write("memory", text); };
  std::unique_ptr<SharedMemory> memory;
  if (!wanted || std::string_view(wanted) != "off") {
    memory = SharedMemory::meet(place.rank, place.count, tell, [&] { return group_->read("memory"); });
  } else if (leads()) {
    tell("none");  // others may have been told nothing of it by their environment
  }
  if (!any("sharing memory", !memory)) group_->memory = std::move(memory);
}

template <class Body>
void Processes::with_others(const Body& body) const {
  if (!several()) return;
  if (!group_) throw ProcessLost("the connection to the other processes is broken");
  std::string why;
  try {
    body(*group_);
    return;
  } catch (const Error&) {  // nobody is gone
    throw;
  } catch (...) {
    why = first_line(what_of(std::current_exception()));
  }
  lost(why);
}

void Processes::lost(const std::string& why) const {
  // Others may wait for this process: they notice as soon as its connections are closed.
  group_->on_cpu.reset();
  group_->memory.reset();
  std::vector<int64_t> gone;
  std::string said;
  try {
    group_->write(Group::key_of("noticed", rank()), "");
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    do {
      gone.clear();
      for (int64_t r = 0; r < count(); ++r) {
        if (r == rank() || group_->has(Group::key_of("noticed", r))) continue;
        gone.push_back(r);
        if (said.empty() && group_->has(Group::key_of("ended", r)))
          said = first_line(group_->read(Group::key_of("ended", r)));
      }
      if (gone.size() <= 1 || !said.empty()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } while (std::chrono::steady_clock::now() < end);
  } catch (const std::exception&) {
    gone = {0};  // who kept the store
  }
  group_.reset();
  const std::string who = gone.empty() ? "another process" : numbered(gone);
  throw ProcessLost(who + " of " + std::to_string(count()) + (gone.size() > 1 ? " have" : " has") +
                    " ended, so the others cannot go on" +
                    (said.empty() ? " (killed, or out of reach: " + why + ")" : ": " + said));
}

void Processes::sum(const at::Tensor& tensor) const {
  with_others([&](const Group& group) { group.reduce(tensor, SharedMemory::How::sum); });
}

std::vector<int64_t> Processes::largest(std::string_view purpose, std::initializer_list<int64_t> values) const {
  std::vector<int64_t> result(values);
  if (!several()) return result;
  // Always of one length, so that two calls of different purposes meet and can be told apart.
  std::vector<int64_t> sent(max_values + 2, 0);
  std::ranges::copy(values, sent.begin() + 2);
  const int64_t hash = hash_of(purpose);
  sent[0] = hash;
  sent[1] = -hash;
  with_others([&](const Group& group) {
    group.reduce(at::from_blob(sent.data(), {static_cast<int64_t>(sent.size())}, at::kLong),
                 SharedMemory::How::largest);
  });
  if (sent[0] != hash || sent[1] != -hash) {
    throw Error("the processes of this run do different things: process " + std::to_string(rank()) + " is at '" +
                std::string(purpose) +
                "', another one is not. A component decided by something that is not the same in all processes, such "
                "as the clock or its own part of a batch");
  }
  std::copy_n(sent.begin() + 2, result.size(), result.begin());
  return result;
}

void Processes::require_same(std::string_view what, std::string_view text, std::string_view advice) const {
  if (!several()) return;
  const int64_t hash = hash_of(text);
  const std::vector<int64_t> found = largest(std::string("comparing ") + std::string(what), {hash, -hash});
  if (found[0] == -found[1]) return;
  // Each its own hash, so that all know who differs.
  const at::Tensor all = at::zeros({count()}, at::kLong);
  all.mutable_data_ptr<int64_t>()[rank()] = hash;
  sum(all);
  std::vector<int64_t> others;
  for (int64_t r = 1; r < count(); ++r) {
    if (all.const_data_ptr<int64_t>()[r] != all.const_data_ptr<int64_t>()[0]) others.push_back(r);
  }
  throw Error(numbered(others) + (others.size() == 1 ? " differs" : " differ") + " from process 0 in " +
              std::string(what) + ": " + std::string(advice));
}

std::string Processes::from_leader(std::string_view purpose, const std::string& text) const {
  if (!several()) return text;
  const int64_t size = largest(purpose, {leads() ? static_cast<int64_t>(text.size()) : 0})[0];
  std::string result = leads() ? text : std::string(static_cast<size_t>(size), '\0');
  if (size == 0) return result;
  with_others([&](const Group& group) {
    std::vector<at::Tensor> all{at::from_blob(result.data(), {size}, at::kByte)};
    group.on_cpu->broadcast(all)->wait();
  });
  return result;
}

void Processes::give_up(const std::string& why) const noexcept {
  if (!group_) return;
  try {
    group_->write(Group::key_of("ended", rank()), why);
  } catch (...) {  // they will notice that the connection is closed
  }
  group_.reset();
}

#else

struct Processes::Group {};

Processes::Processes(const ProcessPlace& place, at::Device /*device*/) : Processes() {
  if (place.count > 1)
    throw Error("this Espalier was built with a LibTorch without Gloo: a run is trained by one process");
}
void Processes::sum(const at::Tensor& /*tensor*/) const {}
std::vector<int64_t> Processes::largest(std::string_view /*purpose*/, std::initializer_list<int64_t> values) const {
  return values;
}
void Processes::require_same(std::string_view, std::string_view, std::string_view) const {}
std::string Processes::from_leader(std::string_view /*purpose*/, const std::string& text) const {
  return text;
}
void Processes::give_up(const std::string& /*why*/) const noexcept {}

#endif

Processes::Processes() : summing_([this](const at::Tensor& t) { sum(t); }) {}

Processes::~Processes() = default;

}  // namespace espalier
