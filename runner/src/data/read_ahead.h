#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/dataset.h"

namespace espalier {

// Reads batches of images with threads of its own, and meanwhile those that will be asked for next. What it gives does
// not depend on the threads: each image draws from its own key.
class ReadAhead {
 public:
  // pinned: read() reads into memory that a GPU copies from by itself.
  ReadAhead(std::shared_ptr<const Samples> samples, const InputSpec& image, int64_t threads, bool pinned);
  // Waits for the images that are being read at this moment.
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Samples [begin, end) of the order as bytes [end - begin, channels, height, width], each read with
  // key.with(its number). The next ones are expected to be asked for in the same stream, as many at a time; what a
  // stream expected before is forgotten. Throws what the first of them that cannot be read threw.
  at::Tensor read(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end, bool training,
                  RandomKey key);
  // The same of samples whose images differ in size, one by one.
  std::vector<Sample> read_samples(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                                   bool training, RandomKey key);

  static constexpr int64_t batches_ahead = 2;

 private:
  struct Job;  // a batch to be read
  using Jobs = std::vector<std::shared_ptr<Job>>;

  void start();
  // For so many images.
  at::Tensor memory(size_t images) const;
  void work();
  // One with images that no thread has taken yet, or null.
  std::shared_ptr<Job> next_job() const;
  // The batch, read. whole: sample by sample; otherwise into one tensor. Null where no samples are asked for.
  std::shared_ptr<Job> finished(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                                bool training, RandomKey key, bool whole);

  std::shared_ptr<const Samples> samples_;
  InputSpec image_;
  int64_t wanted_threads_;
  bool pinned_;

  std::mutex mutex_;  // of what follows
  std::condition_variable wake_, done_;
  Jobs jobs_;  // the most urgent first
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace espalier
