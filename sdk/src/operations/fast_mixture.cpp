#include "fast_mixture.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/mixture_kernels.h"

namespace espalier {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Kind = MixedTerm::Kind;

// Where the tensors of a term stand among those that autograd sees; -1: there is none.
struct Place {
  Kind kind = Kind::zero;
  int64_t x = -1, weight = -1, bias = -1;
};

// What a backward pass needs of a term, in float64 for each channel: a row of `numbers`.
constexpr int64_t rows_of_term = 3;
struct Numbers {
  double *mean, *deviation, *weight;  // deviation: 1 / sqrt(variance + eps)
};
Numbers numbers_of(const at::Tensor& all, size_t term) {
  const int64_t channels = all.size(2);
  auto* at = all.mutable_data_ptr<double>() + static_cast<int64_t>(term) * rows_of_term * channels;
  return {at, at + channels, at + 2 * channels};
}

double of(const at::Tensor& t, int64_t channel, double otherwise) {
  return t.defined() ? static_cast<double>(t.const_data_ptr<float>()[channel]) : otherwise;
}

class Mixed : public Function<Mixed> {
 public:
  static at::Tensor forward(AutogradContext* context, at::TensorList tensors, const at::Tensor& coefficients,
                            const std::vector<MixedTerm>* terms, const std::vector<Place>& places) {
    at::Tensor like;
    for (const MixedTerm& t : *terms) {
      if (t.kind != Kind::zero) like = t.x;
    }
    const int64_t channels = like.size(1), rows = like.numel() / channels;
    const auto count = static_cast<int64_t>(terms->size());
    const at::Tensor numbers = at::empty({count, rows_of_term, channels}, at::kDouble);
    const at::Tensor factors = at::empty({count + 1, channels}, at::kFloat);
    auto* factor = factors.mutable_data_ptr<float>();
    std::vector<double> shift(static_cast<size_t>(channels), 0.0);
    std::vector<ScaledTerm> scaled;
    // Copied, since the values may change before the backward pass.
    std::vector<double> values;
    for (size_t t = 0; t < terms->size(); ++t) {
      const MixedTerm& term = (*terms)[t];
      const double a = of(coefficients, static_cast<int64_t>(t), 0);
      values.push_back(a);
      if (term.kind == Kind::zero) continue;
      float* scale = factor + static_cast<int64_t>(t) * channels;
      const Numbers n = numbers_of(numbers, t);
      if (term.kind == Kind::norm) {
        normalising(term.x, term.norm, n.mean, n.deviation);
        for (int64_t c = 0; c < channels; ++c) n.weight[c] = of(term.norm.weight, c, 1);
      }
      for (int64_t c = 0; c < channels; ++c) {
        if (term.kind == Kind::plain) {
          n.mean[c] = 0;
          scale[c] = static_cast<float>(a);
          continue;
        }
        const double s = n.weight[c] * n.deviation[c];
        scale[c] = static_cast<float>(a * s);
        shift[static_cast<size_t>(c)] += a * (of(term.norm.bias, c, 0) - n.mean[c] * s);
      }
      scaled.push_back({term.x.const_data_ptr<float>(), scale});
    }
    float* sum_of_shifts = factor + count * channels;
    for (int64_t c = 0; c < channels; ++c) sum_of_shifts[c] = static_cast<float>(shift[static_cast<size_t>(c)]);
    at::Tensor y = at::empty_like(like);
    sum_of_terms(rows, channels, scaled, sum_of_shifts, y.mutable_data_ptr<float>());

    variable_list saved{numbers};
    std::vector<int64_t> flat;
    for (const Place& p : places) {
      if (p.kind != Kind::zero) saved.push_back(tensors[static_cast<size_t>(p.x)]);
      // A bias is not saved: its value is in the gradient of its coefficient alone.
      if (p.bias >= 0) saved.push_back(tensors[static_cast<size_t>(p.bias)].detach().clone());
      flat.insert(flat.end(), {static_cast<int64_t>(p.kind), p.x, p.weight, p.bias});
    }
    context->save_for_backward(std::move(saved));
    context->saved_data["places"] = flat;
    context->saved_data["coefficients"] = values;
    context->saved_data["tensors"] = static_cast<int64_t>(tensors.size());
    return y;
  }

  // With n rows, d a norm's deviation, k = coefficient * weight * d, and g the gradient of the sum:
  // gx = k * (g - sum(g) / n - (x - mean) * d^2 * sum(g * (x - mean)) / n), as for a batch norm by itself whose
  // gradient is coefficient * g.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& numbers = saved[0];
    const std::vector<int64_t> flat = context->saved_data["places"].toIntVector();
    const std::vector<double> coefficients = context->saved_data["coefficients"].toDoubleVector();
    const auto inputs = static_cast<size_t>(context->saved_data["tensors"].toInt());
    const at::Tensor gy =
        gradients[0].dim() == 4 ? gradients[0].contiguous(at::MemoryFormat::ChannelsLast) : gradients[0].contiguous();
    const int64_t channels = gy.size(1), rows = gy.numel() / channels;
    const auto width = static_cast<size_t>(channels);
    const bool of_coefficients = context->needs_input_grad(inputs);

