// A strict parser of the one JSON grammar a safetensors header may have:
//
//   header   = "{" [ pair { "," pair } ] "}" { " " }
//   pair     = "__metadata__" ":" "{" [ string ":" string { "," ... } ] "}"
//            | name ":" "{" "dtype" ":" string, "shape" ":" [ integers ],
//                           "data_offsets" ":" [ begin, end ] "}"      (in any order)
//
// The grammar is three levels deep, so that nothing here recurses: no input can overflow the stack.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vlt {

// One tensor as the header words it; only the grammar has been checked.
struct HeaderTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes from the start of the data section
  uint64_t end = 0;
};

struct Header {
  std::vector<std::pair<std::string, std::string>> metadata;  // in the order of the file
  std::vector<HeaderTensor> tensors;                          // in the order of the header
};

// Limits far above any real model, so that a hostile header cannot cost more than it weighs.
inline constexpr uint64_t kMaxHeaderBytes = 100ull << 20;
inline constexpr size_t kMaxTensors = 1u << 16;
inline constexpr size_t kMaxMetadataPairs = 1u << 16;
inline constexpr size_t kMaxDimensions = 8;

// Parses the JSON text of a header. source_name opens the message of every error; a message also
// says at which byte of the header, what was found there and what was expected.
Header parse_header(std::string_view json, const std::string& source_name);

}  // namespace vlt
