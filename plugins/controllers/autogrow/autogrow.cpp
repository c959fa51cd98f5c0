#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>
#include <espalier/rewrite.h>

namespace espalier {

namespace {

// Where a name has a number between two dots, "layer1.0.conv1", the last of them: "layer1" and 0.
struct Place {
  std::string subnetwork;
  int64_t block = 0;
};

std::optional<Place> place_of(const std::string& node) {
  for (size_t end = node.rfind('.'); end != std::string::npos && end > 0; end = node.rfind('.', end - 1)) {
    const size_t dot = node.rfind('.', end - 1);
    if (dot == std::string::npos) break;
    Place place{node.substr(0, dot)};
    const char* last = node.data() + end;
    if (const auto [stop, error] = std::from_chars(node.data() + dot + 1, last, place.block);
        error == std::errc() && stop == last)
      return place;
  }
  return {};
}

std::vector<std::string> subnetworks_of(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes()) {
    const auto place = place_of(n.name);
    if (place && std::ranges::find(names, place->subnetwork) == names.end()) names.push_back(place->subnetwork);
  }
  return names;
}

// The numbers of its blocks, from the first to the last that the network runs.
std::vector<int64_t> blocks_of(const Graph& graph, const std::string& subnetwork) {
  std::vector<int64_t> numbers;
  for (const Node& n : graph.nodes()) {
    const auto place = place_of(n.name);
    if (place && place->subnetwork == subnetwork && std::ranges::find(numbers, place->block) == numbers.end())
      numbers.push_back(place->block);
  }
  return numbers;
}

// One block more, like the last and behind it.
InsertBlock next_block(const Graph& graph, const std::string& subnetwork) {
  const std::vector<int64_t> numbers = blocks_of(graph, subnetwork);
  const std::string last = subnetwork + "." + std::to_string(numbers.back());
  return {.block = subnetwork + "." + std::to_string(std::ranges::max(numbers) + 1), .like = last, .after = last};
}

// The weight of a block's last batch norm; id -1: it has none.
ParamId last_norm(const Graph& graph, const std::string& block) {
  ParamId last;
  for (const Node& n : graph.nodes()) {
    if (!n.name.starts_with(block + ".")) continue;
    for (const ParamId p : n.parameters) {
      if (graph[p].kind == "norm_weight") last = p;
    }
  }
  return last;
}

}  // namespace

// Wen et al. 2020, algorithm 1. Every K epochs: did accuracy not rise, the sub-network that grew last stops; then the
// next in turn gets a block. Readings: an accuracy is the best of the epochs in question, and the one before training
// counts as nothing, so that nothing stops or converges at the first test. The paper watches the last J epochs when it
// grows periodically, J much larger than K; here these are `patience`, and never fewer than since the last growth. Its
// seeds have one block in each sub-network; a copy of one that halves the image cannot follow it, so here such
// sub-networks begin with two.
class AutoGrow final : public Controller, public Foresight {
 public:
  struct Options {
    std::vector<std::string> subnetworks;
    std::string policy = "periodic";
    int64_t every = 3;
    std::optional<int64_t> patience;
    double min_delta = 0.05;
    int64_t max_blocks = 200;
    std::string init = "gaussian";
    double std = 1;

    static void declare(Declare<Options>& p) {
      p("subnetworks", &Options::subnetworks,
        "Sub-networks that grow, in turn. layer1 stands for the blocks layer1.0, layer1.1 and so on, of which "
        "the last one has an output of the same shape as its input. Left out: all that the network has.");
      p("policy", &Options::policy, one_of({"periodic", "convergent"}),
        "When to grow; periodic: every `every` epochs; convergent: if the accuracy has not risen for `every` "
        "epochs.");
      p("every", &Options::every, at_least(1), unit("epochs"), "Epochs between two tests (K).");
      p("patience", &Options::patience, at_least(1), unit("epochs"),
        "Epochs without a rise of the accuracy after which the sub-network that grew last stops growing (J). "
        "Left out: all epochs since it grew.");
      p("min_delta", &Options::min_delta, at_least(0), formerly("least_gain"), unit("percentage points"),
        "Smallest change of the validation accuracy that counts as a rise (tau).");
      p("max_blocks", &Options::max_blocks, at_least(1), formerly("most"),
        "Largest number of blocks in a sub-network.");
      p("init", &Options::init, one_of({"gaussian", "random", "preserving"}),
        "Initial values of a new block; gaussian: random, and the weight of its last batch norm is drawn from "
        "a normal distribution; preserving: the function of the network stays the same.");
      p("std", &Options::std, above(0), formerly("deviation"), "Standard deviation of `init: gaussian`.");
    }
  };
  explicit AutoGrow(Options options) : o_(std::move(options)) {}

  int64_t round() const override { return o_.every; }

