#include "data/read_ahead.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include <ATen/ops/empty.h>

#include "espalier/error.h"
#include "system/threads.h"

namespace espalier {

struct ReadAhead::Job {
  int64_t stream = 0;
  std::vector<int64_t> numbers;
  bool training = false;
  RandomKey key;
  at::Tensor bytes;
  uint8_t* to = nullptr;        // those of bytes; null where samples are read one by one
  std::vector<Sample> samples;  // instead of bytes
  size_t next = 0;              // the first that no thread has taken
  size_t left = 0;              // not yet read
  // Of the first image that failed: the same one whatever the threads.
  size_t failed = std::numeric_limits<size_t>::max();
  std::exception_ptr error;

  bool is(std::span<const int64_t> wanted, bool in_training, RandomKey with) const {
    return training == in_training && key.value() == with.value() && std::ranges::equal(numbers, wanted);
  }
};

ReadAhead::ReadAhead(std::shared_ptr<const Samples> samples, const InputSpec& image, int64_t threads, bool pinned)
    : samples_(std::move(samples)), image_(image), wanted_threads_(threads), pinned_(pinned) {}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ReadAhead::start() {
  threads_.reserve(static_cast<size_t>(wanted_threads_));
  while (static_cast<int64_t>(threads_.size()) < wanted_threads_) {
    try {
      threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& e) {
      if (!threads_.empty()) return;  // fewer do as well
      throw Error(std::string("no thread could be started to read images: ") + e.what());
    }
  }
}

std::shared_ptr<ReadAhead::Job> ReadAhead::next_job() const {
  const auto open = std::ranges::find_if(jobs_, [](const auto& job) { return job->next < job->numbers.size(); });
  return open == jobs_.end() ? nullptr : *open;
}

void ReadAhead::work() {
  use_any_core();
  const int64_t image = image_.channels * image_.height * image_.width;
  std::shared_ptr<Job> job;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || (job = next_job()); });
    if (stop_) return;
    const size_t i = job->next++;
    lock.unlock();
    std::exception_ptr error;
    try {
      const int64_t number = job->numbers[i];
      const RandomKey key = job->key.with(static_cast<uint64_t>(number));
      if (job->to) {
        samples_->read(number, job->training, key, job->to + static_cast<int64_t>(i) * image);
      } else {
        job->samples[i] = samples_->sample(number, job->training, key);
      }
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && i < job->failed) {
      job->failed = i;
      job->error = error;
    }
    if (--job->left == 0) done_.notify_one();
    job.reset();
  }
}

at::Tensor ReadAhead::memory(size_t images) const {
  return at::empty({static_cast<int64_t>(images), image_.channels, image_.height, image_.width},
                   at::TensorOptions().dtype(at::kByte).pinned_memory(pinned_));
}

at::Tensor ReadAhead::read(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end, bool training,
                           RandomKey key) {
  const std::shared_ptr<Job> job = finished(stream, order, begin, end, training, key, false);
  return job ? job->bytes : memory(0);
}

std::vector<Sample> ReadAhead::read_samples(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                                            bool training, RandomKey key) {
  const std::shared_ptr<Job> job = finished(stream, order, begin, end, training, key, true);
  return job ? std::move(job->samples) : std::vector<Sample>();
}

std::shared_ptr<ReadAhead::Job> ReadAhead::finished(int64_t stream, std::span<const int64_t> order, int64_t begin,
                                                    int64_t end, bool training, RandomKey key, bool whole) {
  end = std::min(end, static_cast<int64_t>(order.size()));
  const auto count = static_cast<size_t>(std::max<int64_t>(end - begin, 0));
  if (count == 0) return nullptr;
  if (threads_.empty()) start();
  // This batch and the next ones. Only this thread changes the list of jobs, so it may look at it unlocked.
  Jobs wanted;
  for (size_t at = static_cast<size_t>(begin); at < order.size() && wanted.size() <= batches_ahead; at += count) {
    const std::span<const int64_t> numbers = order.subspan(at, std::min(count, order.size() - at));
    const auto same = std::ranges::find_if(
        jobs_, [&](const auto& j) { return j->stream == stream && j->is(numbers, training, key); });
    if (same != jobs_.end()) {
      wanted.push_back(*same);
      continue;
    }
    auto job = std::make_shared<Job>();
    job->stream = stream;
    job->numbers.assign(numbers.begin(), numbers.end());
    job->training = training;
    job->key = key;
    if (whole) {
      job->samples.resize(numbers.size());
    } else {
      job->bytes = memory(numbers.size());
      job->to = job->bytes.mutable_data_ptr<uint8_t>();
    }
    job->left = numbers.size();
    wanted.push_back(std::move(job));
  }
  const std::shared_ptr<Job> now = wanted.front();
  std::unique_lock lock(mutex_);
  std::erase_if(jobs_, [&](const auto& job) { return job->stream == stream; });
  jobs_.insert(jobs_.begin(), now);
  jobs_.insert(jobs_.end(), wanted.begin() + 1, wanted.end());
  wake_.notify_all();
  done_.wait(lock, [&] { return now->left == 0; });
  std::erase(jobs_, now);
  if (now->error) std::rethrow_exception(now->error);
  return now;
}

}  // namespace espalier
