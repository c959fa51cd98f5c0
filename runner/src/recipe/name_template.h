#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace re2 {
class RE2;
}

namespace espalier {

// A name with places for numbers and for a rest: "features.{2n+1}.{m}.norm1.{*}". {n} is any number without a sign,
// {n+1}, {n-1} and {2n+1} are numbers that follow from it, {n<3} is one below 3; {*} is any text, once in a name. So a
// pair of templates with the same letters can be read in both directions, which regular expressions cannot.
class NameTemplate {
 public:
  // Throws Error saying what is wrong with the text.
  explicit NameTemplate(const std::string& text);
  NameTemplate(NameTemplate&&) noexcept;
  NameTemplate& operator=(NameTemplate&&) noexcept;
  ~NameTemplate();

  // What stands in the places of a name.
  struct Filling {
    std::map<char, int64_t> numbers;  // by letter
    std::string rest;                 // of {*}
    bool operator==(const Filling&) const = default;
  };
  // What stands in the places of this name; none where it is no such name.
  std::optional<Filling> match(const std::string& name) const;
  // The name with these numbers and this rest. They are those of a name that a template with the same letters matched.
  std::string fill(const Filling& filling) const;

  // Whether the numbers are below the bounds that this template gives them.
  bool allows(const Filling& filling) const;

  // The letters in it; '*' for a rest.
  const std::set<char>& letters() const { return letters_; }
  const std::string& str() const { return text_; }

 private:
  struct Part {
    std::string text;  // in front of the place
    char letter = 0;   // 0: none, the end
    int64_t factor = 1, offset = 0;
  };
  std::string text_;
  std::vector<Part> parts_;
  std::set<char> letters_;
  std::map<char, int64_t> below_;
  std::unique_ptr<re2::RE2> pattern_;
};

}  // namespace espalier
