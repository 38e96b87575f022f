// How this folder words its errors: "weights file NAME: what is wrong, and what would be right".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vlt {

// Throws Error(kFileError).
[[noreturn]] void refuse_file(const std::string& source_name, const std::string& what);

// Text from a file made safe to print: in single quotes, control bytes and invalid UTF-8 as \xNN,
// cut where max_bytes of them are printed.
std::string quoted(std::string_view text, size_t max_bytes = 80);

}  // namespace vlt
