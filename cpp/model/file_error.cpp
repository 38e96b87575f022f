#include "model/file_error.h"

#include <cstdint>

#include "base/error.h"
#include "model/utf8.h"

namespace vlt {

void refuse_file(const std::string& source_name, const std::string& what) {
  throw Error(Status::kFileError, "weights file " + source_name + ": " + what);
}

std::string quoted(std::string_view text, size_t max_bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "'";
  for (size_t position = 0; position < text.size();) {
    if (out.size() > max_bytes) return out + "…'";
    const auto byte = static_cast<uint8_t>(text[position]);
    const size_t length = utf8_sequence_length(text, position);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
      position += 1;
    } else {
      out += text.substr(position, length);
      position += length;
    }
  }
  return out + "'";
}

}  // namespace vlt
