// LIBSVM's format: LABEL INDEX:VALUE ...
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "espalier/datasets/table.h"
#include "espalier/error.h"
#include "table_text.h"
#include "text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

// Above this many different whole numbers, labels are counts or measures rather than classes.
constexpr size_t most_classes = 100;

// Above this an index is no number of a feature.
constexpr int64_t most_index = 1'000'000'000;

struct Entry {
  int64_t index;
  double value;
};

class LibsvmReader {
 public:
  LibsvmReader(const std::vector<fs::path>& files, const LibsvmFormat& format) : format_(format) {
    table_.files = files;
  }

  Table read() {
    for (const fs::path& file : table_.files) read_file(file);
    table_.begins.push_back(table_.rows());
    const int64_t features = format_.features > 0 ? format_.features : largest_;
    if (features == 0) throw InputError(file_, "holds labels without features");
    make_labels();
    check_cells(file_, table_.rows(), features + static_cast<int64_t>(table_.columns.size()));
    const size_t first = table_.columns.size();
    for (int64_t f = 0; f < features; ++f) {
      TableColumn& column = table_.columns.emplace_back();
      column.name = std::to_string(f + (format_.zero_based ? 0 : 1));
      column.numbers.resize(static_cast<size_t>(table_.rows()));
    }
    for (size_t row = 0; row < table_.lines.size(); ++row) {
      for (size_t e = rows_[row]; e < rows_[row + 1]; ++e)
        table_.columns[first + static_cast<size_t>(entries_[e].index)].numbers[row] = entries_[e].value;
    }
    return std::move(table_);
  }

 private:
  // A part of the current line, at whose beginning the fault is.
  [[noreturn]] void fail(std::string_view part, const std::string& what) const {
    throw InputError(file_ + ":" + std::to_string(number_) + ":" + std::to_string(part.data() - line_.data() + 1),
                     what);
  }

  void read_file(const fs::path& file) {
    file_ = file.string();
    const std::string text = read_table_text(file);
    Lines lines(text);
    table_.begins.push_back(table_.rows());
    while (lines.next(line_)) {
      number_ = lines.number();
      std::string_view rest = trimmed(line_.substr(0, line_.find('#')));
      if (!rest.empty()) read_row(rest);
    }
    if (table_.rows() == table_.begins.back()) throw InputError(file_, "holds no rows");
  }

  static std::string_view next_word(std::string_view& rest) {
    rest = trimmed(rest);
    const std::string_view word = rest.substr(0, rest.find_first_of(" \t"));
    rest.remove_prefix(word.size());
    return word;
  }

  void read_row(std::string_view rest) {
    // A row of several labels may have none.
    std::string_view word = rest.substr(0, 0);
    if (rest.substr(0, rest.find_first_of(" \t")).find(':') == std::string_view::npos) word = next_word(rest);
    read_labels(word);
    int64_t last = -1;
    while (!(word = next_word(rest)).empty()) {
      const size_t colon = word.find(':');
      if (colon == std::string_view::npos) fail(word, "expected INDEX:VALUE, got " + shown(word));
      const std::string_view index = word.substr(0, colon), text = word.substr(colon + 1);
      if (index == "qid") fail(word, "ranks within queries (qid) are not read; take them out");
      int64_t i = 0;
      const auto [end, error] = std::from_chars(index.data(), index.data() + index.size(), i);
      if (index.empty() || error != std::errc() || end != index.data() + index.size() || i < 0 || i > most_index)
        fail(word, "expected the number of a feature, got " + shown(index));
      if (i == 0 && !format_.zero_based)
        fail(word, "the feature 0; features are counted from 1, unless `zero_based: true` is said");
      if (!format_.zero_based) --i;
      if (format_.features > 0 && i >= format_.features)
        fail(word, "the feature " + std::string(index) + ", and `features` is " + std::to_string(format_.features));
      if (i <= last) fail(word, "the feature " + std::string(index) + " does not stand behind smaller ones");
      last = i;
      const auto value = parse_number(text);
      if (!value) fail(text, "the value " + shown(text) + " of the feature " + std::string(index) + " is not a number");
      entries_.push_back({i, *value});
    }
    largest_ = std::max(largest_, last + 1);
    rows_.push_back(entries_.size());
    table_.lines.push_back(number_);
  }

  void read_labels(std::string_view word) {
    several_ = several_ || word.find(',') != std::string_view::npos;
    std::vector<double>& labels = labels_.emplace_back();
    if (word.empty()) {
      if (without_label_.empty()) without_label_ = file_ + ":" + std::to_string(number_);
      return;
    }
    for (size_t begin = 0; begin <= word.size();) {
      const size_t end = std::min(word.find(',', begin), word.size());
      const std::string_view text = word.substr(begin, end - begin);
      const auto label = parse_number(text);
      if (!label) fail(text, "the label " + shown(text) + " is not a number");
      labels.push_back(*label);
      begin = end + 1;
    }
  }

  static std::string text_of(double label) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, label).ptr};
  }

  void make_labels() {
    std::map<double, int32_t> all;  // and the place of each
    bool whole = true;
    for (const std::vector<double>& labels : labels_) {
      for (const double label : labels) {
        all.emplace(label, 0);
        whole = whole && label == std::nearbyint(label);
      }
    }
    int32_t count = 0;
    for (auto& [label, number] : all) number = count++;
    const auto place = [&](double label) { return all.at(label); };
    if (!several_ && !without_label_.empty()) throw InputError(without_label_, "the row has no label");
    if (several_) {
      check_cells(file_, table_.rows(), static_cast<int64_t>(all.size()));
      for (const auto& [label, number] : all) {
        TableColumn& column = table_.columns.emplace_back();
        column.name = "label" + text_of(label);
        column.numbers.resize(labels_.size());
        table_.targets.push_back(column.name);
      }
      for (size_t row = 0; row < labels_.size(); ++row) {
        for (const double label : labels_[row]) table_.columns[static_cast<size_t>(place(label))].numbers[row] = 1;
      }
      return;
    }
    TableColumn& column = table_.columns.emplace_back();
    column.name = "label";
    table_.targets = {"label"};
    if (!whole || all.size() > most_classes) {
      for (const std::vector<double>& labels : labels_) column.numbers.push_back(labels.front());
      return;
    }
    column.kind = TableColumn::Kind::nominal;
    for (const auto& [label, number] : all) column.categories.push_back(text_of(label));
    for (const std::vector<double>& labels : labels_) column.codes.push_back(place(labels.front()));
  }

  const LibsvmFormat& format_;
  Table table_;
  std::string file_;
  std::string_view line_;
  int64_t number_ = 0;
  int64_t largest_ = 0;                      // features
  bool several_ = false;                     // labels in a line
  std::string without_label_;                // the first line that has none
  std::vector<std::vector<double>> labels_;  // of each row
  std::vector<Entry> entries_;
  std::vector<size_t> rows_ = {0};  // the first entry of each row
};

}  // namespace

Table read_libsvm(const std::vector<fs::path>& files, const LibsvmFormat& format) {
  return LibsvmReader(files, format).read();
}

}  // namespace espalier
