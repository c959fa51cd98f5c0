#include <cmath>

#include <espalier/groups.h>
#include <espalier/isa.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>
#include <espalier/reduce.h>
#include <espalier/regularizer.h>

#include "group_lasso_cuda.h"

namespace espalier {

// groups: rows.
// weight * sum over output filters and linear units k of ||w_k||_2 (paper 001, Omega_1, eq. (13)); the last layer has
// none (001-X7). Of a layer with groups or heads, w_k is what can only go together: the k-th filter of each group. The
// gradient is w_k / ||w_k||, zero where the norm is zero.
// groups: columns. The same over what each input feature or channel is multiplied by, the last layer too (paper 002,
// eq. (5), without the root of the group's size as in the authors' program: 002-X10): inputs that do not count become
// zero.
class GroupLasso final : public Regularizer {
 public:
  struct Options {
    double weight = 5e-3;
    Selector on = Selector("weights");
    std::string groups = "rows";

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on,
        "Layers whose weights are penalised. Filters and units of the last layer never are, its columns are.");
      p("groups", &Options::groups, one_of({"rows", "columns"}),
        "What is penalised together; rows: the weights of a filter or unit; columns: those of an input feature or "
        "channel.");
    }
  };

  explicit GroupLasso(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights& weights) override {
    columns_.clear();
    families_.clear();
    if (o_.groups == "rows") {
      families_ = output_groups(graph, weights, o_.on);
      return;
    }
    for (const ParamId id : o_.on.match(graph)) {
      const Parameter& p = graph[id];
      if (p.kind != "weight" || p.shape.size() < 2 || !p.input[1]) continue;
      // Channels are last in memory, so column k is every count-th element from k on.
      const Slot& slot = weights.slot(id);
      columns_.push_back({slot.offset, slot.sizes[1], slot.numel / slot.sizes[1]});
    }
  }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    if (weights.dtype() == at::kDouble) {
      pass<double>(weights, value);
    } else {
      pass<float>(weights, value);
    }
  }

 private:
  template <class T>
  void pass(Weights& weights, at::Tensor& value) {
    Bank& bank = weights.bank(Role::weight);
    const T* w = bank.values.flat().data_ptr<T>();
    T* g = bank.gradients.flat().data_ptr<T>();
    auto* total = value.data_ptr<double>();
    for (const GroupFamily& f : families_) {
      if (weights.device().is_cuda()) {
        launch_group_lasso(w + f.offset, g + f.offset, {f.count, f.size, f.pieces, f.stride}, o_.weight, total,
                           weights.device().index());
        continue;
      }
      norms_.resize(static_cast<size_t>(f.count));
      double* norms = norms_.data();
      const int64_t grain = std::max<int64_t>(1, (1 << 14) / (f.size * f.pieces));
      parallel_for(f.count, grain, [&](int64_t begin, int64_t end) {
        with_isa([=, size = f.size, pieces = f.pieces, stride = f.stride, weight = static_cast<T>(o_.weight)] {
          for (int64_t k = begin; k < end; ++k) {
            const T* wk = w + f.offset + k * size;
            T* gk = g + f.offset + k * size;
            T squares = 0;
            for (int64_t j = 0; j < pieces; ++j) squares += sum_of_squares(wk + j * stride, size);
            const T norm = std::sqrt(squares);
            norms[k] = static_cast<double>(norm);
            if (norm == 0) continue;
            const T scale = weight / norm;
            for (int64_t j = 0; j < pieces; ++j) {
              const T* wj = wk + j * stride;
              T* gj = gk + j * stride;
#pragma omp simd
              for (int64_t i = 0; i < size; ++i) gj[i] += scale * wj[i];
            }
          }
        });
      });
      // In order, whatever the number of threads.
      for (const double n : norms_) *total += o_.weight * n;
    }
    for (const Columns& c : columns_) {
      if (weights.device().is_cuda()) {
        launch_group_lasso(w + c.offset, g + c.offset, {c.count, 1, c.rows, c.count}, o_.weight, total,
                           weights.device().index());
      } else {
        pass_columns(w + c.offset, g + c.offset, c, total);
      }
    }
    bank.gradients.touch();
  }

  // A weight of which every count-th element belongs to one column.
  struct Columns {
    int64_t offset = 0, count = 0, rows = 0;
  };

  // Row by row, so that neighbours in memory are one vector.
  template <class T>
  void pass_columns(const T* w, T* g, const Columns& c, double* total) {
    norms_.assign(static_cast<size_t>(c.count), 0);
    double* sums = norms_.data();
    for (int64_t r = 0; r < c.rows; ++r) {
      const T* row = w + r * c.count;
      vector_loop(0, c.count, [=](int64_t k) { sums[k] += static_cast<double>(row[k]) * static_cast<double>(row[k]); });
    }
    for (int64_t k = 0; k < c.count; ++k) {
      const double norm = std::sqrt(sums[k]);
      *total += o_.weight * norm;
      sums[k] = norm > 0 ? o_.weight / norm : 0;
    }
    for (int64_t r = 0; r < c.rows; ++r) {
      const T* row = w + r * c.count;
      T* gradient = g + r * c.count;
      vector_loop(0, c.count, [=](int64_t k) { gradient[k] += static_cast<T>(sums[k]) * row[k]; });
    }
  }

  Options o_;
  std::vector<GroupFamily> families_;
  std::vector<Columns> columns_;
  std::vector<double> norms_;
};

ESPALIER_PLUGIN(
    "group_lasso", "1.0.0",
    component<GroupLasso>("group_lasso",
                          "sum of the l2 norms of filters and units: the kernel-number regularizer of paper 001"));

}  // namespace espalier
