#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace espalier {

// Unpacks the files of a tar archive, with or without gzip, whose names end like this (".so"), whatever their folders
// in it, into a folder. Returns their names. Throws InputError naming the archive where it is damaged or holds two
// files of one name.
std::vector<std::string> unpack_ending(const std::filesystem::path& archive, const std::string& ending,
                                       const std::filesystem::path& folder);

}  // namespace espalier
