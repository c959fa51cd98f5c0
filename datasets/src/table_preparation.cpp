#include "table_preparation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <set>

#include <ATen/ops/empty.h>

#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/parallel.h"
#include "table_labels.h"
#include "table_missing.h"
#include "table_text.h"
#include "text.h"

namespace espalier {
namespace {

// A data set is asked for its sizes and parts several times in a run, and by each of many runs that are planned.
void say_once(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(text).second) log::info(text);
}

// More categories of one input are more likely names than something to learn from.
constexpr size_t most_categories = 1000;

std::vector<std::string> with_values(const std::map<std::string, int64_t>& counts) {
  std::vector<std::string> texts;
  for (const auto& [name, n] : counts) texts.push_back(grouped(n) + " in '" + name + "'");
  return texts;
}

// What makes inputs and targets of a table: which columns are which, the task, the parts, and what stands for missing
// values.
class Preparation {
 public:
  // The rows of the files from `test_files` on are the test part, if there are such files.
  Preparation(const TableOptions& options, Table table, size_t test_files)
      : o_(options), t_(std::move(table)), test_files_(test_files) {}

  void run() {
    assign_columns();
    find_task();
    drop_rows_with_missing();
    make_labels();
    split_rows();
    fill_missing();
    check_inputs();
    check_targets();
  }

  DatasetInfo info() const {
    DatasetInfo info;
    info.input = {.channels = features()};
    info.target = {.outputs = outputs(), .task = task_};
    info.classes = classes_;
    info.samples = static_cast<int64_t>(parts_.train.size());
    info.has_validation = !parts_.validation.empty();
    info.preparation = preparation();
    const bool numbers = std::ranges::any_of(inputs_, [&](size_t c) { return !t_.columns[c].is_nominal(); });
    if (o_.standardize && numbers) info.standardize.emplace_back("input");
    if (o_.standardize_target) info.standardize.emplace_back("target");
    return info;
  }

  Split split(const std::vector<int64_t>& rows) const {
    return {.inputs = {{"input", input_of(rows)}}, .targets = {{"target", target_of(rows)}}};
  }
  const RowParts& parts() const { return parts_; }

 private:
  const TableColumn& column(size_t c) const { return t_.columns[c]; }
  std::string name_of(size_t c) const { return column_text(c, column(c).name); }
  std::string file() const { return t_.files.front().string(); }
  bool is_classification() const { return task_ == task::classification; }

  void assign_columns() {
    const size_t count = t_.columns.size();
    std::vector<const char*> uses(count, nullptr);
    const auto take = [&](const std::vector<std::string>& names, const char* option) {
      std::vector<size_t> columns = named_columns(t_, names, option);
      for (const size_t c : columns) {
        if (uses[c]) throw InputError(file(), name_of(c) + " is named in `" + uses[c] + "` and in `" + option + "`");
        uses[c] = option;
      }
      return columns;
    };
    take(o_.ignore, "ignore");
    if (!o_.split_column.empty()) {
      const std::vector<size_t> columns = take({o_.split_column}, "split_column");
      if (columns.size() > 1)
        throw InputError(file(), "`split_column`: '" + o_.split_column + "' matches several columns");
      split_column_ = columns.front();
    }
    if (!o_.target.empty() || !t_.targets.empty()) {
      targets_ = take(o_.target.empty() ? t_.targets : o_.target, "target");
    } else {
      for (size_t c = count; c-- > 0 && targets_.empty();) {
        if (!uses[c]) targets_.push_back(c), uses[c] = "target";
      }
    }
    if (targets_.empty()) throw InputError(file(), "no column is left to be learned");
    for (size_t c = 0; c < count; ++c) {
      if (!uses[c]) inputs_.push_back(c);
    }
    if (inputs_.empty()) {
      throw InputError(file(), "no column is left as an input: of " + std::to_string(count) + " columns " +
                                   std::to_string(targets_.size()) +
                                   " are targets; look at `target` and `ignore`, and at `delimiter` if rows are not "
                                   "taken apart");
    }
  }

  void find_task() {
    task_ = o_.task;
    const bool one = targets_.size() == 1;
    if (task_ == "auto") {
      const auto nominal = std::ranges::find_if(targets_, [&](size_t c) { return column(c).is_nominal(); });
      if (one) {
        task_ = nominal == targets_.end() ? task::regression : task::classification;
      } else if (std::ranges::none_of(targets_, [&](size_t c) { return no_label(column(c)).has_value(); })) {
        task_ = task::multilabel;
      } else if (nominal == targets_.end()) {
        task_ = task::regression;
      } else {
        throw InputError(file(), "the targets are neither all numbers nor all labels of 0 and 1: " + name_of(*nominal) +
                                     " holds categories; name one of them as `target`, or say `task`");
      }
    }
    if (is_classification() && !one) {
      throw InputError(file(), "classification learns one column, and `target` names " +
                                   std::to_string(targets_.size()) + "; name one, or say `task: multilabel`");
    }
    if (o_.standardize_target && task_ != task::regression)
      throw InputError(file(), "`standardize_target` is for regression, and this is " + task_ + "; leave it out");
  }

