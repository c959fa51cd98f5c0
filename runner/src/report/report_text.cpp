#include <filesystem>
#include <string>
#include <vector>

#include "espalier/error.h"
#include "record/summary.h"
#include "report/report.h"
#include "store/csv.h"
#include "system/files.h"
#include "system/program_paths.h"
#include "system/text.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

// "91.25 ± 0.31", of three runs.
std::string mean_text(const Value& v, const std::string& unit) {
  if (v.is_null() || v.at("mean").is_null()) return "";
  std::string text = metric_text(v.at("mean").as_double(), unit);
  if (!v.at("deviation").is_null()) text += " ± " + metric_text(v.at("deviation").as_double(), "");
  return text;
}

std::string row_of(const std::vector<std::string>& cells) {
  std::string text = "|";
  for (const std::string& cell : cells) {
    std::string safe = cell;
    replace_all(safe, "|", "\\|");
    text += " " + safe + " |";
  }
  return text + "\n";
}

std::string text_of(const Value& v) {
  return v.is_string() ? v.as_string() : v.is_null() ? "" : to_json(v);
}

}  // namespace

std::string report_page(const Value& report) {
  const fs::path folder = program_prefix() / "share" / "espalier" / "report";
  if (!fs::is_directory(folder)) throw Error(folder.string() + ": the page's files of this installation are missing");
  std::string page = read_file(folder / "page.html");
  std::string data = to_json(report);
  replace_all(data, "</", "<\\/");  // no text of a run ends the script that holds it
  replace_all(data, "<!--", "<\\u0021--");
  replace_all(page, "/*STYLE*/", read_file(folder / "style.css"));
  replace_all(page, "/*SCRIPT*/", read_file(folder / "script.js"));
  const std::string mark = "/*DATA*/";
  page.replace(page.find(mark), mark.size(), data);
  return page;
}

std::string report_markdown(const Value& report) {
  std::string text = "# Report of " + report.at("made").as_string() + "\n";
  std::string place;
  const std::vector<std::string> head{"run",  "scale",      "seeds",    "test",  "params",
                                      "MACs", "train cost", "expected", "found", "met"};
  for (const Value& g : report.at("groups").as_list()) {
    const std::string section = g.at("section").as_string();
    const std::string here = g.at("paper").as_string() + (section.empty() ? "" : ", " + section);
    if (here != place) {
      text += "\n## " + here + "\n\n" + row_of(head) + row_of(std::vector<std::string>(head.size(), "---"));
      place = here;
    }
    const std::string unit = g.find("unit") ? g.at("unit").as_string() : "";
    const auto count = [&](const char* key) {
      const Value& v = g.at(key);
      return v.is_null() ? "" : count_text(static_cast<int64_t>(v.at("mean").as_double()));
    };
    std::string expected, found, met;
    for (const Value& e : g.at("expect").as_list()) {
      const auto add = [](std::string& to, const std::string& what) { to += (to.empty() ? "" : ", ") + what; };
      add(expected, e.at("metric").as_string() + " " + metric_text(e.at("value").as_double(), "") + " ± " +
                        metric_text(e.at("within").as_double(), ""));
      add(found, mean_text(e.at("found"), ""));
      add(met, e.at("met").as_bool() ? "yes" : "no");
    }
    const std::string test = mean_text(g.at("test"), unit);
    text += row_of({g.at("group").as_string(), g.at("scale").as_string(), std::to_string(g.at("seeds").size()),
                    test.empty() ? g.at("status").as_string() : test, count("params"), count("macs"),
                    mean_text(g.at("train_cost"), ""), expected, found, met});
  }
  for (const Value& q : report.at("quoted").as_list()) {
    text += "\n## Quoted: " + q.at("paper").as_string() + ", " + q.at("section").as_string() + "\n\n" +
            text_of(q.at("source")) + "\n\n" + row_of({"method", "printed"}) + row_of({"---", "---"});
    for (const Value& r : q.at("rows").as_list()) {
      std::string points;
      for (const Value& p : r.at("points").is_list() ? r.at("points").as_list() : Value::List{r.at("points")}) {
        std::string one;
        if (p.is_map()) {
          for (const Value::Entry& e : p.as_map()) one += (one.empty() ? "" : ", ") + e.key + " " + text_of(e.value);
        } else {
          one = text_of(p);
        }
        points += (points.empty() ? "" : "; ") + one;
      }
      text += row_of({r.at("name").as_string(), points});
    }
  }
  return text;
}

std::string report_csv(const Value& report) {
  std::vector<Value> lines;
  for (Value g : report.at("groups").as_list()) {
    g["seeds"] = static_cast<int64_t>(g.at("seeds").size());
    Value expect = Value::map();
    for (const Value& e : g.at("expect").as_list()) {
      expect[e.at("metric").as_string()] = Value::map(
          {{"value", e.at("value")}, {"within", e.at("within")}, {"found", e.at("found")}, {"met", e.at("met")}});
    }
    g["expect"] = expect;
    lines.push_back(std::move(g));
  }
  return runs_csv(lines);
}

}  // namespace espalier