    struct Term {
      Place place;
      at::Tensor x{}, bias{};
      std::vector<double> products{};
      std::vector<float> mean{}, scale{}, slope{}, offset{};
    };
    std::vector<Term> terms;
    size_t next = 1;
    for (size_t t = 0; t * 4 < flat.size(); ++t) {
      Term term{.place = {static_cast<Kind>(flat[4 * t]), flat[4 * t + 1], flat[4 * t + 2], flat[4 * t + 3]}};
      if (term.place.kind != Kind::zero) term.x = saved[next++];
      if (term.place.bias >= 0) term.bias = saved[next++];
      terms.push_back(std::move(term));
    }

    std::vector<double> sum(width);
    std::vector<CenteredTerm> centered;
    for (size_t t = 0; t < terms.size(); ++t) {
      Term& term = terms[t];
      if (term.place.kind == Kind::zero || (term.place.kind == Kind::plain && !of_coefficients)) continue;
      const Numbers n = numbers_of(numbers, t);
      term.mean.assign(n.mean, n.mean + channels);
      term.products.resize(width);
      centered.push_back({term.x.const_data_ptr<float>(), term.mean.data(), term.products.data()});
    }
    if (!centered.empty()) term_products(rows, channels, gy.const_data_ptr<float>(), centered, sum.data());

    variable_list result(inputs + 3);
    at::Tensor of_each = of_coefficients ? at::empty({static_cast<int64_t>(terms.size())}, at::kFloat) : at::Tensor();
    std::vector<TermGradient> wanted;
    const auto count = static_cast<double>(rows);
    for (size_t t = 0; t < terms.size(); ++t) {
      Term& term = terms[t];
      const Place& p = term.place;
      const Numbers n = numbers_of(numbers, t);
      const double a = coefficients[t];
      if (of_coefficients) {
        double g = 0;
        for (size_t c = 0; c < width && p.kind != Kind::zero; ++c) {
          g += p.kind == Kind::plain ? term.products[c]
                                     : n.weight[c] * n.deviation[c] * term.products[c] +
                                           of(term.bias, static_cast<int64_t>(c), 0) * sum[c];
        }
        of_each.mutable_data_ptr<float>()[t] = static_cast<float>(g);
      }
      if (p.kind == Kind::zero) continue;
      const auto parameter = [&](int64_t place, const auto& value) {
        if (place < 0 || !context->needs_input_grad(static_cast<size_t>(place))) return;
        at::Tensor g = at::empty({channels}, at::kFloat);
        for (size_t c = 0; c < width; ++c) g.mutable_data_ptr<float>()[c] = static_cast<float>(value(c));
        result[static_cast<size_t>(place)] = g;
      };
      parameter(p.weight, [&](size_t c) { return a * term.products[c] * n.deviation[c]; });
      parameter(p.bias, [&](size_t c) { return a * sum[c]; });
      if (!context->needs_input_grad(static_cast<size_t>(p.x))) continue;
      at::Tensor& gx = result[static_cast<size_t>(p.x)];
      gx = at::empty_like(gy);
      TermGradient gradient{.gx = gx.mutable_data_ptr<float>(), .scale = nullptr};
      term.scale.resize(width);
      term.slope.resize(width);
      term.offset.resize(width);
      for (size_t c = 0; c < width; ++c) {
        const double k = p.kind == Kind::plain ? a : a * n.weight[c] * n.deviation[c];
        term.scale[c] = static_cast<float>(k);
        if (p.kind == Kind::plain) continue;
        term.slope[c] = static_cast<float>(-k * n.deviation[c] * n.deviation[c] * term.products[c] / count);
        term.offset[c] = static_cast<float>(-k * sum[c] / count);
      }
      gradient.scale = term.scale.data();
      if (p.kind == Kind::norm) {
        gradient.x = term.x.const_data_ptr<float>();
        gradient.mean = term.mean.data();
        gradient.slope = term.slope.data();
        gradient.offset = term.offset.data();
      }
      wanted.push_back(gradient);
    }
    if (!wanted.empty()) term_gradients(rows, channels, gy.const_data_ptr<float>(), wanted);
    result[inputs] = of_each;
    return result;
  }
};

}  // namespace

at::Tensor fast_mixture(const std::vector<MixedTerm>& terms, const at::Tensor& coefficients) {
  variable_list tensors;
  std::vector<Place> places;
  const auto place = [&](const at::Tensor& t) -> int64_t {
    if (!t.defined()) return -1;
    tensors.push_back(t);
    return static_cast<int64_t>(tensors.size()) - 1;
  };
  bool something = false;
  for (const MixedTerm& t : terms) {
    Place p{.kind = t.kind};
    if (t.kind != Kind::zero) p.x = place(t.x);
    if (t.kind == Kind::norm) {
      if (!t.norm.by_batch && c10::GradMode::is_enabled()) return {};
      p.weight = place(t.norm.weight);
      p.bias = place(t.norm.bias);
    }
    something = something || t.kind != Kind::zero;
    places.push_back(p);
  }
  // As a list: a vector would be no tensors to autograd.
  return something ? Mixed::apply(at::TensorList(tensors), coefficients, &terms, places) : at::Tensor();
}

}  // namespace espalier