  std::vector<size_t> used() const {
    std::vector<size_t> columns = inputs_;
    columns.insert(columns.end(), targets_.begin(), targets_.end());
    return columns;
  }

  void drop_rows_with_missing() {
    rows_.resize(static_cast<size_t>(t_.rows()));
    std::iota(rows_.begin(), rows_.end(), 0);
    if (o_.missing == "error") {
      if (const std::string text = missing_text(t_, used(), rows_); !text.empty()) {
        throw InputError(file(), text +
                                     ". Say `missing: mean`, `most_frequent` or `drop`, or name the columns in "
                                     "`ignore`");
      }
      return;
    }
    if (o_.missing != "drop") {
      if (const std::string text = missing_text(t_, targets_, rows_); !text.empty())
        throw InputError(file(), text + ". Targets are not filled in: say `missing: drop`");
      return;
    }
    const std::vector<size_t> columns = used();
    std::erase_if(rows_, [&](int64_t row) {
      return std::ranges::any_of(columns, [&](size_t c) { return column(c).is_missing(row); });
    });
    const int64_t dropped = t_.rows() - static_cast<int64_t>(rows_.size());
    if (dropped > 0) say_once(file() + ": " + count_text(dropped, "row") + " with missing values left out");
    if (rows_.empty()) throw InputError(file(), "a value is missing in every row; name columns in `ignore`");
  }

  // Targets as they are learned.
  void make_labels() {
    if (is_classification()) return make_classes();
    for (const size_t c : targets_) classes_.push_back(column(c).name);
    values_.resize(targets_.size());
    for (size_t i = 0; i < targets_.size(); ++i) {
      const TableColumn& target = column(targets_[i]);
      std::vector<double>& values = values_[i];
      if (task_ == task::multilabel) {
        if (const std::optional<int64_t> row = no_label(target)) {
          throw InputError(t_.place(*row), name_of(targets_[i]) + ": " + value_text(target, *row) +
                                               " is no label; labels are 0 and 1, or no and yes, or false and true");
        }
      }
      if (!target.is_nominal()) {
        values = target.numbers;
        continue;
      }
      std::vector<double> of_category;
      if (task_ == task::multilabel) {
        for (const int label : labels_of(target)) of_category.push_back(label);
      } else {
        for (const std::string& name : target.categories)
          of_category.push_back(parse_number(name).value_or(std::numeric_limits<double>::quiet_NaN()));
      }
      for (size_t row = 0; row < target.codes.size(); ++row) {
        const int32_t code = target.codes[row];
        values.push_back(code < 0 ? std::numeric_limits<double>::quiet_NaN() : of_category[static_cast<size_t>(code)]);
        if (code >= 0 && std::isnan(values.back())) {
          throw InputError(t_.place(static_cast<int64_t>(row)),
                           name_of(targets_[i]) + ": " + value_text(target, static_cast<int64_t>(row)) +
                               " is not a number, and regression learns numbers; say `task: classification`");
        }
      }
    }
  }

  void make_classes() {
    const TableColumn& target = column(targets_.front());
    if (target.is_nominal()) {
      classes_ = target.categories;
      class_of_ = target.codes;
      return;
    }
    std::map<double, int32_t> numbers;
    for (const int64_t row : rows_) {
      const double v = target.numbers[static_cast<size_t>(row)];
      if (v != std::nearbyint(v)) {
        throw InputError(t_.place(row), name_of(targets_.front()) + ": " + number_text(v) +
                                            " is no class; classes are whole numbers or names");
      }
      numbers.emplace(v, 0);
    }
    for (auto& [number, code] : numbers) {
      code = static_cast<int32_t>(classes_.size());
      classes_.push_back(number_text(number));
    }
    class_of_.assign(target.numbers.size(), -1);
    for (const int64_t row : rows_)
      class_of_[static_cast<size_t>(row)] = numbers.at(target.numbers[static_cast<size_t>(row)]);
  }