  void check(const Graph& graph) const override {
    const std::vector<std::string> all = subnetworks(graph);
    if (all.empty()) throw Error("nothing can grow: the network has no blocks with names like layer1.0, layer1.1");
    for (const std::string& name : all) require(graph, name);
    for (const std::string& name : o_.subnetworks) {
      if (std::ranges::count(o_.subnetworks, name) > 1) throw Error("`subnetworks` names '" + name + "' twice");
    }
    const auto is_full = [&](const std::string& name) {
      return static_cast<int64_t>(blocks_of(graph, name).size()) >= o_.max_blocks;
    };
    if (std::ranges::all_of(all, is_full))
      throw Error("nothing can grow: every sub-network has the " + std::to_string(o_.max_blocks) +
                  " blocks that `max_blocks` allows");
  }
  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    std::vector<std::string> lines;
    if (o_.every >= epochs) {
      lines.push_back("'every' is " + std::to_string(o_.every) + " epochs, and the stage has " +
                      std::to_string(epochs) +
                      ": nothing grows, for what would be new at its end would not be trained in it");
    }
    if (o_.patience && *o_.patience <= o_.every)
      lines.push_back("'patience' is without effect where it is not larger than 'every', " + std::to_string(o_.every));
    if (o_.init != "gaussian" && o_.std != Options().std)
      lines.push_back("'std' is without effect where 'init' is " + o_.init);
    return lines;
  }
  void stage_begin(Run& run) override {
    check(run.graph());
    turn_ = subnetworks(run.graph());
  }

  void epoch_end(Run& run) override {
    accuracies_.push_back(run.evaluate("validation").score);
    for (const std::string& name : subnetworks(run.graph()))
      run.metric("blocks." + name, static_cast<double>(blocks_of(run.graph(), name).size()));
    const auto done = static_cast<int64_t>(accuracies_.size());
    if (done % o_.every != 0) return;
    const int64_t window = std::min(grown_at_, done - o_.patience.value_or(o_.every));
    if (!grown_.empty() && !rises(window)) stop(run, grown_, "accuracy does not rise");
    const auto is_full = [&](const std::string& name) {
      return static_cast<int64_t>(blocks_of(run.graph(), name).size()) >= o_.max_blocks;
    };
    while (!turn_.empty() && is_full(turn_.front())) stop(run, turn_.front(), "these are all that it may have");
    if (turn_.empty()) return run.end_stage();
    // What would be new at the end of a stage would not be trained in it.
    if (done == run.epochs() || (o_.policy == "convergent" && rises(done - o_.every))) return;
    grow(run);
  }

  Value save() const override {
    return Value::map({{"accuracies", accuracies_}, {"turn", turn_}, {"grown", grown_}, {"grown_at", grown_at_}});
  }
  void resume(Run&, const Value& saved) override {
    for (const Value& v : saved.at("accuracies").as_list()) accuracies_.push_back(v.as_double());
    for (const Value& v : saved.at("turn").as_list()) turn_.push_back(v.as_string());
    grown_ = saved.at("grown").as_string();
    grown_at_ = saved.at("grown_at").as_int();
  }

 private:
  std::vector<std::string> subnetworks(const Graph& graph) const {
    return o_.subnetworks.empty() ? subnetworks_of(graph) : o_.subnetworks;
  }

  void require(const Graph& graph, const std::string& name) const {
    if (blocks_of(graph, name).empty())
      throw Error("the network has no sub-network '" + name + "'" + suggestion(name, subnetworks_of(graph)));
    InsertBlock edit = next_block(graph, name);
    if (o_.init == "preserving") edit.init = "preserving";
    if (o_.init == "gaussian" && last_norm(graph, edit.like).id < 0)
      throw Error("the blocks of '" + name + "' have no batch norm for `init: gaussian`; write init: random");
    try {
      plan(graph, {edit});
    } catch (const EditError& e) {
      throw Error("the sub-network '" + name + "' cannot grow: " + e.what() +
                  ". Its last block is what is copied; where the first changes the shape, begin with two blocks");
    }
  }

  // Whether the best accuracy of the epochs after `start` lies above the best up to there.
  bool rises(int64_t start) const {
    if (start <= 0) return true;
    const auto middle = accuracies_.begin() + start;
    const double gain = *std::max_element(middle, accuracies_.end()) - *std::max_element(accuracies_.begin(), middle);
    return gain > o_.min_delta - 1e-9;  // 50.05 - 50 is a little less than 0.05
  }

  // A copy of the name: it may be an element of what it is erased from.
  // NOLINTNEXTLINE(performance-unnecessary-value-param)
  void stop(Run& run, std::string name, const std::string& why) {
    run.note(name + " stops growing with " + std::to_string(blocks_of(run.graph(), name).size()) + " blocks: " + why);
    std::erase(turn_, name);
    if (name == grown_) grown_.clear();
  }

  void grow(Run& run) {
    grown_ = turn_.front();
    grown_at_ = static_cast<int64_t>(accuracies_.size());
    std::rotate(turn_.begin(), turn_.begin() + 1, turn_.end());
    InsertBlock edit = next_block(run.graph(), grown_);
    const RandomKey key = run.key().with("autogrow");
    edit.seed = key.value();
    if (o_.init == "preserving") edit.init = "preserving";
    run.edit(Edit{edit});
    if (o_.init != "gaussian") return;
    const c10::NoGradGuard no_grad;
    at::Tensor w = run.weights()[last_norm(run.graph(), edit.block)].detach();
    w.copy_(normal(w.sizes().vec(), o_.std, key.with("norm")));
  }

  Options o_;
  std::vector<double> accuracies_;  // after each epoch
  std::vector<std::string> turn_;   // sub-networks that still grow, the next one first
  std::string grown_;               // last, if it still grows
  int64_t grown_at_ = 0;            // epochs before that
};

ESPALIER_PLUGIN("autogrow", "1.0.0",
                component<AutoGrow>("autogrow", "adds residual blocks as long as accuracy rises (Wen et al. 2020)")
                    .need("data:validation", "growth goes by its accuracy; write validation: 0.1 under data"));

}  // namespace espalier
