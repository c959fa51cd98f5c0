#include "compute.h"

#include <array>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/autograd.h>

#include <espalier/error.h>

#include "boxes.h"
#include "nms.h"
#include "roi_align.h"

namespace espalier::detection {
namespace {

using Json = nlohmann::json;

at::Tensor tensor_of(const Json& json) {
  const auto sizes = json.at("sizes").get<std::vector<int64_t>>();
  const auto type = json.at("type").get<std::string>();
  if (type == "int64") return at::tensor(json.at("values").get<std::vector<int64_t>>()).reshape(sizes);
  const at::Tensor values = at::tensor(json.at("values").get<std::vector<double>>(), at::kDouble).reshape(sizes);
  return type == "float32" ? values.to(at::kFloat) : values;
}

Json json_of(const at::Tensor& tensor) {
  Json json = {{"sizes", tensor.sizes().vec()}};
  if (tensor.scalar_type() == at::kLong) {
    const at::Tensor x = tensor.contiguous();
    json["values"] = std::vector<int64_t>(x.const_data_ptr<int64_t>(), x.const_data_ptr<int64_t>() + x.numel());
  } else {
    const at::Tensor x = tensor.detach().to(at::kDouble).contiguous();
    json["values"] = std::vector<double>(x.const_data_ptr<double>(), x.const_data_ptr<double>() + x.numel());
  }
  return json;
}

BoxCoding coding_of(const Json& r) {
  BoxCoding coding;
  coding.mean = r.at("mean").get<std::array<double, 4>>();
  coding.deviation = r.at("deviation").get<std::array<double, 4>>();
  return coding;
}

using Tensors = std::vector<at::Tensor>;
using Function = std::function<at::Tensor(const Tensors& x, const Json& r)>;

const std::map<std::string, Function>& functions() {
  static const std::map<std::string, Function> all = {
      {"encode", [](const Tensors& x, const Json& r) { return encode_boxes(x[0], x[1], coding_of(r)); }},
      {"decode",
       [](const Tensors& x, const Json& r) {
         if (!r.contains("image")) return decode_boxes(x[0], x[1], coding_of(r));
         const auto image = r.at("image").get<std::array<int64_t, 2>>();
         return decode_boxes(x[0], x[1], coding_of(r), ImageSize{image[0], image[1]});
       }},
      {"pairwise_iou", [](const Tensors& x, const Json&) { return pairwise_iou(x[0], x[1]); }},
      {"pairwise_giou", [](const Tensors& x, const Json&) { return pairwise_giou(x[0], x[1]); }},
      {"aligned_iou", [](const Tensors& x, const Json&) { return aligned_iou(x[0], x[1]); }},
      {"aligned_giou", [](const Tensors& x, const Json&) { return aligned_giou(x[0], x[1]); }},
      {"nms", [](const Tensors& x, const Json& r) { return nms(x[0], x[1], r.at("threshold").get<double>()); }},
      {"nms_by_class",
       [](const Tensors& x, const Json& r) { return nms_by_class(x[0], x[1], x[2], r.at("threshold").get<double>()); }},
      {"anchors",
       [](const Tensors&, const Json& r) {
         return make_anchors(r.at("height").get<int64_t>(), r.at("width").get<int64_t>(),
                             r.at("stride").get<int64_t>());
       }},
      {"levels", [](const Tensors& x, const Json& r) { return feature_levels(x[0], r.at("levels").get<int64_t>()); }},
      {"roi_align",
       [](const Tensors& x, const Json& r) {
         return roi_align(x[0], x[1],
                          {.height = r.at("height").get<int64_t>(),
                           .width = r.at("width").get<int64_t>(),
                           .scale = r.at("scale").get<double>(),
                           .samples = r.at("samples").get<int64_t>(),
                           .aligned = r.at("aligned").get<bool>()});
       }},
  };
  return all;
}

}  // namespace

Json compute(const Json& request) {
  const auto name = request.at("do").get<std::string>();
  const auto found = functions().find(name);
  if (found == functions().end()) throw Error("there is nothing called '" + name + "'");
  Tensors inputs;
  for (const Json& input : request.at("inputs")) inputs.push_back(tensor_of(input));
  if (!request.contains("gradient")) return {{"value", json_of(found->second(inputs, request))}};
  // The gradients of the inputs whose numbers are named.
  Tensors learned;
  for (const Json& number : request.at("learned")) {
    learned.push_back(inputs[number.get<size_t>()]);
    learned.back().requires_grad_();
  }
  const at::Tensor value = found->second(inputs, request);
  Json gradients = Json::array();
  for (const at::Tensor& g : torch::autograd::grad({value}, learned, {tensor_of(request.at("gradient"))}))
    gradients.push_back(json_of(g));
  return {{"value", json_of(value)}, {"gradients", gradients}};
}

}  // namespace espalier::detection
