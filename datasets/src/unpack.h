#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace espalier {

// Unpacks the named files, whatever their folder in the archive, into a folder; everything else in it is passed over.
// Throws InputError naming the archive where it is damaged or a file is not in it.
void unpack_archive(const std::filesystem::path& archive, const std::vector<std::string>& names,
                    const std::filesystem::path& folder);

}  // namespace espalier