  void split_rows() {
    if (t_.files.size() > test_files_) {
      for (const int64_t row : rows_) (t_.file_of(row) < test_files_ ? parts_.train : parts_.test).push_back(row);
    } else if (split_column_) {
      split_by_column();
    } else if (const double share = o_.test.value_or(0.2); share == 0) {
      parts_ = {.train = rows_, .test = rows_, .validation = {}};
    } else {
      std::vector<int32_t> classes;
      if (is_classification()) {
        for (const int64_t row : rows_) classes.push_back(class_of_[static_cast<size_t>(row)]);
      }
      const auto rows = static_cast<int64_t>(rows_.size());
      parts_ = draw_test_rows(rows, classes, share, static_cast<uint64_t>(o_.seed));
      for (std::vector<int64_t>* part : {&parts_.train, &parts_.test}) {
        for (int64_t& row : *part) row = rows_[static_cast<size_t>(row)];
      }
      if (parts_.test.empty()) {
        throw InputError(file(), "has too few rows: " + number_text(share) + " of " + count_text(rows, "row") +
                                     " is no row for testing; say a larger `test`, or `test: 0`");
      }
    }
    for (const auto& [part, name] : {std::pair(&parts_.train, "training"), std::pair(&parts_.test, "test")}) {
      if (part->empty()) throw InputError(file(), std::string("no row is left for the ") + name + " part");
    }
    if (parts_.train.size() < 2)
      throw InputError(file(), "has too few rows: the training part has a single one, and two are the least");
  }

  void split_by_column() {
    const TableColumn& c = column(*split_column_);
    for (const int64_t row : rows_) {
      const auto r = static_cast<size_t>(row);
      const std::string value = !c.is_nominal() || c.codes[r] < 0 ? "" : c.categories[static_cast<size_t>(c.codes[r])];
      std::vector<int64_t>* part = value == "train"        ? &parts_.train
                                   : value == "test"       ? &parts_.test
                                   : value == "validation" ? &parts_.validation
                                                           : nullptr;
      if (!part) {
        throw InputError(t_.place(row), name_of(*split_column_) + ": " +
                                            (c.is_missing(row) ? "a missing value" : value_text(c, row)) +
                                            " is no part; `split_column` holds train, test and validation");
      }
      part->push_back(row);
    }
  }

  // By the training part alone: what is measured on the test part must not depend on it.
  void fill_missing() {
    if (o_.missing != "mean" && o_.missing != "most_frequent") return;
    for (const size_t i : inputs_) {
      TableColumn& c = t_.columns[i];
      if (std::ranges::none_of(rows_, [&](int64_t row) { return c.is_missing(row); })) continue;
      std::vector<int64_t> known;
      for (const int64_t row : parts_.train) {
        if (!c.is_missing(row)) known.push_back(row);
      }
      if (known.empty()) {
        throw InputError(file(), name_of(i) +
                                     " has no value in the training part, so nothing can be filled in; name "
                                     "it in `ignore`");
      }
      filled_[i] = fill_column(c, known, o_.missing);
    }
  }

  // What is computed with is float32.
  void expect_floats(size_t c, const std::vector<double>& values) const {
    for (const int64_t row : rows_) {
      const double v = values[static_cast<size_t>(row)];
      if (std::abs(v) <= std::numeric_limits<float>::max()) continue;
      throw InputError(t_.place(row), name_of(c) + ": " + number_text(v) +
                                          " is too large for float32; give the column "
                                          "another unit, or name it in `ignore`");
    }
  }

  bool is_constant(const std::vector<double>& values) const {
    const double first = values[static_cast<size_t>(parts_.train.front())];
    return std::ranges::all_of(parts_.train, [&](int64_t row) { return values[static_cast<size_t>(row)] == first; });
  }

  void check_inputs() const {
    std::vector<std::string> constant;
    for (const size_t i : inputs_) {
      const TableColumn& c = column(i);
      if (c.categories.size() > most_categories) {
        throw InputError(file(), name_of(i) + " has " + grouped(static_cast<int64_t>(c.categories.size())) +
                                     " different values, each of which would be an input (" + grouped(most_categories) +
                                     " are the most); name it in `ignore`");
      }
      if (!c.is_nominal()) expect_floats(i, c.numbers);
      const auto code = [&](int64_t row) { return c.codes[static_cast<size_t>(row)]; };
      const bool same =
          c.is_nominal()
              ? std::ranges::all_of(parts_.train, [&](int64_t row) { return code(row) == code(parts_.train.front()); })
              : is_constant(c.numbers);
      if (same) constant.push_back(c.name);
    }
    if (!constant.empty()) {
      say_once(file() + ": " + (constant.size() == 1 ? "the input " : "the inputs ") + some_of(constant) +
               (constant.size() == 1 ? " has" : " have") + " the same value in every row of the training part");
    }
    check_cells(file(), static_cast<int64_t>(rows_.size()), features());
  }

