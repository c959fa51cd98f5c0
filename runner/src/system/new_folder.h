#pragma once

#include <filesystem>
#include <string>

namespace espalier {

// A folder for a run or a sweep: `wanted`, which must be empty or absent, or where that is "" the first of STEM,
// STEM-2, STEM-3 ... that is not there. Makes it. Throws InputError at "--out".
std::filesystem::path new_folder(const std::string& wanted, const std::string& stem);

}  // namespace espalier
