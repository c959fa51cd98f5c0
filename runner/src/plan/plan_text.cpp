#include <string>
#include <vector>

#include "plan/plan.h"
#include "recipe/yaml.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace {

constexpr size_t axes_shown = 40;

std::string axes_text(const Value& axes, bool all) {
  const auto names = [&](const Value& list) {
    constexpr size_t shown = 4;
    std::string text;
    for (size_t i = 0; i < list.size(); ++i) {
      if (!all && i == shown && list.size() > shown + 1)
        return text + ", and " + std::to_string(list.size() - i) + " more";
      text += (i ? ", " : "") + list.as_list()[i].as_string();
    }
    return text;
  };
  std::vector<std::vector<std::string>> rows{{"axis", "size", "", "made by", "read by"}};
  for (const Value& a : axes.as_list()) {
    if (!all && rows.size() > axes_shown) break;
    rows.push_back({a.at("name").as_string(), count_text(a.at("size").as_int()), a.at("fixed").as_bool() ? "fixed" : "",
                    names(a.at("made_by")), names(a.at("read_by"))});
  }
  std::string text = table(rows, 0);
  if (axes.size() + 1 > rows.size())
    text += "and " + std::to_string(axes.size() + 1 - rows.size()) + " more axes: --axes shows all\n";
  return text;
}

// What a step takes, as a line; empty of an ordinary step.
std::string step_text(const Value& step) {
  if (step.is_null()) return "";
  const int64_t passes = step.at("passes").as_int(), copies = step.at("copies").as_int();
  const Value& parts = step.at("data");
  if (passes == 1 && copies == 1 && parts.size() == 1 && parts.as_list()[0].as_string() == "train") return "";
  std::string of;
  for (const Value& part : parts.as_list()) of += (of.empty() ? "" : " and ") + part.as_string();
  return "  a step: " + std::to_string(passes) + (passes == 1 ? " pass" : " passes") + " forward and backward (about " +
         count_text(step.at("macs").as_int()) + " MACs), " + std::to_string(copies) +
         (copies == 1 ? " copy" : " copies") + " of the weights, batches of " + of + "\n";
}

// " (regression of 16 values)" of what are no classes.
std::string task_text(const Value& data) {
  const Value* outputs = data.find("outputs");
  if (!outputs) return "";
  return " (" + data.at("task").as_string() + ", " + count_text(outputs->as_int()) +
         (outputs->as_int() == 1 ? " output)" : " outputs)");
}

std::string network_text(const Value& network, bool all_axes) {
  std::vector<std::vector<std::string>> rows{{"layer", "operation", "output", "params", "MACs"}};
  for (const Value& l : network.at("layers").as_list()) {
    std::vector<int64_t> sizes;
    for (const Value& n : l.at("output").as_list()) sizes.push_back(n.as_int());
    const int64_t params = l.at("params").as_int();
    const int64_t macs = l.at("macs").as_int();
    rows.push_back({l.at("name").as_string(), l.at("operation").as_string(), to_string(sizes),
                    params ? count_text(params) : "", macs ? count_text(macs) : ""});
  }
  rows.push_back(
      {"network", "", "", count_text(network.at("params").as_int()), count_text(network.at("macs").as_int())});
  return number_table(rows) + "\n" + axes_text(network.at("axes"), all_axes) + "\n";
}

}  // namespace

std::string plan_text(const Value& plan, bool all_axes) {
  const Value& network = plan.at("network");
  std::string text = plan.at("name").as_string() + ": " +
                     (network.is_null() ? "a network that depends on a run which does not exist yet, on "
                                        : network.at("backbone").as_string() + " on ") +
                     plan.at("data").at("dataset").as_string() + task_text(plan.at("data")) + ", seed " +
                     std::to_string(plan.at("seed").as_int()) + "\n\n";
  if (!network.is_null()) text += network_text(network, all_axes);
  for (const Value& s : plan.at("selectors").as_list()) {
    text += s.at("where").as_string() + ": " + s.at("selector").as_string() + " →";
    for (const Value& n : s.at("matches").as_list()) text += " " + n.as_string();
    text += "\n";
  }
  if (!network.is_null()) text += "\n";
  for (const Value& s : plan.at("stages").as_list()) {
    text += "stage " + s.at("name").as_string() + ": " + std::to_string(s.at("epochs").as_int()) + " epochs";
    for (const Value& o : s.at("optimizers").as_list()) text += ", " + to_json(o);
    for (const Value& r : s.at("regularizers").as_list()) text += ", " + to_json(r);
    for (const Value& c : s.at("controllers").as_list()) text += ", " + to_json(c);
    text += ", " + to_json(s.at("schedule"));
    for (const Value::Entry& k : s.at("keys").as_map()) text += ", " + k.key + " " + to_json(k.value);
    text += "\n";
    text += step_text(s.at("step"));
    for (const char* said : {"outlook", "norms"}) {
      for (const Value& line : s.at(said).as_list()) text += "  " + line.as_string() + "\n";
    }
  }
  for (const Value& line : plan.at("beginnings").as_list()) text += line.as_string() + "\n";
  for (const Value& note : plan.at("notes").as_list()) text += "note: " + note.as_string() + "\n";
  const Value& m = plan.at("memory");
  if (m.is_null()) return text;
  int64_t total = 0;
  for (const Value::Entry& e : m.as_map()) total += e.value.as_int();
  text += "\nmemory, about: weights " + bytes_text(m.at("weights").as_int()) + ", gradients " +
          bytes_text(m.at("gradients").as_int()) + ", states " + bytes_text(m.at("states").as_int()) +
          ", activations of a batch of " + std::to_string(plan.at("data").at("batch").as_int()) + " " +
          bytes_text(m.at("activations").as_int()) + "; together " + bytes_text(total) + "\n";
  return text;
}

}  // namespace espalier
