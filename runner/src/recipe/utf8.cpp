#include "recipe/utf8.h"

#include <cstdint>
#include <cstdio>

namespace espalier {

namespace {

// Bytes of the sequence at the start of `s`; 0: it is not UTF-8 (overlong forms and surrogates are not).
size_t sequence_length(std::string_view s) {
  const auto byte = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned b = byte(0);
  if (b < 0x80) return 1;
  if (b >= 0xC2 && b <= 0xDF) return tail(1) ? 2 : 0;
  if (b >= 0xE0 && b <= 0xEF) {
    if ((b == 0xE0 && byte(1) < 0xA0) || (b == 0xED && byte(1) >= 0xA0)) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (b >= 0xF0 && b <= 0xF4) {
    if ((b == 0xF0 && byte(1) < 0x90) || (b == 0xF4 && byte(1) >= 0x90)) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::optional<TextFault> find_text_fault(std::string_view text) {
  TextFault place;
  char hex[8];
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    std::snprintf(hex, sizeof hex, "0x%02X", static_cast<unsigned>(c));
    const size_t length = sequence_length(text);
    if (length == 0) {
      const bool utf16 = place.line == 1 && place.column == 1 && (c == 0xFF || c == 0xFE);
      place.what = std::string("is not UTF-8: the byte ") + hex + (utf16 ? " begins a UTF-16 text" : "") +
                   "; save the file as UTF-8";
      return place;
    }
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
      place.what = std::string("holds a control character: the byte ") + hex + "; remove it";
      return place;
    }
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else {
      ++place.column;
    }
    text.remove_prefix(length);
  }
  return std::nullopt;
}

}  // namespace espalier
