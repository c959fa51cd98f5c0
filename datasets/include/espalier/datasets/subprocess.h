#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace espalier {

// The program's path, looked for in $PATH; empty where there is none.
std::filesystem::path find_program(const std::string& name);

// Runs a program, not through a shell, and waits for it; returns its exit status. Its standard output and error go to
// `log`, or to our standard error where that is empty. An interrupt from the terminal ends the program and throws Error
// here, so that the caller can tidy up.
int run_program(const std::vector<std::string>& arguments, const std::filesystem::path& log);

}  // namespace espalier
