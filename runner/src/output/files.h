#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace espalier {

// Writes a file whole or not at all: a temporary file beside it, fsync, rename. Throws Error naming the file and the
// reason.
void write_file(const std::filesystem::path& path, std::string_view content);
// A folder for a run or a sweep: `wanted`, which must be empty or absent, or where that is "" the first of STEM,
// STEM-2, STEM-3 ... that is not there. Makes it. Throws InputError at "--out".
std::filesystem::path new_folder(const std::string& wanted, const std::string& stem);
// Appends a line and hands it to the system.
void append_line(const std::filesystem::path& path, std::string_view line);
// Throws InputError naming the file and the reason.
std::string read_file(const std::filesystem::path& path);

}  // namespace espalier
