#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace espalier {

// Writes a file whole or not at all: a temporary file beside it, fsync, rename. Throws Error naming the file and the
// reason.
void write_file(const std::filesystem::path& path, std::string_view content);
// Appends a line and hands it to the system.
void append_line(const std::filesystem::path& path, std::string_view line);
// Throws InputError naming the file and the reason.
std::string read_file(const std::filesystem::path& path);

}  // namespace espalier
