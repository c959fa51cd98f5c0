#pragma once

#include <string>
#include <vector>

namespace espalier {

// The library of the address sanitizer that one of the plugins (libraries or folders of them) was built with, and that
// has to be loaded before it, "libasan.so.8"; empty: none was built so.
std::string sanitizer_of(const std::vector<std::string>& plugins);

// What a process wrote at its end; of a sanitizer's report the whole, for the plugin's frame is in its middle.
std::string last_words(const std::string& written);

}  // namespace espalier
