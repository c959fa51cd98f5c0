#include "recipe/scalar.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <string_view>
#include <system_error>

#include "espalier/error.h"

namespace espalier {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool all_digits(std::string_view s) {
  return !s.empty() && std::ranges::all_of(s, is_digit);
}

std::string_view without_sign(std::string_view s) {
  return s.starts_with('+') || s.starts_with('-') ? s.substr(1) : s;
}

// [0-9]+(\.[0-9]*)? or \.[0-9]+, with an exponent; the sign is off.
bool is_decimal(std::string_view s) {
  const size_t e = s.find_first_of("eE");
  if (e != std::string_view::npos) {
    if (!all_digits(without_sign(s.substr(e + 1)))) return false;
    s = s.substr(0, e);
  }
  const size_t point = s.find('.');
  if (point == std::string_view::npos) return all_digits(s);
  const std::string_view whole = s.substr(0, point), fraction = s.substr(point + 1);
  return (whole.empty() || all_digits(whole)) && (fraction.empty() || all_digits(fraction)) && s.size() > 1;
}

std::string lower(std::string_view s) {
  std::string result(s);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

bool one_of_words(std::string_view s, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, s) != words.end();
}

[[noreturn]] void refuse(const std::string& text, const Location& where, const std::string& why,
                         const std::string& instead) {
  throw InputError(where.str(), "'" + text + "' " + why + ": write " + instead + (instead.empty() ? "" : ", or ") +
                                    "\"" + text + "\" for text");
}

// 1_000, 1,000,000: digits with single separators between them.
bool has_separators(std::string_view s) {
  if (s.empty() || !is_digit(s.front()) || !is_digit(s.back()) || s.find_first_of(",_") == std::string_view::npos)
    return false;
  for (size_t i = 0; i < s.size(); ++i) {
    const bool separator = s[i] == ',' || s[i] == '_';
    if (!(is_digit(s[i]) || s[i] == '.' || (separator && is_digit(s[i - 1])))) return false;
  }
  return true;
}

Value read_integer(const std::string& text, std::string_view digits, const Location& where) {
  if (digits.size() > 1 && digits.front() == '0') {
    const std::string rest(digits.substr(std::min(digits.find_first_not_of('0'), digits.size() - 1)));
    refuse(text, where, "is an octal number to some YAML programs and a decimal one to others",
           (text[0] == '-' ? "-" : "") + rest);
  }
  int64_t value = 0;
  const char* begin = text.data() + (text[0] == '+' ? 1 : 0);
  if (std::from_chars(begin, text.data() + text.size(), value).ec != std::errc()) {
    throw InputError(where.str(), text + " does not fit into 64 bits (at most 9223372036854775807)");
  }
  return value;
}

Value read_number(const std::string& text, const Location& where) {
  double value = 0;
  const char* begin = text.data() + (text[0] == '+' ? 1 : 0);
  if (std::from_chars(begin, text.data() + text.size(), value).ec != std::errc()) {
    throw InputError(where.str(), text + " is too large or too small for a number");
  }
  return value;
}

Value read(const std::string& text, const Location& where) {
  if (one_of_words(text, {"", "~", "null", "Null", "NULL"})) return {};
  if (one_of_words(text, {"true", "True", "TRUE"})) return true;
  if (one_of_words(text, {"false", "False", "FALSE"})) return false;
  const std::string word = lower(text);
  if (one_of_words(word, {"yes", "on", "y"}))
    refuse(text, where, "is true to some YAML programs and text to others", "true");
  if (one_of_words(word, {"no", "off", "n"}))
    refuse(text, where, "is false to some YAML programs and text to others", "false");

  const std::string_view digits = without_sign(word);
  if (all_digits(digits)) return read_integer(text, digits, where);
  if (is_decimal(digits)) return read_number(text, where);
  if (one_of_words(digits, {".inf", ".nan"})) refuse(text, where, "is no finite number", "a finite number");
  if (digits.size() > 2 && digits[0] == '0' && one_of_words(digits.substr(1, 1), {"x", "o", "b"}) &&
      digits.find_first_not_of("0123456789abcdef", 2) == std::string_view::npos) {
    refuse(text, where, "is a number to some YAML programs and text to others", "a decimal number");
  }
  if (has_separators(digits)) {
    std::string plain = text;
    // One comma that does not stand before three digits parts no thousands: it is a decimal point in many languages.
    const size_t comma = digits.find(',');
    const bool decimal = std::ranges::count(digits, ',') == 1 && digits.find_first_of("._") == std::string_view::npos &&
                         (digits.size() - comma != 4 || digits.starts_with("0,"));
    if (decimal) {
      plain[plain.find(',')] = '.';
      refuse(text, where, "is no number in YAML, which has a decimal point", plain);
    }
    std::erase_if(plain, [](char c) { return c == ',' || c == '_'; });
    refuse(text, where, "is a number to some YAML programs and text to others", plain);
  }
  return text;
}

}  // namespace

Value read_plain_scalar(const std::string& text, const Location& where) {
  Value value = read(text, where);
  value.location = where;
  return value;
}

}  // namespace espalier