  void check_targets() const {
    if (!is_classification()) {
      for (size_t i = 0; i < targets_.size(); ++i) {
        expect_floats(targets_[i], values_[i]);
        if (is_constant(values_[i])) {
          say_once(file() + ": the target " + column(targets_[i]).name +
                   " has the same value in every row of the training part");
        }
      }
      return;
    }
    std::vector<int64_t> train(classes_.size()), test(classes_.size());
    for (const int64_t row : parts_.train) ++train[static_cast<size_t>(class_of_[static_cast<size_t>(row)])];
    for (const int64_t row : parts_.test) ++test[static_cast<size_t>(class_of_[static_cast<size_t>(row)])];
    if (std::ranges::count_if(train, [](int64_t n) { return n > 0; }) < 2) {
      const auto only = std::ranges::find_if(train, [](int64_t n) { return n > 0; });
      throw InputError(file(), name_of(targets_.front()) + ": every row of the training part is of the class " +
                                   shown(classes_[static_cast<size_t>(only - train.begin())]) +
                                   "; classification needs at least two classes (look at `target`)");
    }
    std::map<std::string, int64_t> unseen;
    for (size_t c = 0; c < classes_.size(); ++c) {
      if (train[c] == 0 && test[c] > 0) unseen[classes_[c]] = test[c];
    }
    if (!unseen.empty()) {
      log::warning(file() +
                   ": classes of the test part that the training part does not have: " + some_of(with_values(unseen)));
    }
  }

  int64_t features() const {
    int64_t n = 0;
    for (const size_t c : inputs_) n += column(c).is_nominal() ? static_cast<int64_t>(column(c).categories.size()) : 1;
    return n;
  }

  // How a row of the table becomes an input, for those who use the network elsewhere: {columns: [{name, categories: one
  // feature for each, missing: what stands for a missing value}]}, in the order of the features. Of very wide tables
  // nothing, since the names would be larger than the network.
  Value preparation() const {
    constexpr size_t most_columns = 10'000;
    if (inputs_.size() > most_columns) return Value::map();
    Value columns = Value::list();
    for (const size_t c : inputs_) {
      Value entry = Value::map({{"name", column(c).name}});
      if (column(c).is_nominal()) entry["categories"] = column(c).categories;
      if (const auto filled = filled_.find(c); filled != filled_.end()) entry["missing"] = filled->second;
      columns.push_back(std::move(entry));
    }
    return Value::map({{"columns", std::move(columns)}});
  }

  int64_t outputs() const {
    return is_classification() ? static_cast<int64_t>(classes_.size()) : static_cast<int64_t>(targets_.size());
  }

  at::Tensor input_of(const std::vector<int64_t>& rows) const {
    const int64_t width = features(), n = static_cast<int64_t>(rows.size());
    at::Tensor input = at::empty({n, width}, at::kFloat);
    auto* values = input.mutable_data_ptr<float>();
    parallel_for(n, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto row = static_cast<size_t>(rows[static_cast<size_t>(i)]);
        float* out = values + i * width;
        for (const size_t c : inputs_) {
          const TableColumn& from = column(c);
          if (!from.is_nominal()) {
            *out++ = static_cast<float>(from.numbers[row]);
            continue;
          }
          const size_t categories = from.categories.size();
          std::fill_n(out, categories, 0.0F);
          out[from.codes[row]] = 1;
          out += categories;
        }
      }
    });
    return input;
  }

  at::Tensor target_of(const std::vector<int64_t>& rows) const {
    const auto n = static_cast<int64_t>(rows.size());
    if (is_classification()) {
      at::Tensor target = at::empty({n}, at::kLong);
      auto* out = target.mutable_data_ptr<int64_t>();
      for (const int64_t row : rows) *out++ = class_of_[static_cast<size_t>(row)];
      return target;
    }
    at::Tensor target = at::empty({n, outputs()}, at::kFloat);
    auto* out = target.mutable_data_ptr<float>();
    for (const int64_t row : rows) {
      for (const std::vector<double>& values : values_) *out++ = static_cast<float>(values[static_cast<size_t>(row)]);
    }
    return target;
  }

  const TableOptions& o_;
  Table t_;
  size_t test_files_;
  std::vector<size_t> inputs_, targets_;
  std::optional<size_t> split_column_;
  std::string task_;
  std::vector<int64_t> rows_;       // those that are used
  std::map<size_t, Value> filled_;  // of input columns with missing values, what stands for these
  RowParts parts_;
  std::vector<std::string> classes_;
  std::vector<int32_t> class_of_;            // of each row, in classification
  std::vector<std::vector<double>> values_;  // of each target and row, otherwise
};

}  // namespace

PreparedTable prepare_table(const TableOptions& options, Table table, size_t test_files) {
  Preparation preparation(options, std::move(table), test_files);
  preparation.run();
  PreparedTable all;
  all.info = preparation.info();
  all.train = preparation.split(preparation.parts().train);
  all.test = preparation.split(preparation.parts().test);
  if (all.info.has_validation) all.validation = preparation.split(preparation.parts().validation);
  return all;
}

}  // namespace espalier
