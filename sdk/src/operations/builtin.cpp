#include "builtin.h"

namespace espalier {

std::vector<Component> builtin_operations() {
  std::vector<Component> all{conv2d_operation(),          linear_operation(),  batch_norm_operation(),
                             flatten_operation(),         dropout_operation(), cross_entropy_operation(),
                             layer_norm_operation(),      softmax_operation(), drop_path_operation(),
                             concat_operation(),          select_operation(),  attention_operation(),
                             window_attention_operation()};
  for (auto* family : {activation_operations, pool_operations, elementwise_operations, image_operations,
                       token_operations, graph_operations, coefficient_operations}) {
    for (Component& c : family()) all.push_back(std::move(c));
  }
  return all;
}

}  // namespace espalier
