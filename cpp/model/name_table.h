// Tables that give the words of a weights file their values, and list them in error messages.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace vlt {

template <typename Value, size_t kCount>
using NameTable = std::array<std::pair<std::string_view, Value>, kCount>;

template <typename Value, size_t kCount>
std::optional<Value> look_up(std::string_view name, const NameTable<Value, kCount>& table) {
  for (const auto& [known_name, value] : table) {
    if (name == known_name) return value;
  }
  return std::nullopt;
}

// "a", "a or b", "a, b or c"
template <typename Value, size_t kCount>
std::string list_names(const NameTable<Value, kCount>& table) {
  std::string text;
  for (size_t i = 0; i < kCount; ++i) {
    if (i > 0) text += i + 1 < kCount ? ", " : " or ";
    text += table[i].first;
  }
  return text;
}

}  // namespace vlt
